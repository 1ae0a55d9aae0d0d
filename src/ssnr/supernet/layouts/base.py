"""What a supernet needs to know of a space, as plain data: blocks, edges, candidate operations. No torch here.

A network is a chain of blocks that every architecture of the space shares, each a small graph: a node's value is the
sum over the edges that end in it of operation(source node), and a block outputs some of its nodes joined on channels.
An edge names its candidate operations; an architecture says, for each kind of block, which of them it uses. Stem and
reduction blocks are blocks whose operations every architecture uses. What every operation may be made of is listed
under "steps": all but ReLU and norm is linear where inputs and weights are not negative, which is how synflow reads a
network.

A new family registers one function from a space to its layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import NamedTuple

from ssnr.core.errors import UsageError
from ssnr.core.registry import Registry
from ssnr.spaces import Space

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


class Relu(NamedTuple):
    """max(x, 0); synflow's activations are never negative."""

    stride: int = 1


class Norm(NamedTuple):
    """Batch norm over an architecture's own images and their pixels; synflow bypasses it."""

    stride: int = 1


Step = Conv | Depthwise | AveragePool | MaxPool | Halves | Relu | Norm
Operation = tuple[Step, ...]  # the identity is the empty one


def shape_after(operation: Operation, shape: Shape) -> Shape:
    """Shape of what an operation outputs."""
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


def linear(operation: Operation) -> Operation:
    """What synflow computes of an operation: everything but ReLUs and norms."""
    return tuple(step for step in operation if not isinstance(step, (Relu, Norm)))


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
    """The candidate operations between two nodes, by name."""

    source: int
    target: int
    candidates: Mapping[str, Operation]


class Block(NamedTuple):
    """A graph whose first nodes are what blocks before output, and which outputs some of its nodes.

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
        """The nodes that are output."""
        return self.outputs or (self.nodes - 1,)


class Head(NamedTuple):
    """Global average pooling and a linear layer of that name, on `repeats` copies of the features.

    `before` is what comes before the pooling and has no weights.
    """

    name: str
    channels: int
    outputs: int
    repeats: int = 1
    before: Operation = ()


Use = tuple[int, str]  # an edge and the operation on it
Choice = tuple[tuple[Use, ...], ...]  # by kind of block, what an architecture uses
ZERO = ""  # the operation that gives zero, which is no candidate
MOST_IMAGES = 8  # of an architecture, in the passes of plain, snip and grasp
_BATCH_SIZE = 64
_LOSS_BYTES = 384 << 20  # that a pass of the loss keeps of its forward half: with the rest below 700 MiB a process
_GRASP_BYTES = 240 << 20  # the same of a pass of grasp, of which more comes and goes


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


def draws(layout: Layout, images: int) -> bool:
    """Whether a supernet can take so many drawn images of an architecture.

    Not tiles, which have norms of their own; and not one image where nothing stands between the last norms and the
    pooling, since only rounding is left of it, which a network alone says.
    """
    return layout.head.repeats == 1 and (2 - bool(layout.head.before)) <= images <= MOST_IMAGES


def every_edge(block: Block) -> tuple[Use, ...]:
    """Every edge's operations."""
    return tuple((e, operation) for e, edge in enumerate(block.edges) for operation in edge.candidates)


def shapes(layout: Layout) -> list[list[Shape]]:
    """Of the nodes of each block, and at the end that of what it outputs."""
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


def batch_size(layout: Layout, itemsize: int, *, loss: bool = False) -> int:
    """How many samples go through one pass, of synflow or of the loss, whose numbers take `itemsize` bytes each.

    At most `batch_bytes` of activations, of the loss `_LOSS_BYTES`, and at most `_BATCH_SIZE` samples: more are no
    faster.
    """
    numbers = 0
    for block, nodes in zip(layout.blocks, shapes(layout), strict=True):
        numbers += sum(prod(shape) for shape in (nodes if block.outputs else nodes[:-1]))
        operations = ((op, nodes[edge.source]) for edge in block.edges for op in edge.candidates.values())
        numbers += len(block.modules) * max(_inner(op if loss else linear(op), shape) for op, shape in operations)
    return max(1, min(_BATCH_SIZE, (_LOSS_BYTES if loss else layout.batch_bytes) // (numbers * itemsize)))


class GraspPasses:
    """Cuts architectures into passes of grasp, as many in each as there is room for what it keeps of them.

    That is of every step what goes in, how it moves and the gradient of what comes out (a ReLU's two neighbours share
    theirs: about twice what goes into the steps), and every architecture's gradients of the weights.
    """

    def __init__(self, layout: Layout, itemsize: int, images: int) -> None:
        self._most, self._always = _GRASP_BYTES // itemsize, 0
        self._uses: dict[tuple[int, Use], int] = {}
        for block, nodes in zip(layout.blocks, shapes(layout), strict=True):
            for e, name in every_edge(block):
                edge = block.edges[e]
                operation = edge.candidates[name]
                weights = sum(prod(weight_shape(conv)) for conv in convs(operation))
                numbers = 2 * images * _inner(operation, nodes[edge.source]) + weights
                if block.kind is None:
                    self._always += numbers
                else:
                    key = block.kind, (e, name)
                    self._uses[key] = self._uses.get(key, 0) + numbers

    def __call__(self, choices: Sequence[Choice]) -> Iterator[Sequence[Choice]]:
        """The choices in their order, pass by pass."""
        first, kept = 0, 0
        for number, choice in enumerate(choices):
            own = self._always + sum(self._uses[kind, use] for kind, uses in enumerate(choice) for use in uses)
            if number > first and (kept + own > self._most or number - first == _BATCH_SIZE):
                yield choices[first:number]
                first, kept = number, 0
            kept += own
        if choices:
            yield choices[first:]


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


def _ops_choice(parse: Callable[[str], Sequence[str]], zero: str, arch: str) -> Choice:
    return (tuple((edge, ZERO if op == zero else op) for edge, op in enumerate(parse(arch))),)


def _names(edges: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    return tuple(f"{source}_{target}" for source, target in edges)


def _halved(below: int, above: int) -> Operation:
    halves = Halves(Conv("even", below, above // 2, 1), Conv("odd", below, above - above // 2, 1))
    return (Relu(), halves, Norm())
