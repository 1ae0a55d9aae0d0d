"""What an architecture's graph alone says: which operations carry anything, and which of them autograd would reach."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from ssnr.spaces.graph import IDENTITY, live_edges
from ssnr.supernet.layouts import ZERO, Block, Choice


class Survey(NamedTuple):
    """Of one architecture. A network in which nothing is `live` is dead: its output ignores its input.

    `live` says of each edge of a cell whether it is on a path from the input to the output; `reached` whether a
    gradient would arrive at what the edge puts out, and `arrived` whether one would arrive behind each block: without
    one a layer is unused, and not merely dead.
    """

    live: tuple[bool, ...]
    reached: tuple[bool, ...]
    arrived: tuple[bool, ...]

    @property
    def dead(self) -> bool:
        """Whether the output ignores the input."""
        return not any(self.live)


def survey(blocks: Sequence[Block], choice: Choice) -> Survey:
    """Survey an architecture; the edges of all cells are the same."""
    edges = next(tuple((edge.source, edge.target) for edge in block.edges) for block in blocks if not block.shared)
    kinds = tuple(block.shared or (None if block.connected else False) for block in blocks)
    return _survey(edges, tuple(operation != ZERO for operation in choice), kinds)


@lru_cache(maxsize=1 << 12)
def _survey(edges: tuple[tuple[int, int], ...], used: tuple[bool, ...], kinds: tuple[bool | None, ...]) -> Survey:
    """`kinds` of blocks: True where all is shared, False for a cell whose zeros are cut off from its input, or None."""
    on_path = set(live_edges(edges, [IDENTITY if use else None for use in used]))
    output = edges[-1][1]
    feeding = {output}
    for (source, target), use in sorted(zip(edges, used, strict=True), reverse=True):
        if use and target in feeding:
            feeding.add(source)
    fed = {0} | {target for (_, target), use in zip(edges, used, strict=True) if use}
    direct, by_zeros = 0 in feeding, bool(feeding - fed)
    arrived = [True]
    for kind in reversed(kinds):
        passes = kind is True or direct or (kind is None and by_zeros)
        arrived.append(arrived[-1] and passes)
    return Survey(
        live=tuple(k in on_path for k in range(len(edges))),
        reached=tuple(use and target in feeding for (_, target), use in zip(edges, used, strict=True)),
        arrived=tuple(reversed(arrived[:-1])),
    )
