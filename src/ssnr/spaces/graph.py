"""Cells with operations on edges: which of them matter, and which cells are one network. No torch here.

Node 0 is the cell's input, the last node its output, and a node's value is the sum over its incoming edges of
operation(source node). What an operation does to that question is a `Term`: how it is written, and whether it has
weights of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations, product
from typing import NamedTuple

Edge = tuple[int, int]


class Term(NamedTuple):
    """An operation as the functions here see it: `Term("")` is the identity."""

    symbol: str
    weights: bool = False


IDENTITY = Term("")
Terms = Sequence[Term | None]  # one an edge; None is an operation that gives zero


class Network(NamedTuple):
    """`key` is equal for cells that are one network; `order` the live edges with weights, as the weights are drawn."""

    key: str
    order: tuple[int, ...]


def live_edges(edges: Sequence[Edge], terms: Terms) -> list[int]:
    """Positions of the edges on some path from the input to the output; `edges` are sorted by target node.

    >>> live_edges([(0, 1), (0, 2), (1, 2)], [Term("conv", True), IDENTITY, None])
    [1]
    """
    used = [k for k, term in enumerate(terms) if term is not None]
    fed, feeding = {0}, {edges[-1][1]}
    for k in used:  # sorted by target, so that one pass is enough
        source, target = edges[k]
        if source in fed:
            fed.add(target)
    for source, target in sorted((edges[k] for k in used), reverse=True):
        if target in feeding:
            feeding.add(source)
    return [k for k in used if edges[k][0] in fed and edges[k][1] in feeding]


def network(edges: Sequence[Edge], terms: Terms) -> Network:
    """What the cell computes from its live edges, written so that renaming nodes does not change it.

    A node's value is a bag of summands: the input `x`, or an operation of a bag. Identities disappear, so bags flatten.
    Two operations without weights on one bag are one summand twice; two with weights have two sets of them and stay
    two. Numbering those in every order that their own texts leave open and keeping the smallest text makes the key,
    and the drawing order, independent of how the cell was written down.
    """
    live = live_edges(edges, terms)
    weighted = [k for k in live if terms[k].weights]  # type: ignore[union-attr]
    shapes = {k: _sum(edges, terms, live, edges[k][0], {}) + terms[k].symbol for k in weighted}  # type: ignore[union-attr]
    groups: dict[str, list[int]] = {}
    for k in sorted(weighted, key=lambda k: (len(shapes[k]), shapes[k])):
        groups.setdefault(shapes[k], []).append(k)
    best: Network | None = None
    for choice in product(*(permutations(group) for group in groups.values())):
        order = tuple(k for group in choice for k in group)
        numbers = {k: position for position, k in enumerate(order)}
        text = _sum(edges, terms, live, edges[-1][1], numbers)
        if best is None or text < best.key:
            best = Network(text, order)
    assert best is not None  # the product of nothing is one empty choice
    return best


def function_text(edges: Sequence[Edge], terms: Terms) -> str:
    """What the cell computes when weights are not told apart, and an operation on zero is not zero (a norm's bias).

    >>> conv = Term("conv", True)
    >>> function_text([(0, 1), (0, 2), (1, 2)], [None, IDENTITY, conv])
    'conv()+x'
    """
    used = [k for k, term in enumerate(terms) if term is not None]
    return _sum(edges, terms, used, edges[-1][1], {})


def _sum(edges: Sequence[Edge], terms: Terms, used: Sequence[int], node: int, numbers: Mapping[int, int]) -> str:
    """The bag at a node as text; operations carry their number where they have one."""

    def bag(node: int) -> list[str]:
        if node == 0:
            return ["x"]
        found: list[str] = []
        for k in used:
            source, target = edges[k]
            if target != node:
                continue
            term, below = terms[k], bag(source)
            assert term is not None
            if term == IDENTITY:
                found += below
            else:
                found.append(f"{term.symbol}{numbers.get(k, '')}({'+'.join(below)})")
        return sorted(found)

    return "+".join(bag(node))
