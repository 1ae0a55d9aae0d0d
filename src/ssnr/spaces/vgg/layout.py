"""Stages and blocks of VGG and ResNet: plain data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

WIDTHS = tuple(range(8, 129, 8))
VGG_STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
VGG_WIDTHS = (1, 2, 4, 8, 8)
RESNET_BLOCKS = {18: (2, 2, 2, 2), **{depth: ((depth - 2) // 6,) * 3 for depth in (20, 32, 44, 56, 110)}}


class Plain(NamedTuple):
    """A network of such a family: number of weighted layers, channels of the first stage."""

    depth: int
    width: int


def blocks(plain: Plain) -> Iterator[tuple[int, int, int]]:
    """(channels out, stride, pixels out) of each residual block."""
    stages: Sequence[int] = RESNET_BLOCKS[plain.depth]
    for stage, number in enumerate(stages):
        for block in range(number):
            yield plain.width << stage, 2 if stage and not block else 1, (32 >> stage) ** 2
