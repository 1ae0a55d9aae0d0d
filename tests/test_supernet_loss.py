"""Plain, snip and grasp of the supernet against each network alone, with the same weights and images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ssnr.core.errors import UsageError
from ssnr.core.moments import from_tensors
from ssnr.core.recipes import get_recipe
from ssnr.data import batch_of, noise
from ssnr.engine.plans import Job
from ssnr.engine.worker import score_chunk
from ssnr.scoring import measure
from ssnr.spaces import get_space
from ssnr.supernet import Supernet
from ssnr.supernet.layouts.base import GraspPasses, layout_of
from ssnr.supernet.loss_pass import reduced

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
SPACES = {
    "nasbench201/imagenet16-120": (
        "|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|none~0|skip_connect~1|nor_conv_3x3~2|"
    ),
    "nasbench201": "|nor_conv_1x1~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|avg_pool_3x3~2|",
}


def largest_difference(ours, theirs):
    """Of any layer: signed sums as a share of the magnitudes' sum, the others relative."""
    assert ours.names == theirs.names
    assert np.array_equal(ours.numel, theirs.numel)
    assert np.array_equal(ours.unused, theirs.unused)
    live = theirs.peak > 0
    assert np.array_equal(ours.peak > 0, live)
    shift = ours.exponent - theirs.exponent
    found = [0.0, *(abs(np.ldexp(ours.total, shift) - theirs.total)[live] / theirs.abs_total[live])]
    for column, power in (("m2", 2), ("abs_total", 1), ("abs_m2", 2), ("peak", 1)):
        mine, expected = np.ldexp(getattr(ours, column), power * shift)[live], getattr(theirs, column)[live]
        found += list(abs(mine / expected - 1) / power)
    return max(found)


def check(net, archs, batch, measured="plain"):
    """Layer by layer what `measure` finds for each standalone network."""
    recipe = get_recipe(f"seed(dtype={str(net.dtype).removeprefix('torch.')})")
    for result in net.results(archs, measured, batch):
        alone = measure(
            net.network(result.network), [measured], batch=batch, input_shape=net.space.input_shape, recipe=recipe
        )[measured]
        assert result.status == alone.status == "ok"
        assert largest_difference(result.moments, alone.moments) < TOLERANCE[net.dtype], result.network


@pytest.mark.parametrize("measured", ["plain", "grasp"])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("name", SPACES)
def test_nasbench201_layer_by_layer(name, images, measured):
    net = Supernet(name, seed=3, dtype=torch.float64)
    archs = [SPACES[name], *net.space.sample_many(5, np.random.default_rng(1))]
    check(net, archs, noise(net.space.input_shape, net.space.num_classes, images), measured)


@pytest.mark.parametrize("measured", ["plain", "grasp"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nasbench201_in_float32(seed, measured):
    """At seeds where no pre-activation changes sides of ReLU's kink; the next test has others."""
    net = Supernet("nasbench201", seed=seed)
    check(net, [SPACES["nasbench201"]], noise(net.space.input_shape, net.space.num_classes, 1), measured)


@pytest.mark.parametrize(("measured", "allowed"), [("plain", 0.1), ("grasp", 0.2)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_float32_is_as_near_to_float64_as_the_network_alone(seed, measured, allowed):
    """One image through many norms magnifies rounding, whoever computes: in float32 a layer may be off by a tenth, of
    grasp, which goes through them twice, by a fifth."""
    name, recipe = "nasbench201/imagenet16-120", get_recipe("seed(dtype=float32)")
    single, double = (Supernet(name, seed=seed, dtype=dtype) for dtype in (torch.float32, torch.float64))
    batch, shape = noise((3, 16, 16), 120, 1), single.space.input_shape
    ours, exact = (net.results([SPACES[name]], measured, batch)[0].moments for net in (single, double))
    alone = single.network(SPACES[name])
    theirs = measure(alone, [measured], batch=batch, input_shape=shape, recipe=recipe)[measured].moments
    assert largest_difference(ours, exact) < max(allowed, 2 * largest_difference(theirs, exact))


@pytest.mark.parametrize(("measured", "count"), [("plain", 2), ("grasp", 1)])
@pytest.mark.parametrize("name", ["darts", "transnasbench101-micro"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_other_spaces_layer_by_layer(name, dtype, measured, count):
    """Two images: with one, the pooled output of a batch norm is zero, and what leads only there is rounding."""
    net = Supernet(name, seed=3, dtype=dtype)
    archs = net.space.sample_many(count, np.random.default_rng(1))
    check(net, archs, noise(net.space.input_shape, net.space.num_classes, 2, seed=3), measured)


def plain_by_autograd(weights, loss):
    """θ ⊙ g."""
    return [p.detach() * g for p, g in zip(weights, torch.autograd.grad(loss, weights), strict=True)]


def grasp_by_autograd(weights, loss):
    """−θ ⊙ Hg, through the backward pass of the backward pass."""
    gradients = torch.autograd.grad(loss, weights, create_graph=True)
    products = torch.autograd.grad(gradients, weights, [g.detach() for g in gradients])
    return [-p.detach() * h for p, h in zip(weights, products, strict=True)]


@pytest.mark.parametrize(("measured", "oracle"), [("plain", plain_by_autograd), ("grasp", grasp_by_autograd)])
def test_twenty_cells_against_autograd_of_each_network_and_one_image(measured, oracle):
    net = Supernet("nasbench201/imagenet16-120", dtype=torch.float64, seed=5)
    batch = noise((3, 16, 16), 120, 1, seed=5)
    archs = [SPACES["nasbench201/imagenet16-120"], *net.space.sample_many(19, np.random.default_rng(2))]
    for result in net.results(archs, f"{measured}_noise"):
        alone = net.network(result.network).double().train()
        loss = F.cross_entropy(alone(batch.inputs.double()), batch.targets)
        weights = {name: p for name, p in alone.named_parameters() if p.dim() > 1}
        used = dict(
            zip(weights, torch.autograd.grad(loss, weights.values(), retain_graph=True, allow_unused=True), strict=True)
        )
        reached = {name: p for name, p in weights.items() if used[name] is not None}
        saliencies = dict(zip(reached, oracle(list(reached.values()), loss), strict=True))
        expected = from_tensors(
            {name: saliencies.get(name) for name in weights}, {name: p.numel() for name, p in weights.items()}
        )
        assert largest_difference(result.moments, expected) < 1e-10, result.network


@pytest.mark.parametrize("measured", ["plain", "grasp"])
@pytest.mark.parametrize("first", ["none", "nor_conv_3x3"])
def test_a_dead_cell_has_the_reason_of_its_network_alone(first, measured):
    net, batch = Supernet("nasbench201/imagenet16-120"), noise((3, 16, 16), 120, 1)
    (result,) = net.results([(first, *["none"] * 5)], measured, batch)
    alone = measure(net.network(result.network), [measured], batch=batch, input_shape=(3, 16, 16))[measured]
    assert (result.status, result.reason) == (alone.status, alone.reason) == ("dead", "no weight has any saliency")
    assert np.array_equal(result.moments.unused, alone.moments.unused)


@pytest.mark.parametrize("measured", ["plain", "grasp"])
def test_noise_comes_from_the_seed(measured):
    net = Supernet("nasbench201/imagenet16-120", seed=5)
    arch = SPACES["nasbench201/imagenet16-120"]
    (drawn,) = net.results([arch], f"{measured}_noise", images=2)
    (given,) = net.results([arch], measured, noise((3, 16, 16), 120, 2, seed=5))
    assert np.array_equal(drawn.moments.abs_total, given.moments.abs_total)
    assert np.array_equal(drawn.moments.total, given.moments.total)


def test_as_many_cells_go_through_a_pass_of_grasp_as_memory_holds():
    layout = layout_of(get_space("nasbench201"))
    small, large = (
        [layout.choice(get_space("nasbench201").parse((operation,) * 6))] * 100
        for operation in ("skip_connect", "nor_conv_3x3")
    )

    def sizes(choices, itemsize=4, images=1):
        parts = list(GraspPasses(layout, itemsize, images)(choices))
        assert [choice for part in parts for choice in part] == choices
        return [len(part) for part in parts]

    assert sizes(small) == [64, 36]
    (one,), (wide,), (several,) = (
        set(found[:-1]) for found in (sizes(large), sizes(large, itemsize=8), sizes(large, images=8))
    )
    assert 8 <= one < 16
    assert wide == one // 2
    assert several == 1
    assert sizes([]) == []


def test_small_saliencies_keep_their_squares():
    total, square, magnitude, peak = reduced(torch.tensor([[3e-25, -4e-25], [1.0, -2.0]]))
    assert square == pytest.approx([25e-50, 5.0])
    assert magnitude == pytest.approx([7e-25, 3.0])
    assert total == pytest.approx([-1e-25, -1.0])
    assert peak == pytest.approx([4e-25, 2.0])


@pytest.mark.parametrize(
    ("images", "labels", "reason"),
    [
        (torch.ones(9, 3, 32, 32), torch.zeros(9, dtype=torch.int64), "9 images: expected 1 … 8"),
        (torch.ones(1, 3, 16, 16), torch.tensor([0]), "the inputs are not one tensor of shape (N, 3, 32, 32)"),
        (torch.ones(1, 3, 32, 32), torch.tensor([10]), "labels 10 … 10: expected 0 … 9"),
        (torch.ones(1, 3, 32, 32), torch.tensor([0.5]), "the targets are not one class label an image"),
    ],
)
def test_batches_that_are_refused(images, labels, reason):
    with pytest.raises(UsageError) as caught:
        Supernet("nasbench201").results([0], "plain", batch_of((images, labels)))
    assert str(caught.value) == f"a supernet's plain: {reason}"


def test_what_is_not_measured():
    net = Supernet("nasbench201")
    with pytest.raises(UsageError) as caught:
        net.results([0], "fisher")
    known = "a supernet measures synflow, plain, plain_noise, grasp and grasp_noise"
    assert str(caught.value) == f"{known}, not fisher"
    with pytest.raises(UsageError, match="grasp needs a batch of images and labels"):
        net.results([0], "grasp")


def test_the_worker_gives_the_supernet_what_it_can(monkeypatch):
    """By the supernet, and by each network where the batch is too large for it: the same to rounding."""
    net = Supernet("nasbench201/imagenet16-120", dtype=torch.float64)
    arch, batch = SPACES["nasbench201/imagenet16-120"], noise((3, 16, 16), 120, 1)
    job = Job(net.space, get_recipe("seed(init=shared)"), 0, batch)
    together = dict(score_chunk(job, [(arch, ("synflow", "plain", "grasp"))]))
    assert set(together) == {"synflow", "plain", "grasp"}
    monkeypatch.setattr("ssnr.supernet.Supernet.reads", lambda *_: "nothing", raising=False)
    alone = dict(score_chunk(job, [(arch, ("plain", "grasp"))]))
    for name in ("plain", "grasp"):
        assert largest_difference(together[name].moments, alone[name].moments) < 1e-10
