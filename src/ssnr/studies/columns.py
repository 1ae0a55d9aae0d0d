"""A proxy's scores beside the accuracies: the score of each architecture, and what a table says about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssnr import benchmarks
from ssnr.core.catalogue import CONTROLS, Proxy, isomorphic_share
from ssnr.core.errors import UsageError
from ssnr.core.recipes import get_recipe
from ssnr.core.registry import unknown
from ssnr.core.results import score_of, takes_logarithm
from ssnr.store import Architecture, Group, Store
from ssnr.studies import populations, stats
from ssnr.studies import top as tops
from ssnr.studies.selection import BenchmarkTable

NAMES = ("proxy", "kind", "published_in", "recipe", "seed", "data")
STATUSES = ("missing", "ok", "dead", "failed")
MISSING, OK, DEAD, FAILED = range(4)


class Joined(NamedTuple):
    """Architectures that are both in the store and in the benchmark; `size` is how many the benchmark has."""

    architectures: list[Architecture]
    accuracy: NDArray[np.float64]
    networks: dict[str, int]  # network → its position
    network: NDArray[np.int64]  # of each architecture
    size: int


@dataclass(frozen=True, eq=False)
class Column:
    """One proxy or control, one entry for each joined architecture."""

    proxy: str
    kind: str
    value: NDArray[np.float64]  # NaN where there is no number
    log_value: NDArray[np.float64]  # NaN where there is none
    status: NDArray[np.int8]
    recipe: str = ""
    seed: int | None = None
    data: str = ""
    reasons: tuple[str, ...] = ()  # one an architecture, "" where there is none; none at all for controls
    logarithm: bool = False  # of a sum
    published_in: str = ""  # the file, where others measured it

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which architectures have a number."""
        scored: NDArray[np.bool_] = (self.status == OK) | (self.status == DEAD)
        return scored

    @property
    def ranked(self) -> NDArray[np.float64]:
        """The values as they are compared: a dead network's sum is 0, whose logarithm is below every other."""
        dead: NDArray[np.float64] = np.where(self.status == DEAD, -np.inf, self.value)
        return dead if self.logarithm else self.value

    @property
    def keys(self) -> stats.Ranks:
        """Dense ranks of the architectures that have a number."""
        return stats.order_keys(self.ranked[self.scored], self.log_value[self.scored])

    @property
    def names(self) -> dict[str, Any]:
        """What tells this column from others."""
        return {name: getattr(self, name) for name in NAMES}


def join(store: Store, space: str, benchmark: BenchmarkTable, notes: list[str], population: str = "all") -> Joined:
    """The architectures of a population that are both in the store and in the benchmark.

    Raises:
        UsageError: there are none, or the space does not define the population.
    """
    accuracy = benchmark.table["accuracy"].dropna()
    stored = list(store.architectures(space))
    position = accuracy.index.get_indexer(pd.Index([row.architecture for row in stored], dtype=object))
    if not (position >= 0).any():
        raise UsageError(
            f"none of the {len(stored):,} architectures of {space} in store {store.path} is in {benchmark.name}"
        )
    if (position < 0).any():
        notes.append(f"{_architectures(int((position < 0).sum()))} of the store not in {benchmark.name}: left out")
    kept = [row for row, where in zip(stored, position.tolist(), strict=True) if where >= 0]
    numbers = accuracy.to_numpy(dtype=np.float64)[position[position >= 0]]
    size, wanted = len(accuracy), benchmark.name
    if population != "all":
        size = int(populations.members(population, space, accuracy.index.tolist()).sum())
        wanted = f"this population of {benchmark.name}"
        notes.append(populations.described(population, size, len(accuracy)))
        chosen = populations.members(population, space, [row.architecture for row in kept])
        kept, numbers = [row for row, is_in in zip(kept, chosen.tolist(), strict=True) if is_in], numbers[chosen]
        if not kept:
            raise UsageError(f"population {population}: none of its architectures is in store {store.path}")
    if len(kept) < size:
        notes.append(f"{_architectures(size - len(kept))} of the {size:,} of {wanted} not in the store")
    networks: dict[str, int] = {}
    network = np.array([networks.setdefault(row.network, len(networks)) for row in kept], dtype=np.int64)
    if len(networks) < len(kept):
        notes.append(
            f"{len(kept):,} architectures are {len(networks):,} distinct networks: ties by construction, "
            f"and intervals take the architectures as independent"
        )
    return Joined(kept, numbers, networks, network, size)


def evaluate_group(store: Store, group: Group, proxies: Sequence[Proxy], joined: Joined) -> list[Column]:
    """One pass over a group's results: each is evaluated once, for every proxy, then spread to its architectures."""
    if not proxies:
        return []
    recipe = get_recipe(group.recipe)
    positions, spread = joined.networks, joined.network
    if not isomorphic_share(group.measured, recipe):
        positions = {row.architecture: at for at, row in enumerate(joined.architectures)}
        spread = np.arange(len(positions))
    size = len(positions)
    value, log_value = np.full((2, len(proxies), size), np.nan)
    status = np.full((len(proxies), size), MISSING, dtype=np.int8)
    reasons = np.full((len(proxies), size), "", dtype=object)
    for result in store.results(group):
        at = positions.get(result.network)
        if at is None:
            continue
        for k, proxy in enumerate(proxies):
            score = score_of(proxy, result, recipe, with_layers=False)
            status[k, at] = STATUSES.index(score.status)
            if score.reason is not None:
                reasons[k, at] = score.reason
            if score.value is not None:
                value[k, at] = score.value
            if score.log_value is not None:
                log_value[k, at] = score.log_value
    return [
        Column(proxy.text, "proxy", value[k, spread], log_value[k, spread], status[k, spread],
                group.recipe, group.seed, group.data if proxy.data else "", tuple(reasons[k, spread]),
                takes_logarithm(proxy, recipe))
        for k, proxy in enumerate(proxies)
    ]  # fmt: skip


def report(columns: Sequence[Column], notes: list[str]) -> None:
    """Say what is missing and what failed, with the commonest reason."""
    if not columns:
        return
    missing = int((columns[0].status == MISSING).sum())
    if missing:
        notes.append(f"{_architectures(missing)} without a result for {columns[0].proxy} yet: run the sweep again")
    failures_of(columns, notes)


def failures_of(columns: Sequence[Column], notes: list[str]) -> None:
    """Say what failed, with the commonest reason."""
    for column in columns:
        failures = np.flatnonzero(column.status == FAILED).tolist()
        if failures:
            reason, count = Counter(column.reasons[at] or "unknown" for at in failures).most_common(1)[0]
            most = "" if count == len(failures) else f"{count:,} of them: "
            notes.append(f"{column.proxy}: {len(failures):,} failed ({most}{reason})")


def _architectures(count: int) -> str:
    return f"{count:,} architecture{'' if count == 1 else 's'}"


# Names of the catalogue for what published files call otherwise.
_CALLED = {"naswot": "nwot"}


def published(benchmark: BenchmarkTable, wanted: Sequence[str], joined: Joined, notes: list[str]) -> list[Column]:
    """Columns that others published for a benchmark: by the file's name or the catalogue's, `all` for every one.

    Raises:
        UsageError: no published proxies are known for the benchmark, or not this one; near names are given.
        BenchmarkError: a file is missing, altered or not what it should be.
    """
    if not wanted:
        return []
    frame = benchmarks.published(benchmark.name)
    files: dict[str, str] = frame.attrs["files"]
    names = list(frame.columns) if "all" in wanted else list(dict.fromkeys(wanted))
    rows = frame.index.get_indexer(pd.Index([row.architecture for row in joined.architectures], dtype=object))
    found = []
    for name in names:
        column = _CALLED.get(name, name)
        if column not in frame:
            raise unknown(f"published proxy of {benchmark.name}", name, [*frame.columns, "all"])
        value = np.where(rows >= 0, frame[column].to_numpy(dtype=np.float64)[rows], np.nan)
        status = np.where(rows < 0, MISSING, np.where(np.isnan(value), FAILED, OK)).astype(np.int8)
        reasons = tuple("the file holds no number for it" if code == FAILED else "" for code in status.tolist())
        found.append(Column(name, "published", value, np.full_like(value, np.nan), status, reasons=reasons,
                            published_in=files[column]))  # fmt: skip
    for file in dict.fromkeys(column.published_in for column in found):
        of_file = [column for column in found if column.published_in == file]
        notes.append(f"published, not measured here: {', '.join(column.proxy for column in of_file)} from {file}")
        left_out = int((of_file[0].status == MISSING).sum())
        if left_out:
            notes.append(f"{_architectures(left_out)} not in {file}")
        failures_of(of_file, notes)
    return found


def controls(columns: Sequence[Column], joined: Joined) -> list[Column]:
    """The controls, once for each set of architectures that some proxy was asked for."""
    everything = np.full(len(joined.accuracy), OK, dtype=np.int8)
    asked = {(c.status != MISSING).tobytes(): np.where(c.status != MISSING, OK, MISSING) for c in columns}
    found = []
    for status in list(asked.values()) or [everything]:
        for name in CONTROLS:
            counts = [getattr(row, name) for row in joined.architectures]
            value = np.array([np.nan if count is None else count for count in counts], dtype=np.float64)
            value[status == MISSING] = np.nan
            if not np.isnan(value).all():
                known = np.where(np.isnan(value), MISSING, OK).astype(np.int8)
                found.append(Column(name, "control", value, np.full_like(value, np.nan), known))
    return found


def row(column: Column, joined: Joined, ci: bool) -> dict[str, Any]:
    """A row of a study's table."""
    keys, accuracy = column.keys, joined.accuracy[column.scored]
    found, first = stats.correlate(keys, accuracy, ci=ci), tops.choice(keys, accuracy)
    return {
        **column.names,
        **_estimates("", found),
        "n": found.n,
        "coverage": found.n / joined.size,
        "failed": int((column.status == FAILED).sum()),
        "dead": int((column.status == DEAD).sum()),
        "ties": found.ties,
        "choice": _number(first.accuracy),
        "regret": _number(first.regret),
        "note": found.note or "",
    }


def top_row(column: Column, joined: Joined, share: float, ci: bool) -> dict[str, Any]:
    """A row of a study's table of the top."""
    found = tops.top(column.keys, joined.accuracy[column.scored], share, ci=ci)
    return {
        **column.names,
        "share": share,
        "k": found.k,
        "precision": _number(found.precision),
        "ndcg": _number(found.ndcg),
        "best_n": found.best.n,
        **_estimates("best_", found.best),
        "chosen_n": found.chosen.n,
        **_estimates("chosen_", found.chosen),
    }


def _estimates(prefix: str, found: stats.Correlation) -> dict[str, float]:
    """Both correlations with the ends of their intervals, NaN where there is none."""
    return {
        prefix + name + suffix: _number(number)
        for name in ("spearman", "kendall")
        for suffix, number in zip(("", "_lo", "_hi"), getattr(found, name), strict=True)
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def tidy(column: Column, joined: Joined) -> pd.DataFrame:
    """One row per architecture that was asked for."""
    asked = np.flatnonzero(column.status != MISSING)
    names = np.array([row.architecture for row in joined.architectures], dtype=object)
    reasons = np.array([column.reasons[at] if column.reasons else "" for at in asked.tolist()], dtype=object)
    return pd.DataFrame(
        {
            "architecture": names[asked],
            "proxy": column.proxy,
            "kind": column.kind,
            "published_in": column.published_in,
            "recipe": column.recipe,
            "seed": pd.array([column.seed] * len(asked), dtype="Int64"),
            "data": column.data,
            "score": column.value[asked],
            "log_score": column.log_value[asked],
            "status": np.array(STATUSES, dtype=object)[column.status[asked]],
            "reason": reasons,
            "accuracy": joined.accuracy[asked],
        }
    )
