"""The supernet against standalone networks with the same weights, and against its own promises."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from ssnr import benchmarks
from ssnr.core.aggregates import layerwise_ssnr, ssnr
from ssnr.core.errors import UsageError
from ssnr.core.moments import Moments
from ssnr.scoring import measure
from ssnr.spaces.darts import layout as darts_plan
from ssnr.spaces.darts import space as darts
from ssnr.spaces.modules import weights_rng
from ssnr.spaces.nasbench201 import net as nasbench201_net
from ssnr.spaces.nasbench201 import space as nasbench201
from ssnr.supernet import Supernet
from ssnr.supernet.kernels import conv as steps
from ssnr.supernet.layouts import base as layouts
from ssnr.supernet.layouts import darts as darts_layout
from ssnr.supernet.layouts import nasbench201 as nasbench201_layout

CONV = "nor_conv_3x3"
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)

NASBENCH201 = {
    "every edge a 3×3 convolution": (CONV,) * 6,
    "all operations, one path": ("nor_conv_1x1", "none", "avg_pool_3x3", "none", "none", CONV),
    "no weights": ("skip_connect", "avg_pool_3x3", "skip_connect", "avg_pool_3x3", "skip_connect", "avg_pool_3x3"),
    "only skips": ("skip_connect",) * 6,
    "a convolution of nothing, one whose output is not used": ("none", CONV, CONV, "avg_pool_3x3", CONV, "none"),
    "no path, convolutions behind the break": ("none", "none", CONV, "none", "nor_conv_1x1", CONV),
    "no path, convolutions before the break": (CONV, "nor_conv_1x1", CONV, "none", "none", "none"),
    "nothing": ("none",) * 6,
}
MICRO = {
    "every operation": (3, 1, 2, 2, 3, 1),
    "only skips": (1, 1, 1, 1, 1, 1),
    "a convolution of nothing": (0, 2, 1, 0, 2, 1),
    "no path, cut off where the size changes": (0, 1, 0, 0, 2, 0),
    "nothing": (0, 0, 0, 0, 0, 0),
}


def darts_cell(text: str) -> list[tuple[str, int]]:
    """Eight operations, each with its source behind it."""
    names = {"sep": "sep_conv_{0}x{0}", "dil": "dil_conv_{0}x{0}", "max": "max_pool_3x3", "avg": "avg_pool_3x3"}
    names |= {"skip": "skip_connect", "none": "none"}
    words = [entry.split() for entry in text.split(",")]
    return [(names[op.rstrip("35")].format(op[-1]), int(source)) for op, source in words]


CONVOLUTIONS = "sep3 0, dil5 1, sep5 2, skip 0, dil3 3, avg 1, sep3 4, sep5 0"
DARTS = {
    name: {"normal": darts_cell(normal), "reduce": darts_cell(reduce)}
    for name, (normal, reduce) in {
        "every operation": (CONVOLUTIONS, "sep5 0, dil3 1, skip 0, avg 1, dil5 0, sep3 1, max 4, sep5 3"),
        "one operation of one node twice": (
            "sep3 0, sep3 0, skip 1, skip 1, dil5 2, dil5 2, sep3 1, sep5 1",
            "max 0, max 0, dil3 1, dil3 1, skip 0, skip 0, sep3 2, sep3 2",
        ),
        "only skips": (", ".join(["skip 0, skip 1"] * 4),) * 2,
        "nodes without inputs, operations of nothing": (
            "none 0, none 1, sep3 2, skip 2, dil3 1, none 3, avg 3, sep5 4",
            "none 1, none 0, skip 1, dil5 2, none 0, none 0, sep3 4, max 4",
        ),
        "only the cell before": (", ".join(["sep3 1, skip 1"] * 4), ", ".join(["skip 1, dil3 1"] * 4)),
        "only the cell before the last": (", ".join(["sep3 0, skip 0"] * 4), ", ".join(["skip 0, dil3 0"] * 4)),
        "reduction cells of nothing, and a way past them": (
            "skip 0, none 1, sep3 1, none 0, none 0, none 1, avg 2, dil3 3", ", ".join(["none 0, none 1"] * 4),
        ),
        "nothing": (", ".join(["none 0, none 1"] * 4),) * 2,
    }.items()
}  # fmt: skip


class DeepCells(nasbench201.NasBench201):
    """NAS-Bench-201 with 60 cells."""

    family = "deep"
    cells_per_stage = 20

    def build(self, arch, *, seed=0, variant="default"):
        ops = nasbench201.parse_ops(arch)
        net = nasbench201_net.CellNetwork(
            ops, nasbench201.EDGES, num_classes=self.num_classes, cells_per_stage=self.cells_per_stage, variant=variant
        )
        nasbench201_net.initialise(net, nasbench201.EDGES, weights_rng(seed, self.name, arch))
        return net


class DeepDarts(darts.Darts):
    """DARTS with 20 cells of 36 channels."""

    family = "deep"

    def build(self, arch, *, seed=0, variant="default"):
        return super().build(arch, seed=seed, variant="darts")


@pytest.fixture
def deep(request):
    """A space that has a deep layout while a test runs."""
    space, layout = request.param
    layouts.LAYOUTS.add("deep", layout)
    yield space
    layouts.LAYOUTS.remove("deep")


def largest_difference(ours: Moments, theirs: Moments) -> float:
    """Largest relative difference of any layer's total and σ, and of the aggregates; everything else is equal."""
    assert ours.names == theirs.names
    assert np.array_equal(ours.numel, theirs.numel)
    assert [layer.flag for layer in ours.layers()] == [layer.flag for layer in theirs.layers()]
    live = theirs.peak > 0
    assert np.array_equal(live, ours.peak > 0)
    shift = ours.exponent - theirs.exponent
    found = [0.0]
    for column in ("total", "abs_total", "sigma", "peak"):
        mine, expected = np.ldexp(getattr(ours, column), shift)[live], getattr(theirs, column)[live]
        found += list(abs(mine / expected - 1))
    for aggregate in (ssnr, layerwise_ssnr):
        if expected := aggregate(theirs):
            found.append(abs(aggregate(ours) / expected - 1))
    return max(found)


def check(net: Supernet, archs) -> None:
    """Layer by layer what `measure` finds for each standalone network."""
    results = net.results(archs)
    assert [result.network for result in results] == [net.space.parse(arch) for arch in archs]
    for result in results:
        alone = measure(net.network(result.network), ["synflow"], input_shape=net.space.input_shape)["synflow"]
        assert (result.status, result.reason) == (alone.status, alone.reason), result.network
        assert largest_difference(result.moments, alone.moments) < TOLERANCE[net.dtype], result.network


# --- standalone networks --------------------------------------------------------------------------------------


@DTYPES
def test_nasbench201_cells_of_every_kind(dtype):
    check(Supernet("nasbench201/imagenet16-120", dtype=dtype), list(NASBENCH201.values()))


@pytest.mark.parametrize(("name", "count"), [("nasbench201", 6), ("nasbench201/cifar100", 3)])
@DTYPES
def test_random_nasbench201_cells(name, count, dtype):
    net = Supernet(name, seed=3, dtype=dtype)
    check(net, net.space.sample_many(count, np.random.default_rng(1)))


@pytest.fixture(scope="module", params=TOLERANCE, ids=str)
def jigsaw(request):
    return Supernet("transnasbench101-micro/jigsaw", dtype=request.param)


def test_transnasbench101_cells_of_every_kind(jigsaw):
    check(jigsaw, list(MICRO.values()))


def test_transnasbench101_on_whole_images():
    check(Supernet("transnasbench101-micro"), ["64-41414-2_11_310"])


@DTYPES
def test_darts_cells_of_every_kind(dtype):
    check(Supernet("darts", dtype=dtype), list(DARTS.values()))


# --- promises -------------------------------------------------------------------------------------------------


def test_an_architecture_does_not_depend_on_its_company():
    """To rounding and not to the bit: libraries choose their kernels by the size of what they are given."""
    net = Supernet("nasbench201/imagenet16-120", dtype=torch.float64)
    archs = net.space.sample_many(12, np.random.default_rng(2))
    together = net.moments(archs)
    backwards = net.moments(archs[::-1])[::-1]
    net.batch_size = 5
    few = net.moments([*archs[6:], *archs[:6]])
    for k, arch in enumerate(archs):
        (alone,) = net.moments([arch])
        for other in (backwards[k], few[(k + 6) % 12], alone):
            assert largest_difference(other, together[k]) < 1e-12


def test_architectures_come_back_in_the_order_given_in_any_form_and_repeated():
    net = Supernet("nasbench201/imagenet16-120")
    first, second = net.space.parse(7), net.space.parse(300)
    results = net.results([second, "7", first, second])
    assert [result.network for result in results] == [second, first, first, second]
    assert net.moments([]) == []


def test_operations_that_carry_nothing_add_layers_and_change_no_number():
    net = Supernet("nasbench201/imagenet16-120")
    lean, idle = net.moments([("none", "none", "none", CONV, "none", other) for other in ("none", "nor_conv_1x1")])
    assert len(idle.names) == len(lean.names) + 15
    assert [aggregate(idle) for aggregate in (ssnr, layerwise_ssnr)] == [ssnr(lean), layerwise_ssnr(lean)]


def test_architectures_share_the_weights_of_edge_and_operation():
    net, other = Supernet("nasbench201/imagenet16-120"), Supernet("nasbench201/imagenet16-120", seed=1)
    one = dict(net.network((CONV, "none", "none", "none", "none", CONV)).named_parameters())
    two = dict(net.network((CONV, CONV, "none", "none", "nor_conv_1x1", CONV)).named_parameters())
    shared = [name for name in one if name in two]
    assert len(shared) == len(one)
    assert all(torch.equal(one[name], two[name]) for name in shared)
    again = dict(other.network((CONV, "none", "none", "none", "none", CONV)).named_parameters())
    assert not torch.equal(one["stem.0.weight"], again["stem.0.weight"])


DEEP = {
    "60 cells": (
        (
            DeepCells("imagenet16-120"),
            partial(nasbench201_layout.nasbench201, cells_per_stage=DeepCells.cells_per_stage),
        ),
        (CONV,) * 6,
    ),
    "20 cells with two inputs": (
        (DeepDarts(), partial(darts_layout.darts, skeleton=darts_plan.SKELETONS["darts"])),
        {kind: darts_cell(CONVOLUTIONS) for kind in ("normal", "reduce")},
    ),
}


@pytest.mark.parametrize(("deep", "arch"), DEEP.values(), indirect=["deep"], ids=DEEP)
def test_depth_overflows_nothing(deep, arch):
    net = Supernet(deep)
    (moments,) = net.moments([arch])
    assert moments.exponent.max() > 2 * 128  # far beyond float32
    assert np.isfinite([moments.total, moments.sigma, moments.ratio]).all()
    check(net, [arch])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_number_of_architectures():
    code = (
        "import pathlib, numpy as np, torch; from ssnr.supernet import Supernet;"
        "torch.set_num_threads(1); net = Supernet('nasbench201');"
        "net.results(net.space.sample_many({}, np.random.default_rng(0)));"
        "print(pathlib.Path('/proc/self/status').read_text())"
    )
    peaks = []
    for count in (256, 1024):
        run = subprocess.run([sys.executable, "-c", code.format(count)], check=True, capture_output=True, text=True)
        peaks.append(int(run.stdout.split("VmHWM:")[1].split()[0]) / 1024)
    assert peaks[1] < 800
    assert peaks[1] < 2 * peaks[0]  # 768 more networks' gradients, held, would be 4 GB


@pytest.mark.parametrize(
    ("space", "dtype", "message"),
    [
        ("nasbench201", torch.float16, "expected torch.float32 or torch.float64"),
        ("nasbench101", torch.float32, "no supernet for nasbench101: there is one for darts, "),
        ("transnasbench101-micro/normal", torch.float32, "its decoder has biases and a tanh"),
    ],
)
def test_what_a_supernet_refuses(space, dtype, message):
    with pytest.raises(UsageError, match=message):
        Supernet(space, dtype=dtype)


@pytest.mark.skipif("SSNR_DATA" not in os.environ, reason="SSNR_DATA is not set")
def test_shared_weights_rank_cells_as_well_as_independent_ones():
    """.808 with shared and .805 with independent weights on 1,024 cells, of which these are some."""
    net = Supernet("nasbench201")
    accuracy = benchmarks.load("nasbench201/cifar10", "nats").table["accuracy"]
    archs = net.space.sample_many(1024, np.random.default_rng(0))
    scores = [layerwise_ssnr(moments) for moments in net.moments(archs)]
    assert spearmanr(scores, accuracy.loc[archs]).statistic == pytest.approx(0.808, abs=0.02)


# --- steps ----------------------------------------------------------------------------------------------------

STEPS = {
    "3×3": layouts.Conv("", 4, 6, 3),
    "1×1": layouts.Conv("", 4, 6, 1),
    "3×3, stride 2": layouts.Conv("", 4, 6, 3, 2),
    "1×1, stride 2": layouts.Conv("", 4, 6, 1, 2),
    "depthwise 3×3": layouts.Depthwise("", 4, 3),
    "depthwise 5×5": layouts.Depthwise("", 4, 5),
    "depthwise 3×3, stride 2": layouts.Depthwise("", 4, 3, 2),
    "depthwise 5×5, stride 2": layouts.Depthwise("", 4, 5, 2),
    "depthwise 3×3, dilated": layouts.Depthwise("", 4, 3, 1, 2),
    "depthwise 5×5, dilated": layouts.Depthwise("", 4, 5, 1, 2),
    "depthwise 3×3, stride 2, dilated": layouts.Depthwise("", 4, 3, 2, 2),
    "depthwise 5×5, stride 2, dilated": layouts.Depthwise("", 4, 5, 2, 2),
    "average of 3×3": layouts.AveragePool(3),
    "average of 3×3, stride 2": layouts.AveragePool(3, 2),
    "average of 2×2": layouts.AveragePool(2, 2),
    "largest of 3×3": layouts.MaxPool(),
    "largest of 3×3, stride 2": layouts.MaxPool(2),
    "halves": layouts.Halves(layouts.Conv("", 4, 3, 1), layouts.Conv("", 4, 2, 1)),
}


CURVED = {"ReLU": layouts.Relu(), "batch norm": layouts.Norm()}


@pytest.mark.parametrize("spec", (STEPS | CURVED).values(), ids=STEPS | CURVED)
@pytest.mark.parametrize("images", [1, 2])
def test_tangents_are_differences_of_a_step(spec, images):
    """Where x, the gradient, and each of two architectures' weights move, forward and back move as differences say."""
    generator = torch.Generator().manual_seed(0)
    random = partial(torch.randn, generator=generator, dtype=torch.float64)
    shapes, samples, h = [layouts.weight_shape(conv) for conv in layouts.convs((spec,))], 2 * images, 1e-5
    weights, directions = [random(shape) for shape in shapes], [[random(shape) for shape in shapes] for _ in range(2)]

    def built(weights, images):
        layers = [steps.Layer(w, n, torch.float64, signed=True, images=images) for n, w in enumerate(weights)]
        return steps.build((spec,), layers, (8, 6, 4), torch.float64, images)[0]

    step = built(weights, images)
    x, dx = random(8, 6, samples, 4), random(8, 6, samples, 4)
    g, dg = random(step.forward(x).shape), random(step.forward(x).shape)
    flat = [
        torch.stack([d.permute(0, 2, 3, 1).flatten() for d in of_layer]) for of_layer in zip(*directions, strict=True)
    ]
    own = {slot: [(slice(0, samples), rows)] for slot, rows in enumerate(flat)}

    def moved(t):
        """Each architecture by itself."""
        for k, direction in enumerate(directions):
            of, alone = (
                slice(k * images, (k + 1) * images),
                built([w + t * d for w, d in zip(weights, direction, strict=True)], images),
            )
            at, back = (x + t * dx)[:, :, of].contiguous(), (g + t * dg)[:, :, of].contiguous()
            yield alone.forward(at), alone.backward(at, back)

    ahead, behind = ([torch.cat(found, 2) for found in zip(*moved(t), strict=True)] for t in (h, -h))
    forward, backward = ((one - other) / (2 * h) for one, other in zip(ahead, behind, strict=True))
    assert torch.allclose(step.tangent(x, dx, own), forward, rtol=1e-6, atol=1e-7)
    assert torch.allclose(step.backward_tangent(x, dx, g, dg, own), backward, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("spec", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("samples", [1, 3, 40])
def test_a_step_backward_is_its_transpose_and_its_saliencies_add_up(spec, samples):
    """<step(x), g> = <x, stepᵀ(g)>, and, the step being linear in each weight, = Σ θ ⊙ ∂<step(x), g>/∂θ."""
    generator = torch.Generator().manual_seed(0)
    random = partial(torch.rand, generator=generator, dtype=torch.float64)
    convs = layouts.convs((spec,))
    shapes = [layouts.weight_shape(conv) for conv in convs]
    layers = [steps.Layer(random(shape), slot, torch.float64) for slot, shape in enumerate(shapes)]
    (step,) = steps.build((spec,), layers, (8, 6, 4), torch.float64)
    x = random(8, 6, samples, 4)
    y = step.forward(x)
    assert tuple(y.shape) == (*layouts.shape_after((spec,), (8, 6, 4))[:2], samples, y.shape[3])
    g = random(y.shape)
    product = (y * g).sum((0, 1, 3))
    assert torch.allclose((x * step.backward(x, g)).sum((0, 1, 3)), product, rtol=1e-12)
    for shared in (x, x[:, :, :1]):
        totals = torch.zeros(samples, dtype=torch.float64)
        for layer, part, gradients in step.gradients(shared, g):
            totals[part] += (gradients * layer.flat).sum(1)
        expected = (step.forward(shared) * g).sum((0, 1, 3))
        assert not convs or torch.allclose(totals, expected, rtol=1e-12)
