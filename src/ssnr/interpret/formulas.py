"""Operations written with others, for numbers t·2^e: where PyTorch has no decomposition, or one that is wrong there.

It is wrong where it adds to a number what is far larger in another entry and taken away again: then the number is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

FORMULAS: dict[str, Callable[..., Any]] = {}


def formula(names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function as the formula of these operations."""

    def entered(function: Callable[..., Any]) -> Callable[..., Any]:
        FORMULAS.update(dict.fromkeys(names.split(), function))
        return function

    return entered


@formula("clamp hardtanh clip")
def clamp(x: Tensor, min: Any = None, max: Any = None) -> Tensor:  # noqa: A002 - torch's names
    """By `where`, which lets go of a bound that is of no use."""
    if min is not None:
        x = torch.where(x < min, min, x)
    return x if max is None else torch.where(x > max, max, x)


FORMULAS["clamp_min"] = lambda x, min: clamp(x, min)  # noqa: A006
FORMULAS["clamp_max"] = lambda x, max: clamp(x, None, max)  # noqa: A006


@formula("maximum fmax")
def maximum(x: Tensor, y: Tensor) -> Tensor:
    """The larger one, by `where`."""
    return torch.where((x < y) | y.isnan(), y, x)


@formula("minimum fmin")
def minimum(x: Tensor, y: Tensor) -> Tensor:
    """The smaller one, by `where`."""
    return torch.where((x > y) | y.isnan(), y, x)


@formula("prod")
def product_of_entries(x: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Factor by factor."""
    if dim is None:
        x, dim = x.reshape(-1), 0
    out = torch.ones_like(x.select(dim, 0)) if x.shape[dim] else x.sum(dim) + 1
    for factor in x.unbind(dim):
        out = out * factor
    return out.unsqueeze(dim) if keepdim else out


@formula("cumprod")
def running_product(x: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Factor by factor."""
    found: list[Tensor] = []
    for factor in x.unbind(dim):
        found.append(found[-1] * factor if found else factor)
    return torch.stack(found, dim)


@formula("fill")
def filled(x: Tensor, value: Any) -> Tensor:
    """A number, or a tensor of one, in every place."""
    return value.to(x.dtype).expand_as(x).clone() if isinstance(value, Tensor) else torch.full_like(x, value)


@formula("constant_pad_nd")
def padded_with(x: Tensor, pad: Any, value: float) -> Tensor:
    """Zeros around it, and then the value."""
    inside, there = (torch.ops.aten.constant_pad_nd(part, pad) for part in (x, torch.ones_like(x)))
    found: Tensor = torch.where(there > 0, inside, value)
    return found


@formula("hardshrink")
def hardshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    """Zero near zero."""
    return torch.where(x.abs() <= lambd, 0.0, x)


@formula("softshrink")
def softshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    """As much nearer to zero."""
    return x - x.clamp(-lambd, lambd)


@formula("hardshrink_backward softshrink_backward")
def gradient_of_shrinking(gradient: Tensor, x: Tensor, lambd: float) -> Tensor:
    """Nothing near zero."""
    return torch.where(x.abs() <= lambd, 0.0, gradient)


@formula("silu_backward")
def gradient_of_silu(gradient: Tensor, x: Tensor) -> Tensor:
    """PyTorch's own adds 1 to what may be far larger in another place."""
    s = torch.sigmoid(x)
    return gradient * (s + x * (s * (1 - s)))


@formula("hardswish_backward")
def gradient_of_hardswish(gradient: Tensor, x: Tensor) -> Tensor:
    """As for silu."""
    return gradient * torch.where(x >= 3, 1.0, torch.where(x <= -3, 0.0, x.clamp(-3, 3) / 3 + 0.5))


@formula("huber_loss_backward")
def gradient_of_huber_loss(gradient: Tensor, x: Tensor, target: Tensor, reduction: int, delta: float) -> Tensor:
    """As for silu."""
    return gradient * (x - target).clamp(-delta, delta) / (x.numel() if reduction == 1 else 1)


@formula("polar")
def polar(size: Tensor, angle: Tensor) -> Tensor:
    """By cosine and sine."""
    return torch.complex(size * torch.cos(angle), size * torch.sin(angle))


@formula("rrelu_with_noise")
def rrelu(
    x: Tensor, noise: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, _: Any = None
) -> Any:
    """The mean slope where it is not drawn."""
    return NotImplemented if training else torch.where(x >= 0, x, x * ((lower + upper) / 2))


@formula("rrelu_with_noise_backward")
def gradient_of_rrelu(
    gradient: Tensor, x: Tensor, noise: Tensor, lower: float, upper: float, training: bool, of_result: bool
) -> Any:
    """As above."""
    return NotImplemented if training else torch.where(x >= 0, gradient, gradient * ((lower + upper) / 2))


@formula("convolution")
def with_bias(x: Tensor, weight: Tensor, bias: Tensor, *rest: Any) -> Tensor:
    """A convolution, and then its bias."""
    found: Tensor = torch.ops.aten.convolution(x, weight, None, *rest)
    return found + bias.reshape(-1, *[1] * (x.dim() - 2))


def _added(product: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def added(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        found = product(a, b) if alpha == 1 else product(a, b) * alpha
        return found if beta == 0 else (x if beta == 1 else x * beta) + found

    return added


FORMULAS["addmm"] = _added(torch.mm)
FORMULAS["_sparse_addmm"] = FORMULAS["addmm"]
FORMULAS["addmv"] = _added(torch.mv)
FORMULAS["baddbmm"] = _added(torch.bmm)
FORMULAS["addbmm"] = _added(lambda a, b: torch.bmm(a, b).sum(0))
