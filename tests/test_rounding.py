"""A saliency that is nothing but rounding is dead, with the reason, and not a number."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import ssnr
from networks import golden
from ssnr.saliencies.gradients import ROUNDING
from ssnr.saliencies.synflow import SOFTMAX


def normed_before_the_pooling() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 5),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("proxy", ["noise_ssnr", "snip_noise/layerwise_ssnr", "grasp_noise"])
def test_one_image_leaves_nothing_where_a_norm_stands_before_the_pooling(proxy, dtype):
    """The mean of what a batch norm gives is zero for one image, whatever the weights."""
    net = normed_before_the_pooling()
    score = ssnr.score(net, None, [proxy], input_shape=(3, 9, 9), recipe=f"seed(dtype={dtype})")[proxy]
    assert (score.value, score.status, score.reason) == (0.0, "dead", ROUNDING)
    two = ssnr.score(net, None, [proxy], input_shape=(3, 9, 9), recipe=f"seed(dtype={dtype},images=2)")[proxy]
    assert two.status == "ok" and two.value != 0


def test_synflow_of_a_network_that_ends_in_softmax():
    net = nn.Sequential(golden(), nn.Softmax(dim=1))
    for proxy in ("synflow", "synflow/layerwise_ssnr"):
        score = ssnr.score(net, None, [proxy], input_shape=(2,))[proxy]
        assert (score.value, score.status, score.reason) == (0.0, "dead", SOFTMAX)


def test_synflow_of_a_network_that_ends_in_log_softmax_keeps_its_value():
    score = ssnr.score(nn.Sequential(golden(), nn.LogSoftmax(dim=1)), None, ["synflow"], input_shape=(2,))["synflow"]
    assert score.status == "ok" and score.value == pytest.approx(19.732285963)


def test_a_loss_of_a_sum_of_probabilities_is_rounding():
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    batch = (torch.randn(4, 6), torch.zeros(4))
    score = ssnr.score(net, batch, ["snip"], loss=lambda out, _: out.softmax(1).sum())["snip"]
    assert (score.value, score.status, score.reason) == (0.0, "dead", ROUNDING)


def test_gradients_that_vanish_before_the_last_layer_are_no_rounding():
    torch.manual_seed(0)
    net = nn.Sequential(*(layer for _ in range(12) for layer in (nn.Linear(6, 6), nn.Sigmoid())), nn.Linear(6, 3))
    score = ssnr.score(net, (torch.randn(4, 6), torch.tensor([0, 1, 2, 0])), ["snip"])["snip"]
    assert score.status == "ok" and score.layers[0].total < 1e-7 * score.layers[-1].total


def test_pruning_by_rounding_is_refused():
    with pytest.raises(ssnr.ScoringError) as caught:
        ssnr.pruning.masks(normed_before_the_pooling(), "snip_noise", 0.5, input_shape=(3, 9, 9))
    assert str(caught.value) == ROUNDING
