"""The layout of TransNAS-Bench-101's networks and its arithmetic: encoder blocks, heads, decoders. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from ssnr.spaces.counting import Tally, conv, linear, total

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
STEM = (32, 64)  # channels of its two convolutions, each of stride 2
MICRO_CODES = (4, 1, 4, 1, 4)
BLOCKS_PER_CODE = 2
TILES = 9


class Task(NamedTuple):
    """What a task outputs; `published` where the published proxies used another number of classes.

    The benchmark trained scene and object classes on the labels of its own split (47 and 75 classes occur); NASLib's
    data path keeps the classes of the whole Taskonomy selection (63 and 100).
    """

    head: str
    outputs: int
    published: int
    input_shape: tuple[int, ...] = (3, 256, 256)


TASKS = {
    "class_scene": Task("linear", 47, 63),
    "class_object": Task("linear", 75, 100),
    "jigsaw": Task("tiles", 1000, 1000, (TILES, 3, 64, 64)),
    "room_layout": Task("linear", 9, 9),
    "autoencoder": Task("image", 3, 3),
    "normal": Task("image", 3, 3),
    "segmentsemantic": Task("pixels", 17, 17),
}


class Block(NamedTuple):
    """What one cell or residual block does to width and size."""

    channels_in: int
    channels_out: int
    stride: int

    @property
    def changes(self) -> bool:
        """Whether it changes width or size."""
        return self.stride > 1 or self.channels_in != self.channels_out


@cache
def blocks(codes: tuple[int, ...]) -> tuple[Block, ...]:
    """Two blocks a code, of which the first doubles the width (codes 2, 4) and halves the size (3, 4).

    >>> blocks((4, 1))[:3]
    (Block(channels_in=64, channels_out=128, stride=2), Block(channels_in=128, channels_out=128, stride=1), \
Block(channels_in=128, channels_out=128, stride=1))
    """
    width, made = STEM[1], []
    for code in codes:
        wide = width * 2 if code % 2 == 0 else width
        made += [Block(width, wide, 2 if code > 2 else 1)] + [Block(wide, wide, 1)] * (BLOCKS_PER_CODE - 1)
        width = wide
    return tuple(made)


# --- decoders -------------------------------------------------------------------------------------------------


class DecoderLayer(NamedTuple):
    """A 3×3 convolution with bias; one that `doubles` the size is transposed."""

    channels_in: int
    channels_out: int
    doubles: bool = False


def decoder_layers(head: str, channels: int, strides: int) -> tuple[DecoderLayer, ...]:
    """The decoder of an encoder with so many channels and strides after its stem; none for linear heads.

    Both end at 256×256. The segmentation decoder narrows by halves; the generative one has fourteen layers, of which
    as many double the size as are needed.
    """
    ups = strides + 2
    if head == "pixels":
        plan = [(1024, False)] + [(1024 >> k, k > 6 - ups) for k in range(1, 6)] + [(32, True), (17, False)]
    elif head == "image":
        plan = [(1024, False), (1024, False), (512, ups >= 6), (512, False), (256, ups >= 5), (128, False)]
        plan += [
            (64, ups >= 4),
            (64, False),
            (32, ups >= 3),
            (32, False),
            (16, True),
            (32, False),
            (16, True),
            (3, False),
        ]
    else:
        plan = []
    made = []
    for wide, doubles in plan:
        made.append(DecoderLayer(channels, wide, doubles))
        channels = wide
    return tuple(made)


# --- arithmetic -----------------------------------------------------------------------------------------------


@cache
def outer_tally(task: str, outputs: int, codes: tuple[int, ...]) -> Tally:
    """Stem and head, or decoder: what every architecture with these codes has."""
    head, size = TASKS[task].head, TASKS[task].input_shape[-1]
    repeats = TILES if head == "tiles" else 1
    stem = [conv(3, STEM[0], 3, (size // 2) ** 2), conv(STEM[0], STEM[1], 3, (size // 4) ** 2)]
    parts = [tally._replace(flops=repeats * tally.flops) for tally in stem]
    plan = blocks(codes)
    channels, strides = plan[-1].channels_out, sum(block.stride > 1 for block in plan)
    layers = decoder_layers(head, channels, strides)
    if not layers:
        parts.append(linear(repeats * channels, outputs))
    size = size // 4 >> strides
    for layer in layers:
        norm = layer is not layers[-1]
        wide = (layer.channels_in, layer.channels_out)
        parts.append(conv(*wide, 3, size * size, bias=True, norm=norm, transposed=layer.doubles))
        size *= 2 if layer.doubles else 1
    return total(parts)


@cache
def edge_tallies(task: str) -> tuple[tuple[Tally, ...], ...]:
    """What an operation adds over all micro cells: [leaves node 0][digit]."""
    plan, sizes, repeats = _sized(task, MICRO_CODES)
    inner, outer = [], []
    for digit in range(4):
        parts: tuple[list[Tally], list[Tally]] = ([], [])
        for block, size in zip(plan, sizes, strict=True):
            for own, column in ((Block(block.channels_out, block.channels_out, 1), parts[0]), (block, parts[1])):
                column.append(_operation(digit, own, size * size))
        inner.append(_repeated(total(parts[0]), repeats))
        outer.append(_repeated(total(parts[1]), repeats))
    return tuple(inner), tuple(outer)


def _operation(digit: int, block: Block, pixels: int) -> Tally:
    """One micro operation; the skip that changes the shape is two 1×1 convolutions to half the width, one norm."""
    wide = block.channels_in, block.channels_out
    if digit >= 2:
        return conv(*wide, 1 if digit == 2 else 3, pixels)
    if digit == 1 and block.changes:
        return conv(*wide, 1, pixels)._replace(layers=2)
    return Tally()


def macro_tally(task: str, codes: tuple[int, ...]) -> Tally:
    """The residual blocks of a macro network."""
    plan, sizes, repeats = _sized(task, codes)
    parts = []
    for block, size in zip(plan, sizes, strict=True):
        wide = block.channels_in, block.channels_out
        parts += [conv(*wide, 3, size * size), conv(block.channels_out, block.channels_out, 3, size * size)]
        if block.changes:
            parts.append(conv(*wide, 1, size * size))
    return _repeated(total(parts), repeats)


def _sized(task: str, codes: tuple[int, ...]) -> tuple[tuple[Block, ...], Sequence[int], int]:
    """Blocks, the size of what each outputs, and how often the encoder runs for one input."""
    size, plan = TASKS[task].input_shape[-1] // 4, blocks(codes)
    sizes = []
    for block in plan:
        size //= block.stride
        sizes.append(size)
    return plan, sizes, TILES if TASKS[task].head == "tiles" else 1


def _repeated(tally: Tally, times: int) -> Tally:
    return tally._replace(flops=times * tally.flops)
