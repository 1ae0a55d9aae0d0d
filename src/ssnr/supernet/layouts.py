"""What a supernet needs to know of a space, as plain data: blocks, edges, candidate operations. No torch here.

A network is a chain of blocks that every architecture of the space shares, each a small graph: a node's value is the
sum over the edges that end in it of operation(source node), and a block puts out some of its nodes joined on channels.
An edge names its candidate operations; an architecture says, for each kind of block, which of them it uses. Stem and
reduction blocks are blocks whose operations every architecture uses. What every operation may be made of is listed
under "steps": all of it is linear where inputs and weights are not negative, which is how synflow reads a network.

A new family registers one function from a space to its layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from ssnr._errors import UsageError
from ssnr._registry import Registry
from ssnr.spaces import Space, transnasbench101_layout
from ssnr.spaces.nasbench201 import CELLS_PER_STAGE, EDGES, WIDTHS, parse_ops
from ssnr.spaces.transnasbench101 import OPERATIONS, TransNasBench101Micro
from ssnr.spaces.transnasbench101_layout import MICRO_CODES, STEM, TASKS, TILES
from ssnr.spaces.transnasbench101_text import parse_micro

Shape = tuple[int, int, int]  # height, width, channels


# --- steps ----------------------------------------------------------------------------------------------------


class Conv(NamedTuple):
    """A convolution that keeps the size at stride 1; `name` is its weight's name within the operation's module."""

    name: str
    channels_in: int
    channels_out: int
    kernel: int
    stride: int = 1


class AveragePool(NamedTuple):
    """Averages of the pixels inside the image: 3×3 windows around each, or 2×2 windows side by side."""

    kernel: int


class Halves(NamedTuple):
    """Two 1×1 convolutions, of the even and of the odd rows and columns, joined on channels; their stride is 1."""

    even: Conv
    odd: Conv


Step = Conv | AveragePool | Halves
Operation = tuple[Step, ...]  # the identity is the empty one


def shape_after(operation: Operation, shape: Shape) -> Shape:
    """Shape of what an operation puts out."""
    for step in operation:
        height, width, channels = shape
        if isinstance(step, Halves):
            shape = (height // 2, width // 2, step.even.channels_out + step.odd.channels_out)
        elif isinstance(step, Conv):
            shape = (-(-height // step.stride), -(-width // step.stride), step.channels_out)
        elif step.kernel == 2:
            shape = (height // 2, width // 2, channels)
    return shape


def convs(operation: Operation) -> list[Conv]:
    """The convolutions of an operation."""
    found: list[Conv] = []
    for step in operation:
        found += [step.even, step.odd] if isinstance(step, Halves) else [step] if isinstance(step, Conv) else []
    return found


# --- blocks ---------------------------------------------------------------------------------------------------


class Edge(NamedTuple):
    """What may lead from one node to another: name → operation. `module` is the operation's name in its block."""

    source: int
    target: int
    module: str
    candidates: Mapping[str, Operation]


class Block(NamedTuple):
    """A graph whose node 0 is what the block before puts out and whose last node is what it puts out itself.

    `prefix` is the block's name in the network. Edges stand in the order of the network's parameters, a node's
    incoming ones before its outgoing ones. `shared`: every architecture uses every edge's only candidate. `connected`:
    where nothing leads to a node, its zeros still depend on node 0 for autograd, so that what lies before is flagged
    dead and not unused.
    """

    prefix: str
    nodes: int
    edges: tuple[Edge, ...]
    shared: bool = False
    connected: bool = True


class Head(NamedTuple):
    """Global average pooling and a linear layer of that name, on `repeats` copies of the features."""

    name: str
    channels: int
    outputs: int
    repeats: int = 1


Choice = tuple[str, ...]  # the operation on each edge
_BATCH_BYTES, _BATCH_SIZE = 128 << 20, 64
ZERO = ""  # the operation that gives zero, which is no candidate


class Layout(NamedTuple):
    """All of a space: input image, blocks, head, `choice` of an architecture in every block that is not `shared`.

    `fan_out`: blocks start from N(0, 2/fan_out) instead of PyTorch's default.
    """

    image: Shape
    blocks: tuple[Block, ...]
    head: Head
    choice: Callable[[str], Choice]
    fan_out: bool = False


# Family → function from a space to its layout.
LAYOUTS: Registry[Callable[[Space], Layout]] = Registry("supernet layout")


def register_layout(family: str) -> Callable[[Callable[[Space], Layout]], Callable[[Space], Layout]]:
    """Give the spaces of a family a supernet: the decorated function makes a space's layout."""

    def add(make: Callable[[Space], Layout]) -> Callable[[Space], Layout]:
        return LAYOUTS.add(family, make)

    return add


def layout_of(space: Space) -> Layout:
    """The layout of a space.

    Raises:
        UsageError: the space's family has none.
    """
    if space.family not in LAYOUTS:
        raise UsageError(f"no supernet for {space.name}: there is one for {', '.join(LAYOUTS)}")
    return LAYOUTS[space.family](space)


def batch_size(layout: Layout, itemsize: int) -> int:
    """How many architectures go through one pass, whose numbers take `itemsize` bytes each.

    At most `_BATCH_BYTES` of activations, and at most `_BATCH_SIZE` samples: more are no faster.
    """
    shape, numbers = layout.image, 0
    for block in layout.blocks:
        shapes = [shape] * block.nodes
        for edge in block.edges:
            for operation in edge.candidates.values():
                shapes[edge.target] = shape_after(operation, shapes[edge.source])
        numbers += sum(height * width * channels for height, width, channels in shapes)
        shape = shapes[-1]
    return max(1, min(_BATCH_SIZE, _BATCH_BYTES // (numbers * itemsize)))


def chain(prefix: str, *operations: tuple[str, Operation]) -> Block:
    """A shared block of (module, operation) one after the other."""
    edges = tuple(Edge(k, k + 1, module, {"only": operation}) for k, (module, operation) in enumerate(operations))
    return Block(prefix, len(edges) + 1, edges, shared=True)


# --- NAS-Bench-201 --------------------------------------------------------------------------------------------


@register_layout("nasbench201")
def nasbench201(space: Space, cells_per_stage: int = CELLS_PER_STAGE) -> Layout:
    """NAS-Bench-201, or a deeper one."""
    channels, size, _ = space.input_shape
    blocks = [chain("stem", ("", (Conv("0", channels, WIDTHS[0], 3),)))]
    for stage, width in enumerate(WIDTHS):
        if stage:
            blocks.append(_reduction(f"cells.{len(blocks) - 1}", WIDTHS[stage - 1]))
        operations: dict[str, Operation] = {
            "skip_connect": (),
            "nor_conv_1x1": (Conv("1", width, width, 1),),
            "nor_conv_3x3": (Conv("1", width, width, 3),),
            "avg_pool_3x3": (AveragePool(3),),
        }
        edges = tuple(Edge(i, j, f"{i}_{j}", operations) for i, j in EDGES)
        blocks += [Block(f"cells.{len(blocks) - 1 + k}", 4, edges) for k in range(cells_per_stage)]
    head = Head("classifier", WIDTHS[-1], space.num_classes)
    return Layout((size, size, channels), tuple(blocks), head, partial(_ops_choice, parse_ops, "none"))


def _ops_choice(parse: Callable[[str], Sequence[str]], zero: str, arch: str) -> Choice:
    return tuple(ZERO if op == zero else op for op in parse(arch))


def _reduction(prefix: str, width: int) -> Block:
    """Two 3×3 convolutions, beside an average pooling and a 1×1 convolution."""
    wide = 2 * width
    edges = (
        Edge(0, 1, "main", {"only": (Conv("1", width, wide, 3, stride=2),)}),
        Edge(1, 2, "main", {"only": (Conv("4", wide, wide, 3),)}),
        Edge(0, 2, "shortcut", {"only": (AveragePool(2), Conv("1", width, wide, 1))}),
    )
    return Block(prefix, 3, edges, shared=True)


# --- TransNAS-Bench-101, micro --------------------------------------------------------------------------------


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
    made = [chain("stem", ("", (Conv("0", channels, half, 3, 2),)), ("", (Conv("3", half, width, 3, 2),)))]
    for block in plan:
        inner = transnasbench101_layout.Block(block.channels_out, block.channels_out, 1)
        edges = tuple(
            Edge(i, j, f"{i}_{j}", _micro_operations(inner if i else block)) for i, j in transnasbench101_layout.EDGES
        )
        made.append(Block(f"blocks.{len(made) - 1}", 4, edges, connected=not block.changes))
    head = Head("decoder.2", plan[-1].channels_out, task.outputs, TILES if task.head == "tiles" else 1)
    choice = partial(_ops_choice, _micro_names, "none")
    return Layout((size, size, channels), tuple(made), head, choice, fan_out=True)


def _micro_operations(block: transnasbench101_layout.Block) -> dict[str, Operation]:
    below, above, stride = block
    skip: Operation = ()
    if block.changes:
        skip = (Halves(Conv("even", below, above // 2, 1), Conv("odd", below, above - above // 2, 1)),)
    return {
        "skip_connect": skip,
        "conv_1x1": (Conv("1", below, above, 1, stride),),
        "conv_3x3": (Conv("1", below, above, 3, stride),),
    }


def _micro_names(arch: str) -> list[str]:
    return [OPERATIONS[digit] for digit in parse_micro(arch)]
