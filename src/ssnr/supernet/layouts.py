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
from math import prod
from typing import NamedTuple

from ssnr._errors import UsageError
from ssnr._registry import Registry
from ssnr.spaces import Space, transnasbench101_layout
from ssnr.spaces.darts import SKELETONS, CellPlan, Skeleton, plan
from ssnr.spaces.darts_text import NODES, parse_genotype
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


class Depthwise(NamedTuple):
    """A convolution of each channel by itself that keeps the size at stride 1; dilated, it only has odd kernels."""

    name: str
    channels: int
    kernel: int
    stride: int = 1
    dilation: int = 1


class AveragePool(NamedTuple):
    """Averages of the pixels inside the image: 3×3 windows around every `stride`-th pixel, or 2×2 side by side."""

    kernel: int
    stride: int = 1


class MaxPool(NamedTuple):
    """The largest of the 3×3 window around every `stride`-th pixel."""

    stride: int = 1


class Halves(NamedTuple):
    """Two 1×1 convolutions, of the even and of the odd rows and columns, joined on channels; their stride is 1."""

    even: Conv
    odd: Conv


Step = Conv | Depthwise | AveragePool | MaxPool | Halves
Operation = tuple[Step, ...]  # the identity is the empty one


def shape_after(operation: Operation, shape: Shape) -> Shape:
    """Shape of what an operation puts out."""
    for step in operation:
        height, width, channels = shape
        stride = 2
        if isinstance(step, Halves):
            channels = step.even.channels_out + step.odd.channels_out
        else:
            stride = step.stride
            channels = step.channels_out if isinstance(step, Conv) else channels
        shape = (-(-height // stride), -(-width // stride), channels)
    return shape


def convs(operation: Operation) -> list[Conv | Depthwise]:
    """The convolutions of an operation."""
    found: list[Conv | Depthwise] = []
    for step in operation:
        if isinstance(step, Halves):
            found += [step.even, step.odd]
        elif isinstance(step, (Conv, Depthwise)):
            found.append(step)
    return found


def weight_shape(conv: Conv | Depthwise) -> tuple[int, int, int, int]:
    """(output channels, input channels of each, rows, columns)."""
    if isinstance(conv, Depthwise):
        return conv.channels, 1, conv.kernel, conv.kernel
    return conv.channels_out, conv.channels_in, conv.kernel, conv.kernel


# --- blocks ---------------------------------------------------------------------------------------------------


class Edge(NamedTuple):
    """What may lead from one node to another: name → operation."""

    source: int
    target: int
    candidates: Mapping[str, Operation]


class Block(NamedTuple):
    """A graph whose first nodes are what blocks before put out, and which puts out some of its nodes.

    `prefix` is the block's name in the network, `modules` the names of an architecture's operations in it, by their
    place in its choice. A node's incoming edges stand before its outgoing ones. `inputs` says which blocks the first
    nodes are, counted backwards: 1 is the one just before, of the first block the image. `outputs` are joined on
    channels; none stands for the last node alone. `kind`: which of an architecture's choices is for this block; None:
    every architecture uses every edge's only candidate, in the order of edges. `connected`: where nothing leads to a
    node, its zeros still depend on node 0 for autograd, so that what lies before is flagged dead and not unused.
    """

    prefix: str
    nodes: int
    edges: tuple[Edge, ...]
    modules: tuple[str, ...]
    kind: int | None = 0
    connected: bool = True
    inputs: tuple[int, ...] = (1,)
    outputs: tuple[int, ...] = ()

    @property
    def ends(self) -> tuple[int, ...]:
        """The nodes that are put out."""
        return self.outputs or (self.nodes - 1,)


class Head(NamedTuple):
    """Global average pooling and a linear layer of that name, on `repeats` copies of the features."""

    name: str
    channels: int
    outputs: int
    repeats: int = 1


Use = tuple[int, str]  # an edge and the operation on it
Choice = tuple[tuple[Use, ...], ...]  # by kind of block, what an architecture uses
ZERO = ""  # the operation that gives zero, which is no candidate
_BATCH_SIZE = 64


class Layout(NamedTuple):
    """All of a space: input image, blocks, head, `choice` of an architecture.

    `fan_out`: blocks start from N(0, 2/fan_out) instead of PyTorch's default. `batch_bytes`: of a pass, for what is
    kept of its forward half.
    """

    image: Shape
    blocks: tuple[Block, ...]
    head: Head
    choice: Callable[[str], Choice]
    fan_out: bool = False
    batch_bytes: int = 128 << 20


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


def every_edge(block: Block) -> tuple[Use, ...]:
    """Every edge's operations."""
    return tuple((e, operation) for e, edge in enumerate(block.edges) for operation in edge.candidates)


def shapes(layout: Layout) -> list[list[Shape]]:
    """Of the nodes of each block, and at the end that of what it puts out."""
    put_out, found = [layout.image], list[list[Shape]]()
    for block in layout.blocks:
        made = [put_out[-back] for back in block.inputs]
        made += made[:1] * (block.nodes - len(made))
        for edge in block.edges:
            for operation in edge.candidates.values():
                made[edge.target] = shape_after(operation, made[edge.source])
        height, width, _ = made[-1]
        put_out.append((height, width, sum(made[node][2] for node in block.ends)))
        found.append([*made, put_out[-1]])
    return found


def batch_size(layout: Layout, itemsize: int) -> int:
    """How many architectures go through one pass, whose numbers take `itemsize` bytes each.

    At most `batch_bytes` of activations, and at most `_BATCH_SIZE` samples: more are no faster.
    """
    numbers = 0
    for block, nodes in zip(layout.blocks, shapes(layout), strict=True):
        numbers += sum(prod(shape) for shape in (nodes if block.outputs else nodes[:-1]))
        inner = (_inner(op, nodes[edge.source]) for edge in block.edges for op in edge.candidates.values())
        numbers += len(block.modules) * max(inner)
    return max(1, min(_BATCH_SIZE, layout.batch_bytes // (numbers * itemsize)))


def _inner(operation: Operation, shape: Shape) -> int:
    """Numbers that are kept of an operation of several steps: what goes into each."""
    numbers = 0
    for step in operation if len(operation) > 1 else ():
        numbers += prod(shape)
        shape = shape_after((step,), shape)
    return numbers


def chain(prefix: str, *operations: tuple[str, Operation], inputs: tuple[int, ...] = (1,)) -> Block:
    """A block of (module, operation) one after the other, which every architecture uses."""
    edges = tuple(Edge(k, k + 1, {"only": operation}) for k, (_, operation) in enumerate(operations))
    return Block(prefix, len(edges) + 1, edges, tuple(module for module, _ in operations), None, inputs=inputs)


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
        edges = tuple(Edge(i, j, operations) for i, j in EDGES)
        blocks += [Block(f"cells.{len(blocks) - 1 + k}", 4, edges, _names(EDGES)) for k in range(cells_per_stage)]
    head = Head("classifier", WIDTHS[-1], space.num_classes)
    return Layout((size, size, channels), tuple(blocks), head, partial(_ops_choice, parse_ops, "none"))


def _ops_choice(parse: Callable[[str], Sequence[str]], zero: str, arch: str) -> Choice:
    return (tuple((edge, ZERO if op == zero else op) for edge, op in enumerate(parse(arch))),)


def _names(edges: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    return tuple(f"{source}_{target}" for source, target in edges)


def _reduction(prefix: str, width: int) -> Block:
    """Two 3×3 convolutions, beside an average pooling and a 1×1 convolution."""
    wide = 2 * width
    edges = (
        Edge(0, 1, {"only": (Conv("1", width, wide, 3, stride=2),)}),
        Edge(1, 2, {"only": (Conv("4", wide, wide, 3),)}),
        Edge(0, 2, {"only": (AveragePool(2, 2), Conv("1", width, wide, 1))}),
    )
    return Block(prefix, 3, edges, ("main", "main", "shortcut"), None)


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
        "conv_1x1": (Conv("1", below, above, 1, stride),),
        "conv_3x3": (Conv("1", below, above, 3, stride),),
    }


def _micro_names(arch: str) -> list[str]:
    return [OPERATIONS[digit] for digit in parse_micro(arch)]


# --- DARTS ----------------------------------------------------------------------------------------------------


@register_layout("darts")
def darts(space: Space, skeleton: Skeleton = SKELETONS["default"]) -> Layout:
    """DARTS: before each cell a block for each of its inputs; normal cells are of kind 0, reduction cells of kind 1."""
    channels, size, _ = space.input_shape
    width = skeleton.stem * skeleton.width
    blocks = [chain("stem", ("", (Conv("0", channels, width, 3),)))]
    places = plan(skeleton, size)
    for k, place in enumerate(places):
        older, newer = ((Conv("1", wide, place.width, 1),) for wide in place.inputs)
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
        once = (Depthwise("1", width, kernel, stride), Conv("2", width, width, 1))
        made[f"sep_conv_{kernel}x{kernel}"] = (*once, Depthwise("5", width, kernel), Conv("6", width, width, 1))
        dilated = Depthwise("1", width, kernel, stride, dilation=2)
        made[f"dil_conv_{kernel}x{kernel}"] = (dilated, once[1])
    return made


def _halved(below: int, above: int) -> Operation:
    return (Halves(Conv("even", below, above // 2, 1), Conv("odd", below, above - above // 2, 1)),)
