"""Combinations of proxies over a population, from columns that are there: nothing is scored again.

With N architectures for which every member has a number, and r_k(i) the rank of architecture i by member k, 1 the worst
and N the best, mid-ranks under ties:

    rank        Σ_k r_k                 (Chen, Gong & Wang, "TE-NAS", ICLR 2021)
    mean_rank   the same over the number of members, so that it is a rank again
    log_rank    Σ_k ln(r_k / N)         (Lee & Ham, "AZ-NAS", CVPR 2024): one bad rank costs more than it does in a sum

and of swap and the number of parameters, with no ranks, `regularised` (Peng et al., "SWAP", ICLR 2024).

A reversed member is ranked by falling value. An architecture for which a member failed has failed; one with a dead
member is ranked by that member's value, 0, and counted as dead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from ssnr.core.catalogue import REGULARISED
from ssnr.core.combinations import Combination
from ssnr.core.errors import UsageError
from ssnr.studies import stats
from ssnr.studies.columns import DEAD, FAILED, MISSING, OK, Column


def combine(rule: str, ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """(members, N) ranks → N values, higher is better.

    >>> combine("rank", np.array([[1.0, 2.0, 3.0], [3.0, 1.5, 1.5]])).tolist()
    [4.0, 3.5, 4.5]
    """
    # Exact sums and one order of addition, whatever the order of the members: equal combinations stay equal.
    total = np.array([math.fsum(column) for column in (np.log(ranks) if rule == "log_rank" else ranks).T.tolist()])
    if rule == "log_rank":
        total -= len(ranks) * math.log(max(1, ranks.shape[1]))
    result: NDArray[np.float64] = total / len(ranks) if rule == "mean_rank" else total
    return result


def regularised(swap: NDArray[np.float64], params: NDArray[np.float64], mu: float, sigma: float) -> NDArray[np.float64]:
    """Ln swap − (P/1000 − μ)²/σ, the logarithm of swap × exp(−(P/1000 − μ)²/σ), which is 0 for most P in float64.

    >>> regularised(np.array([7.0, 7.0]), np.array([40_000.0, 42_000.0]), 40, 20).round(6).tolist()
    [1.94591, 1.74591]
    """
    logarithm: NDArray[np.float64] = np.log(swap) - (params / 1e3 - mu) ** 2 / sigma
    return logarithm


def columns_of(combination: Combination, found: Sequence[Column], controls: Sequence[Column]) -> list[Column]:
    """One column for each recipe, seed and batch under which every member has one.

    Raises:
        UsageError: there is no such recipe, seed and batch.
    """
    names = {member.proxy.text for member in combination.members}
    fixed = {column.proxy: column for column in controls if column.proxy in names}
    candidates = [column for column in found if column.proxy in names]
    made = []
    for recipe, seed in dict.fromkeys((column.recipe, column.seed) for column in candidates):
        here = [column for column in candidates if (column.recipe, column.seed) == (recipe, seed)]
        for data in list(dict.fromkeys(column.data for column in here if column.data)) or [""]:
            members = fixed | {column.proxy: column for column in here if column.data in ("", data)}
            if names <= set(members):
                made.append(_column(combination, members, recipe, seed, data))
    if not made and not candidates and names <= set(fixed):
        made.append(_column(combination, fixed, "", None, ""))
    if not made:
        raise UsageError(f"{combination.text}: no recipe, seed and batch has all its members: {_held(candidates)}")
    return made


def _held(candidates: Sequence[Column]) -> str:
    held = dict.fromkeys(
        f"{c.proxy} (recipe {c.recipe}, seed {c.seed}{', data ' + c.data if c.data else ''})" for c in candidates
    )
    return ", ".join(held) or "a control is not in the store"


def _column(combination: Combination, by_name: dict[str, Column], recipe: str, seed: int | None, data: str) -> Column:
    members = [by_name[member.proxy.text] for member in combination.members]
    every = np.stack([column.status for column in members])
    status = np.where((every == DEAD).any(axis=0), DEAD, OK)
    status = np.where((every == FAILED).any(axis=0), FAILED, status)
    status = np.where((every == MISSING).any(axis=0), MISSING, status).astype(np.int8)
    kept = (status == OK) | (status == DEAD)
    value = np.full(len(status), np.nan)
    if combination.rule == REGULARISED:
        value[kept] = regularised(*(column.value[kept] for column in members), *combination.arguments)
    else:
        ranks = []
        for member, column in zip(combination.members, members, strict=True):
            keys = stats.order_keys(column.ranked[kept], column.log_value[kept])
            ranks.append(scipy_stats.rankdata(-keys if member.reverse else keys))
        value[kept] = combine(combination.rule, np.stack(ranks))
    reasons = [""] * len(status)
    for at in np.flatnonzero(status == FAILED).tolist():
        column = next(column for column in members if column.status[at] == FAILED)
        reasons[at] = f"{column.proxy}: {(column.reasons[at] if column.reasons else '') or 'unknown'}"
    return Column(combination.text, "proxy", value, np.full_like(value, np.nan), status, recipe, seed, data,
                  tuple(reasons))  # fmt: skip
