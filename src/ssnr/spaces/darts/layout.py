"""How DARTS stacks its cells: plain data."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from ssnr.spaces.darts.text import NODES


class Skeleton(NamedTuple):
    """What a variant stacks the cells into.

    `affine` is whether the norms inside operations have weights, `pool_norm` whether poolings are followed by a norm;
    `stem` is the stem's width in units of `width`, 0 for none: then the image itself is both inputs of the first cell,
    and the network outputs the pooled features; it computes logits too, and drops them.
    """

    width: int
    cells: int
    affine: bool = True
    pool_norm: bool = False
    stem: int = 3


SKELETONS = {
    "default": Skeleton(32, 8),
    "naslib": Skeleton(32, 8, affine=False, pool_norm=True),
    "darts": Skeleton(36, 20),
    "swap": Skeleton(3, 1, stem=0),
}


# --- skeleton and arithmetic ----------------------------------------------------------------------------------


class CellPlan(NamedTuple):
    """One cell of the stack: channels of its two inputs, its own width, the size it outputs."""

    reduction: bool
    after_reduction: bool
    inputs: tuple[int, int]
    width: int
    size: int


@cache
def plan(skeleton: Skeleton, size: int = 32) -> tuple[CellPlan, ...]:
    """The stack: reduction cells at one and two thirds, which double the width and halve the size."""
    width = skeleton.width
    before = (skeleton.stem * width or 3,) * 2
    after_reduction = False
    made = []
    for k in range(skeleton.cells):
        reduction = k in (skeleton.cells // 3, 2 * skeleton.cells // 3)
        if reduction:
            width, size = 2 * width, size // 2
        made.append(CellPlan(reduction, after_reduction, before, width, size))
        before, after_reduction = (before[1], len(NODES) * width), reduction
    return tuple(made)
