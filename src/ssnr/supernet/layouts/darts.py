"""DARTS as a supernet."""

from __future__ import annotations

from ssnr.spaces import Space
from ssnr.spaces.darts.layout import SKELETONS, CellPlan, Skeleton, plan
from ssnr.spaces.darts.text import NODES, parse_genotype
from ssnr.supernet.layouts.base import (
    ZERO,
    AveragePool,
    Block,
    Choice,
    Conv,
    Depthwise,
    Edge,
    Head,
    Layout,
    MaxPool,
    Norm,
    Operation,
    Relu,
    Use,
    _halved,
    chain,
    register_layout,
)


@register_layout("darts")
def darts(space: Space, skeleton: Skeleton = SKELETONS["default"]) -> Layout:
    """DARTS: before each cell a block for each of its inputs; normal cells are of kind 0, reduction cells of kind 1."""
    channels, size, _ = space.input_shape
    width = skeleton.stem * skeleton.width
    blocks = [chain("stem", ("", (Conv("0", channels, width, 3), Norm())))]
    places = plan(skeleton, size)
    for k, place in enumerate(places):
        older, newer = ((Relu(), Conv("1", wide, place.width, 1), Norm()) for wide in place.inputs)
        prefix = f"cells.{k}"
        blocks += [
            # Three blocks a cell: the output of the cell before the last lies four back, the stem's at most as far.
            chain(prefix, ("preprocess0", _halved(place.inputs[0], place.width) if place.after_reduction else older),
                  inputs=(min(4, len(blocks)),)),
            chain(prefix, ("preprocess1", newer), inputs=(2,)),
            Block(prefix, 6, _darts_edges(place), _DARTS_MODULES, int(place.reduction), not place.reduction,
                  (2, 1), NODES),
        ]  # fmt: skip
    head = Head("classifier", len(NODES) * places[-1].width, space.num_classes)
    return Layout((size, size, channels), tuple(blocks), head, _darts_choice, batch_bytes=768 << 20)


_DARTS_MODULES = tuple(f"{node}_{slot}" for node in NODES for slot in range(2))
# A node may take the same operation of the same node twice, each with weights of its own: (source, target, copy).
_DARTS_EDGES = [(source, target, copy) for target in NODES for source in range(target) for copy in range(2)]
_DARTS_NUMBERS = {edge: number for number, edge in enumerate(_DARTS_EDGES)}


def _darts_choice(arch: str) -> Choice:
    kinds = []
    for cell in parse_genotype(arch):
        uses: list[Use] = []
        for target, node in zip(NODES, cell, strict=True):
            for slot, (op, source) in enumerate(node):
                copy = int(slot == 1 and node[0] == node[1])
                uses.append((_DARTS_NUMBERS[source, target, copy], ZERO if op == "none" else op))
        kinds.append(tuple(uses))
    return tuple(kinds)


def _darts_edges(place: CellPlan) -> tuple[Edge, ...]:
    """The operations leave nodes 0 and 1 of a reduction cell with stride 2."""
    kept, halved = (_darts_operations(place.width, stride) for stride in (1, 2))
    return tuple(
        Edge(source, target, halved if place.reduction and source < 2 else kept) for source, target, _ in _DARTS_EDGES
    )


def _darts_operations(width: int, stride: int) -> dict[str, Operation]:
    made: dict[str, Operation] = {
        "max_pool_3x3": (MaxPool(stride),),
        "avg_pool_3x3": (AveragePool(3, stride),),
        "skip_connect": () if stride == 1 else _halved(width, width),
    }
    for kernel in (3, 5):
        once = (Relu(), Depthwise("1", width, kernel, stride), Conv("2", width, width, 1), Norm())
        again = (Relu(), Depthwise("5", width, kernel), Conv("6", width, width, 1), Norm())
        made[f"sep_conv_{kernel}x{kernel}"] = once + again
        dilated = Depthwise("1", width, kernel, stride, dilation=2)
        made[f"dil_conv_{kernel}x{kernel}"] = (Relu(), dilated, *once[2:])
    return made
