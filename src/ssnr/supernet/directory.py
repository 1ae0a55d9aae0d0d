"""Where the layers of an architecture lie in a supernet, in the order of its standalone network's parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssnr.supernet.layouts.base import ZERO, Block, Choice, Layout, Use, convs, every_edge, weight_shape


class Places(NamedTuple):
    """One entry a layer: its name, number of weights, row in the table of moments, block, and node it leads to."""

    names: tuple[str, ...]
    numel: NDArray[np.int64]
    slot: NDArray[np.int64]
    block: NDArray[np.int64]
    target: NDArray[np.int64]


class _Part(NamedTuple):
    """Some of an architecture's layers; `rank` sorts all of them."""

    rank: NDArray[np.int64]
    names: NDArray[np.object_]
    columns: NDArray[np.int64]  # (4, layers): what `Places` has after the names


class Directory:
    """Looks up the layers of architectures; `slots` gives those of each block's operations, `head` the head's."""

    def __init__(self, layout: Layout, slots: Sequence[Mapping[Use, Sequence[int]]], head: int) -> None:
        self._blocks, self._slots = layout.blocks, slots
        self._known: dict[tuple[int, int, Use], _Part] = {}
        fixed = [
            self._operation(k, position, use)
            for k, block in enumerate(layout.blocks)
            if block.kind is None
            for position, use in enumerate(every_edge(block))
        ]
        numel = layout.head.outputs * layout.head.repeats * layout.head.channels
        last = len(layout.blocks)
        fixed.append(_part([(_rank(last, 0, 0), f"{layout.head.name}.weight", numel, head, last, 0)]))
        self._fixed = _joined(fixed)

    def __call__(self, choice: Choice) -> Places:
        """The layers of an architecture."""
        used = [
            self._everywhere(kind, position, use)
            for kind, uses in enumerate(choice)
            for position, use in enumerate(uses)
            if use[1] != ZERO
        ]
        rank, names, columns = _joined([self._fixed, *used])
        order = rank.argsort()
        return Places(tuple(names[order].tolist()), *columns[:, order])

    def _everywhere(self, kind: int, position: int, use: Use) -> _Part:
        """The layers of one operation in all blocks of a kind, of that position in the architecture's choice."""
        key = kind, position, use
        if key not in self._known:
            of_kind = [k for k, block in enumerate(self._blocks) if block.kind == kind]
            self._known[key] = _joined([self._operation(k, position, use) for k in of_kind])
        return self._known[key]

    def _operation(self, k: int, position: int, use: Use) -> _Part:
        block, (e, name) = self._blocks[k], use
        edge = block.edges[e]
        layers = zip(convs(edge.candidates[name]), self._slots[k][use], strict=True)
        return _part(
            [
                (
                    _rank(k, position, n),
                    _name(block, position, conv.name),
                    prod(weight_shape(conv)),
                    slot,
                    k,
                    edge.target,
                )
                for n, (conv, slot) in enumerate(layers)
            ]
        )


def _rank(block: int, position: int, layer: int) -> int:
    return (block << 32) + (position << 16) + layer


def _name(block: Block, position: int, layer: str) -> str:
    return ".".join(filter(None, (block.prefix, block.modules[position], layer, "weight")))


def _part(rows: Sequence[tuple[int, str, int, int, int, int]]) -> _Part:
    names = np.array([name for _, name, *_ in rows], np.object_)
    numbers = np.array([(rank, *columns) for rank, _, *columns in rows], np.int64).reshape(-1, 5).T
    return _Part(numbers[0], names, numbers[1:])


def _joined(parts: Sequence[_Part]) -> _Part:
    if not parts:
        return _part([])
    ranks, names, columns = zip(*parts, strict=True)
    return _Part(np.concatenate(ranks), np.concatenate(names), np.concatenate(columns, axis=1))
