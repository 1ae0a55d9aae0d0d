"""Synflow's reading of a network: weights by magnitude, norms and dropout passed through.

The network itself is not changed and not copied. While it runs, a `TorchFunctionMode` sees every function that it
calls, whether from a module or from its own code, and answers for norms and dropout with their input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

_NORMS: frozenset[Callable[..., Any]] = frozenset(
    getattr(module, name)
    for module, names in (
        (F, ("batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm", "local_response_norm")),
        (torch, ("batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm")),
    )
    for name in names
    if hasattr(module, name)
)
_DROPOUT: frozenset[Callable[..., Any]] = frozenset(
    getattr(module, name)
    for module, names in (
        (F, ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")),
        (torch, ("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout")),
    )
    for name in names
    if hasattr(module, name)
)


# A sum of some thousand terms is off by fewer roundings than this.
_ROUNDING = 64


class Bypass(TorchFunctionMode):
    """Answers calls of the given functions with their input.

    A batch norm that is kept and uses batch statistics turns a constant channel into its bias; what rounding leaves of
    x − mean there is dust, which any scale-free score would take for a signal. Such channels are made exactly constant.
    """

    def __init__(self, functions: frozenset[Callable[..., Any]]) -> None:
        super().__init__()
        self.functions = functions

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.functions:
            return args[0] if args else kwargs["input"]
        if func is F.batch_norm and _uses_batch_statistics(args, kwargs or {}) and args:
            args = (_without_dust(args[0]), *args[1:])
        return func(*args, **kwargs) if kwargs else func(*args)


def _uses_batch_statistics(args: Any, kwargs: Any) -> bool:
    return bool(args[5] if len(args) > 5 else kwargs.get("training", False))


def _without_dust(x: torch.Tensor) -> torch.Tensor:
    """Channels whose spread is rounding, replaced by their mean, which has no gradient."""
    over = [d for d in range(x.dim()) if d != 1]
    with torch.no_grad():
        mean = x.mean(over, keepdim=True)
        spread = (x - mean).abs().amax(over, keepdim=True)
        dust = spread <= _ROUNDING * torch.finfo(x.dtype).eps * x.abs().amax(over, keepdim=True)
    return torch.where(dust, mean, x) if bool(dust.any()) else x


@contextmanager
def linear(net: nn.Module, norms: str) -> Iterator[None]:
    """Run `net` in here with its norms bypassed.

    Args:
        net: the network.
        norms: "all" bypasses norms of every kind, module or functional; "batch" exactly `BatchNorm1d` and
            `BatchNorm2d` modules, as the field's published code does; "none" keeps them.
    """
    if norms == "all":
        with Bypass(_NORMS | _DROPOUT):
            yield
        return
    bypassed = [m for m in net.modules() if norms == "batch" and type(m) in (nn.BatchNorm1d, nn.BatchNorm2d)]
    own = [module.__dict__.get("forward") for module in bypassed]
    for module in bypassed:
        module.__dict__["forward"] = _identity
    try:
        with Bypass(_DROPOUT):
            yield
    finally:
        for module, forward in zip(bypassed, own, strict=True):
            del module.__dict__["forward"]
            if forward is not None:
                module.__dict__["forward"] = forward


def without_dropout() -> TorchFunctionMode:
    """Pass dropout of every kind through, for data-driven passes in train mode."""
    return Bypass(_DROPOUT)


def _identity(x: torch.Tensor) -> torch.Tensor:
    return x
