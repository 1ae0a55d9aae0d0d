"""Gradients of each sample of a batch from one backward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ssnr.interpret.batch_norms import normed

CONVOLUTIONS = frozenset((F.conv2d, torch.conv2d))
BATCH_NORMS = frozenset((F.batch_norm, torch.batch_norm))

_LAYER = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_NORM = {
    F.batch_norm: ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    torch.batch_norm: ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps"),
}

Take = Callable[[str, Tensor], None]


class PerSample(TorchFunctionMode):
    """While the forward pass runs: remembers each layer's input, so that the backward pass can tell samples apart.

    A layer's gradient is a sum over samples of products of what went in and of the gradient of what came out; each
    sample's own is its summand. Batch norms are what makes one sample's output depend on another's. Here they do not:
    with `alone`, each sample has the statistics it would have in a batch of one; else the batch's statistics are
    constants.

    Attributes:
        seen: how many uses of a layer the backward pass has not reached yet; `take` gets its gradient after the last.
        whole: whether everything that ran can be told apart so.
    """

    def __init__(self, names: dict[int, str], samples: int, take: Take, *, alone: bool) -> None:
        super().__init__()
        self._names, self._samples, self._take, self._alone = names, samples, take, alone
        self.seen: Counter[str] = Counter()
        self.whole = True
        self._sums: dict[str, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in BATCH_NORMS:
            return self._norm(func, args, kwargs)
        out = func(*args, **kwargs)
        if func is F.linear or func in CONVOLUTIONS:
            self._layer(func, arguments_of(func, args, kwargs), out)
        return out

    def _layer(self, func: Any, given: dict[str, Any], out: Tensor) -> None:
        name = self._names.get(id(given["weight"]))
        if name is None or not out.requires_grad:
            return
        x = given["input"].detach()
        plain = func is F.linear or (given.get("groups", 1) == 1 and not isinstance(given.get("padding", 0), str))
        if not plain or x.shape[0] != self._samples or x.dim() != (4 if func is not F.linear else x.dim()):
            self.whole = False
            return
        self.seen[name] += 1

        def arrived(gradient: Tensor) -> None:
            product = _linear(x, gradient) if func is F.linear else _convolution(x, gradient, given)
            self._sums[name] = self._sums[name] + product if name in self._sums else product
            self.seen[name] -= 1
            if not self.seen[name]:  # a tied weight is complete when all its uses have come by
                self._take(name, self._sums.pop(name))

        out.register_hook(arrived)  # type: ignore[no-untyped-call]

    def _norm(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        given = arguments_of(func, args, kwargs)
        if not given.get("training", False) and given.get("running_mean") is not None:
            return func(*args, **kwargs)
        if not self._alone:
            weight, bias, eps = given.get("weight"), given.get("bias"), given.get("eps", 1e-5)
            return normed(given["input"], weight, bias, eps, constant=True)
        own = normed_alone(given)
        if own is None:
            self.whole = False
            return func(*args, **kwargs)
        return own


def arguments_of(func: Any, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a linear layer, a convolution or a batch norm was called with, by name."""
    return {**dict(zip(_NORM.get(func, _LAYER), args, strict=False)), **kwargs}


def normed_alone(given: dict[str, Any]) -> Tensor | None:
    """A batch norm that gives each sample the statistics of a batch of one; None where one sample has none."""
    x = given["input"]
    if x.dim() < 3 or x[0, 0].numel() < 2:
        return None
    return normed(x, given.get("weight"), given.get("bias"), given.get("eps", 1e-5), alone=True)


def _linear(x: Tensor, gradient: Tensor) -> Tensor:
    """Σ over positions of δ xᵀ, of each sample: (N, out · in)."""
    n = len(x)
    rows, columns = gradient.reshape(n, -1, gradient.shape[-1]), x.reshape(n, -1, x.shape[-1])
    return torch.bmm(rows.transpose(1, 2), columns).reshape(n, -1)


def _convolution(x: Tensor, gradient: Tensor, given: dict[str, Any]) -> Tensor:
    """Σ over positions of δ times the patch that it came from, of each sample: (N, out · in · kh · kw)."""
    kernel = given["weight"].shape[2:]
    stride = given.get("stride", 1)
    if tuple(kernel) == (1, 1) and given.get("padding", 0) in (0, (0, 0), [0, 0]):
        sh, sw = (stride, stride) if isinstance(stride, int) else stride
        patches = x[:, :, ::sh, ::sw].flatten(2)
    else:
        patches = F.unfold(x, kernel, given.get("dilation", 1), given.get("padding", 0), stride)
    return torch.bmm(gradient.flatten(2), patches.transpose(1, 2)).reshape(len(x), -1)
