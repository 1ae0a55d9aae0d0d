"""How far synflow of all of NAS-Bench-201 is from the floor that the machine's convolutions set.

The floor: the floating-point operations of the convolutions of all distinct networks, forward and backward, each
divided by the best rate that a plain torch convolution of its shape reaches on one core (`rates`: one sample at once,
as the general path has it, or 32, as a supernet has). A multiply-accumulate is two operations, and a convolution costs
as much again for the gradient of its input and again for that of its weight. Pooling, sums, moments, building networks
and Python are not in it. Times are processor time of one thread.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import Row, call, spread, stopwatch, taking_turns
from ssnr.spaces import get_space
from ssnr.spaces.nasbench201.space import CELLS_PER_STAGE, WIDTHS, parse_ops

PASSES = 3  # forward, gradient of the input, gradient of the weight
SPACE = "nasbench201"
BATCHES = (1, 32)
WAYS = {"general": "float64", "supernet": "float32", "supernet, float64": "float64"}


class Shape(NamedTuple):
    """A convolution, by the size of its output."""

    kernel: int
    channels_in: int
    channels_out: int
    size: int
    stride: int = 1

    @property
    def gflop(self) -> float:
        """Of one sample, all passes."""
        return PASSES * 2e-9 * self.kernel**2 * self.channels_in * self.channels_out * self.size**2

    def __str__(self) -> str:
        stride = f", stride {self.stride}" if self.stride > 1 else ""
        return f"{self.kernel}×{self.kernel}, {self.channels_in}→{self.channels_out}, {self.size}×{self.size}{stride}"


SIZES = dict(zip(WIDTHS, (32, 16, 8), strict=True))
FIXED = [Shape(3, 3, WIDTHS[0], 32)] + [
    shape
    for width in WIDTHS[:2]
    for shape in (
        Shape(3, width, 2 * width, SIZES[2 * width], 2),
        Shape(3, 2 * width, 2 * width, SIZES[2 * width]),
        Shape(1, width, 2 * width, SIZES[2 * width]),
    )
]
SHAPES = list(dict.fromkeys([Shape(k, w, w, SIZES[w]) for k in (3, 1) for w in WIDTHS] + FIXED))


def convolutions(arch: str) -> Counter[Shape]:
    """The convolutions of a cell's network."""
    operations = Counter(parse_ops(arch))
    found = Counter(FIXED)
    for kernel, name in ((3, "nor_conv_3x3"), (1, "nor_conv_1x1")):
        for width in WIDTHS:
            found[Shape(kernel, width, width, SIZES[width])] += CELLS_PER_STAGE * operations[name]
    return found


def networks(share: int) -> list[str]:
    """Every `share`-th of the distinct networks, in the order in which a sweep scores them."""
    space = get_space(SPACE)
    return sorted({space.twin(arch) for arch in space.all()})[::share]


def rates(quick: bool) -> list[Row]:
    """GFLOP/s of each shape, forward and both gradients, on one core."""
    kinds = [(dtype, batch) for dtype in ("float32", "float64") for batch in BATCHES]
    speeds = {f"{dtype}, batch {batch}": _speeds(dtype, batch, quick) for dtype, batch in kinds}
    return [{"convolution": str(shape)} | {name: speed[shape] for name, speed in speeds.items()} for shape in SHAPES]


def rows(quick: bool) -> list[Row]:
    """One row a way of scoring."""
    share, repeats = (8, 1) if quick else (1, 3)
    names = networks(1)
    gflop = sum(_gflop(name) for name in names)
    ways = {way: partial(call, "benchmarks.floor:scored", way, _share(way, share)) for way in WAYS}
    taken = taking_turns(ways, repeats)
    found = []
    best = {dtype: _best(dtype, quick) for dtype in sorted(set(WAYS.values()))}
    for way, dtype in WAYS.items():
        speed = best[dtype]
        floor = sum(count * shape.gflop / speed[shape] for name in names for shape, count in convolutions(name).items())
        part = networks(_share(way, share))
        scale = gflop / sum(_gflop(name) for name in part)
        measured = spread("measured, s", (scale * one.value for one in taken[way]))
        head: Row = {"way": way, "dtype": dtype, "networks scored": len(part), "GFLOP of all": gflop}
        head |= {"GFLOP/s of its convolutions": gflop / floor, "floor, s": floor} | measured
        found.append(head | {"times the floor": measured["measured, s"] / floor})
        found[-1]["share of convolutions"] = call("benchmarks.floor:profiled", way, _share(way, 16)).value
    return found


def _share(way: str, share: int) -> int:
    """The general path is slower, and scores each network alone: fewer of them say as much."""
    return 16 * share if way == "general" else share


def _gflop(arch: str) -> float:
    return sum(count * shape.gflop for shape, count in convolutions(arch).items())


def _best(dtype: str, quick: bool) -> dict[Shape, float]:
    found = [_speeds(dtype, batch, quick) for batch in BATCHES]
    return {shape: max(speed[shape] for speed in found) for shape in SHAPES}


def _speeds(dtype: str, batch: int, quick: bool) -> dict[Shape, float]:
    found = call("benchmarks.floor:speeds", dtype, batch, 3 if quick else 9).value
    return dict(zip(SHAPES, found, strict=True))


# --- in a process of its own ----------------------------------------------------------------------------------


def speeds(dtype: str, batch: int, repeats: int) -> list[float]:
    """GFLOP/s of each shape."""
    import torch

    torch.set_num_threads(1)
    return [_speed(shape, dtype, batch, repeats) for shape in SHAPES]


def _speed(shape: Shape, dtype: str, batch: int, repeats: int) -> float:
    """Of a convolution and its two gradients: the better of both memory formats, median of repeats."""
    import torch

    best = 0.0
    for memory in (torch.contiguous_format, torch.channels_last):
        make = partial(torch.randn, dtype=getattr(torch, dtype))
        size = shape.size * shape.stride
        x = make(batch, shape.channels_in, size, size).to(memory_format=memory)
        w = make(shape.channels_out, shape.channels_in, shape.kernel, shape.kernel).to(memory_format=memory)
        g = make(batch, shape.channels_out, shape.size, shape.size).to(memory_format=memory)
        count = max(1, int(0.5 / (shape.gflop * batch)))  # half a GFLOP a repeat
        times = []
        for _ in range(repeats + 1):  # the first prepares kernels
            with torch.inference_mode(), stopwatch() as taken:
                for _ in range(count):
                    _passes(x, w, g, shape)
                times.append(taken().processor)
        best = max(best, count * batch * shape.gflop / float(np.median(times[1:])))
    return best


def _passes(x: Any, w: Any, g: Any, shape: Shape) -> None:
    import torch

    stride, padding = [shape.stride] * 2, [shape.kernel // 2] * 2
    torch.nn.functional.conv2d(x, w, None, stride, padding)
    torch.ops.aten.convolution_backward(g, x, w, None, stride, padding, [1, 1], False, [0, 0], 1, [True, True, False])


def _scoring(way: str) -> Any:
    """A function that scores named networks."""
    import torch

    from ssnr.scoring import measure
    from ssnr.supernet import Supernet

    torch.set_num_threads(1)
    space = get_space(SPACE)
    if way != "general":
        return Supernet(space, dtype=getattr(torch, WAYS[way])).results

    def one_by_one(names: list[str]) -> None:
        for name in names:
            measure(space.build(name), ["synflow"], input_shape=space.input_shape)

    return one_by_one


def scored(way: str, share: int) -> float:
    """Processor seconds for a share of the networks, set-up included."""
    names = networks(share)
    with stopwatch() as taken:
        _scoring(way)(names)
        return taken().processor


def profiled(way: str, share: int) -> float:
    """The share of convolutions and matrix products in the time of scoring."""
    from torch.profiler import ProfilerActivity, profile

    names, score = networks(share), _scoring(way)
    score(names[:8])
    with profile(activities=[ProfilerActivity.CPU]) as found, stopwatch() as taken:
        score(names)
        whole = taken().seconds
    products = ("aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm")
    inside = (e.self_cpu_time_total for e in found.key_averages() if "conv" in e.key or e.key in products)
    return sum(inside) * 1e-6 / whole
