"""Gradients of each sample with respect to the first entry of each parameter, from one backward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ssnr.interpret.approximated import reaches
from ssnr.proxies.per_sample import BATCH_NORMS, CONVOLUTIONS, arguments_of, normed_alone


class FirstEntries(TorchFunctionMode):
    """While the forward pass runs: remembers what the first entry of each parameter is multiplied with.

    Batch norms give each sample the statistics of a batch of one. In each backward pass `found` gets, by name, one
    number a sample.
    """

    def __init__(self, names: dict[int, str], samples: int) -> None:
        super().__init__()
        self._names, self._samples = names, samples  # of parameters, by id
        self.found: dict[str, Tensor] = {}
        self.whole = True
        self._hooks = self._came = 0
        self._seen: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in BATCH_NORMS:
            return self._norm(func, args, kwargs or {})
        out = func(*args, **(kwargs or {}))
        if func is F.linear or func in CONVOLUTIONS:
            given = arguments_of(func, args, kwargs or {})
            x = given["input"].detach()
            if func is F.linear:
                self._follow(given, out, x[..., 0].reshape(len(x), -1), axis=-1)
            else:
                self._follow(given, out, self._convolved(x, given, out))
        return out

    def _convolved(self, x: Tensor, given: dict[str, Any], out: Tensor) -> Tensor | None:
        """What entry (0, 0, 0, 0) is multiplied with at each position of output channel 0: (N, positions)."""
        if out.dim() != 4 or isinstance(given.get("padding", 0), str):
            self.whole = False
            return None
        (sh, sw), (ph, pw) = _pair(given.get("stride", 1)), _pair(given.get("padding", 0))
        first = F.pad(x[:, 0], (pw, pw, ph, ph))
        height, width = out.shape[2:]
        return first[:, : height * sh : sh, : width * sw : sw].flatten(1)

    def _norm(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        given = arguments_of(func, args, kwargs)
        first = given["input"].detach().select(1, 0).reshape(len(given["input"]), -1)
        if not given.get("training", False) and given.get("running_mean") is not None:
            mean, variance = given["running_mean"][0], given["running_var"][0]
            out = func(*args, **kwargs)
        else:
            out = normed_alone(given)
            if out is None:
                self.whole = False
                return func(*args, **kwargs)
            variance, mean = torch.var_mean(first, 1, correction=0, keepdim=True)
        self._follow(given, out, (first - mean) / (variance + given.get("eps", 1e-5)).sqrt())
        return out

    def _follow(self, given: Mapping[str, Any], out: Tensor, factor: Tensor | None, axis: int = 1) -> None:
        """Has the backward pass add up the first output channel's gradients, times the factor for the weight."""
        weight, bias = (self._names.get(id(given.get(key))) for key in ("weight", "bias"))
        if factor is None or (weight is None and bias is None) or not out.requires_grad:
            return
        if out.shape[0] != self._samples:
            self.whole = False
            return
        self._seen.update(name for name in (weight, bias) if name is not None)
        self._hooks += 1

        def arrived(gradient: Tensor) -> None:
            first = gradient.select(axis, 0).reshape(self._samples, -1)
            self._came += 1
            for name, value in ((weight, first * factor), (bias, first)):
                if name is not None:
                    self.found[name] = self.found.get(name, 0.0) + value.sum(1)

        out.register_hook(arrived)  # type: ignore[no-untyped-call]

    def complete(self, logits: Tensor, leaves: Mapping[str, Tensor], sources: Sequence[Tensor]) -> bool:
        """Whether every parameter that the output depends on was seen."""
        unseen = [leaf for name, leaf in leaves.items() if name not in self._seen]
        return self.whole and bool(sources) and logits.requires_grad and not reaches(logits.sum(), unseen)

    def all_came(self) -> bool:
        """Whether the backward pass came by every layer, and not only by those on a way from the inputs."""
        came, self._came = self._came, 0
        return came == self._hooks


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))
