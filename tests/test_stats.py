from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from ssnr.core.errors import UsageError
from ssnr.spaces import get_space
from ssnr.studies import stats


def noisy(n: int, *, levels: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two correlated columns with many ties."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, levels, n).astype(float)
    return x, np.round(x + rng.normal(size=n) * levels / 3)


# --- values ---------------------------------------------------------------------------------------------------


def test_one_tie_by_hand():
    found = stats.correlate([1, 2, 2, 3], [1, 2, 3, 4])
    assert found.kendall.value == pytest.approx(0.912870929175277, abs=1e-15)
    assert found.spearman.value == pytest.approx(0.948683298050514, abs=1e-15)
    assert (found.n, found.ties, found.note) == (4, 2, None)


def test_a_falling_order_is_exactly_minus_one():
    assert stats.spearman([1, 2, 3, 4, 5], [5, 4, 3, 2, 1]) == -1.0
    assert stats.kendall([1, 2, 3, 4, 5], [5, 4, 3, 2, 1]) == -1.0


@pytest.mark.parametrize("n", [2, 3, 10, 500])
def test_both_agree_with_scipy_under_ties(n):
    x, y = noisy(n, seed=n)
    assert stats.kendall(x, y) == pytest.approx(scipy_stats.kendalltau(x, y).statistic, abs=1e-14)
    expected = np.corrcoef(scipy_stats.rankdata(x), scipy_stats.rankdata(y))[0, 1]
    assert stats.spearman(x, y) == pytest.approx(expected, abs=1e-14)


def test_a_failure_marked_by_a_large_negative_number_ranks_like_any_lowest():
    assert stats.kendall([3, 2, 1, -1e8], [4, 3, 2, 1]) == stats.kendall([3, 2, 1, 0], [4, 3, 2, 1]) == 1.0


def test_infinite_scores_are_ranked_not_lost():
    assert stats.spearman([-np.inf, 0, np.inf], [1, 2, 3]) == 1.0
    assert stats.kendall([-np.inf, 0, np.inf], [3, 2, 1]) == -1.0


@pytest.mark.parametrize(
    ("x", "y", "note"),
    [([5, 5, 5], [1, 2, 3], "constant"), ([1, 2, 3], [7, 7, 7], "constant accuracy"), ([1], [1], "too few"),
     ([], [], "too few")],
)  # fmt: skip
def test_without_an_order_there_is_no_correlation_and_the_note_says_why(x, y, note):
    found = stats.correlate(x, y)
    assert found.note == note
    assert found.spearman == found.kendall == (None, None, None)
    assert stats.spearman(x, y) is None
    assert stats.kendall(x, y) is None


def test_nan_is_refused_because_a_failure_is_no_rank():
    with pytest.raises(UsageError, match=r"^1 of 5 values are NaN: leave failed scores out before ranking$"):
        stats.correlate([1, 2, 3, 4, np.nan], [1, 2, 3, 4, 5])


def test_columns_of_two_lengths_are_refused():
    with pytest.raises(UsageError, match=r"^scores and accuracies must be two columns of one length, got \(2,\)"):
        stats.spearman([1, 2], [1, 2, 3])


def test_ties_counts_every_entry_that_shares_its_value():
    assert stats.ties([1, 1, 2, 3, 3, 3]) == 5
    assert stats.ties([1, 2, 3]) == 0


# --- order keys -----------------------------------------------------------------------------------------------


def test_overflown_and_underflown_scores_are_ranked_by_their_logarithm():
    value = [np.inf, 1e300, np.inf, 0.0, 0.0, -1.0, -np.inf]
    log = [720.0, np.log(1e300), 900.0, -800.0, np.nan, np.nan, np.nan]
    assert stats.order_keys(value, log).tolist() == [5, 4, 6, 3, 2, 1, 0]


def test_equal_scores_share_a_key_whatever_the_rounding_of_their_logarithm():
    assert stats.order_keys([2.0, 2.0, 3.0], [0.69, 0.6900000001, 1.1]).tolist() == [0, 0, 1]


def test_both_zeros_are_one_score():
    assert stats.order_keys([0.0, -0.0], [np.nan, np.nan]).tolist() == [0, 0]


# --- intervals ------------------------------------------------------------------------------------------------


def brute_force(x: np.ndarray, y: np.ndarray, function, replicates: int = 1000) -> np.ndarray:
    """Percentiles of SciPy's statistic over resampled architectures, drawn as `stats` draws them."""
    rng = np.random.default_rng([0, len(x)])
    draws = [rng.integers(len(x), size=len(x)) for _ in range(replicates)]
    return np.quantile([function(x[d], y[d]).statistic for d in draws], [0.025, 0.975])


def test_spearman_interval_is_the_brute_force_bootstrap_to_the_last_digits():
    x, y = noisy(200)
    assert stats.spearman_interval(x, y) == pytest.approx(brute_force(x, y, scipy_stats.spearmanr), abs=1e-12)


def test_kendall_interval_is_the_brute_force_bootstrap_to_the_last_digits():
    x, y = noisy(200)
    assert stats.kendall_interval(x, y) == pytest.approx(brute_force(x, y, scipy_stats.kendalltau), abs=1e-12)


def mixtures(n: int = 1500) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Columns of several kinds of dependence, which no one distribution describes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    return {
        "ties": noisy(n),
        "four fifths agree": (x, np.where(rng.random(n) < 0.8, x, rng.normal(size=n))),
        "the middle agrees": (x, np.where(abs(x) < 1, x, rng.normal(size=n))),
        "the top agrees": (x, np.where(x > 0, x, rng.normal(size=n) - 2)),
        "independent": (x, rng.normal(size=n)),
    }


@pytest.mark.parametrize("interval", [stats.spearman_interval, stats.kendall_interval])
@pytest.mark.parametrize("kind", mixtures())
def test_the_delta_method_is_within_a_tenth_of_the_width_of_the_bootstrap(interval, kind):
    x, y = mixtures()[kind]
    boot, delta = (np.array(interval(x, y, exact=exact)) for exact in (True, False))
    assert abs(delta - boot).max() < 0.1 * np.ptp(boot)


def derivative(function, x: np.ndarray, y: np.ndarray) -> float:
    """Standard error by the infinitesimal jackknife, numerically: entries doubled one at a time (weight 1 + 1)."""
    n, copies = len(x), 40
    whole = function(x, y).statistic
    changes = [
        function(np.append(np.tile(x, copies), x[i]), np.append(np.tile(y, copies), y[i])).statistic - whole
        for i in range(n)
    ]
    return float(np.sqrt(np.sum((np.array(changes) * copies) ** 2)))


@pytest.mark.parametrize(
    ("interval", "function"),
    [(stats.spearman_interval, scipy_stats.spearmanr), (stats.kendall_interval, scipy_stats.kendalltau)],
)
def test_the_delta_method_has_the_derivatives_of_scipys_statistic(interval, function):
    """A weight of 1 + 1/40 is one entry more of 40 copies of everything: a difference quotient, to its own error."""
    x, y = noisy(40, levels=9)
    low, high = interval(x, y, exact=False)
    assert (high - low) / 2 == pytest.approx(1.959963984540054 * derivative(function, x, y), rel=5e-3)
    assert (high + low) / 2 == pytest.approx(function(x, y).statistic, abs=1e-14)


@pytest.mark.parametrize("interval", [stats.spearman_interval, stats.kendall_interval])
def test_many_entries_take_the_delta_method(interval):
    x, y = noisy(stats.EXACT + 1)
    assert interval(x, y) == interval(x, y, exact=False)
    x, y = noisy(stats.EXACT)
    assert interval(x, y) == interval(x, y, exact=True)


@pytest.mark.parametrize("interval", [stats.spearman_interval, stats.kendall_interval])
def test_a_perfect_order_of_many_is_certain_and_a_constant_has_no_interval(interval):
    x = np.arange(2000.0)
    assert interval(x, x) == (1.0, 1.0)
    assert interval(x, -x) == (-1.0, -1.0)
    assert interval(x, np.ones(2000)) is None


def test_agreement_counts_are_the_signs_of_all_pairs():
    x, y = (column.astype(int) for column in noisy(97, levels=9))
    y -= y.min()
    signs = np.sign(np.subtract.outer(x, x)) * np.sign(np.subtract.outer(y, y))
    assert stats.agreement_counts(x, y).tolist() == signs.sum(axis=1).tolist()
    pairs = sum(np.sign((x[i] - x[j]) * (y[i] - y[j])) for i, j in combinations(range(97), 2))
    assert stats.agreement_counts(x, y).sum() == 2 * pairs


def test_intervals_depend_on_the_seed_alone():
    x, y = noisy(300)
    assert stats.correlate(x, y, seed=1) == stats.correlate(x, y, seed=1)
    assert stats.correlate(x, y, seed=1).spearman != stats.correlate(x, y, seed=2).spearman


def test_an_interval_holds_the_estimate_and_no_interval_is_given_when_not_asked_for():
    x, y = noisy(300)
    found = stats.correlate(x, y)
    for low_to_high in (found.spearman, found.kendall):
        assert low_to_high.low < low_to_high.value < low_to_high.high
    assert stats.correlate(x, y, ci=False).kendall == (found.kendall.value, None, None)


def test_replicates_without_an_order_are_left_out():
    assert stats.spearman_interval([1, 2, 3], [1, 2, 3]) == (1.0, 1.0)
    assert stats.spearman_interval([1, 2], [1, 2]) is None
    # All but one entry equal: more than a third of the replicates are constant, the others are perfect.
    assert stats.kendall_interval([0, 0, 0, 1], [0, 0, 0, 1]) == (1.0, 1.0)


# --- real accuracies ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nats() -> pd.DataFrame:
    folder = os.environ.get("SSNR_DATA")
    if folder is None or not (Path(folder) / "nats_bench.csv").is_file():
        pytest.skip("nats_bench.csv is not in $SSNR_DATA")
    return pd.read_csv(Path(folder) / "nats_bench.csv")


@pytest.mark.parametrize(("control", "rho", "tau"), [("reachable_params", 0.8227, 0.6571), ("params", 0.7527, 0.5778)])
def test_counting_weights_ranks_nas_bench_201_as_published(nats, control, rho, tau):
    space = get_space("nasbench201")
    counts = [getattr(space.counts(arch), control) for arch in nats["ArchitectureString"]]
    accuracy = nats["CIFAR10TestAccuracy200Epochs"]
    found = stats.correlate(counts, accuracy)
    assert found.n == 15_625
    assert found.spearman.value == pytest.approx(rho, abs=5e-5)
    assert found.kendall.value == pytest.approx(tau, abs=5e-5)
    assert found.spearman.high - found.spearman.low < 0.02
    assert found.kendall.low < found.kendall.value < found.kendall.high
