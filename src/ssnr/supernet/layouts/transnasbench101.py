"""TransNAS-Bench-101 micro as a supernet."""

from __future__ import annotations

from functools import partial

from ssnr.core.errors import UsageError
from ssnr.spaces import Space
from ssnr.spaces.transnasbench101 import layout as transnasbench101_layout
from ssnr.spaces.transnasbench101.layout import MICRO_CODES, STEM, TASKS, TILES
from ssnr.spaces.transnasbench101.space import OPERATIONS, TransNasBench101Micro
from ssnr.spaces.transnasbench101.text import parse_micro
from ssnr.supernet.layouts.base import (
    Block,
    Conv,
    Edge,
    Head,
    Layout,
    Norm,
    Operation,
    Relu,
    _halved,
    _names,
    _ops_choice,
    chain,
    register_layout,
)


@register_layout("transnasbench101-micro")
def transnasbench101_micro(space: Space) -> Layout:
    """TransNAS-Bench-101's cells, for tasks with a linear layer at the end.

    Raises:
        UsageError: the task has another decoder.
    """
    assert isinstance(space, TransNasBench101Micro)
    task, plan = TASKS[space.task], transnasbench101_layout.blocks(MICRO_CODES)
    if task.head not in ("linear", "tiles"):
        raise UsageError(f"no supernet for {space.name}: its decoder has biases and a tanh, which are not linear")
    channels, size, _ = task.input_shape[-3:]
    half, width = STEM
    made = [
        chain(
            "stem",
            ("", (Conv("0", channels, half, 3, 2), Norm())),
            ("", (Relu(), Conv("3", half, width, 3, 2), Norm())),
        )
    ]
    for block in plan:
        inner = transnasbench101_layout.Block(block.channels_out, block.channels_out, 1)
        places = transnasbench101_layout.EDGES
        edges = tuple(Edge(i, j, _micro_operations(inner if i else block)) for i, j in places)
        made.append(Block(f"blocks.{len(made) - 1}", 4, edges, _names(places), connected=not block.changes))
    head = Head("decoder.2", plan[-1].channels_out, task.outputs, TILES if task.head == "tiles" else 1)
    choice = partial(_ops_choice, _micro_names, "none")
    return Layout((size, size, channels), tuple(made), head, choice, fan_out=True)


def _micro_operations(block: transnasbench101_layout.Block) -> dict[str, Operation]:
    below, above, stride = block
    skip: Operation = ()
    if block.changes:
        skip = _halved(below, above)
    return {
        "skip_connect": skip,
        "conv_1x1": (Relu(), Conv("1", below, above, 1, stride), Norm()),
        "conv_3x3": (Relu(), Conv("1", below, above, 3, stride), Norm()),
    }


def _micro_names(arch: str) -> list[str]:
    return [OPERATIONS[digit] for digit in parse_micro(arch)]
