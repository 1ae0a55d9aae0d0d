"""NAS-Bench-101 cells as graphs: pruning, renaming, and the list of all of them. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import pairwise, permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

OPERATIONS = ("conv1x1", "conv3x3", "maxpool3x3")
MAX_VERTICES, MAX_EDGES = 7, 9


class Cell(NamedTuple):
    """Vertex 0 is the input; `sources[v - 1]` are the vertices that feed vertex v, of which the last is the output."""

    ops: tuple[str, ...]
    sources: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Number of edges."""
        return sum(map(len, self.sources))

    def connected(self) -> bool:
        """Whether a path leads from the input to the output."""
        return 0 in _feeding(self.sources)

    def flipped(self, source: int, target: int) -> Cell:
        """With this edge added, or taken where it is there."""
        own = set(self.sources[target - 1]) ^ {source}
        return self._replace(sources=(*self.sources[: target - 1], tuple(sorted(own)), *self.sources[target:]))

    def split(self, source: int, target: int, op: str) -> Cell:
        """With a new vertex on this edge, which takes the target's place in the order."""
        moved: list[tuple[int, ...]] = []
        for own in self.flipped(source, target).sources:
            moved.append(tuple(v + (v >= target) for v in own))
        moved[target - 1] = tuple(sorted((*moved[target - 1], target)))
        moved.insert(target - 1, (source,))
        return Cell((*self.ops[: target - 1], op, *self.ops[target - 1 :]), tuple(moved))


def _feeding(sources: Sequence[Sequence[int]]) -> set[int]:
    """The vertices from which a path leads to the output."""
    found = {len(sources)}
    for target in range(len(sources), 0, -1):
        if target in found:
            found.update(sources[target - 1])
    return found


@lru_cache(maxsize=1 << 14)
def prune(cell: Cell) -> Cell:
    """The cell without the vertices that are on no path from the input to the output; their order stays.

    >>> prune(Cell(("conv3x3", "conv1x1", "maxpool3x3"), ((0,), (), (1,), (1, 2))))
    Cell(ops=('conv3x3',), sources=((0,), (1,)))
    """
    fed = {0}
    for target, sources in enumerate(cell.sources, start=1):
        if fed.intersection(sources):
            fed.add(target)
    kept = sorted(fed & _feeding(cell.sources))
    names = {vertex: name for name, vertex in enumerate(kept)}
    renamed = tuple(tuple(names[v] for v in cell.sources[t - 1] if v in names) for t in kept[1:])
    return Cell(tuple(cell.ops[v - 1] for v in kept[1:-1]), renamed)


@lru_cache(maxsize=1 << 14)
def _smallest(cell: Cell, keep: tuple[int, ...]) -> Cell:
    best: tuple[int, list[int], Cell] | None = None
    count = len(cell.ops)
    for order in _orders(cell, keep):
        names = {vertex: name for name, vertex in enumerate((0, *order, count + 1))}
        sources = tuple(tuple(sorted(names[v] for v in cell.sources[t - 1])) for t in (*order, count + 1))
        renamed = Cell(tuple(cell.ops[v - 1] for v in order), sources)
        edges = sum(_bit(v, t) for t, own in enumerate(sources, start=1) for v in own)
        codes = [OPERATIONS.index(op) for op in renamed.ops]
        if best is None or (edges, codes) < best[:2]:
            best = (edges, codes, renamed)
    assert best is not None  # the order that the cell has
    return best[2]


def smallest(cell: Cell, keep: Sequence[int] = ()) -> Cell:
    """The smallest renaming of a cell, among those that leave the vertices `keep` in their order."""
    return _smallest(cell, tuple(keep))


def _orders(cell: Cell, keep: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every order of the interior vertices that lists sources first, and `keep` as it is."""
    before = {v: set(cell.sources[v - 1]) - {0} for v in range(1, len(cell.ops) + 1)}
    for earlier, later in pairwise(keep):
        before[later].add(earlier)

    def extend(done: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(done) == len(before):
            yield done
            return
        for vertex, needed in before.items():
            if vertex not in done and needed.issubset(done):
                yield from extend((*done, vertex))

    return extend(())


# --- all of them ----------------------------------------------------------------------------------------------


def _bit(source: int, target: int) -> int:
    """An edge as a bit, which does not depend on the number of vertices."""
    return 1 << (target * (target - 1) // 2 + source)


class Graphs(NamedTuple):
    """The cells of one graph: its edges as bits, and the operations of each cell as a number in base 3."""

    vertices: int
    edges: int
    codes: NDArray[np.int64]


def decode(vertices: int, edges: int, code: int) -> Cell:
    """The cell of a group's entry."""
    sources = tuple(tuple(v for v in range(t) if edges & _bit(v, t)) for t in range(1, vertices))
    ops = []
    for _ in range(vertices - 2):
        code, op = divmod(code, 3)
        ops.append(OPERATIONS[op])
    return Cell(tuple(reversed(ops)), sources)


@cache
def classes() -> tuple[Graphs, ...]:
    """Every cell of the benchmark in its smallest renaming, by graph, small graphs first: 423,624 cells."""
    return tuple(group for vertices in range(2, MAX_VERTICES + 1) for group in _groups(vertices))


def _groups(vertices: int) -> Iterator[Graphs]:
    """The graphs of this many vertices that are their own smallest renaming, with the operations they leave apart."""
    graphs = _graphs(vertices)
    orders = list(permutations(range(1, vertices - 1)))
    smallest_so_far = graphs.copy()
    for order in orders:
        np.minimum(smallest_so_far, _renamed(graphs, order, vertices), out=smallest_so_far)
    graphs = graphs[smallest_so_far == graphs]
    codes = np.arange(3 ** (vertices - 2))
    kept = np.ones((len(graphs), len(codes)), dtype=bool)
    for order in orders:
        same = _renamed(graphs, order, vertices) == graphs
        kept[same] &= codes <= _moved(codes, order)
    for graph, own in zip(graphs.tolist(), kept, strict=True):
        yield Graphs(vertices, graph, codes[own])


def _graphs(vertices: int) -> NDArray[np.int64]:
    """Edge sets of at most nine edges in which every vertex is on a path from the input to the output."""
    pairs = [(v, t) for t in range(1, vertices) for v in range(t)]
    graphs = np.arange(1 << len(pairs), dtype=np.int64)
    for v in range(vertices):
        into, out = (sum(_bit(*pair) for pair in pairs if pair[end] == v) for end in (1, 0))
        for mask in (into, out):
            if mask:  # the input has nothing into it, the output nothing out of it
                graphs = graphs[(graphs & mask) != 0]
    size = np.zeros_like(graphs)
    for pair in pairs:
        size += (graphs & _bit(*pair)) != 0
    return graphs[size <= MAX_EDGES]


def _renamed(graphs: NDArray[np.int64], order: Sequence[int], vertices: int) -> NDArray[np.int64]:
    """The edge sets with interior vertex v renamed to order[v − 1]; a huge number where that turns an edge around."""
    names = (0, *order, vertices - 1)
    table = np.zeros(1 << 7, dtype=np.int64)
    found = np.zeros_like(graphs)
    pairs = [(v, t) for t in range(1, vertices) for v in range(t)]
    for start in range(0, len(pairs), 7):  # seven edges at a time by a table
        table[:] = 0
        for place, (v, t) in enumerate(pairs[start : start + 7]):
            moved = _bit(names[v], names[t]) if names[v] < names[t] else 1 << 40
            table[(np.arange(len(table)) >> place) & 1 == 1] |= moved
        found |= table[(graphs >> start) & (len(table) - 1)]
    return found


def _moved(codes: NDArray[np.int64], order: Sequence[int]) -> NDArray[np.int64]:
    """Operation numbers when vertex v is renamed to order[v − 1]; vertex 1 is the most significant digit."""
    count = len(order)
    found = np.zeros_like(codes)
    for place, name in enumerate(order):
        digit = codes // 3 ** (count - 1 - place) % 3
        found += digit * 3 ** (count - name)
    return found
