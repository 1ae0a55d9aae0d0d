"""A sweep joined with a benchmark: how well does each proxy rank the architectures?

Nothing is scored here. The store holds moments, so any `saliency/aggregate` whose saliency was measured is a few
milliseconds away, and counting weights stands beside it: a proxy that does not beat the controls has to show it.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssnr import benchmarks
from ssnr.core.catalogue import CONTROLS, Proxy, twins_share
from ssnr.core.errors import UsageError
from ssnr.core.recipes import Recipe, get_recipe
from ssnr.core.results import Result, Score, evaluate, failed, takes_logarithm
from ssnr.store import Architecture, Group, Store
from ssnr.studies import sheet as sheets
from ssnr.studies import stats
from ssnr.studies.selection import BenchmarkTable, choose_groups, choose_proxies, choose_space, describe_metric

if TYPE_CHECKING:
    from rich.table import Table

STATUSES = ("missing", "ok", "dead", "failed")
_MISSING, _OK, _DEAD, _FAILED = range(4)


@dataclass(frozen=True, eq=False, repr=False)
class Study:
    """Correlations of proxies and controls with a benchmark.

    Attributes:
        table: one row a proxy or control, best Kendall τ first: proxy, kind ("proxy" or "control"), recipe, seed, data,
            spearman, spearman_lo, spearman_hi, kendall, kendall_lo, kendall_hi, n (architectures that entered),
            coverage (n as a share of the benchmark), failed, dead (entered with value 0), ties (architectures whose
            score is shared with another), note (why there is no correlation: "constant", "constant accuracy",
            "too few"). Correlations keep their sign.
        scores: one row a proxy and architecture: architecture, proxy, kind, recipe, seed, data, score, log_score,
            status, reason, accuracy. A failed row has no score.
        benchmark: what the scores were joined with.
        notes: what a reader has to know: which space, what is missing, what failed.
        n: architectures that are both in the store and in the benchmark.
        coverage: share of the benchmark for which at least one proxy has a number.
    """

    table: pd.DataFrame
    scores: pd.DataFrame
    benchmark: BenchmarkTable
    notes: tuple[str, ...] = ()
    n: int = 0
    coverage: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The document of `ssnr correlate --json`; what is not defined is None."""
        rows: list[dict[str, Any]] = []
        for row in self.table.astype(object).where(self.table.notna(), None).to_dict("records"):
            rows.append({name: row[name] for name in ("proxy", "kind", "recipe", "seed", "data")})
            for name in ("spearman", "kendall"):
                rows[-1] |= {name: row[name], f"{name}_ci": [row[f"{name}_lo"], row[f"{name}_hi"]]}
            rows[-1] |= {name: row[name] for name in ("n", "coverage", "failed", "dead", "ties")}
            rows[-1]["note"] = row["note"] or None
        b = self.benchmark
        head = {"benchmark": b.name, "source": b.source, "metric": b.metric, "split": b.split, "epochs": b.epochs,
                "runs": b.runs}  # fmt: skip
        return {**head, "n": self.n, "coverage": self.coverage, "notes": list(self.notes), "rows": rows}

    def to_csv(self, path: str | Path | None = None) -> str | None:
        """The table with the benchmark named in every row: into a file, or as text where none is named.

        Raises:
            SsnrError: the file cannot be written.
        """
        table = self.table.copy()
        for position, name in enumerate(("name", "source", "metric", "split", "epochs", "runs")):
            table.insert(position, "benchmark" if name == "name" else name, getattr(self.benchmark, name))
        return sheets.to_csv(table, path)

    def to_latex(self) -> str:
        """A booktabs table, the best of each column in bold."""
        return sheets.correlations(self.table, self._title(), counts=("n", "failed", "dead")).to_latex()

    def to_markdown(self) -> str:
        """The table for a page, without its title."""
        return self.sheet().to_markdown()

    def to_rich(self) -> Table:
        """The table for a terminal."""
        return self.sheet().to_rich()

    def sheet(self) -> sheets.Sheet:
        """The table as it is shown, in any form."""
        return sheets.correlations(self.table, self._title(), self.notes)

    def _title(self) -> str:
        return f"{self.benchmark.name}, {describe_metric(self.benchmark)}"

    def __str__(self) -> str:
        from rich.console import Console

        page = io.StringIO()
        Console(file=page, width=140, color_system=None).print(self.to_rich())
        return page.getvalue()

    def __repr__(self) -> str:
        return f"<study of {self.benchmark.name}: {len(self.table)} rows, {self.n:,} architectures>"


def study(
    store: Store | str | Path,
    benchmark: BenchmarkTable | str,
    proxies: Iterable[str | Proxy] | None = None,
    *,
    recipe: str | Recipe | None = None,
    seed: int | None = None,
    data: str | None = None,
    ci: bool = True,
) -> Study:
    """Correlate what a store holds with a benchmark's accuracies.

    Args:
        store: an open store or the path of one.
        benchmark: accuracies by architecture string, or the name of a benchmark.
        proxies: which; by default every measured saliency and its magnitude as sum, ssnr and layerwise_ssnr. Controls
            are always there, on the same architectures.
        recipe: only results of this recipe.
        seed: only results of this seed.
        data: only results on the batch of this fingerprint; what needs no batch stays.
        ci: whether to add 95 % bootstrap intervals.

    Raises:
        UsageError: nothing of the benchmark's family, or nothing of what was asked for, is in the store.
        StoreError: the store cannot be read.
    """
    if isinstance(benchmark, str):
        benchmark = benchmarks.load(benchmark)
    if not isinstance(store, Store):
        with Store(store, create=False) as opened:
            return study(opened, benchmark, proxies, recipe=recipe, seed=seed, data=data, ci=ci)
    note = getattr(benchmark, "note", "")
    notes: list[str] = [f"{benchmark.name}: {note}"] if note else []
    space = choose_space(store, benchmark, notes)
    groups = choose_groups(store, space, recipe, seed, data, notes)
    asked = choose_proxies(store, space, groups, proxies, notes)
    joined = _join(store, space, benchmark, notes)
    columns: list[_Column] = []
    for group in groups:
        wanted = [proxy for proxy in asked if proxy.measured == group.measured]
        columns += _evaluate(store, group, wanted, joined, notes)
    columns += _controls(columns, joined)
    table = pd.DataFrame([_row(column, joined, ci) for column in columns])
    table["seed"] = table["seed"].astype("Int64")
    table = table.sort_values(["kendall", "proxy"], ascending=[False, True], na_position="last", kind="stable")
    scored = np.any([column.scored for column in columns if column.kind == "proxy" or not asked], axis=0)
    return Study(
        table.reset_index(drop=True),
        pd.concat([_tidy(column, joined) for column in columns], ignore_index=True),
        benchmark,
        tuple(notes),
        n=len(joined.accuracy),
        coverage=int(scored.sum()) / joined.size,
    )


# --- scores × accuracies --------------------------------------------------------------------------------------


class _Joined(NamedTuple):
    """Architectures that are both in the store and in the benchmark."""

    architectures: list[Architecture]
    accuracy: NDArray[np.float64]
    networks: dict[str, int]  # network → its position
    network: NDArray[np.int64]  # of each architecture
    size: int  # of the benchmark


@dataclass(frozen=True, eq=False)
class _Column:
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

    @property
    def scored(self) -> NDArray[np.bool_]:
        scored: NDArray[np.bool_] = (self.status == _OK) | (self.status == _DEAD)
        return scored

    @property
    def ranked(self) -> NDArray[np.float64]:
        """The values as they are compared: a dead network's sum is 0, whose logarithm is below every other."""
        dead: NDArray[np.float64] = np.where(self.status == _DEAD, -np.inf, self.value)
        return dead if self.logarithm else self.value


def _join(store: Store, space: str, benchmark: BenchmarkTable, notes: list[str]) -> _Joined:
    accuracy = benchmark.table["accuracy"].dropna()
    stored = list(store.architectures(space))
    position = accuracy.index.get_indexer(pd.Index([row.architecture for row in stored], dtype=object))
    kept = [row for row, where in zip(stored, position.tolist(), strict=True) if where >= 0]
    if not kept:
        raise UsageError(
            f"none of the {len(stored):,} architectures of {space} in store {store.path} is in {benchmark.name}"
        )
    if len(kept) < len(stored):
        notes.append(f"{_architectures(len(stored) - len(kept))} of the store not in {benchmark.name}: left out")
    if len(kept) < len(accuracy):
        notes.append(
            f"{_architectures(len(accuracy) - len(kept))} of the {len(accuracy):,} of {benchmark.name} not in the store"
        )
    networks: dict[str, int] = {}
    network = np.array([networks.setdefault(row.network, len(networks)) for row in kept], dtype=np.int64)
    if len(networks) < len(kept):
        notes.append(
            f"{len(kept):,} architectures are {len(networks):,} distinct networks: ties by construction, "
            f"and intervals take the architectures as independent"
        )
    numbers = accuracy.to_numpy(dtype=np.float64)[position[position >= 0]]
    return _Joined(kept, numbers, networks, network, len(accuracy))


def _evaluate(store: Store, group: Group, proxies: Sequence[Proxy], joined: _Joined, notes: list[str]) -> list[_Column]:
    """One pass over a group's results: each is evaluated once, for every proxy, then spread to its architectures."""
    if not proxies:
        return []
    recipe = get_recipe(group.recipe)
    positions, spread = joined.networks, joined.network
    if not twins_share(group.measured, recipe):
        positions = {row.architecture: at for at, row in enumerate(joined.architectures)}
        spread = np.arange(len(positions))
    size = len(positions)
    value, log_value = np.full((2, len(proxies), size), np.nan)
    status = np.full((len(proxies), size), _MISSING, dtype=np.int8)
    reasons = np.full((len(proxies), size), "", dtype=object)
    for result in store.results(group):
        at = positions.get(result.network)
        if at is None:
            continue
        for k, proxy in enumerate(proxies):
            score = _score(proxy, result, recipe)
            status[k, at] = STATUSES.index(score.status)
            if score.reason is not None:
                reasons[k, at] = score.reason
            if score.value is not None:
                value[k, at] = score.value
            if score.log_value is not None:
                log_value[k, at] = score.log_value
    columns = [
        _Column(proxy.text, "proxy", value[k, spread], log_value[k, spread], status[k, spread],
                group.recipe, group.seed, group.data if proxy.data else "", tuple(reasons[k, spread]),
                takes_logarithm(proxy, recipe))
        for k, proxy in enumerate(proxies)
    ]  # fmt: skip
    _report(columns, notes)
    return columns


def _score(proxy: Proxy, result: Result, recipe: Recipe) -> Score:
    if result.status == "failed":
        return failed(result.reason or "unknown")
    if proxy.saliency is not None and result.moments is not None:
        return evaluate(proxy, result.moments, recipe, result.status, result.reason, with_layers=False)
    if result.status == "dead":
        return Score(0.0, None, "dead", result.reason)
    if proxy.saliency is None and result.value is not None and result.value == result.value:
        return Score(result.value, None, "ok", result.reason)
    return failed(result.reason or "the store holds no number for it")


def _report(columns: Sequence[_Column], notes: list[str]) -> None:
    """Say what is missing and what failed, with the commonest reason."""
    missing = int((columns[0].status == _MISSING).sum())
    if missing:
        notes.append(f"{_architectures(missing)} without a result for {columns[0].proxy} yet: run the sweep again")
    for column in columns:
        failures = np.flatnonzero(column.status == _FAILED).tolist()
        if failures:
            reason, count = Counter(column.reasons[at] or "unknown" for at in failures).most_common(1)[0]
            most = "" if count == len(failures) else f"{count:,} of them: "
            notes.append(f"{column.proxy}: {len(failures):,} failed ({most}{reason})")


def _architectures(count: int) -> str:
    return f"{count:,} architecture{'' if count == 1 else 's'}"


def _controls(columns: Sequence[_Column], joined: _Joined) -> list[_Column]:
    """The controls, once for each set of architectures that some proxy was asked for."""
    everything = np.full(len(joined.accuracy), _OK, dtype=np.int8)
    asked = {(c.status != _MISSING).tobytes(): np.where(c.status != _MISSING, _OK, _MISSING) for c in columns}
    found = []
    for status in list(asked.values()) or [everything]:
        for name in CONTROLS:
            counts = [getattr(row, name) for row in joined.architectures]
            value = np.array([np.nan if count is None else count for count in counts], dtype=np.float64)
            value[status == _MISSING] = np.nan
            if not np.isnan(value).all():
                known = np.where(np.isnan(value), _MISSING, _OK).astype(np.int8)
                found.append(_Column(name, "control", value, np.full_like(value, np.nan), known))
    return found


def _row(column: _Column, joined: _Joined, ci: bool) -> dict[str, Any]:
    scored = column.scored
    keys = stats.order_keys(column.ranked[scored], column.log_value[scored])
    found = stats.correlate(keys, joined.accuracy[scored], ci=ci)
    row: dict[str, Any] = {name: getattr(column, name) for name in ("proxy", "kind", "recipe", "seed", "data")}
    for name in ("spearman", "kendall"):
        estimate: stats.Estimate = getattr(found, name)
        for suffix, number in zip(("", "_lo", "_hi"), estimate, strict=True):
            row[name + suffix] = np.nan if number is None else number
    return row | {
        "n": found.n,
        "coverage": found.n / joined.size,
        "failed": int((column.status == _FAILED).sum()),
        "dead": int((column.status == _DEAD).sum()),
        "ties": found.ties,
        "note": found.note or "",
    }


def _tidy(column: _Column, joined: _Joined) -> pd.DataFrame:
    asked = np.flatnonzero(column.status != _MISSING)
    names = np.array([row.architecture for row in joined.architectures], dtype=object)
    reasons = np.array([column.reasons[at] if column.reasons else "" for at in asked.tolist()], dtype=object)
    return pd.DataFrame(
        {
            "architecture": names[asked],
            "proxy": column.proxy,
            "kind": column.kind,
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
