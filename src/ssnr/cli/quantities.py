"""Numbers with units as people write them: 60s, 5min, 1.5M, 4GB."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from ssnr.core.errors import UsageError

_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"b": 1.0, "": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
_TEXT = re.compile(r"\s*(?P<number>\d+(\.\d*)?(e[+-]?\d+)?|\.\d+)\s*(?P<unit>[a-zµ]*)\s*", re.IGNORECASE)


def seconds_of(option: str, text: str | None) -> float | None:
    """Seconds of `60s`, `5min`, `2h`, `5ms`; a bare number is seconds.

    Raises:
        UsageError: no time above 0.

    >>> seconds_of("--time", "5min")
    300.0
    """
    return None if text is None else _read(option, text, _SECONDS, "a time above 0 such as 60s, 5min or 2h")


def bytes_of(option: str, text: str | None) -> int | None:
    """Bytes of `200MB`, `4GB`, `512MiB`; a bare number is bytes.

    Raises:
        UsageError: no size above 0.

    >>> bytes_of("--max-memory", "4GB")
    4000000000
    """
    return None if text is None else round(_read(option, text, _BYTES, "a size above 0 such as 200MB or 4GB"))


def count_of(option: str, text: str | None) -> float | None:
    """A count such as `1M`, `300k`, `1.5G` or `1e6`.

    Raises:
        UsageError: no count above 0.

    >>> count_of("--max-params", "1.5M")
    1500000.0
    """
    return None if text is None else _read(option, text, _COUNTS, "a number above 0 such as 300k, 1.5M or 1e6")


def _read(option: str, text: str, units: Mapping[str, float], expected: str) -> float:
    match = _TEXT.fullmatch(text)
    unit = None if match is None else units.get(match["unit"].lower())
    if match is None or unit is None or not 0 < float(match["number"]) * unit < math.inf:
        raise UsageError(f"{option} {text!r}: expected {expected}")
    return float(match["number"]) * unit
