"""Norms under every name and in every form are passed through, and what happens behind them stays behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ssnr


class Copy(nn.Module):
    """What is left of a norm: a tensor of its own, equal to the input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


class OwnNorm(nn.Module):
    """A norm as people write it, by its formula."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6)


class PreActivation(nn.Module):
    """A residual block with a norm and a change in place before its convolution, as in ResNet v2."""

    def __init__(self, norm: nn.Module, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.conv = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 1)
        self.norm, self.change = norm, change

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(10 * x) - 6
        y = self.norm(x)
        changed = self.change(y)
        return x + self.conv(y if changed is None else changed)


def first_rows(y: Tensor) -> None:
    y[:, :, 1:] += 1


def by_view(y: Tensor) -> None:
    y[:, :2].mul_(3.0)


def halved(y: Tensor) -> Tensor:
    y /= 2
    return y


CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "ReLU6": nn.ReLU6(inplace=True),
    "Hardtanh": nn.Hardtanh(0, 1, inplace=True),
    "Hardswish": nn.Hardswish(inplace=True),
    "Hardsigmoid": nn.Hardsigmoid(inplace=True),
    "SELU": nn.SELU(inplace=True),
    "ELU": nn.ELU(inplace=True),
    "CELU": nn.CELU(inplace=True),
    "Threshold": nn.Threshold(1.0, 2.0, inplace=True),
    "Mish": nn.Mish(inplace=True),
    "clamp_": lambda y: y.clamp_(0, 6),
    "sigmoid_": torch.sigmoid_,
    "a quotient": halved,
    "rows": first_rows,
    "a view": by_view,
}


def same(one: nn.Module, other: nn.Module, shape: tuple[int, ...]) -> None:
    found, expected = (ssnr.saliency(net, "synflow", input_shape=shape) for net in (one, other))
    for name, values in expected.items():
        assert torch.allclose(found[name], values, rtol=1e-12, atol=0), name


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("norm", [nn.BatchNorm2d(3), OwnNorm()])
def test_a_change_in_place_behind_a_norm_does_not_reach_the_residual(change, norm):
    same(PreActivation(norm, CHANGES[change]), PreActivation(Copy(), CHANGES[change]), (2, 4, 4))


def test_a_change_of_a_view_of_what_a_norm_puts_out_does_not_reach_the_view_that_went_in():
    class Tokens(nn.Module):
        def __init__(self, norm: nn.Module) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.norm = nn.Conv2d(2, 3, 3), norm

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x).flatten(2).transpose(1, 2)
            y = self.norm(x)
            y[:, 1:].mul_(3)
            return x + y

    same(Tokens(nn.LayerNorm(3)), Tokens(Copy()), (2, 4, 4))


class Behind(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor] | nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 2, 2)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self.conv(x)))


class PixelNormalization(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


@pytest.mark.parametrize(
    "norm",
    [
        nn.CrossMapLRN2d(3),
        nn.SyncBatchNorm(3),
        PixelNormalization(),
        lambda x: torch.native_layer_norm(x, (4, 4), None, None, 1e-5)[0],
        lambda x: torch.native_batch_norm(x, None, None, None, None, True, 0.1, 1e-5)[0],
        lambda x: torch.native_group_norm(x, None, None, 1, 3, 16, 3, 1e-5)[0],
        lambda x: F.group_norm(input=x, num_groups=3),
    ],
)
def test_norms_of_rarer_forms_are_passed_through(norm):
    same(Behind(norm), Behind(nn.Identity()), (2, 6, 6))


class AddNorm(nn.Module):
    """A residual and a norm in one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return F.layer_norm(x + residual, (3,), self.weight)


class PairNorm(nn.Module):
    """As serving libraries write it: the norm of a sum, and the sum."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = x if residual is None else x + residual
        return F.layer_norm(total, (3,)), total


@pytest.mark.parametrize("norm", [AddNorm(), PairNorm()])
def test_a_norm_that_is_given_two_tensors_is_seen_function_by_function(norm):
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.norm = nn.Linear(3, 3, bias=False), norm
            nn.init.ones_(self.fc.weight)

        def forward(self, x: Tensor) -> Any:
            return self.norm(self.fc(x), x)

    # Three threes, and once more where the sum itself is output as well.
    times = 2 if isinstance(norm, PairNorm) else 1
    assert ssnr.score(Block(), input_shape=(3,), proxies=["synflow"])["synflow"].value == 9 * times


def test_a_parameter_that_the_forward_makes_is_not_scored_and_said():
    class Makes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(self.fc(x), nn.Parameter(torch.ones(2, 2)))

    score = ssnr.score(Makes(), input_shape=(2,), proxies=["synflow"])["synflow"]
    assert [row.name for row in score.layers] == ["fc.weight"]
    assert score.notes == ("parameters from outside of the network, or made in its forward, are not scored: (2, 2)",)
