"""The numbers that the programs which define proxies print, on one cell of NAS-Bench-201 with our weights and images.

They ran beside this project, in float64 where they allow it; which, at which state: `ssnr.paper.programs`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from ssnr.core.field import TABLE
from ssnr.data import noise
from ssnr.paper.field import CELL
from ssnr.spaces import get_space


@pytest.fixture(scope="module")
def cell() -> nn.Module:
    return get_space("nasbench201").build(CELL, seed=0)


@pytest.mark.parametrize(
    ("name", "recipe", "expected"),
    [
        ("naswot", "seed", 200.064996898),
        ("naswot", "alethiometer(dtype=float64)", 193.020096),  # in eval mode, as the next three
        ("jacov", "seed", -16.0677265104),
        ("epe_nas", "seed", 169.585237718),
        ("zico", "seed", 550.248091199),
        ("swap", "seed", 64543),
        ("linear_regions", "seed", 16),
        ("gradsign", "seed", 1838114),
        ("lnwot", "alethiometer(dtype=float64)", 6199.6084),
        ("relu_logdet", "alethiometer(dtype=float64)", 191.279251),
        ("t_cet", "alethiometer(dtype=float64)", 104585581),  # its layers paired by name
        ("synflow_bn", "seed", 3.84085982477e35),
    ],
)
def test_of_sixteen_images_of_a_network_in_train_mode(
    cell: nn.Module, context: Callable[..., Any], name: str, recipe: str, expected: float
) -> None:
    images = noise((3, 32, 32), 10, size=16, seed=0)
    cell.train()
    here = context(cell, images.inputs, images.targets, recipe=recipe)
    assert TABLE[name](here) == pytest.approx(expected, rel=1e-6)


def test_ntk_of_eight_images_goes_back_through_statistics_and_counts_scales_of_norms(
    cell: nn.Module, context: Callable[..., Any]
) -> None:
    images = noise((3, 32, 32), 10, size=8, seed=0)
    here = context(cell, images.inputs, recipe="zero-cost-nas(dtype=float64)")
    assert TABLE["ntk"](here) == pytest.approx(3.35610327304, rel=1e-6)
