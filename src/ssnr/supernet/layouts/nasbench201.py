"""NAS-Bench-201 as a supernet."""

from __future__ import annotations

from functools import partial

from ssnr.spaces import Space
from ssnr.spaces.nasbench201.space import CELLS_PER_STAGE, EDGES, WIDTHS, parse_ops
from ssnr.supernet.layouts.base import (
    AveragePool,
    Block,
    Conv,
    Edge,
    Head,
    Layout,
    Norm,
    Operation,
    Relu,
    _names,
    _ops_choice,
    chain,
    register_layout,
)


@register_layout("nasbench201")
def nasbench201(space: Space, cells_per_stage: int = CELLS_PER_STAGE) -> Layout:
    """NAS-Bench-201, or a deeper one."""
    channels, size, _ = space.input_shape
    blocks = [chain("stem", ("", (Conv("0", channels, WIDTHS[0], 3), Norm())))]
    for stage, width in enumerate(WIDTHS):
        if stage:
            blocks.append(_reduction(f"cells.{len(blocks) - 1}", WIDTHS[stage - 1]))
        operations: dict[str, Operation] = {
            "skip_connect": (),
            "nor_conv_1x1": (Relu(), Conv("1", width, width, 1), Norm()),
            "nor_conv_3x3": (Relu(), Conv("1", width, width, 3), Norm()),
            "avg_pool_3x3": (AveragePool(3),),
        }
        edges = tuple(Edge(i, j, operations) for i, j in EDGES)
        blocks += [Block(f"cells.{len(blocks) - 1 + k}", 4, edges, _names(EDGES)) for k in range(cells_per_stage)]
    head = Head("classifier", WIDTHS[-1], space.num_classes, before=(Norm(), Relu()))
    return Layout((size, size, channels), tuple(blocks), head, partial(_ops_choice, parse_ops, "none"))


def _reduction(prefix: str, width: int) -> Block:
    """Two 3×3 convolutions, beside an average pooling and a 1×1 convolution."""
    wide = 2 * width
    edges = (
        Edge(0, 1, {"only": (Relu(), Conv("1", width, wide, 3, stride=2), Norm())}),
        Edge(1, 2, {"only": (Relu(), Conv("4", wide, wide, 3), Norm())}),
        Edge(0, 2, {"only": (AveragePool(2, 2), Conv("1", width, wide, 1))}),
    )
    return Block(prefix, 3, edges, ("main", "main", "shortcut"), None)
