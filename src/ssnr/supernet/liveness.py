"""What an architecture's graph alone says: which operations carry anything, and which of them autograd would reach."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssnr.supernet.layouts.base import ZERO, Block, Choice

Used = tuple[tuple[int, ...], ...]  # by kind of block, the edges that are used


class Survey(NamedTuple):
    """What the graph of one architecture says.

    `live` is what it uses on a path from the input to the output in any block, by kind of block, sorted: what decides
    its numbers. `reached` (blocks and head, nodes) says at which node of which block a gradient would arrive: a layer
    that leads to another one is unused, and not merely dead. A network is `dead` if its output ignores its input.
    """

    live: Choice
    reached: NDArray[np.bool_]
    dead: bool


class Surveyor:
    """Surveys the architectures of one layout."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks
        self._edges = [[(edge.source, edge.target) for edge in block.edges] for block in blocks]
        self._from_edges = lru_cache(maxsize=1 << 12)(self._survey)

    def __call__(self, choice: Choice) -> Survey:
        """Survey an architecture."""
        used = tuple(tuple(edge for edge, operation in uses if operation != ZERO) for uses in choice)
        on_path, reached, dead = self._from_edges(used)
        live = (
            tuple(sorted(use for use in uses if use[1] != ZERO and use[0] in on))
            for uses, on in zip(choice, on_path, strict=True)
        )
        return Survey(tuple(live), reached, dead)

    def _survey(self, used: Used) -> tuple[tuple[frozenset[int], ...], NDArray[np.bool_], bool]:
        ways = [self._ways(number, used) for number in range(len(self._blocks))]
        fed = self._fed(ways)
        needed = self._backwards(ways, zeros=False)
        live: list[set[int]] = [set() for _ in used]
        for number, block in enumerate(self._blocks):
            if block.kind is not None:
                edges = self._edges[number]
                live[block.kind] |= {
                    k for k in used[block.kind] if edges[k][0] in fed[number] and edges[k][1] in needed[number]
                }
        reached = np.zeros((len(self._blocks) + 1, max(block.nodes for block in self._blocks)), np.bool_)
        for number, nodes in enumerate([*self._backwards(ways, zeros=True), {0}]):  # the head always
            reached[number, list(nodes)] = True
        return tuple(map(frozenset, live)), reached, fed[-1].isdisjoint(self._blocks[-1].ends)

    def _ways(self, number: int, used: Used) -> list[tuple[int, int]]:
        """(source, target) of the edges of a block that are used, in their order."""
        kind = self._blocks[number].kind
        return self._edges[number] if kind is None else [self._edges[number][k] for k in sorted(used[kind])]

    def _fed(self, ways: Sequence[Sequence[tuple[int, int]]]) -> list[set[int]]:
        """Of each block, the nodes that depend on the image."""
        found: list[set[int]] = []
        comes = [True]  # whether what a block outputs depends on it; the image first
        for block, edges in zip(self._blocks, ways, strict=True):
            fed = {node for node, back in enumerate(block.inputs) if comes[-back]}
            for source, target in edges:
                if source in fed:
                    fed.add(target)
            comes.append(not fed.isdisjoint(block.ends))
            found.append(fed)
        return found

    def _backwards(self, ways: Sequence[Sequence[tuple[int, int]]], *, zeros: bool) -> list[set[int]]:
        """Of each block, the nodes with a way to the output; with `zeros`, also through connected zeros."""
        found: list[set[int]] = []
        wanted = {len(self._blocks) - 1}
        for number in reversed(range(len(self._blocks))):
            block, edges = self._blocks[number], ways[number]
            nodes: set[int] = set(block.ends) if number in wanted else set()
            for source, target in reversed(edges):
                if target in nodes:
                    nodes.add(source)
            if zeros and block.connected and not nodes.issubset(_known(block, edges)):
                nodes.add(0)
            wanted |= {number - block.inputs[node] for node in nodes if node < len(block.inputs)}
            found.append(nodes)
        return found[::-1]


def _known(block: Block, edges: Iterable[tuple[int, int]]) -> set[int]:
    """The nodes that something leads to, and the inputs."""
    return {*range(len(block.inputs)), *(target for _, target in edges)}
