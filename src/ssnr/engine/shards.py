"""Parts of a sweep for machines that share nothing: which architectures are whose."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ssnr.core.errors import UsageError


class Shard(NamedTuple):
    """The number-th of `of` parts, counted from 1."""

    number: int
    of: int


def shard_of(text: str | tuple[int, int] | None) -> Shard | None:
    """Read `3/16`.

    Raises:
        UsageError: no such part.

    >>> shard_of("3/16")
    Shard(number=3, of=16)
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text) if isinstance(text, str) else None
    number, of = (int(match[1]), int(match[2])) if match else text if isinstance(text, tuple) else (0, 0)
    if not 1 <= number <= of:
        raise UsageError(f"shard {text!r}: expected a part such as 3/16, from 1/16 to 16/16")
    return Shard(number, of)


def part(networks: Mapping[str, str], shard: Shard) -> dict[str, str]:
    """The architectures of a shard, of architecture → network.

    Networks are dealt out in the order of their names: every shard gets as many, whatever the order in which
    architectures were given, and all architectures that are one network come together.

    >>> part({"a": "a", "b": "a", "c": "c", "d": "d"}, Shard(1, 2))
    {'a': 'a', 'b': 'a', 'd': 'd'}
    """
    own = set(sorted(set(networks.values()))[shard.number - 1 :: shard.of])
    return {arch: network for arch, network in networks.items() if network in own}
