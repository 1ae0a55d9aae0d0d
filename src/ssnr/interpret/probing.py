"""What a function that no table lists does to a power of two, found out by calling it twice."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ssnr.interpret.exponents import carries, exponent_of, mapped, peak_of

_DEGREES = range(-2, 3)
_ROUNDINGS = 64
_WIDEST = 800  # far less than float64 has of exponents


def of_degree_one(func: Callable[..., Any], args: Any, kwargs: Any, out: Any, inputs: list[Tensor]) -> bool:
    """Whether func gives twice as much where each of `inputs` is twice as large; `out` is what it gave."""
    chosen = {id(t) for t in inputs}

    def doubled(value: Any) -> Any:
        return value.detach() * 2 if id(value) in chosen else value

    try:
        with torch.no_grad():
            more = func(*mapped(args, doubled), **mapped(kwargs, doubled))
    except Exception:  # whatever it is, it was not made to be called like this
        return False
    ones, others = _leaves(out), _leaves(more)
    if len(ones) != len(others):
        return False
    with torch._C.DisableTorchFunction(), torch.no_grad():  # numbers as they are, next to their exponents
        for a, b in zip(ones, others, strict=True):
            if _is_floating(a) and _is_floating(b):
                step = exponent_of(b) - exponent_of(a)
                wide = torch.complex128 if b.is_complex() else torch.float64
                bound = _ROUNDINGS * torch.finfo(b.dtype).eps
                if abs(step) > _WIDEST or not _close(2 * a.to(wide), b.to(wide) * 2.0**step, bound, absolute=True):
                    return False
    return True


def degrees_between(one: Any, other: Any, power: int, other_power: int, *, alone: bool) -> list[int] | None:
    """The degree of each floating tensor of a function's output, None where there is none.

    Args:
        one: the output for inputs times 2^power.
        other: the output for inputs times 2^other_power.
        power: an exponent.
        other_power: another one.
        alone: whether only one tensor was multiplied and nothing else can have entered, so that entries may vanish
            beside larger ones.
    """
    found: list[int] = []
    for a, b in zip(_leaves(one), _leaves(other), strict=True):
        if not (_is_floating(a) and _is_floating(b)):
            if not _equal(a, b):
                return None
            continue
        degree = _degree(a.detach(), b.detach(), power, other_power, alone)
        if degree is None:
            return None
        found.append(degree)
    return found


def follows(out: Any, leaves: list[Tensor], degrees: list[int]) -> bool:
    """Whether gradients are those of functions of these degrees d: Σ x ⊙ ∂f/∂x = d·f (Euler); none at all will do."""
    for value, degree in zip(filter(_is_floating, _leaves(out)), degrees, strict=True):
        if not value.requires_grad or value.is_complex():
            continue
        found = torch.autograd.grad(value.sum(), leaves, allow_unused=True, retain_graph=True)
        parts = [(x.detach() * g.conj()).real for x, g in zip(leaves, found, strict=True) if g is not None]
        total = float(sum(part.sum() for part in parts))
        size = max(float(sum(part.abs().sum() for part in parts)), float(value.detach().abs().sum()))
        if size and not any(bool(part.any()) for part in parts):
            continue
        if not abs(total - degree * float(value.detach().sum())) <= 1e-4 * size:
            return False
    return True


def _degree(a: Tensor, b: Tensor, power: int, other_power: int, alone: bool) -> int | None:
    if a.shape != b.shape:
        return None
    peaks = peak_of(a), peak_of(b)
    if peaks == (0.0, 0.0):
        return 0
    if not all(0.0 < peak < math.inf for peak in peaks):
        return None
    degree = round((math.log2(peaks[0]) - math.log2(peaks[1])) / (power - other_power))
    if degree not in _DEGREES:
        return None
    a, b = a * 2.0 ** (-degree * power), b * 2.0 ** (-degree * other_power)
    return degree if _close(a, b, _ROUNDINGS * torch.finfo(b.dtype).eps, absolute=alone) else None


def _close(a: Tensor, b: Tensor, bound: float, *, absolute: bool) -> bool:
    """Whether entries differ by roundings, of themselves or (`absolute`) of the largest."""
    peak = peak_of(b)
    if not math.isfinite(peak):  # nothing can be told, and nothing has to: such a pass counts for nothing
        return True
    return a.shape == b.shape and bool(torch.allclose(a, b, bound, bound * peak if absolute else 0.0, equal_nan=True))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.layout is b.layout is torch.strided and torch.equal(a, b)
    try:
        return bool(a == b)
    except ValueError:  # arrays of another library
        return False


def _is_floating(value: Any) -> bool:
    return carries(value) and value.layout is torch.strided


def _leaves(value: Any) -> list[Any]:
    found: list[Any] = []
    mapped(value, found.append)
    return found
