"""Activations are found by what happens."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ssnr
from ssnr.core.field import TABLE
from ssnr.proxies.capture import capture_of

Make = Callable[..., Any]


class Between(nn.Module):
    """Two linear layers with a function between them."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.function, self.second = nn.Linear(4, 8), function, nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Rows to logits."""
        return self.second(self.function(self.first(x)))  # type: ignore[no-any-return]


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "module": nn.ReLU(),
    "in place": nn.ReLU(inplace=True),
    "functional": F.relu,
    "functional in place": lambda x: F.relu(x, inplace=True),
    "torch": torch.relu,
    "method": lambda x: x.relu_(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: torch.clamp_min(x, 0.0),
    "threshold": lambda x: F.threshold(x, 0.0, 0.0),
    "relu6": F.relu6,
    "GELU": nn.GELU(),
    "SiLU": lambda x: F.silu(x, inplace=True),
    "leaky": nn.LeakyReLU(inplace=True),
    "PReLU": nn.PReLU(),
    "ELU": F.elu,
    "SELU": F.selu,
    "Mish": nn.Mish(inplace=True),
    "Hardswish": nn.Hardswish(),
    "tanh": torch.tanh,
}


@pytest.mark.parametrize("way", WAYS)
def test_an_activation_is_seen_before_it_acts(way: str, context: Make) -> None:
    torch.manual_seed(0)
    net, x = Between(WAYS[way]), torch.randn(5, 4)
    capture = capture_of(context(net, x))
    (code,) = capture.data.codes
    assert torch.equal(code, net.first(x) > 0)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated:DeprecationWarning")
def test_a_scripted_activation_is_seen(context: Make) -> None:
    torch.manual_seed(0)
    net, x = Between(F.relu), torch.randn(5, 4)
    net.function = torch.jit.script(nn.ReLU())
    (code,) = capture_of(context(net, x)).data.codes
    assert torch.equal(code, net.first(x) > 0)


def test_a_clamp_from_elsewhere_is_no_activation(context: Make) -> None:
    net = Between(lambda x: x.clamp(-3, 3).sigmoid())
    assert capture_of(context(net, torch.randn(5, 4))).data.codes == []


def test_channels_last_and_transformers(context: Make) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 6, 6).to(memory_format=torch.channels_last)
    (code,) = capture_of(context(net, x)).data.codes
    assert torch.equal(code, (net[0](x) > 0).permute(0, 2, 3, 1).flatten(1))  # units as they lie in memory
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    (code,) = capture_of(context(layer, torch.randn(3, 5, 8))).data.codes
    assert code.shape == (3, 5 * 16)


def test_layers_are_seen_by_name_in_the_order_they_run(conv_net: nn.Module, images: Any, context: Make) -> None:
    names = [name for name, _ in capture_of(context(conv_net, *images)).data.outputs]
    assert names == ["stem.weight", "body.weight", "down.weight", "head.weight"]


def test_features_are_the_last_map_before_pooling(conv_net: nn.Module, images: Any, context: Make) -> None:
    assert capture_of(context(conv_net, *images)).data.features.shape == (6, 5, 4, 4)


def test_features_of_a_perceptron_are_the_input_of_its_last_layer(context: Make) -> None:
    torch.manual_seed(0)
    net, x = Between(torch.relu), torch.randn(5, 4)
    features = capture_of(context(net, x)).data.features
    assert torch.allclose(features.float(), net.first(x).relu())


def test_one_pass_serves_all(conv_net: nn.Module, images: Any, context: Make) -> None:
    here = context(conv_net, *images)
    assert capture_of(here) is capture_of(here)
    assert capture_of(here).data is capture_of(here).data


@pytest.mark.parametrize("proxy", list(TABLE))
def test_a_proxy_leaves_no_tensor_behind(proxy):
    blocks = [nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(3)]
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Sequential(*blocks), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    )
    batch = ssnr.noise((3, 8, 8), 10, 6)

    def living() -> int:
        gc.collect()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some modules warn when they are looked at
            return sum(isinstance(thing, Tensor) for thing in gc.get_objects())

    ssnr.score(net, batch, [proxy])  # what is kept of a first call is no leak
    before = living()
    assert ssnr.score(net, batch, [proxy])[proxy].status == "ok"
    assert living() == before
