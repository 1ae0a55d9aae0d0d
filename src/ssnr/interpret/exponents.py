"""The power of two that a tensor carries, and where it is kept: a tensor t with the mark e stands for t·2^e."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def carries(value: Any) -> bool:
    """Whether this is a tensor of numbers that a power of two can go with."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def exponent_of(tensor: Tensor) -> int:
    """E of a tensor that stands for t·2^e; of a view, with what its tensor was given since."""
    own: int = tensor.__dict__.get("_ssnr_exponent", 0)
    whole = tensor._base
    return own if whole is None else own + int(whole.__dict__.get("_ssnr_exponent", 0))


def marked(value: Any, exponent: int) -> Any:
    """The value, its tensors marked with an exponent."""
    if isinstance(value, Tensor):
        if carries(value):
            whole = value._base
            kept = 0 if whole is None else whole.__dict__.get("_ssnr_exponent", 0)
            value.__dict__["_ssnr_exponent"] = exponent - kept
    elif isinstance(value, (tuple, list)):
        for item in value:
            marked(item, exponent)
    return value


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors of a nest of arguments."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for item in value.values() for t in tensors_in(item)]
    if isinstance(value, (tuple, list)):
        return [t for item in value for t in tensors_in(item)]
    return []


def carriers(value: Any) -> list[Tensor]:
    """All tensors of a nest that carry an exponent."""
    return [t for t in tensors_in(value) if carries(t)]


def is_number(value: Any) -> bool:
    """Whether a value is a plain number, and no bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """A nest of tuples, lists and dictionaries with a function applied to what they hold."""
    if isinstance(value, dict):
        return {key: mapped(item, function) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(item, function) for item in value))
    if isinstance(value, (tuple, list, torch.Size)):
        return type(value)([mapped(item, function) for item in value])
    return function(value)


def peak_of(tensor: Tensor) -> float:
    """The largest magnitude, 0 of an empty tensor."""
    return float(tensor.detach().abs().amax()) if tensor.numel() else 0.0


def is_wrapped(tensor: Tensor) -> bool:
    """Whether a transform (`torch.vmap`, `torch.func.grad`) stands between a tensor and its numbers."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))
