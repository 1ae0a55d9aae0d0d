"""Rank correlations with bootstrap intervals, fast enough for a whole search space.

    Spearman's ρ    Pearson correlation of mid-ranks                                      (Spearman, 1904)
    Kendall's τ_b   (C − D) / sqrt((P − T_x)(P − T_y))                                    (Kendall, 1945)

with C concordant and D discordant pairs, P all pairs, T_x and T_y the pairs tied in x and in y. Both run over
[−1, 1] and keep their sign. A constant column has no rank correlation: the answer is None, never 0, 1 or NaN.

Intervals are 95 % percentile intervals of the bootstrap over architectures (Efron, 1979): n architectures are drawn
with replacement, `REPLICATES` times, from a seeded generator; the 2.5 % and 97.5 % quantiles are the ends. They say how
much the number hangs on which architectures were drawn, and take the architectures as independent: where a space holds
the same network under many strings they are a little too narrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

from ssnr.core.errors import UsageError

REPLICATES = 1000
LEVEL = 0.95
# Up to here Kendall's bootstrap is exact; beyond, its error is below what REPLICATES leave open in a quantile.
EXACT = 1000
_CHUNK = 2**20  # counts held as float64 at a time: memory does not grow with REPLICATES
_KEEP = 2**25  # counts kept for the next proxy

Floats = NDArray[np.float64]
Ranks = NDArray[np.int64]


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
    a, b = _pair(x, y)
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
    a, b = _pair(x, y)
    if len(a) < 2 or _constant(a) or _constant(b):
        return None
    rx, ry = (scipy_stats.rankdata(column) - (len(a) + 1) / 2 for column in (a, b))
    return _settle(float(rx @ ry / np.sqrt((rx @ rx) * (ry @ ry))))


def kendall(x: ArrayLike, y: ArrayLike) -> float | None:
    """Kendall's τ_b; None where a column is constant or has fewer than two entries.

    >>> kendall([1, 2, 3], [3, 2, 1])
    -1.0
    """
    a, b = _pair(x, y)
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
    x: ArrayLike, y: ArrayLike, *, seed: int = 0, replicates: int = REPLICATES
) -> tuple[float, float] | None:
    """95 % bootstrap interval of Spearman's ρ, every replicate ranked anew.

    A replicate is a vector of counts: an entry drawn c times is c tied entries, so its group of equal values ends at
    rank Σ counts and has the mid-rank of that range. One sort for all replicates, O(n) for each.
    Replicates that happen to be constant have no ρ and are left out; None where more than half are.
    """
    a, b = _pair(x, y)
    if len(a) < 3:
        return None
    groups = _Groups(a), _Groups(b)
    found = []
    for counts in _chunks(len(a), replicates, seed):
        (rx, vx), (ry, vy) = (group.centred_ranks(counts) for group in groups)
        rx *= ry
        rx *= counts
        found.append(_ratio(rx.sum(axis=1), vx, vy))
    return _percentiles(np.concatenate(found))


def kendall_interval(
    x: ArrayLike, y: ArrayLike, *, seed: int = 0, replicates: int = REPLICATES, exact: bool | None = None
) -> tuple[float, float] | None:
    """95 % bootstrap interval of Kendall's τ_b.

    Numerator and both halves of the denominator are quadratic in a replicate's counts w: wᵀAw. Up to n = `EXACT` that
    form is evaluated as it is. Beyond, with w = 1 + d, the Hájek projection keeps 1ᵀA1 + 2 (A1)ᵀd and drops dᵀAd, which
    is of order 1/n where the kept term is of order 1/√n; its mean shrinks numerator and denominator by the same
    factor 1 − 1/n and cancels. The row sums A1 (how many entries are concordant, discordant and tied with each one)
    are counted exactly in O(n log n), so that a replicate costs three dot products instead of a sort.

    Args:
        x: scores.
        y: accuracies.
        seed: of the resampling.
        replicates: number of bootstrap samples.
        exact: force one of the two ways.

    Reference:
        Hájek (1968); Hoeffding (1948) for τ as a U-statistic.
    """
    a, b = _pair(x, y)
    n = len(a)
    if n < 3:
        return None
    x_groups, y_groups = _Groups(a), _Groups(b)
    found = []
    if n <= EXACT if exact is None else exact:
        agreement = np.sign(np.subtract.outer(x_groups.dense, x_groups.dense)).astype(np.float64)
        agreement *= np.sign(np.subtract.outer(y_groups.dense, y_groups.dense))
        for counts in _chunks(n, replicates, seed):
            untied = [n * n - (group.sums(counts) ** 2).sum(axis=1) for group in (x_groups, y_groups)]
            found.append(_ratio((counts @ agreement * counts).sum(axis=1), *untied))
    else:
        agreeing = agreement_counts(x_groups.dense, y_groups.dense)
        rows = np.stack([agreeing, n - x_groups.sizes, n - y_groups.sizes]).astype(np.float64)
        whole = rows.sum(axis=1)
        for counts in _chunks(n, replicates, seed):
            found.append(_ratio(*(2 * counts @ rows.T - whole).T))
    return _percentiles(np.concatenate(found))


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

    def sums(self, counts: Floats) -> Floats:
        """(replicates, n) counts → (replicates, groups)."""
        result: Floats = np.add.reduceat(counts[:, self._order], self._starts, axis=1)
        return result

    def centred_ranks(self, counts: Floats) -> tuple[Floats, Floats]:
        """Mid-rank minus mean rank of every entry in every replicate, and the replicate's sum of its squares."""
        sums = self.sums(counts)
        ranks = np.cumsum(sums, axis=1)
        ranks -= (sums + counts.shape[1]) / 2  # (end of range) − (sum − 1)/2 − (n + 1)/2
        return ranks[:, self.dense], (sums * ranks**2).sum(axis=1)


def _chunks(n: int, replicates: int, seed: int) -> Iterator[Floats]:
    """How often each of n entries is drawn in each replicate, some replicates at a time."""
    step = max(1, _CHUNK // n)
    if n * replicates > _KEEP:
        yield from (counts.astype(np.float64) for counts in _draw(n, replicates, seed, step))
        return
    kept = _resamples(n, replicates, seed)
    yield from (kept[start : start + step].astype(np.float64) for start in range(0, replicates, step))


def _draw(n: int, replicates: int, seed: int, step: int) -> Iterator[NDArray[np.uint16]]:
    rng = np.random.default_rng([seed, n])
    for start in range(0, replicates, step):
        rows = range(start, min(start + step, replicates))
        yield np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in rows]).astype(np.uint16)


@lru_cache(maxsize=2)
def _resamples(n: int, replicates: int, seed: int) -> NDArray[np.uint16]:
    """All at once, kept: the same draws serve every proxy of a study."""
    counts = np.concatenate(list(_draw(n, replicates, seed, max(1, _CHUNK // n))))
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


def _percentiles(replicates: Floats) -> tuple[float, float] | None:
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


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    a, b = _column(x), _column(y)
    if a.ndim != 1 or a.shape != b.shape:
        raise UsageError(f"scores and accuracies must be two columns of one length, got {a.shape} and {b.shape}")
    return a, b
