"""Formulas by hand: the numbers of the reference, and SciPy or plain loops beside what is computed fast."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ssnr.core.errors import ScoringError
from ssnr.proxies.capture import capture_of
from ssnr.proxies.epe_nas import epe_score
from ssnr.proxies.gradsign import gradsign_score
from ssnr.proxies.jacov import jacov, jacov_score
from ssnr.proxies.lnwot import layer_determinants, lnwot, relu_logdet
from ssnr.proxies.meco import meco_opt_score, meco_score, smallest
from ssnr.proxies.naswot import agreements, naswot, naswot_score
from ssnr.proxies.ntk import condition
from ssnr.proxies.swap import regions, swap, swap_score
from ssnr.proxies.synflow_bn import synflow_bn
from ssnr.proxies.t_cet import t_cet, t_cet_score
from ssnr.proxies.zen import zen_score
from ssnr.proxies.zico import zico_score


def codes(*rows: str) -> torch.Tensor:
    return torch.tensor([[bit == "1" for bit in row] for row in rows])


def test_naswot_of_two_codes_is_ln_5() -> None:
    assert agreements(codes("110", "100")).tolist() == [[3, 2], [2, 3]]
    assert naswot_score([codes("110", "100")]) == pytest.approx(math.log(5), abs=1e-12)


def test_naswot_sums_kernels_of_activations_and_not_determinants() -> None:
    one, other = codes("110", "100"), codes("0", "1")
    k = np.array([[3, 2], [2, 3]]) + np.array([[1, 0], [0, 1]])
    assert naswot_score([one, other]) == pytest.approx(np.linalg.slogdet(k)[1], rel=1e-12)


def test_agreements_of_more_units_than_one_product_takes() -> None:
    wide = torch.zeros(2, (1 << 22) + 3, dtype=torch.bool)
    wide[0, -2:] = True
    assert agreements(wide).tolist() == [[(1 << 22) + 3, (1 << 22) + 1], [(1 << 22) + 1, (1 << 22) + 3]]


def test_naswot_of_equal_codes_says_why() -> None:
    with pytest.raises(ScoringError) as error:
        naswot_score([codes("110", "110", "001")])
    assert str(error.value) == (
        "naswot: the 3 samples have codes of rank 2, so that the determinant is 0; "
        "use distinct samples, and fewer than the network has units"
    )


def test_jacov_of_uncorrelated_rows_is_minus_n() -> None:
    rows = torch.tensor([[1.0, -1, 1, -1], [1, 1, -1, -1]], dtype=torch.float64)
    assert jacov_score(rows) == pytest.approx(-2 * (math.log(1 + 1e-5) + 1 / (1 + 1e-5)), rel=1e-14)


def test_jacov_of_two_rows_that_correlate_perfectly() -> None:
    rows = torch.tensor([[1.0, 2, 4], [2, 4, 8]], dtype=torch.float64)
    assert jacov_score(rows) == pytest.approx(-99989.6802242, abs=1e-5)


def test_jacov_names_a_constant_row() -> None:
    with pytest.raises(ScoringError, match="sample 1 is the same at every entry"):
        jacov_score(torch.tensor([[1.0, 2.0], [3.0, 3.0]]))


@pytest.mark.parametrize(("classes", "expected"), [(10, 3.95109160945588), (120, 0.5893114431)])
def test_epe_nas(classes: int, expected: float) -> None:
    rows = torch.tensor([[1.0, 2, 3], [1, 0, 2], [3, 1, 1], [2, 5, 1]], dtype=torch.float64)
    assert epe_score(rows, torch.tensor([0, 0, 1, 1]), classes) == pytest.approx(expected, rel=1e-9)


def test_epe_nas_of_one_class() -> None:
    with pytest.raises(ScoringError, match=r"^epe_nas compares classes: all 2 labels are 3$"):
        epe_score(torch.eye(2), torch.tensor([3, 3]), 10)


def test_zico_leaves_out_what_does_not_change() -> None:
    first, second = torch.tensor([1.0, 2, -1, 0]), torch.tensor([3.0, 2, 1, 0])
    assert zico_score([{"w": first}, {"w": second}]) == pytest.approx(1.0986122887, abs=1e-10)
    still = {"w": first, "v": torch.ones(2)}
    assert zico_score([still, {"w": second, "v": torch.ones(2)}]) == pytest.approx(1.0986122887, abs=1e-10)


def test_zico_of_gradients_that_never_change() -> None:
    with pytest.raises(ScoringError, match="no gradient changes"):
        zico_score([{"w": torch.ones(2)}, {"w": torch.ones(2)}])


def test_zen_adds_half_the_logarithms_of_variances() -> None:
    x = torch.zeros(2, 1, 2, 2)
    assert zen_score(x, x + 0.5, [4.0]) == pytest.approx(math.log(2) + math.log(2), rel=1e-14)


def test_swap_counts_columns_and_regions_count_rows() -> None:
    found = codes("0011", "0101", "0011")
    assert swap_score([found]) == 4
    assert swap_score([found, codes("0", "1", "0")]) == 4
    assert regions(agreements(found)) == 2


def test_swap_of_more_samples_than_one_word_has_bits() -> None:
    found = torch.zeros(70, 3, dtype=torch.bool)
    found[69, 1] = True
    assert swap_score([found]) == 2


def test_meco() -> None:
    layer = torch.tensor([[1.0, 2, 3, 4], [2, 1, 4, 3]])
    assert meco_score([layer, layer]) == pytest.approx(0.8, abs=1e-12)


def test_meco_of_a_constant_channel_is_zero() -> None:
    assert smallest(torch.tensor([[1.0, 2, 3], [5, 5, 5]])) == pytest.approx(0, abs=1e-12)


def test_meco_opt_weighs_what_it_draws_by_what_there_is() -> None:
    rows = torch.eye(16, dtype=torch.float64)
    one = smallest(rows[:8])  # any eight are the same up to the order of positions
    assert meco_opt_score([rows], torch.Generator().manual_seed(0)) == pytest.approx(2 * one, rel=1e-9)


def test_gradsign() -> None:
    rows = torch.tensor([[1.0, -1, 2, 0], [2, 1, 3, 0], [-1, 1, 1, 0]])
    assert gradsign_score({"w": row} for row in rows) == 5


def test_condition_number() -> None:
    g = torch.tensor([[1.0, 0, 1], [0, 2, 0]], dtype=torch.float64)
    assert condition(g @ g.T) == pytest.approx(2.0, rel=1e-14)


def test_condition_number_of_a_singular_kernel_says_why() -> None:
    with pytest.raises(ScoringError, match="the kernel of 2 samples is singular"):
        condition(torch.ones(2, 2))


@pytest.fixture
def golden() -> nn.Module:
    """x → [[1, −2], [3, ½]] → ReLU → [[−1, 2], [½, 1]], of which the reference has every number."""
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.5]]))
        net[2].weight.copy_(torch.tensor([[-1.0, 2.0], [0.5, 1.0]]))
    return net


X, Y = torch.tensor([[1.0, 1.0], [2.0, -1.0]], dtype=torch.float64), torch.tensor([0, 1])


def test_the_network_solved_by_hand(golden: nn.Module, context: Callable[..., Any]) -> None:
    here = context(golden, X, Y)
    assert naswot(here) == pytest.approx(1.09861228867, abs=1e-11)
    assert relu_logdet(here) == pytest.approx(1.9459101, abs=1e-7)
    assert layer_determinants(capture_of(here).data.outputs) == pytest.approx(
        {"0.weight": 1.0986122887, "2.weight": 0}, abs=1e-10
    )
    assert lnwot(here) == pytest.approx(1.0986122887, abs=1e-10)
    assert swap(here) == 2
    assert jacov(here) == pytest.approx(-99989.6802242, abs=1e-4)


def test_t_cet_of_the_network_solved_by_hand(golden: nn.Module, context: Callable[..., Any]) -> None:
    assert t_cet(context(golden, X, Y, recipe="alethiometer(dtype=float64)")) == pytest.approx(4.6150951, rel=1e-6)


def test_t_cet_pairs_layers_by_name() -> None:
    assert t_cet_score({"a": 2.0, "b": 3.0}, {"b": 5.0, "a": 7.0, "unused": 9.0}) == 29


def test_t_cet_of_layers_defined_backwards(golden: nn.Module, context: Callable[..., Any]) -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = golden[2], golden[0]  # type: ignore[index]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x).relu())  # type: ignore[no-any-return]

    assert t_cet(context(Backwards(), X, Y)) == pytest.approx(t_cet(context(golden, X, Y)), rel=1e-12)


def test_synflow_bn_without_norms_is_synflow(golden: nn.Module, context: Callable[..., Any]) -> None:
    assert synflow_bn(context(golden, X, Y)) == pytest.approx(30, rel=1e-12)


def test_synflow_bn_keeps_a_norm_in_eval_mode(context: Callable[..., Any]) -> None:
    conv, head = nn.Conv2d(1, 2, 3, bias=False), nn.Linear(8, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.arange(1, 19).view(2, 1, 3, 3) / 10)
        head.weight.copy_(torch.arange(1, 9)[None] / 10)
    net = nn.Sequential(conv, nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), head)
    assert synflow_bn(context(net, torch.ones(1, 1, 4, 4))) == pytest.approx(74.52 / math.sqrt(1 + 1e-5), rel=1e-6)
