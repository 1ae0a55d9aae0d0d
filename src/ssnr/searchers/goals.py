"""What a search is after: objectives with their directions, and constraints on counts."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ssnr.core.catalogue import CONTROLS, Proxy, parse_proxy
from ssnr.core.errors import UsageError
from ssnr.core.registry import unknown
from ssnr.core.results import Counts, Score

MEASURED = ("latency", "memory")  # of a network on this device, one at a time
COUNTED = (*CONTROLS, *MEASURED)


class Objective(NamedTuple):
    """One number to be as large, or as small, as it can be.

    Attributes:
        text: as asked for, such as `noise_ssnr` or `-params`.
        name: without the sign.
        larger: whether more is better.
        proxy: what scores it; None for latency and memory.
    """

    text: str
    name: str
    larger: bool
    proxy: Proxy | None

    def of(self, score: Score) -> float | None:
        """The score as a number that can be compared; None where it is dead or failed."""
        if score.status != "ok" or score.value is None:
            return None
        if math.isfinite(score.value):
            return score.value
        # Beyond float64: all such sums are larger than any other, in the order of their logarithms.
        return sys.float_info.max * (1.0 - 1.0 / (1.0 + abs(score.log_value or 0.0)))


def objectives_of(texts: Iterable[str]) -> tuple[Objective, ...]:
    """Read objectives: a proxy in the direction that its authors use, `-NAME` for as small as can be.

    Raises:
        UsageError: none, an unknown name, or one twice.

    >>> [(o.name, o.larger) for o in objectives_of(["noise_ssnr", "-params", "ntk"])]
    [('noise_ssnr', True), ('params', False), ('ntk', False)]
    """
    found: dict[str, Objective] = {}
    for text in (texts,) if isinstance(texts, str) else texts:
        name = text.strip().removeprefix("-").strip()
        if name in MEASURED:
            made = Objective(text, name, not text.strip().startswith("-"), None)
        else:
            proxy = parse_proxy(name)
            entry = proxy.saliency or proxy.plain
            assert entry is not None
            made = Objective(text, proxy.text, entry.higher_is_better and not text.strip().startswith("-"), proxy)
        if made.name in found:
            raise UsageError(f"objective {text!r}: {made.name} is asked for twice")
        found[made.name] = made
    if not found:
        raise UsageError("no objective: for example noise_ssnr, or noise_ssnr and -params")
    return tuple(found.values())


class Bounds(NamedTuple):
    """A constraint: low ≤ number ≤ high, either None."""

    low: float | None
    high: float | None


def bounds_of(constraints: Mapping[str, object] | None) -> dict[str, Bounds]:
    """Read constraints: name → largest value, or (smallest, largest).

    Raises:
        UsageError: an unknown name, or bounds between which nothing is.

    >>> bounds_of({"params": 1e6, "flops": (1e6, None)})
    {'params': Bounds(low=None, high=1000000.0), 'flops': Bounds(low=1000000.0, high=None)}
    """
    found: dict[str, Bounds] = {}
    for name, given in (constraints or {}).items():
        if name not in COUNTED:
            raise unknown("constraint", name, COUNTED)
        low, high = given if isinstance(given, (tuple, list)) and len(given) == 2 else (None, given)
        ends = []
        for end in (low, high):
            if end is not None and (isinstance(end, bool) or not isinstance(end, (int, float)) or end != end):
                raise UsageError(f"constraint {name}={given!r}: expected the largest value, or (smallest, largest)")
            ends.append(None if end is None else float(end))
        made = Bounds(*ends)
        if made.low is not None and made.high is not None and made.low > made.high:
            raise UsageError(f"constraint {name}: nothing is from {made.low:g} to {made.high:g}")
        found[name] = made
    return found


def violation(bounds: Mapping[str, Bounds], values: Counts | Mapping[str, float]) -> tuple[float, ...]:
    """How far each constraint is missed, as a share of its bound; 0 or less where it is met.

    >>> violation(bounds_of({"params": 100}), {"params": 150.0})
    (0.5,)
    """
    missed = []
    for name, (low, high) in bounds.items():
        value = getattr(values, name) if isinstance(values, Counts) else values.get(name)
        if value is None:
            continue
        over = -math.inf if high is None else (value - high) / max(abs(high), 1e-12)
        under = -math.inf if low is None else (low - value) / max(abs(low), 1e-12)
        missed.append(max(over, under, -1.0))
    return tuple(missed)


def meets(bounds: Mapping[str, Bounds], values: Counts | Mapping[str, float]) -> bool:
    """Whether every constraint is met."""
    return all(missed <= 0 for missed in violation(bounds, values))
