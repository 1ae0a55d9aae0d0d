"""Batch norms on the statistics of a batch or of single samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssnr.interpret.batch_norms import normed

SHAPES = [(4, 3, 5, 6), (4, 3, 7), (4, 3, 2, 3, 2)]


def drawn(shape: tuple[int, ...], affine: bool) -> tuple[list[Any], Tensor]:
    g = torch.Generator().manual_seed(len(shape))
    x = torch.randn(shape, generator=g, dtype=torch.float64).add_(2).requires_grad_()
    made: list[Any] = [x]
    for _ in range(2):
        made.append(torch.randn(3, generator=g, dtype=torch.float64, requires_grad=True) if affine else None)
    return made, torch.randn(shape, generator=g, dtype=torch.float64)


def plain(x: Tensor, weight: Any, bias: Any) -> Tensor:
    return F.batch_norm(x, None, None, weight, bias, True, 0.0, 1e-3)


def by_sample(x: Tensor, weight: Any, bias: Any) -> Tensor:
    return torch.cat([plain(x[n : n + 1], weight, bias) for n in range(len(x))])


def frozen(x: Tensor, weight: Any, bias: Any) -> Tensor:
    over = [d for d in range(x.dim()) if d != 1]
    variance, mean = torch.var_mean(x.detach(), over, correction=0)
    return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, 1e-3)


CASES = [(way, shape) for way in ("batch", "alone", "constant") for shape in SHAPES]


@pytest.mark.parametrize(("way", "shape"), [*CASES, ("batch", (6, 3)), ("constant", (6, 3))])
@pytest.mark.parametrize("affine", [True, False])
def test_values_and_gradients_are_those_of_torchs_own(shape: tuple[int, ...], affine: bool, way: str) -> None:
    given, g = drawn(shape, affine)
    expected = {"batch": plain, "alone": by_sample, "constant": frozen}[way](*given)
    found = normed(*given, 1e-3, alone=way == "alone", constant=way == "constant")
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    leaves = [leaf for leaf in given if leaf is not None]
    for mine, right in zip(*(torch.autograd.grad(y, leaves, g) for y in (found, expected)), strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (False, False, True)])
@pytest.mark.parametrize("constant", [True, False])
def test_each_gradient_alone(wanted: tuple[bool, ...], constant: bool) -> None:
    given, g = drawn(SHAPES[0], True)
    whole = torch.autograd.grad(normed(*given, 1e-3, constant=constant), given, g)
    some = [leaf.detach().requires_grad_(want) for leaf, want in zip(given, wanted, strict=True)]
    (one,) = (leaf for leaf in some if leaf.requires_grad)
    (found,) = torch.autograd.grad(normed(*some, 1e-3, constant=constant), [one], g)
    assert torch.equal(found, whole[wanted.index(True)])


def test_a_large_batch_with_its_channels_last_keeps_float32s_precision() -> None:
    x = torch.randn(64, 8, 32, 32, generator=torch.Generator().manual_seed(0)) + 3
    last = x.contiguous(memory_format=torch.channels_last)
    expected = plain(x.double(), None, None)
    assert float((normed(last, None, None, 1e-3) - expected).abs().max()) < 2e-6
