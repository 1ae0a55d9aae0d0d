"""AZ-NAS's numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssnr.core.errors import ScoringError
from ssnr.proxies.az_nas import az_nas, az_nas_trainability, block_trainability, chain_of, entropy
from ssnr.spaces import get_space

Make = Callable[..., Any]
CELL = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"


def test_equal_eigenvalues_have_the_logarithm_of_their_number() -> None:
    signs = torch.tensor([[1.0, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
    assert entropy(signs.view(1, 3, 2, 2)) == pytest.approx(math.log(3), abs=1e-7)


def test_entropy_beside_numpy() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 5, 4, 4, dtype=torch.float64) + 7
    v = np.linalg.eigvalsh(np.cov(x.transpose(0, 1).reshape(5, -1).numpy(), bias=True))
    p = v / v.sum()
    assert entropy(x) == pytest.approx(-(p * np.log(p + 1e-8)).sum(), rel=1e-10)


@pytest.mark.parametrize(("s", "expected"), [(1.0, 1e-6), (2.0, -0.49999975), (0.0, -999_998.0)])
def test_trainability_of_a_gain(s: float, expected: float) -> None:
    signs = torch.tensor([[1.0, -1, 1, -1], [1, 1, -1, -1]]).view(1, 2, 2, 2)
    g_in = s * signs.flip(1)  # the channels change places: a singular value of s, and no identity
    assert block_trainability(g_in, signs) == pytest.approx(expected, abs=1e-7)


def test_trainability_of_the_identity() -> None:
    signs = torch.ones(1, 2, 2, 2)
    assert block_trainability(signs, signs) == -math.inf


def test_a_smaller_output_unshuffles_the_input() -> None:
    signs = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    g_in = torch.arange(8.0).view(2, 1, 2, 2)
    rows = g_in.view(2, 4).T.numpy()
    s = np.linalg.norm(rows @ signs.view(2, 1).numpy() / 2, 2)
    assert block_trainability(g_in, signs) == pytest.approx(2 - s - 1 / (s + 1e-6), rel=1e-10)


def test_constant_features_are_a_reason() -> None:
    with pytest.raises(ScoringError, match="the same at every position"):
        entropy(torch.ones(2, 3, 4, 4))


def test_the_chain_of_nasbench201_is_its_cells_and_reductions() -> None:
    net = get_space("nasbench201").build(CELL)
    assert len(chain_of(net)) == 17


def test_the_chain_of_a_residual_network_is_its_blocks() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(Block(), Block()), nn.Sequential(Block(), Block(), Block()))
    assert [type(block) for block in chain_of(net[1:])] == [nn.Sequential, nn.Sequential]
    assert [type(block) for block in chain_of(nn.ModuleDict({"a": net[1], "b": net[2]}))] == [Block] * 5


def test_three_numbers_by_naive_code(context: Make) -> None:
    """Features of a plain pass with the same draws, autograd block by block."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
    here = context(net, torch.randn(2, 3, 6, 6))
    found = az_nas(here)
    drawn = torch.Generator().manual_seed(0)
    x = torch.randn(64, 3, 6, 6, generator=drawn, dtype=torch.float64)
    w = [torch.randn(m.weight.shape, generator=drawn, dtype=torch.float64) for m in (net[0], net[2])]
    first, second = (t * math.sqrt(2 / t[0].numel()) for t in w)
    f = [x.requires_grad_()]
    f.append(torch.conv2d(f[-1], first, padding=1))
    f.append(f[-1].relu())
    f.append(torch.conv2d(f[-1], second, padding=1))
    entropies = [_entropy(value.detach()) for value in f]
    trained = []
    for a, b in pairwise(f):
        signs = (2 * torch.randint(0, 2, b.shape, generator=drawn) - 1).double()
        (g,) = torch.autograd.grad(b, a, signs, retain_graph=True)
        m = np.einsum("nchw,ndhw->cd", g.numpy(), signs.numpy()) / (64 * 36)
        s = np.linalg.svd(m, compute_uv=False)[0]
        trained.append(2 - s - 1 / (s + 1e-6))
    assert found["expressivity"] == pytest.approx(sum(entropies), rel=1e-9)
    assert found["progressivity"] == pytest.approx(min(np.diff(entropies)), rel=1e-9)
    assert found["trainability"] == pytest.approx(np.mean(trained), rel=1e-9)
    assert az_nas_trainability(here) == found["trainability"]


def _entropy(x: Tensor) -> float:
    v = np.linalg.eigvalsh(np.cov(x.transpose(0, 1).flatten(1).numpy(), bias=True))
    p = v / v.sum()
    return float(-(p * np.log(p + 1e-8)).sum())


def test_a_network_without_blocks_is_refused(context: Make) -> None:
    with pytest.raises(ScoringError) as error:
        az_nas(context(nn.Linear(3, 2), torch.randn(4, 3)))
    assert str(error.value) == "az_nas reads a chain of blocks with feature maps between them, and found none"


def test_a_block_without_padding_is_refused_by_its_sizes() -> None:
    with pytest.raises(ScoringError, match=r"turns 8×8 positions into 6×6, which is no whole factor$"):
        block_trainability(torch.ones(1, 2, 8, 8), torch.ones(1, 2, 6, 6))
