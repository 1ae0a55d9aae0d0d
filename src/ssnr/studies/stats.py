"""Rank correlations with intervals, fast enough for a whole search space.

    Spearman's ρ    Pearson correlation of mid-ranks                                      (Spearman, 1904)
    Kendall's τ_b   (C − D) / sqrt((P − T_x)(P − T_y))                                    (Kendall, 1945)

with C concordant and D discordant pairs, P all pairs, T_x and T_y the pairs tied in x and in y. Both run over
[−1, 1] and keep their sign. A constant column has no rank correlation: the answer is None, never 0, 1 or NaN.

Intervals are of 95 % and say how much a number depends on which architectures were drawn. Up to n = `EXACT` they are
percentile intervals of the bootstrap (Efron, 1979): n architectures drawn with replacement, `REPLICATES` times, from a
seeded generator, every replicate ranked anew. Beyond, they are value ± 1.96 · standard error by the delta method
(Hoeffding, 1948), which is what the bootstrap's width tends to. Neither assumes a distribution. Both take the
architectures as independent: where a space holds the same network under many strings they are a little too narrow.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

from ssnr.core.errors import UsageError

REPLICATES = 1000
LEVEL = 0.95
# Up to here intervals are bootstrapped; beyond, the delta method differs from it by less than REPLICATES leave open.
EXACT = 1000

Floats = NDArray[np.float64]
Ranks = NDArray[np.int64]
Interval = tuple[float, float]
Derivative = tuple[Floats, float]


class Estimate(NamedTuple):
    """A correlation and the ends of its 95 % interval; None where it is not defined, or no interval was asked for."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Correlation(NamedTuple):
    """How one column of scores ranks against one of accuracies.

    `ties` counts architectures whose score is shared with another; `note` says why there is no correlation.
    """

    n: int
    spearman: Estimate
    kendall: Estimate
    ties: int
    note: str | None = None


def correlate(x: ArrayLike, y: ArrayLike, *, ci: bool = True, seed: int = 0) -> Correlation:
    """Spearman's ρ and Kendall's τ_b of scores x and accuracies y, with intervals, ties and the reason for a None.

    Raises:
        UsageError: columns of different lengths, or NaN among them: a failed score is dropped, never ranked.

    >>> c = correlate([1, 2, 2, 3], [1, 2, 3, 4], ci=False)
    >>> round(c.spearman.value, 6), round(c.kendall.value, 6), c.ties
    (0.948683, 0.912871, 2)
    >>> correlate([5, 5, 5], [1, 2, 3]).note
    'constant'
    """
    a, b = paired(x, y)
    note = None
    if len(a) < 2:
        note = "too few"
    elif _constant(a):
        note = "constant"
    elif _constant(b):
        note = "constant accuracy"
    if note is not None:
        return Correlation(len(a), Estimate(None), Estimate(None), ties(a), note)
    rho, tau = Estimate(spearman(a, b)), Estimate(kendall(a, b))
    if ci:
        rho = Estimate(rho.value, *(spearman_interval(a, b, seed=seed) or (None, None)))
        tau = Estimate(tau.value, *(kendall_interval(a, b, seed=seed) or (None, None)))
    return Correlation(len(a), rho, tau, ties(a), None)


def spearman(x: ArrayLike, y: ArrayLike) -> float | None:
    """Spearman's ρ; None where a column is constant or has fewer than two entries.

    >>> spearman([1, 2, 3], [3, 2, 1])
    -1.0
    """
    a, b = paired(x, y)
    if len(a) < 2 or _constant(a) or _constant(b):
        return None
    rx, ry = (scipy_stats.rankdata(column) - (len(a) + 1) / 2 for column in (a, b))
    return _settle(float(rx @ ry / np.sqrt((rx @ rx) * (ry @ ry))))


def kendall(x: ArrayLike, y: ArrayLike) -> float | None:
    """Kendall's τ_b; None where a column is constant or has fewer than two entries.

    >>> kendall([1, 2, 3], [3, 2, 1])
    -1.0
    """
    a, b = paired(x, y)
    if len(a) < 2 or _constant(a) or _constant(b):
        return None
    return _settle(float(scipy_stats.kendalltau(a, b).statistic))


def ties(x: ArrayLike) -> int:
    """Number of entries whose value is shared with another.

    >>> ties([1, 2, 2, 3, 3, 3])
    5
    """
    _, counts = np.unique(np.asarray(x), return_counts=True)
    return int(counts[counts > 1].sum())


def order_keys(values: ArrayLike, log_values: ArrayLike) -> Ranks:
    """Dense ranks 0, 1, … of scores, by value; where float64 overflows or underflows, by natural logarithm.

    Args:
        values: scores; ±inf where only the logarithm can hold the number.
        log_values: natural logarithms of the positive ones, NaN where there is none.

    Raises:
        UsageError: NaN among the values.

    >>> order_keys([2.0, float("inf"), float("inf"), 0.0, 0.0], [0.69, 900.0, 800.0, -900.0, float("nan")]).tolist()
    [2, 4, 3, 1, 0]
    """
    value = _column(values)
    log = np.asarray(log_values, dtype=np.float64)
    # Elsewhere the logarithm says nothing that the value does not say better. A zero with a logarithm is a tiny
    # positive number, above every true zero.
    needed = (np.isposinf(value) | (value == 0)) & ~np.isnan(log)
    tail = np.where(needed, log, -np.inf)
    order = np.lexsort((tail, value))
    rises = np.zeros(len(value), dtype=np.bool_)
    for column in (value[order], tail[order]):
        rises[1:] |= column[1:] > column[:-1]
    keys = np.empty(len(value), dtype=np.int64)
    keys[order] = np.cumsum(rises)
    return keys


# --- intervals ------------------------------------------------------------------------------------------------


def spearman_interval(
    x: ArrayLike, y: ArrayLike, *, seed: int = 0, replicates: int = REPLICATES, exact: bool | None = None
) -> Interval | None:
    """95 % interval of Spearman's ρ; None where a column is constant, or has fewer than three entries.

    Bootstrap: a replicate is a vector of counts. An entry drawn c times is c tied entries, so its group of equal values
    ends at rank Σ counts and has the mid-rank of that range: one sort for all replicates. Replicates that happen to be
    constant have no ρ and are left out; None where more than half are.

    Delta method: with weights w on the entries, centred mid-ranks are r_i = ½ Σ_j w_j sgn(x_i − x_j), likewise q_i of
    y, and ρ = S/√(V W) of S = Σ w r q, V = Σ w r², W = Σ w q². The derivative of S by w_m is
    r_m q_m + ½ Σ_i sgn(x_i − x_m) q_i + ½ Σ_i sgn(y_i − y_m) r_i, and the variance of ρ is the sum of the squares of
    its derivatives.

    Args:
        x: scores.
        y: accuracies.
        seed: of the bootstrap.
        replicates: number of bootstrap samples.
        exact: force the bootstrap (True) or the delta method (False).
    """
    a, b = paired(x, y)
    if len(a) < 3:
        return None
    groups = _Groups(a), _Groups(b)
    if len(a) <= EXACT if exact is None else exact:
        counts = _resamples(len(a), replicates, seed).astype(np.float64)
        (rx, vx), (ry, vy) = (group.centred_ranks(counts) for group in groups)
        return _percentiles(_ratio((rx * ry * counts).sum(axis=1), vx, vy))
    left, right = groups
    r, q = left.ranks, right.ranks
    return _delta(
        (r * q + left.above_minus_below(q) / 2 + right.above_minus_below(r) / 2, float(r @ q)),
        (r * r + left.above_minus_below(r), float(r @ r)),
        (q * q + right.above_minus_below(q), float(q @ q)),
    )


def kendall_interval(
    x: ArrayLike, y: ArrayLike, *, seed: int = 0, replicates: int = REPLICATES, exact: bool | None = None
) -> Interval | None:
    """95 % interval of Kendall's τ_b; None where a column is constant, or has fewer than three entries.

    Numerator and both halves of the denominator are quadratic in the weights w of the entries: wᵀAw. The bootstrap
    evaluates them for each replicate's counts. The delta method needs the derivative 2 Aw at w = 1 alone: row sums, how
    many entries are concordant, discordant and tied with each one, counted exactly in O(n log n).

    Args:
        x: scores.
        y: accuracies.
        seed: of the bootstrap.
        replicates: number of bootstrap samples.
        exact: force the bootstrap (True) or the delta method (False).
    """
    a, b = paired(x, y)
    n = len(a)
    if n < 3:
        return None
    left, right = _Groups(a), _Groups(b)
    if n <= EXACT if exact is None else exact:
        counts = _resamples(n, replicates, seed).astype(np.float64)
        agreement = np.sign(np.subtract.outer(left.dense, left.dense)).astype(np.float64)
        agreement *= np.sign(np.subtract.outer(right.dense, right.dense))
        untied = [n * n - (group.sums(counts) ** 2).sum(axis=1) for group in (left, right)]
        return _percentiles(_ratio((counts @ agreement * counts).sum(axis=1), *untied))
    rows = agreement_counts(left.dense, right.dense), n - left.sizes, n - right.sizes
    agreeing, untied_x, untied_y = ((2 * row.astype(np.float64), float(row.sum())) for row in rows)
    return _delta(agreeing, untied_x, untied_y)


def _delta(above: Derivative, left: Derivative, right: Derivative) -> Interval | None:
    """Interval of S/√(V W) from the value of each part and its derivatives by the weight of every entry."""
    (ds, s), (dv, v), (dw, w) = above, left, right
    if not v * w > 0:
        return None
    value = s / np.sqrt(v * w)
    influence = ds / np.sqrt(v * w) - value * (dv / v + dw / w) / 2
    error = float(np.sqrt(influence @ influence))
    half = float(scipy_stats.norm.ppf((1 + LEVEL) / 2)) * error
    centre = _settle(float(value))
    return max(-1.0, centre - half), min(1.0, centre + half)


def agreement_counts(x: Ranks, y: Ranks) -> Ranks:
    """For each entry, the number of entries concordant minus the number discordant with it, in O(n log n).

    Half their sum is C − D.

    >>> agreement_counts(np.array([0, 1, 2]), np.array([0, 2, 1])).tolist()
    [2, 0, 0]
    """
    concordant = _dominated(x, y) + _dominated(x.max() - x, y.max() - y)
    pair = x * (int(y.max()) + 1) + y
    untied = len(x) - _Groups(x).sizes - _Groups(y).sizes + _Groups(pair).sizes
    return 2 * concordant - untied


def _dominated(x: Ranks, y: Ranks) -> Ranks:
    """For each i, the number of j with x_j < x_i and y_j < y_i: a merge sort, all blocks of a level at once."""
    n = len(x)
    # Equal x by falling y: then no entry to the left of another with the same x has a smaller y, and none is counted.
    order = np.lexsort((-y, x))
    values, found = y[order], np.zeros(n, dtype=np.int64)
    positions, span = np.arange(n), int(y.max()) + 1
    width = 1
    while width < n:
        block = positions // (2 * width)
        left = (positions // width) % 2 == 0
        key = block * span + values
        by = np.argsort(key, kind="stable")
        before = np.concatenate(([0], np.cumsum(left[by])))  # left entries among the first k of this order
        key = key[by]
        first = np.maximum.accumulate(np.where(np.diff(key, prepend=-1) != 0, positions, 0))
        smaller = before[first] - before[block * (2 * width)]
        right = ~left[by]
        found[by[right]] += smaller[right]
        width *= 2
    result = np.empty(n, dtype=np.int64)
    result[order] = found
    return result


class _Groups:
    """The groups of equal values of one column, in rising order."""

    def __init__(self, column: NDArray[np.float64] | Ranks) -> None:
        _, self.dense, counts = np.unique(column, return_inverse=True, return_counts=True)
        self.sizes: Ranks = counts[self.dense]  # of each entry's group, itself included
        self._order = np.argsort(self.dense, kind="stable")
        self._starts = np.concatenate(([0], np.cumsum(counts)[:-1]))

    @property
    def ranks(self) -> Floats:
        """Mid-rank minus mean rank of every entry."""
        centred: Floats = self.centred_ranks(np.ones((1, len(self.dense))))[0][0]
        return centred

    def sums(self, counts: Floats) -> Floats:
        """(replicates, n) counts → (replicates, groups)."""
        result: Floats = np.add.reduceat(counts[:, self._order], self._starts, axis=1)
        return result

    def above_minus_below(self, column: Floats) -> Floats:
        """For each entry m, Σ_i sgn(x_i − x_m) column_i."""
        sums = np.bincount(self.dense, weights=column)
        up_to = np.cumsum(sums)
        result: Floats = (up_to[-1] - up_to - (up_to - sums))[self.dense]
        return result

    def centred_ranks(self, counts: Floats) -> tuple[Floats, Floats]:
        """Mid-rank minus mean rank of every entry in every replicate, and the replicate's sum of its squares."""
        sums = self.sums(counts)
        ranks = np.cumsum(sums, axis=1)
        ranks -= (sums + counts.shape[1]) / 2  # (end of range) − (sum − 1)/2 − (n + 1)/2
        return ranks[:, self.dense], (sums * ranks**2).sum(axis=1)


@lru_cache(maxsize=2)
def _resamples(n: int, replicates: int, seed: int) -> NDArray[np.uint16]:
    """(replicates, n): how often each entry is drawn. Kept, since the same draws serve every proxy of a study."""
    rng = np.random.default_rng([seed, n])
    counts = np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(replicates)]).astype(np.uint16)
    counts.flags.writeable = False
    return counts


def _ratio(above: Floats, left: Floats, right: Floats) -> Floats:
    """The ratio above / sqrt(left · right), NaN for a replicate in which a column is constant."""
    product = left * right
    defined = product > 0
    result: Floats = np.full(len(above), np.nan)
    result[defined] = above[defined] / np.sqrt(product[defined])
    clipped: Floats = np.clip(result, -1.0, 1.0)
    return clipped


def _percentiles(replicates: Floats) -> Interval | None:
    defined = replicates[~np.isnan(replicates)]
    if 2 * len(defined) < len(replicates):
        return None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _constant(column: Floats) -> bool:
    return bool((column == column[0]).all())


def _settle(value: float) -> float:
    """Rounding must not carry a perfect ranking off 1."""
    return max(-1.0, min(1.0, round(value, 15)))


def _column(values: ArrayLike) -> Floats:
    column = np.asarray(values, dtype=np.float64)
    missing = int(np.isnan(column).sum())
    if missing:
        raise UsageError(f"{missing} of {len(column)} values are NaN: leave failed scores out before ranking")
    return column


def paired(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """Both as columns of float64.

    Raises:
        UsageError: two lengths, or NaN among them.
    """
    a, b = _column(x), _column(y)
    if a.ndim != 1 or a.shape != b.shape:
        raise UsageError(f"scores and accuracies must be two columns of one length, got {a.shape} and {b.shape}")
    return a, b
