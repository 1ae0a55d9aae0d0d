"""TransNAS-Bench-101 strings: reading and writing them. No torch here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ssnr.core.errors import ArchitectureError
from ssnr.spaces.transnasbench101.layout import EDGES

Digits = tuple[int, ...]  # micro: one operation an edge, in the order of EDGES; macro: one code a module

_TUPLE = re.compile(r"[(\[]\s*\d+(\s*,\s*\d+)*\s*,?\s*[)\]]")


def format_micro(digits: Iterable[int]) -> str:
    """Digits in the order of EDGES → the string."""
    a, b, c, d, e, f = digits
    return f"64-41414-{a}_{b}{c}_{d}{e}{f}"


def parse_micro(form: Any) -> Digits:
    """Any accepted form → digits in the order of EDGES (see `TransNasBench101Micro.parse`)."""
    if isinstance(form, str):
        return _micro_text(form)
    digits = _integers(form)
    if digits is None or len(digits) != len(EDGES) or not all(0 <= digit <= 3 for digit in digits):
        raise ArchitectureError(
            f"TransNAS-Bench-101 micro cell {form!r}: expected six digits 0 … 3, or 64-41414-a_bc_def"
        )
    return digits


@lru_cache(maxsize=1 << 13)
def _micro_text(text: str) -> Digits:
    stripped = text.strip()
    if _TUPLE.fullmatch(stripped):
        return parse_micro([int(digit) for digit in re.findall(r"\d+", stripped)])
    where, expected = f"TransNAS-Bench-101 micro cell {text!r}", "expected 64-41414-a_bc_def"
    head, _, cell = stripped.rpartition("-")
    if head not in ("", "64-41414"):
        raise ArchitectureError(f"{where}: the skeleton is {head!r}; {expected}")
    groups = cell.split("_")
    if len(groups) != 3:
        raise ArchitectureError(f"{where}: {len(groups)} groups of digits joined by '_'; {expected}")
    for target, group in enumerate(groups, start=1):
        if len(group) != target:
            raise ArchitectureError(
                f"{where}: node {target} has {len(group)} digits ({group!r}), one an input; {expected}"
            )
        for source, digit in enumerate(group):
            if digit not in "0123":
                raise ArchitectureError(
                    f"{where}: edge {source}→{target} is {digit!r}, expected 0 none, 1 skip, 2 conv 1×1 or 3 conv 3×3"
                )
    return tuple(int(digit) for digit in "".join(groups))


def format_macro(codes: Iterable[int]) -> str:
    """Module codes → the string."""
    return f"64-{''.join(map(str, codes))}-basic"


def parse_macro(form: Any) -> Digits:
    """Any accepted form → module codes (see `TransNasBench101Macro.parse`)."""
    if isinstance(form, str):
        found = re.fullmatch(r"64-([0-9]+)-basic", form.strip())
        if found:
            codes: Digits | None = tuple(map(int, found[1]))
        else:
            codes = tuple(map(int, re.findall(r"\d+", form))) if _TUPLE.fullmatch(form.strip()) else None
    else:
        codes = _integers(form)
    if codes is None:
        raise ArchitectureError(
            f"TransNAS-Bench-101 macro network {form!r}: expected 64-<four to six codes 1 … 4>-basic"
        )
    while codes and codes[-1] == 0:  # NASLib fills up to six
        codes = codes[:-1]
    fault = macro_fault(codes)
    if fault:
        raise ArchitectureError(f"TransNAS-Bench-101 macro network {form!r}: {fault}")
    return codes


def macro_fault(codes: Digits) -> str | None:
    """Why codes are no member of the space."""
    for at, code in enumerate(codes, start=1):
        if not 1 <= code <= 4:
            return f"module {at} has code {code}, expected 1 keep, 2 double the width, 3 halve the size or 4 both"
    if not 4 <= len(codes) <= 6:
        return f"{len(codes)} modules, expected 4 to 6"
    doublings, strides = sum(code in (2, 4) for code in codes), sum(code in (3, 4) for code in codes)
    if not 1 <= doublings <= 3:
        return f"{doublings} modules double the width (codes 2, 4), expected 1 to 3"
    if not 1 <= strides <= 4:
        return f"{strides} modules halve the size (codes 3, 4), expected 1 to 4"
    return None


def _integers(form: Any) -> Digits | None:
    if isinstance(form, np.ndarray):
        form = form.tolist()
    if isinstance(form, Sequence) and all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in form):
        return tuple(int(n) for n in form)
    return None
