"""How well scores find the best: measures of the top of a ranking.

With n architectures and a share s, the top is k = ⌈s n⌉ of them.

    precision      of the k with the highest scores, the share that is among the k most accurate
    nDCG           Σ_j (2^a_j − 1)/log₂(1 + j) over the k with the highest scores, j = 1 the highest, divided by the
                   same sum over the k most accurate; a in percent   (Järvelin & Kekäläinen, 2002; brought to NAS by
                   Týbl & Neumann, "Training-free NAS through Variance of Knowledge", CVPR 2025)
    ρ, τ           within the k most accurate, and within the k with the highest scores
    first choice   the accuracy of the highest score, and its regret: how far it is below the most accurate

Ties in the score: no order among them is right, so precision, nDCG and first choice are means over all orders (McSherry
& Najork, 2008). Ties in the accuracy: whoever is as accurate as the k-th is among the best. A random order has a
precision of s.

Among the 9,445 cells of NAS-Bench-201 without idle operations, nDCG of FLOPs at a tenth is .745, .576 and .403 on
CIFAR-10, CIFAR-100 and ImageNet16-120: the values that Týbl & Neumann print, from which their cut-off was inferred. A
gain that doubles with each percent point makes it a measure of the very best; accuracies as fractions of one would make
it almost 1 for any order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ssnr.core.errors import UsageError
from ssnr.studies import stats
from ssnr.studies.stats import Floats

SHARES = (0.01, 0.05, 0.1)


class Choice(NamedTuple):
    """The first choice: its accuracy, and how far that is below the best; None where there is nothing to choose."""

    accuracy: float | None
    regret: float | None


class Top(NamedTuple):
    """The top of a ranking.

    Attributes:
        share: what was asked for.
        k: number of architectures that the share is.
        precision: share of the k highest scores that are among the k most accurate.
        ndcg: of the k highest scores; None where an accuracy is negative.
        best: ρ and τ within the k most accurate.
        chosen: ρ and τ within the k highest scores.
    """

    share: float
    k: int
    precision: float | None
    ndcg: float | None
    best: stats.Correlation
    chosen: stats.Correlation


def checked_shares(shares: Iterable[float]) -> tuple[float, ...]:
    """Shares of a population, rising, each once.

    Raises:
        UsageError: one that is not in (0, 1].

    >>> checked_shares([0.1, 0.01, 0.1])
    (0.01, 0.1)
    """
    found = sorted({float(share) for share in shares})
    for share in found:
        if not 0 < share <= 1:
            raise UsageError(f"top {share:g}: expected a share in (0, 1], such as 0.1 for the best tenth")
    return tuple(found)


def size(share: float, n: int) -> int:
    """Number of architectures that a share of n is, rounded up.

    >>> size(0.1, 9_445), size(0.07, 100), size(0.01, 5)
    (945, 7, 1)
    """
    return math.ceil(round(share * n, 9))


def top(x: ArrayLike, y: ArrayLike, share: float, *, ci: bool = False, seed: int = 0) -> Top:
    """All measures of the top share of scores x with accuracies y.

    Raises:
        UsageError: a share outside (0, 1], columns of two lengths, or NaN among them.
    """
    (share,) = checked_shares([share])
    a, b = stats.paired(x, y)
    k = size(share, len(a))
    within = [_within(a, b, column, k, ci, seed) for column in (b, a)]
    return Top(share, k, precision(a, b, k), ndcg(a, b, k), *within)


def precision(x: ArrayLike, y: ArrayLike, k: int) -> float | None:
    """Share of the k highest scores that are among the k most accurate.

    >>> precision([4, 3, 2, 1], [90, 93, 70, 94], 2)
    0.5
    >>> precision([1, 1, 1, 1], [90, 93, 70, 94], 2)  # no order: as good as chance
    0.5
    """
    a, b = stats.paired(x, y)
    if not 0 < k <= len(a):
        return None
    return float(_places(a, np.ones(k)) @ (b >= _kth(b, k))) / k


def ndcg(x: ArrayLike, y: ArrayLike, k: int) -> float | None:
    """Normalised discounted cumulative gain of the k highest scores; accuracies in percent.

    >>> ndcg([3, 2, 1], [2, 1, 0], 3)
    1.0
    >>> round(ndcg([3, 2, 1], [1, 2, 0], 2), 6)  # (1 + 3/log₂3) / (3 + 1/log₂3)
    0.796708
    """
    a, b = stats.paired(x, y)
    if not 0 < k <= len(a) or b.min() < 0 or b.max() == 0:
        return None
    gain = np.exp2(b - b.max()) - np.exp2(-b.max())  # (2^a − 1) on a scale that cannot overflow
    discount = 1 / np.log2(np.arange(2, k + 2))
    return float(min(1.0, gain @ _places(a, discount) / (np.sort(gain)[: -k - 1 : -1] @ discount)))


def choice(x: ArrayLike, y: ArrayLike) -> Choice:
    """The accuracy of the highest score, the mean where several share it, and its distance from the best.

    >>> choice([1, 5, 5], [94, 93, 92])
    Choice(accuracy=92.5, regret=1.5)
    """
    a, b = stats.paired(x, y)
    if not len(a):
        return Choice(None, None)
    accuracy = float(b[a == a.max()].mean())
    return Choice(accuracy, float(b.max()) - accuracy)


def _places(scores: Floats, worth: Floats) -> Floats:
    """What each entry gets where the j-th highest score gets worth_j, j = 1 … k, shared equally among ties."""
    order = np.argsort(-scores, kind="stable")
    given = np.zeros(len(scores))
    given[order[: len(worth)]] = worth
    _, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    shared: Floats = (np.bincount(group, weights=given) / counts)[group]
    return shared


def _kth(column: Floats, k: int) -> float:
    """The k-th largest."""
    return float(np.partition(column, len(column) - k)[len(column) - k])


def _within(x: Floats, y: Floats, by: Floats, k: int, ci: bool, seed: int) -> stats.Correlation:
    if not len(by):
        return stats.correlate([], [])
    kept = by >= _kth(by, k)
    return stats.correlate(x[kept], y[kept], ci=ci, seed=seed)
