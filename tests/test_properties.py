"""What holds for every network: checked on random ones, against the naive way of computing it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import ssnr
from random_nets import Net, naive_synflow
from ssnr.core.recipes import get_recipe
from ssnr.interpret.scaled import Scaled
from ssnr.networks.model import Model
from ssnr.saliencies import synflow as flow

SHAPE = (2, 6, 6)
SEEDS = st.integers(0, 10**9)


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference, in units of the layer's largest value."""
    peak = float(other.abs().max())
    return float((one - other).abs().max()) / peak if peak else float(one.abs().max())


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_synflow_is_the_naive_one(seed):
    net = Net(seed)
    expected = naive_synflow(net, torch.ones((1, *SHAPE), dtype=torch.float64))
    found = ssnr.saliency(net, "synflow", input_shape=SHAPE)
    layers = ssnr.score(net, None, ["synflow/layerwise_ssnr"], input_shape=SHAPE)["synflow/layerwise_ssnr"].layers
    assert {layer.name for layer in layers if layer.flag == "unused"} == {n for n in found if expected.get(n) is None}
    for name, tensor in found.items():
        other = expected[name]
        if other is not None:
            assert relative(tensor, other) < 1e-9, name


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_tensors_that_carry_a_power_of_two_give_the_same(seed):
    net = Net(seed)
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        recipe = get_recipe(f"seed(synflow_dtype={str(dtype).removeprefix('torch.')})")
        signals = []
        for scaled in (False, True):
            model = Model(net, recipe)
            signals.append(flow._once(model, flow.ones_like(None, SHAPE), dtype, scaled=scaled)[0])
        for name, plain in signals[0].tensors.items():
            other = signals[1].tensors[name]
            assert (plain is None) == (other is None)
            if plain is not None and other is not None:
                assert relative(torch.ldexp(other.double(), torch.tensor(signals[1].exponent)), plain.double()) < bound


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.sampled_from([2.0**-40, 0.5, 3.0, 2.0**40]))
def test_scaling_one_layer_scales_every_saliency_and_no_ssnr(seed, factor):
    net = Net(seed).double()  # in float32, three times a weight is another weight
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    net.two.weight = nn.Parameter(net.two.weight.detach().clone())  # a tied weight counts twice
    proxies = ["synflow/sum", "synflow/ssnr", "synflow/layerwise_ssnr"]
    before = ssnr.score(net, input_shape=SHAPE, proxies=proxies)
    with torch.no_grad():
        net.one.weight *= factor
    after = ssnr.score(net, input_shape=SHAPE, proxies=proxies)
    assert after["synflow/sum"].value == pytest.approx(factor * before["synflow/sum"].value, rel=1e-6)
    for name in proxies[1:]:
        assert after[name].value == pytest.approx(before[name].value, rel=1e-6)


def test_the_middle_of_the_range_is_where_values_stay():
    with Scaled(torch.float64) as scale:
        x = torch.full((3,), 2.0**200, dtype=torch.float64)
        y = torch.mul(x, x)
        total = torch.mul(torch.mul(y, y), y).sum()
    total = scale.exponents.near(total)
    assert 2.0**-128 <= float(total) <= 2.0**128
    assert torch.frexp(total).exponent + scale.exponents.of(total) == 1202
