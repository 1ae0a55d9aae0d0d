"""How the passes of data-driven saliencies are run: the order of memory, and what a network may do with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import ssnr
from networks import golden, golden_batch, small, small_batch
from ssnr.saliencies import gradients


def images() -> tuple[Tensor, Tensor]:
    return torch.randn(6, 2, 5, 5, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3


SINGLE = "seed(dtype=float32)"


# Which passes had their channels last; outside of the network, which is left as it was.
SEEN: list[bool] = []


class Reads(nn.Module):
    """A convolution whose output goes through `reading` before its head."""

    def __init__(self, reading: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(2, 4, 3), nn.Linear(36, 3)
        self.reading = reading

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.conv(x))
        SEEN.append(h.is_contiguous(memory_format=torch.channels_last))
        out: Tensor = self.head(self.reading(h))  # type: ignore[operator]
        return out


def _in_place_through_a_view(h: Tensor) -> Tensor:
    h = h * 1
    h.view(-1).mul_(2)
    return h.flatten(1)


READINGS = {
    "flatten": (lambda h: h.flatten(1), [True]),
    "view": (lambda h: h.view(h.shape[0], -1), [True]),
    "view_as": (lambda h: h.view_as(h.new_empty(h.shape[0], 36)), [True]),
    "as_strided": (lambda h: h.as_strided((6, 36), (36, 1)), [True, False]),
    "a view changed in place": (_in_place_through_a_view, [True, False]),
    "complex numbers": (lambda h: torch.view_as_real(torch.view_as_complex(h.unflatten(1, (2, 2)).flatten(1)
        .unflatten(1, (18, 2)))).flatten(1), [True]),
}  # fmt: skip


@pytest.mark.parametrize("name", READINGS)
def test_float32_passes_run_in_channels_last_where_the_network_does_not_notice(name):
    reading, orders = READINGS[name]
    net = Reads(reading)
    SEEN.clear()
    single = ssnr.saliency(net, "snip", images(), recipe=SINGLE)
    assert orders == SEEN
    double = ssnr.saliency(net, "snip", images())
    for layer, values in double.items():
        assert torch.allclose(single[layer].double(), values, rtol=1e-3, atol=1e-7), layer


def test_a_network_that_raises_says_so_once_in_either_order():
    net = Reads(lambda h: h.flatten(1)[:, :7])
    reason = ssnr.score(net, images(), ["snip"], recipe=SINGLE)["snip"].reason
    assert reason is not None and reason.startswith("layer 'head' (Linear) raised RuntimeError on input (6, 7)")


def test_what_a_second_try_draws_is_what_the_first_drew(monkeypatch):
    class Draws(Reads):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = super().forward(x * torch.rand(()))
            return out

    twice = Draws(READINGS["as_strided"][0])
    once = Draws(READINGS["flatten"][0])
    monkeypatch.setattr(gradients, "in_channels_last", lambda value: value)
    found = ssnr.score(once, images(), ["snip"], recipe=SINGLE)
    monkeypatch.undo()
    assert ssnr.score(twice, images(), ["snip"], recipe=SINGLE) == found


def test_first_order_saliencies_are_the_same_beside_grasp():
    names = ["snip/layerwise_ssnr", "grad_norm", "fisher"]
    for recipe in ("seed", SINGLE):
        alone = ssnr.score(small(), small_batch(), names, recipe=recipe)
        beside = ssnr.score(small(), small_batch(), [*names, "grasp"], recipe=recipe)
        assert {name: beside[name] for name in names} == alone


def test_a_channel_without_spread_is_differentiated_like_any_other():
    """Batch norm on batch statistics has a gradient there, 1/√ε times the centred one."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    inputs, targets = torch.ones(3, 1, 2, 2), torch.tensor([0, 1, 0])
    leaf = net[0].weight
    loss = nn.functional.cross_entropy(net.double().train()(inputs.double()), targets)
    (expected,) = torch.autograd.grad(loss, leaf)
    found = ssnr.saliency(net, "plain", (inputs, targets))["0.weight"]
    assert torch.allclose(found, leaf.detach() * expected, rtol=1e-9, atol=1e-12)


class Products(nn.Module):
    """The network solved by hand, its layers applied by functions."""

    def __init__(self, first: Callable[[nn.Linear, Tensor], Tensor], last: Callable[[nn.Linear, Tensor], Tensor]):
        super().__init__()
        self.a, self.b = golden()[0], golden()[2]
        self.first, self.last = first, last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.b, torch.relu(self.first(self.a, x)))


def _called(layer: nn.Linear, x: Tensor) -> Tensor:
    out: Tensor = layer(x)
    return out


def _product(layer: nn.Linear, x: Tensor) -> Tensor:
    return x @ layer.weight.T


def _by_sample(layer: nn.Linear, x: Tensor) -> Tensor:
    out: Tensor = torch.func.vmap(layer)(x)
    return out


@pytest.mark.parametrize("hides", [_product, _by_sample])
def test_fisher_names_the_layers_whose_outputs_it_cannot_see(hides):
    whole = ssnr.score(golden(), golden_batch(), ["fisher"])["fisher"]
    score = ssnr.score(Products(hides, _called), golden_batch(), ["snip", "fisher"])
    assert score["snip"].notes == ()
    assert score["fisher"].notes == ("fisher reads what convolution and linear layers output: not seen are a.weight",)
    assert [layer.total for layer in score["fisher"].layers if layer.name == "b.weight"] == [whole.layers[1].total]
    none = ssnr.score(Products(hides, hides), golden_batch(), ["fisher"])["fisher"]
    assert (none.status, none.reason) == (
        "failed", "fisher reads what convolution and linear layers output, which this network computes in other ways"
    )  # fmt: skip
