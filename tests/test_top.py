"""The top of a ranking: precision, nDCG, correlations within it, and the first choice."""

from __future__ import annotations

import os
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from ssnr.core.errors import UsageError
from ssnr.spaces import get_space
from ssnr.studies import top


def orders(scores: list[float]) -> list[tuple[int, ...]]:
    """Every order of the entries in which scores never rise."""
    everything = permutations(range(len(scores)))
    return [o for o in everything if all(scores[i] >= scores[j] for i, j in pairwise(o))]


def dcg(accuracies: list[float], k: int) -> float:
    return sum((2**a - 1) / np.log2(1 + j) for j, a in enumerate(accuracies[:k], start=1))


SCORES = [3, 1, 1, 1, 2, 2, 0]
ACCURACIES = [60.0, 64.0, 61.0, 64.0, 63.0, 60.5, 62.0]


@pytest.mark.parametrize("k", range(1, 8))
def test_under_ties_ndcg_and_precision_are_the_means_over_all_orders(k):
    found = [[ACCURACIES[i] for i in order] for order in orders(SCORES)]
    ideal = sorted(ACCURACIES, reverse=True)
    assert len(found) == 12
    assert top.ndcg(SCORES, ACCURACIES, k) == pytest.approx(
        np.mean([dcg(f, k) for f in found]) / dcg(ideal, k), rel=1e-14
    )
    hits = [sum(a >= ideal[k - 1] for a in f[:k]) / k for f in found]
    assert top.precision(SCORES, ACCURACIES, k) == pytest.approx(np.mean(hits), rel=1e-14)


@pytest.mark.parametrize(
    ("scores", "k", "expected"),
    [([0.1, 0.2, 0.3, 4, 70], 5, 0.6956940443813076), ([1, 0, 0, 0, 1], 1, 0.75)],
)
def test_ndcg_is_that_of_scikit_learns_manual(scores, k, expected):
    """`ndcg_score([[10, 0, 0, 1, 5]], …)`: its gain is the relevance itself, ours 2^a − 1.

    By hand, the first: (5 + 1/log₂3 + 10/log₂6) / (10 + 5/log₂3 + 1/2); the second: (10/10 + 5/10)/2.
    """
    assert top.ndcg(scores, np.log2([11, 1, 1, 2, 6]), k) == pytest.approx(expected, rel=1e-14)


def test_ndcg_of_accuracies_beyond_float64s_powers_of_two_is_finite():
    assert top.ndcg([2, 1], [5000.0, 4999.0], 2) == 1.0


def test_without_a_gain_there_is_no_ndcg():
    assert top.ndcg([1, 2], [-0.5, 3.0], 1) is None  # a negative loss is no percentage
    assert top.ndcg([1, 2], [0.0, 0.0], 1) is None
    assert top.ndcg([], [], 1) is None
    assert top.precision([], [], 1) is None
    assert top.precision([1.0], [2.0], 2) is None


def test_a_perfect_order_is_one_and_none_at_all_as_good_as_chance():
    accuracy = np.linspace(50, 90, 200)
    assert top.precision(accuracy, accuracy, 20) == top.ndcg(accuracy, accuracy, 20) == 1.0
    assert top.precision(np.ones(200), accuracy, 20) == pytest.approx(0.1)
    assert top.precision(-accuracy, accuracy, 20) == 0.0


def test_whoever_is_as_accurate_as_the_kth_is_among_the_best():
    assert top.precision([3, 2, 1, 0], [90.0, 90.0, 91.0, 90.0], 2) == 1.0


def test_correlations_within_the_top_are_scipys_on_those_architectures():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 60, 400).astype(float)
    y = np.round(x / 3 + rng.normal(size=400) * 5, 1) + 50
    found = top.top(x, y, 0.1)
    assert (found.share, found.k) == (0.1, 40)
    for within, by in ((found.best, y), (found.chosen, x)):
        kept = by >= np.sort(by)[-40]  # ties with the 40th stay
        assert within.n == kept.sum() >= 40
        assert within.spearman.value == pytest.approx(scipy_stats.spearmanr(x[kept], y[kept]).statistic, abs=1e-14)
        assert within.kendall.value == pytest.approx(scipy_stats.kendalltau(x[kept], y[kept]).statistic, abs=1e-14)
        assert within.spearman.low is None
    assert top.top(x, y, 0.1, ci=True).best.spearman.low is not None


def test_the_whole_population_is_the_top_of_share_one():
    x, y = np.arange(30.0), np.arange(30.0) % 7 + 50
    found = top.top(x, y, 1.0)
    assert found.best == found.chosen
    assert (found.k, found.precision) == (30, 1.0)
    assert found.best.kendall.value == pytest.approx(scipy_stats.kendalltau(x, y).statistic, abs=1e-14)


def test_nothing_scored_has_no_top_and_no_choice():
    found = top.top([], [], 0.1)
    assert (found.precision, found.ndcg, found.best.n, found.best.note) == (None, None, 0, "too few")
    assert top.choice([], []) == (None, None)


def test_the_first_choice_and_its_regret():
    assert top.choice([1, 7, 3], [94.0, 93.0, 94.5]) == (93.0, 1.5)
    assert top.choice([-np.inf, -np.inf], [94.0, 93.0]) == (93.5, 0.5)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, 10.0, float("nan")])
def test_a_share_outside_its_range_is_refused(share):
    expected = f"^top {share:g}: expected a share in \\(0, 1\\], such as 0.1 for the best tenth$"
    with pytest.raises(UsageError, match=expected):
        top.top([1, 2], [1, 2], share)


@pytest.mark.parametrize(("share", "n", "k"), [(0.1, 9_445, 945), (0.07, 100, 7), (0.01, 5, 1), (1.0, 15_625, 15_625)])
def test_a_share_is_rounded_up_and_no_rounding_error_adds_one(share, n, k):
    assert top.size(share, n) == k


@pytest.mark.parametrize(
    ("column", "published"),
    [("CIFAR10", 0.745), ("CIFAR100", 0.576), ("ImageNet", 0.403)],
)
def test_ndcg_of_flops_is_the_published_one(column, published):
    """Týbl & Neumann (CVPR 2025), table 1, on the 9,445 cells without idle operations."""
    folder = os.environ.get("SSNR_DATA")
    if folder is None or not (Path(folder) / "nats_bench.csv").is_file():
        pytest.skip("nats_bench.csv is not in $SSNR_DATA")
    nats, space = pd.read_csv(Path(folder) / "nats_bench.csv"), get_space("nasbench201")
    nats = nats[[space.idle_operations(cell) == 0 for cell in nats["ArchitectureString"]]]
    assert len(nats) == 9_445
    flops = [space.counts(cell).flops for cell in nats["ArchitectureString"]]
    found = top.ndcg(flops, nats[f"{column}TestAccuracy200Epochs"], top.size(0.1, len(nats)))
    assert found == pytest.approx(published, abs=5e-4)
