"""What is read and in which order of memory: the same numbers, whatever else is asked and however maps lie."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssnr.core.field import TABLE
from ssnr.interpret.double_backward import SAFE
from ssnr.proxies.capture import capture_of
from ssnr.proxies.naswot import agreements
from ssnr.proxies.scatter import cross, parts, scatter

Make = Callable[..., Any]
FLOAT32 = "seed(dtype=float32)"
BATCH = [name for name, row in TABLE.items() if row.data]


@pytest.mark.parametrize("units", [1, 7, 8, 63, 64, 65, 64 * 512 - 1, 64 * 1024 + 3])
def test_agreements_count_units_one_by_one(units: int) -> None:
    codes = torch.rand(5, units, generator=torch.Generator().manual_seed(units)) > 0.4
    k = agreements(codes)
    assert k.tolist() == [[float((a == b).sum()) for b in codes] for a in codes]


def test_agreements_of_several_activations_are_their_sum() -> None:
    one, other = (torch.rand(4, units) > 0.4 for units in (70, 3))
    assert torch.equal(agreements(one, other), agreements(one) + agreements(other))


def test_codes_that_differ_everywhere_agree_nowhere() -> None:
    codes = torch.stack([torch.zeros(64 * 512, dtype=torch.bool), torch.ones(64 * 512, dtype=torch.bool)])
    assert agreements(codes).tolist() == [[64 * 512, 0], [0, 64 * 512]]


def test_agreements_without_numpys_own_count(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = torch.rand(5, 300, generator=torch.Generator().manual_seed(0)) > 0.4
    expected = agreements(codes)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert torch.equal(agreements(codes), expected)


@pytest.mark.parametrize("shape", [(1, 3), (70_001, 3), (5, 40, 61, 7), (2, 300, 300, 1), (3, 1100), (40, 2, 2, 90)])
@pytest.mark.parametrize("first", [False, True])
def test_scatter_is_that_of_one_float64_matrix(shape: tuple[int, ...], first: bool) -> None:
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * torch.rand(shape[-1]) + 3
    rows = drawn.movedim(-1, 1).contiguous().movedim(1, -1) if first else drawn
    flat = drawn.double().reshape(-1, shape[-1])
    expected = (flat - flat.mean(0)).T @ (flat - flat.mean(0))
    assert sum(len(part) for part in parts(rows)) == len(flat)
    torch.testing.assert_close(scatter(rows).products, expected, rtol=1e-5, atol=1e-6 * float(expected.trace()) + 1e-12)
    assert scatter(rows).trace == pytest.approx(float(expected.trace()), rel=1e-6)


def test_scatter_of_channels_far_from_zero() -> None:
    rows = torch.randn(10_000, 4, generator=torch.Generator().manual_seed(2)) + 1000
    flat = rows.double() - rows.double().mean(0)
    torch.testing.assert_close(scatter(rows).products, flat.T @ flat, rtol=1e-6, atol=1e-2)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_squares_beyond_float32_are_scaled(size: float) -> None:
    rows = torch.randn(500, 3, generator=torch.Generator().manual_seed(3)) * size
    found, flat = scatter(rows), rows.double() - rows.double().mean(0)
    torch.testing.assert_close(found.products / found.scale**2, flat.T @ flat, rtol=1e-5, atol=1e-5 * 500 * size**2)
    assert math.log2(found.scale) == round(math.log2(found.scale))


def test_cross_products_of_maps() -> None:
    one, other = torch.randn(9, 3, 50, 41), torch.randn(9, 5, 50, 41)
    expected = torch.einsum("nchw,ndhw->cd", one.double(), other.double())
    found = cross(one.movedim(1, -1), other.contiguous(memory_format=torch.channels_last).movedim(1, -1))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", BATCH)
def test_a_score_does_not_depend_on_what_else_is_asked(name: str, context: Make, images: Any) -> None:
    net = Blocks()
    alone = TABLE[name](context(net, *images, recipe=FLOAT32, asked=(name,)))
    here = context(net, *images, recipe=FLOAT32, asked=tuple(BATCH))
    assert {other: TABLE[other](here) for other in reversed(BATCH)}[name] == alone


def test_a_pass_keeps_what_is_asked_for_and_no_more(context: Make, images: Any) -> None:
    capture = capture_of(context(Blocks(), *images, asked=("naswot", "zico")))
    assert capture.observed("activations") is capture.data
    assert (capture.data.outputs, capture.data.maps, capture.data.blocks) == ([], [], [])
    assert [name for name, _ in capture.observed("layers").outputs][-1] == "head.weight"


@pytest.mark.parametrize("name", TABLE)
def test_float32_scores_are_float64s_up_to_rounding(name: str, context: Make, images: Any) -> None:
    """With their channels last in memory, as float32 passes are, and in the usual order."""
    net, shape = Blocks(), (3, 8, 8)
    exact = TABLE[name](context(net, *images, input_shape=shape))
    here = context(net, *images, recipe=FLOAT32, input_shape=shape)
    assert TABLE[name](here) == pytest.approx(exact, rel=2e-3)


class Blocks(nn.Module):
    """A chain of blocks, with strided 1×1 convolutions of few channels."""

    def __init__(self, last: Callable[[Tensor], Tensor] = lambda x: x.mean((2, 3))) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(6, 6, k, s, k // 2, bias=False), nn.BatchNorm2d(6), nn.ReLU())
            for k, s in ((3, 1), (1, 2), (3, 1))
        )
        self.last, self.head = last, nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.last(x))  # type: ignore[no-any-return]


READERS: dict[str, Callable[[Tensor], Tensor]] = {
    "view": lambda x: x.view(len(x), 6, -1).mean(2),
    "as_strided": lambda x: x.as_strided((len(x), 6), (x[0].numel(), x[0, 0].numel())),
}


@pytest.mark.parametrize("way", READERS)
@pytest.mark.parametrize("name", ["naswot", "zen", "az_nas_trainability", "intrain"])
def test_a_network_that_reads_memory_in_its_order_gets_it(way: str, name: str, context: Make, images: Any) -> None:
    here, exact = (
        context(Blocks(READERS[way]), *images, recipe=recipe, input_shape=(3, 8, 8)) for recipe in (FLOAT32, "seed")
    )
    assert TABLE[name](here) == pytest.approx(TABLE[name](exact), rel=1e-3)
    assert capture_of(here)._channels_last == (way == "view")


@pytest.mark.parametrize("padding", [0, "valid"])
def test_a_strided_convolution_of_few_channels_is_differentiated_in_the_usual_order(padding: Any) -> None:
    x, w = torch.randn(2, 4, 6, 6, requires_grad=True), torch.randn(5, 4, 1, 1, requires_grad=True)
    out = SAFE[torch.conv2d](x, w, None, 2, padding)
    assert out is not None
    expected = torch.conv2d(x, w, None, 2, padding)
    assert torch.equal(out, expected)
    g = torch.randn_like(out)
    for found, right in zip(*(torch.autograd.grad(y, (x, w), g) for y in (out, expected)), strict=True):
        torch.testing.assert_close(found, right)
    assert SAFE[torch.conv2d](x, torch.randn(5, 4, 3, 3), None, 2) is None
