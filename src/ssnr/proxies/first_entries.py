"""Gradients of each sample with respect to the first entry of each parameter, from one backward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from ssnr.proxies.per_sample import BATCH_NORMS, CONVOLUTIONS, Uses, arguments_of, normed_alone, running
from ssnr.proxies.taps import taps


class Head(NamedTuple):
    """A linear layer of (N, features): what it was given, and the names of its parameters, where they are looked at."""

    features: Tensor
    weight: Tensor
    name: str | None
    bias: str | None


class FirstEntries(Uses):
    """While the forward pass runs: remembers what the first entry of each parameter is multiplied with.

    Batch norms give each sample the statistics of a batch of one. In each backward pass `found` gets, by name, one
    number a sample.
    """

    def __init__(self, names: dict[int, str], samples: int) -> None:
        super().__init__(names, samples)
        self.found: dict[str, Tensor] = {}
        self._last: Head | None = None
        self._out: tuple[Tensor, Any] | None = None  # what the last linear layer put out, and its node

    def close(self) -> None:
        """Let go of the graph."""
        super().close()
        self._last = self._out = None

    def head(self, output: Tensor) -> Head | None:
        """The linear layer whose output is the network's; None of another network."""
        if self._out is None or self._out[0] is not output or self._out[1] is not output.grad_fn:
            return None
        return self._last

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in BATCH_NORMS:
            return self._norm(func, args, kwargs or {})
        if func is not F.linear and func not in CONVOLUTIONS:
            return func(*args, **(kwargs or {}))
        given = self._rooted(arguments_of(func, args, kwargs or {}))
        out, x = func(**given), given["input"].detach()
        if func is F.linear:
            self._follow(given, out, x[..., 0].reshape(len(x), -1), axis=-1)
            if out.dim() == 2 and given["input"].grad_fn is not None:
                bias = self._names.get(id(given.get("bias")))
                self._last = Head(given["input"], given["weight"], self._names.get(id(given["weight"])), bias)
                self._out = out, out.grad_fn
        elif x.dim() != given["weight"].dim():
            self.whole = False
        else:
            first = next(taps(x[:, :1], given, out.shape[2:]))  # what entry (0, 0, …) is multiplied with
            self._follow(given, out, first.flatten(1))
        return out

    def _norm(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        given = self._rooted(arguments_of(func, args, kwargs))
        first = given["input"].detach().select(1, 0).reshape(len(given["input"]), -1)
        if running(given):
            mean, variance = given["running_mean"][0], given["running_var"][0]
            out = func(**given)
        else:
            out = normed_alone(given)
            if out is None:
                self.whole = False
                return func(*args, **kwargs)
            mean = first.mean(1, keepdim=True)
            variance = (first - mean).square().mean(1, keepdim=True)
        self._follow(given, out, (first - mean) / (variance + given.get("eps", 1e-5)).sqrt())
        return out

    def _follow(self, given: Mapping[str, Any], out: Tensor, factor: Tensor, axis: int = 1) -> None:
        """Has the backward pass add up the first output channel's gradients, times the factor for the weight."""
        weight, bias = (self._names.get(id(given.get(key))) for key in ("weight", "bias"))
        names = tuple(name for name in (weight, bias) if name is not None)
        if not names or not out.requires_grad:
            return
        if out.shape[0] != self._samples:
            self.whole = False
            return

        def arrived(gradient: Tensor) -> None:
            first = gradient.select(axis, 0).reshape(self._samples, -1)
            for name, value in ((weight, first * factor), (bias, first)):
                if name is not None:
                    self.found[name] = self.found.get(name, 0.0) + value.sum(1)

        self._note(out, names, arrived)
