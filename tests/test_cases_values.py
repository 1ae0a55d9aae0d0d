"""Small inputs on which other tools were reported to go wrong, and the values that arithmetic gives for them.

Where a case was reported in public, its docstring names the report.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import ssnr
from networks import golden, golden_batch, naive_gradients

THREE = ["synflow", "synflow/ssnr", "synflow/layerwise_ssnr"]


def chain(*weights: torch.Tensor) -> nn.Sequential:
    """Linear layers without biases, one after the other, of these weights."""
    net = nn.Sequential(*(nn.Linear(w.shape[1], w.shape[0], bias=False) for w in weights))
    with torch.no_grad():
        for layer, weight in zip(net, weights, strict=True):
            layer.weight.copy_(weight)
    return net


def drawn(activation: nn.Module, seed: int | None = None) -> tuple[nn.Sequential, tuple[torch.Tensor, torch.Tensor]]:
    """Linear(4→5), an activation, Linear(5→3) from seed 0; 8 samples with labels drawn next, or from their own."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), activation, nn.Linear(5, 3))
    if seed is not None:
        torch.manual_seed(seed)
    return net, (torch.randn(8, 4), torch.randint(3, (8,)))


# --- magnitudes -----------------------------------------------------------------------------------------------


def test_forty_layers_of_ones_are_beyond_float32_and_exact_here():
    """SamsungLabs/zero-cost-nas#23: synflow of a deep network is inf."""
    scores = ssnr.score(chain(*[torch.ones(10, 10)] * 40), input_shape=(10,), proxies=THREE)
    total, overall, layerwise = scores.values()
    assert total.value == pytest.approx(4e42, rel=1e-15)
    assert total.log_value == pytest.approx(98.0948682668698, rel=1e-15)
    assert total.log_value / math.log(10) == pytest.approx(42.60206, abs=5e-6)
    assert (overall.value, layerwise.value) == (0.0, 0.0)
    assert [layer.flag for layer in layerwise.layers] == ["degenerate"] * 40
    assert {score.status for score in scores.values()} == {"ok"}


def test_five_layers_of_alternating_columns():
    """Columns of ½ and 3/2: every layer has 50 saliencies of ½·10⁴ and 50 of 3/2·10⁴, σ a half of the mean."""
    weight = torch.tensor([0.5, 1.5] * 5).expand(10, 10)
    total, overall, layerwise = ssnr.score(chain(*[weight] * 5), input_shape=(10,), proxies=THREE).values()
    assert total.value == 5e6
    assert overall.value == pytest.approx(707.106781186548, rel=1e-14)
    assert layerwise.value == pytest.approx(733.333333333333, rel=1e-14)


def test_a_small_sum_is_a_number_and_its_layers_of_one_weight_have_no_spread():
    """ganguli-lab/Synaptic-Flow#11: in float32 all gradients are zero."""
    net = chain(*[torch.full((1, 1), 0.1)] * 60)
    total, overall, layerwise = ssnr.score(net, input_shape=(1,), proxies=THREE).values()
    assert total.value == pytest.approx(60 * float(torch.tensor(0.1)) ** 60, rel=1e-13)
    assert total.log_value == pytest.approx(-134.06076, rel=1e-6)
    assert (total.status, overall.value, layerwise.value) == ("ok", 0.0, 0.0)
    assert {layer.flag for layer in layerwise.layers} == {"degenerate"}


def test_the_only_weight_of_a_layer_adds_nothing_but_in_the_recipe_that_adds_its_sum():
    net = chain(torch.tensor([[2.0]]), torch.tensor([[1.0], [2.0], [4.0]]))
    found = ssnr.saliency(net, "synflow", input_shape=(1,))
    assert [values.flatten().tolist() for values in found.values()] == [[14], [2, 4, 8]]
    score = ssnr.score(net, None, ["synflow/layerwise_ssnr"], input_shape=(1,))["synflow/layerwise_ssnr"]
    assert score.value == pytest.approx(5.61248608016, rel=1e-11)
    assert [layer.flag for layer in score.layers] == ["degenerate", None]
    theirs = ssnr.score(net, None, ["synflow/layerwise_ssnr"], input_shape=(1,), recipe="alethiometer")[
        "synflow/layerwise_ssnr"
    ]
    assert theirs.value == pytest.approx(14 + 4.58257569496, rel=1e-11)


@pytest.mark.parametrize("count", [3, 7, 4096])
def test_equal_saliencies_have_no_spread_whatever_the_number_of_weights(count):
    """alethiometer's T-CET has a rule for σ == 0, which rounding misses: ratios of 1e16 and more."""
    net = chain(torch.full((count, 1), 0.1))
    score = ssnr.score(net, None, ["synflow/layerwise_ssnr"], input_shape=(1,))["synflow/layerwise_ssnr"]
    assert (score.value, score.status, score.layers[0].flag) == (0.0, "ok", "degenerate")


@pytest.mark.parametrize("unit", [1e200, 1e-200])
def test_a_ratio_does_not_square_what_a_square_cannot_hold(unit):
    net = chain(torch.tensor([[1.0, 3.0]])).double()
    with torch.no_grad():
        net[0].weight.mul_(unit)
    overall, layerwise = ssnr.score(net, input_shape=(2,), proxies=THREE[1:]).values()
    assert (overall.value, layerwise.value) == (pytest.approx(4, rel=1e-14), pytest.approx(4, rel=1e-14))


# --- batches --------------------------------------------------------------------------------------------------


def test_grasp_of_a_batch_is_one_value():
    """alecwangcq/GraSP#1: its value depends on how the batch was split for memory."""
    net, batch = drawn(nn.Tanh())
    score = ssnr.score(net, batch, ["grasp"])["grasp"]
    assert score.value == pytest.approx(-0.26342734210344065, rel=1e-13)
    assert score.value == pytest.approx(float(sum(t.sum() for t in naive_gradients(net, batch)["grasp"].values())))


@pytest.mark.parametrize(("proxy", "value"), [("snip", 0.2738), ("plain", -0.0674), ("grasp", -0.0866)])
def test_data_driven_sums_are_of_the_mean_loss(proxy, value):
    """zero-cost-nas multiplies snip and plain by the number of splits, and changes grasp's sign."""
    net, batch = drawn(nn.ReLU(), seed=1)
    assert ssnr.score(net, batch, [proxy])[proxy].value == pytest.approx(value, abs=5e-5)


def test_a_batch_given_twice_has_the_saliency_of_the_batch():
    """The loss is a mean: the same samples once more change no first-order saliency."""
    net, (x, y) = drawn(nn.ReLU(), seed=1)
    names = ["snip", "plain", "grasp", "grad_norm"]
    once, twice = ssnr.score(net, (x, y), names), ssnr.score(net, (torch.cat([x, x]), torch.cat([y, y])), names)
    for name in names:
        assert twice[name].value == pytest.approx(once[name].value, rel=1e-12), name


# --- what a number depends on is said -------------------------------------------------------------------------


def test_the_temperature_is_part_of_the_recipes_text():
    """alecwangcq/GraSP#1: why −θ, and which temperature?"""
    from ssnr.core.recipes import get_recipe

    recipe = get_recipe("seed(temperature=200)")
    assert str(recipe) == "seed(temperature=200.0)"
    scores = ssnr.score(golden(), golden_batch(), ["grasp", "grasp/layerwise_ssnr"], recipe=recipe)
    assert scores["grasp"].value == pytest.approx(-8.80667672e-5, rel=1e-8)
    assert scores["grasp/layerwise_ssnr"].value == pytest.approx(-7.35013335448, rel=1e-11)


def test_train_and_eval_mode_are_two_recipes_with_two_numbers():
    """BayesWatch/nas-without-training#1: the mode that the network happens to be in decides the score."""
    from ssnr.core.recipes import get_recipe

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)
    )
    batch = torch.randn(16, 4) + 3, torch.randint(3, (16,))
    modes = {mode: get_recipe(f"seed(mode={mode})") for mode in ("train", "eval", "caller")}
    assert {mode: str(recipe) for mode, recipe in modes.items()} == {
        "train": "seed", "eval": "seed(mode=eval)", "caller": "seed(mode=caller)",
    }  # fmt: skip

    def snip(mode: str) -> float:
        (score,) = ssnr.score(net, batch, ["snip/layerwise_ssnr"], recipe=modes[mode]).values()
        return score.value

    for training in (True, False):
        net.train(training)
        assert snip("caller") == snip("train" if training else "eval")
        found = {mode: snip(mode) for mode in ("train", "eval")}
    assert found["train"] != pytest.approx(found["eval"], rel=0.1)


def test_lower_is_better_for_these_proxies_and_higher_for_all_others():
    """idstcv/ZenNAS#34 and zero-cost-nas#14: is bigger better?"""
    from ssnr.core.catalogue import PLAIN, SALIENCIES

    lower = [name for table in (SALIENCIES, PLAIN) for name in table if not table[name].higher_is_better]
    assert sorted(lower) == ["latency", "memory", "ntk"]


def test_a_network_of_affine_modules_only_fails_with_the_reason():
    """Deeplite/deeplite-torch-zoo PR#331: a traceback of autograd."""
    net = nn.Sequential(nn.BatchNorm2d(3), nn.PReLU())
    scores = ssnr.score(net, torch.randn(2, 3, 4, 4), ["synflow", "magnitude", "l2_norm/layerwise_ssnr"])
    for score in scores.values():
        assert (score.value, score.status) == (None, "failed")
        assert score.reason == "no scored weights: the network has no parameter with two or more dimensions"
