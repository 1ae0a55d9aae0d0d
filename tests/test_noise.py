"""snip and grasp of drawn images, and the proxy that is scored where none is named."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import ssnr
from ssnr.core.catalogue import parse_proxy
from ssnr.data import noise
from ssnr.supernet import Supernet


def convolutional(channels: int = 3, classes: int = 7) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(32, classes),
    )  # fmt: skip


PROXIES = ("snip/sum", "plain/sum", "grasp/sum", "grasp_abs/layerwise_ssnr(0.5,8,0.1)")
DRAWN = tuple(text.replace("/", "_noise/", 1) for text in PROXIES)


@pytest.mark.parametrize("images", [1, 3])
def test_the_score_of_drawn_images_is_that_of_a_noise_batch(images):
    net, recipe = convolutional(), f"seed(images={images})"
    given = ssnr.score(net, noise((3, 9, 9), 7, images, seed=5), PROXIES, seed=5)
    drawn = ssnr.score(net, None, DRAWN, input_shape=(3, 9, 9), seed=5, recipe=recipe)
    for name, own in zip(PROXIES, DRAWN, strict=True):
        assert drawn[own].value == given[name].value and drawn[own].status == "ok"
        assert drawn[own].layers == given[name].layers


def test_every_layer_of_snip_of_one_drawn_image_is_what_naive_autograd_gives():
    net = convolutional().double()
    image, label = noise((3, 9, 9), 7, 1, seed=2).inputs.double(), noise((3, 9, 9), 7, 1, seed=2).targets
    nn.functional.cross_entropy(net(image), label).backward()
    expected = {name: (p * p.grad).abs() for name, p in net.named_parameters() if p.dim() > 1}
    found = ssnr.saliency(convolutional(), "snip_noise", input_shape=(3, 9, 9), seed=2)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert torch.allclose(found[name], values, rtol=1e-12, atol=0)


def test_the_headline_is_the_sum_of_the_layers_ratios_over_the_tenth_root_of_the_sum():
    scores = ssnr.score(convolutional(), input_shape=(3, 9, 9))
    (score,) = scores.values()
    signal = sum(layer.numel**0.5 * (layer.ratio / layer.numel) ** 8 for layer in score.layers)
    assert list(scores) == ["noise_ssnr"]
    assert score.value == pytest.approx(signal / sum(layer.total for layer in score.layers) ** 0.1, rel=1e-12)
    assert score.log_value == pytest.approx(math.log(score.value))


def test_the_sum_counts_in_its_own_power_also_beyond_float64():
    proxy = "magnitude/layerwise_ssnr(0.5,2,1)"
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 3, bias=False)).double()
    plain = ssnr.score(net, None, [proxy], input_shape=(4,))[proxy]
    with torch.no_grad():
        for weight in net.parameters():
            weight *= 2.0**1000
    large = ssnr.score(net, None, [proxy], input_shape=(4,))[proxy]
    assert large.log_value == pytest.approx(plain.log_value - 1000 * math.log(2), rel=1e-13)


def test_a_negative_sum_has_no_power():
    proxy = "grasp_noise/layerwise_ssnr(1,1,0.1)"
    net = convolutional()
    total = ssnr.score(net, None, ["grasp_noise"], input_shape=(3, 9, 9))["grasp_noise"].value
    score = ssnr.score(net, None, [proxy], input_shape=(3, 9, 9))[proxy]
    assert (score.status == "ok") == (total > 0)
    if total <= 0:
        assert score.reason == "layerwise_ssnr(1,1,0.1): the sum of all saliencies is not positive"


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), (6,)),
        (nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)), (2, 8)),
        (nn.Sequential(nn.Conv3d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(54, 3)), (1, 4, 4, 4)),
        (nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1)), (1, 5, 5)),
        (nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1)), (6,)),
        (nn.Sequential(nn.Embedding(11, 6), nn.Flatten(), nn.Linear(24, 3)), (4,)),
        (nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 11)), (4,)),
    ],
    ids=["vectors", "signals", "volumes", "pictures out", "one output", "tokens", "tokens out"],
)
def test_inputs_of_every_kind_are_drawn(net, shape):
    (score,) = ssnr.score(net, input_shape=shape).values()
    again = ssnr.score(net, input_shape=shape)["noise_ssnr"]
    assert score.status == "ok" and score.value > 0 and again.value == score.value


def test_tokens_are_drawn_like_those_of_a_batch():
    net = nn.Sequential(nn.Embedding(11, 6), nn.Flatten(), nn.Linear(24, 3))
    batch = torch.zeros(5, 4, dtype=torch.int64)
    assert ssnr.score(net, batch)["noise_ssnr"].value == ssnr.score(net, input_shape=(4,))["noise_ssnr"].value


def test_a_norm_that_sees_one_value_a_channel_is_refused_with_what_to_do():
    net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    score = ssnr.score(net, input_shape=(6,))["noise_ssnr"]
    assert score.status == "failed" and score.value is None
    assert score.reason.startswith("layer '1' (BatchNorm1d) raised ValueError on input (1, 5)")
    assert score.reason.endswith("take a batch of two samples or more, or draw two (recipe option images=2)")
    assert ssnr.score(net, input_shape=(6,), recipe="seed(images=2)")["noise_ssnr"].status == "ok"


def test_pruning_keeps_what_drawn_images_say():
    net = convolutional()
    found = ssnr.pruning.masks(net, "snip_noise", 0.25, input_shape=(3, 9, 9), seed=1)
    given = ssnr.pruning.masks(net, "snip", 0.25, batch=noise((3, 9, 9), 7, 1, seed=1), seed=1)
    for name, mask in given.tensors.items():
        assert torch.equal(found.tensors[name], mask)


def test_a_sweep_keeps_the_draw_and_a_study_has_the_headline_first(tmp_path):
    from ssnr.spaces import get_space

    space = get_space("nasbench201")
    archs = [arch for arch, _ in zip(space.all(), range(12), strict=False)] + ["9930", "1462"]
    rows = list(ssnr.sweep(space, archs, ["noise_ssnr"], store=tmp_path / "s.sqlite", workers=1))
    net = space.build("9930", seed=0)
    assert rows[12].scores["noise_ssnr"].value == ssnr.score(net, input_shape=(3, 32, 32))["noise_ssnr"].value
    with ssnr.Store(tmp_path / "s.sqlite") as store:
        assert [group.data for group in store.groups()] == ["noise:1"]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("seed(images=0)", "recipe option images=0: expected 1 … 64"),
        ("seed(images=65)", "recipe option images=65: expected 1 … 64"),
        ("seed(images=two)", "recipe option images='two': expected a number"),
    ],
)
def test_wrong_numbers_of_images(recipe, message):
    with pytest.raises(ssnr.UsageError) as caught:
        ssnr.score(convolutional(), input_shape=(3, 9, 9), recipe=recipe)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("noise_ssnr/sum", "proxy 'noise_ssnr/sum': noise_ssnr is snip_noise/layerwise_ssnr(0.5,8,0.1) already and "
         "takes no aggregate"),
        ("snip/layerwise_ssnr(1)", "proxy 'snip/layerwise_ssnr(1)': layerwise_ssnr takes (p,q,r=0), got 1 numbers"),
        ("snip/layerwise_ssnr(1,1,1,1)",
         "proxy 'snip/layerwise_ssnr(1,1,1,1)': layerwise_ssnr takes (p,q,r=0), got 4 numbers"),
    ],
)  # fmt: skip
def test_texts_that_are_no_proxy(text, message):
    with pytest.raises(ssnr.UsageError) as caught:
        parse_proxy(text)
    assert str(caught.value) == message


def test_neither_shape_nor_batch():
    with pytest.raises(ssnr.UsageError) as caught:
        ssnr.score(convolutional())
    assert str(caught.value) == "drawn images need the shape of one input: input_shape=(3, 32, 32), or a batch"


def test_a_shared_sweep_takes_drawn_images_through_the_supernet(tmp_path):
    recipe = "seed(init=shared,synflow_dtype=float32)"
    (row,) = ssnr.sweep("nasbench201", ["9930"], ["noise_ssnr"], store=tmp_path / "s.sqlite", recipe=recipe, workers=1)
    net = Supernet("nasbench201", dtype=torch.float64).network("9930")
    alone = ssnr.score(net, input_shape=(3, 32, 32))["noise_ssnr"]
    assert row.scores["noise_ssnr"].value == pytest.approx(alone.value, rel=1e-10)


def test_a_signal_that_float32_cannot_tell_from_rounding_is_scored_in_float64_and_said():
    net = convolutional()
    with torch.no_grad():
        net[-1].weight.mul_(1e-6)
    given = {"input_shape": (3, 9, 9)}
    single = ssnr.score(net, None, ["snip_noise/sum"], recipe="seed(dtype=float32)", **given)["snip_noise/sum"]
    double = ssnr.score(net, None, ["snip_noise/sum"], recipe="seed(dtype=float64)", **given)["snip_noise/sum"]
    assert (single.status, single.value) == ("ok", double.value) and double.value == pytest.approx(1e-6, rel=2)
    assert single.notes == (
        *double.notes, "in float64: in float32 the gradients are too faint to be told from rounding"
    )  # fmt: skip


@pytest.mark.parametrize("proxies", [["snip/sum"], ["snip/sum", "grasp/sum"]])
def test_a_norm_of_another_width_is_refused_in_pytorchs_words(proxies):
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.norm(self.conv(x)).mean((2, 3))
            return out

    said = "layer 'norm' (BatchNorm2d) raised RuntimeError on input (2, 8, 7, 7), weight (16,): running_mean should "
    for score in ssnr.score(Wrong(), noise((3, 9, 9), 8, 2), proxies).values():
        assert (score.status, score.reason) == ("failed", f"{said}contain 8 elements not 16")
