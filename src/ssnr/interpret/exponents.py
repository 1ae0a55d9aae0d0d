"""The power of two that goes with a tensor: a tensor t stands for t·2^e, and e belongs to the memory of t.

So a view, a slice and whatever is written through them need no rule of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from ssnr.core.errors import ScoringError

_FARTHEST = 2**62  # exponents are kept as 64-bit integers


class Format(NamedTuple):
    """What a floating-point format holds.

    Attributes:
        limit: 2^±limit are normal numbers.
        middle: tensors are kept at 2^±middle, so that a sum of products stays in range.
        smallest: the smallest number with all of its digits.
    """

    limit: int
    middle: int
    smallest: float


@lru_cache(None)
def format_of(dtype: torch.dtype) -> Format:
    """The format of a floating or complex type."""
    info = torch.finfo(dtype)
    largest = math.frexp(info.max)[1]
    return Format(largest - 3, largest // 8, info.tiny)


class Exponents:
    """The exponents of one pass.

    Attributes:
        lost: whether a number became zero beside one that is far larger, where a later part of the network may look at
            it alone.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.format = str(dtype).removeprefix("torch.")
        self.lost = False
        # By address, which the weak reference keeps from being used again: e, and whether all of the memory is known to
        # be in the middle of the range.
        self._of: dict[int, tuple[StorageWeakRef, int, bool]] = {}
        self._flat: dict[int, StorageWeakRef] = {}
        self._powers: dict[float, Fraction] = {}

    def of(self, t: Tensor) -> int:
        """E of a tensor that stands for t·2^e."""
        found = self._of.get(storage(t)._cdata)
        return 0 if found is None else found[1]

    def mark(self, t: Tensor, e: int, *, near: bool = True) -> Tensor:
        """The tensor, and from now on all that shares its memory, with an exponent.

        Args:
            t: the tensor.
            e: its exponent.
            near: whether it is in the middle of the range; otherwise it is brought there where it is used.
        """
        if abs(e) >= _FARTHEST:
            raise ScoringError("numbers at |θ| are beyond 2^(2^62)")
        memory = storage(t)
        self._of[memory._cdata] = (StorageWeakRef(memory), e, near)  # type: ignore[no-untyped-call]
        return t

    def flatten(self, t: Tensor) -> Tensor:
        """Remember that a tensor has no gradient."""
        memory = storage(t)
        self._flat[memory._cdata] = StorageWeakRef(memory)  # type: ignore[no-untyped-call]
        return t

    def is_flat(self, t: Tensor) -> bool:
        """Whether `flatten` was called on it."""
        return storage(t)._cdata in self._flat

    # --- scales -------------------------------------------------------------------------------------------------------

    def to(self, t: Tensor, e: int) -> Tensor:
        """What stands for the same number beside tensors of another exponent, as far as the format holds it."""
        return shifted(t, self.of(t) - e)

    def near(self, t: Tensor, within: int | None = None) -> Tensor:
        """The same number, its largest entry within 2^±`within` (the middle of the range)."""
        memory = storage(t)
        known = self._of.get(memory._cdata)
        if (
            known is not None and not known[2]
        ):  # a result, which is nobody's but the pass's: all of it at once, in place
            whole = whole_of(t)
            shift = _shift(whole)
            if shift:
                entries(whole).data.mul_(2.0**-shift)
            self.mark(t, known[1] + shift)
        covers = covers_its_memory(t)
        if covers and within is None and known is not None:
            return t
        shift = _shift(t, within)
        if shift:
            return self.mark(t * 2.0**-shift, self.of(t) + shift)
        return self.mark(t, self.of(t)) if covers else t

    def result(self, out: Any, e: int) -> Any:
        """What an operation gave, its floating tensors standing for themselves times 2^e."""
        if isinstance(out, (tuple, list)):
            return type(out)([self.result(part, e) for part in out])
        return self.mark(out, e, near=False) if carries(out) else out

    def number(self, value: float) -> tuple[float, int]:
        """A plain number as t and e."""
        mantissa, e = math.frexp(value) if math.isfinite(value) else (value, 0)
        return (mantissa, e) if abs(e) > 8 else (value, 0)

    def exactly(self, p: float) -> Fraction:
        """A power; one less than an earlier one, which a gradient asks for, without the rounding of that difference."""
        exact = self._powers.get(float(p), Fraction(p))
        self._powers[float(p) - 1.0] = exact - 1
        return exact

    def any(self, args: Any, kwargs: Any = None) -> bool:
        """Whether any of the arguments carries an exponent."""
        return any(map(self.of, carriers(args, kwargs)))

    def largest(self, tensors: list[Tensor], *, beside_one: bool = False) -> int:
        """The largest exponent of tensors that are not zero (and of plain numbers); 0 of none."""
        found = 0 if beside_one else None
        for e, t in sorted(((self.of(t), t) for t in tensors), key=lambda pair: -pair[0]):
            if found is not None and e <= found:
                break
            if peak_of(t):
                return e
        return found or 0

    def top(self, t: Tensor) -> int | None:
        """The exponent of the largest entry, None of zeros."""
        peak = peak_of(t)
        return None if not 0 < peak < math.inf else self.of(t) + math.frexp(peak)[1]

    def is_in_range(self, t: Tensor) -> bool:
        """Whether the format holds the largest entry itself."""
        top = self.top(t)
        return top is None or abs(top) <= format_of(t.dtype).limit


def shifted(t: Tensor, step: int) -> Tensor:
    """t·2^step, as far as the format holds it."""
    limit = format_of(t.dtype).limit
    step = max(-3 * limit, min(3 * limit, step))
    while step:
        part = max(-limit, min(limit, step))
        t, step = t * 2.0**part, step - part
    return t


def carries(value: Any) -> bool:
    """Whether this is a tensor of numbers that a power of two can go with."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def carriers(args: Any, kwargs: Any = None) -> list[Tensor]:
    """All tensors in arguments that carry an exponent."""
    found: list[Tensor] = []
    for value in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(value, Tensor):
            if value.is_floating_point() or value.is_complex():
                found.append(value)
        elif isinstance(value, (tuple, list)):
            found += carriers(value)
    return found


def changed(values: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Arguments, or a part of them, with a function applied to all tensors that carry an exponent."""
    if isinstance(values, dict):
        return {key: changed([value], function)[0] for key, value in values.items()}
    return type(values)([
        (function(v) if v.is_floating_point() or v.is_complex() else v) if isinstance(v, Tensor)
        else changed(v, function) if isinstance(v, (tuple, list)) else v
        for v in values
    ])  # fmt: skip


def peak_of(t: Tensor) -> float:
    """The largest finite magnitude, 0 of an empty tensor."""
    t = entries(t)
    if not t.numel() or t.is_meta:
        return 0.0
    t = torch.view_as_real(t.resolve_conj()) if t.is_complex() else t
    low, high = map(float, torch.aminmax(t))
    if math.isfinite(low) and math.isfinite(high):
        return max(-low, high)
    return float(torch.where(torch.isfinite(t), t, torch.zeros_like(t)).abs().amax())


def entries(t: Tensor) -> Tensor:
    """The numbers of a tensor of any layout."""
    if t.layout is torch.strided:
        return t
    return t._values() if t.layout is torch.sparse_coo else t.values()


def whole_of(t: Tensor) -> Tensor:
    """All of the memory that a tensor is a part of."""
    if t.layout is not torch.strided or covers_its_memory(t):
        return t
    return torch.empty(0, dtype=t.dtype, device=t.device).set_(storage(t))


def covers_its_memory(t: Tensor) -> bool:
    """Whether every number in the memory of a tensor is one entry of it."""
    t = entries(t)
    if t.numel() * t.element_size() != t.untyped_storage().nbytes():
        return False
    if t.is_contiguous():
        return True
    step = 1
    for stride, size in sorted(zip(t.stride(), t.shape, strict=True)):
        if size > 1 and stride != step:
            return False
        step *= size
    return True


def storage(t: Tensor) -> torch.UntypedStorage:
    """The memory of a tensor's numbers."""
    return entries(t).untyped_storage()


def _shift(t: Tensor, within: int | None = None) -> int:
    """The power of two that brings the largest entry to 1, 0 where it is near enough."""
    peak = peak_of(t)
    if peak == 0.0:
        return 0
    limit, middle, _ = format_of(t.dtype)
    shift = max(-limit, min(limit, math.frexp(peak)[1]))
    return shift if abs(shift) > (middle if within is None else within) else 0
