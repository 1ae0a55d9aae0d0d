"""A sweep joined with a benchmark: how well does each proxy rank the architectures?

Nothing is scored here. The store holds moments, so any `saliency/aggregate` whose saliency was measured is a few
milliseconds away, and counting weights stands beside it: a proxy that does not beat the controls has to show it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ssnr import benchmarks
from ssnr.core import views
from ssnr.core.catalogue import Proxy
from ssnr.core.combinations import Combination
from ssnr.core.recipes import Recipe
from ssnr.store import Group, Store
from ssnr.studies import columns, combined, populations
from ssnr.studies import sheet as sheets
from ssnr.studies import top as tops
from ssnr.studies.selection import (
    Asked,
    BenchmarkTable,
    choose_groups,
    choose_proxies,
    choose_space,
    describe_metric,
    needed,
)

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, eq=False, repr=False)
class Study:
    """Correlations of proxies and controls with a benchmark.

    Attributes:
        table: one row per proxy or control, best Kendall τ first: proxy, kind ("proxy", "control" or "published"),
            published_in (the file, where others measured it), recipe, seed, data, spearman, spearman_lo, spearman_hi,
            kendall, kendall_lo, kendall_hi, n (architectures that entered), coverage (n as a share of the benchmark's
            population), failed, dead (entered with value 0), ties (architectures whose score is shared with another),
            choice (accuracy of the highest score), regret (how far below the best that is), note (why there is no
            correlation: "constant", "constant accuracy", "too few"). Correlations keep their sign.
        top: one row per row of `table` and share of `study(top=…)`: row (in `table`), what tells it from others,
            share, k, precision, ndcg, then within the k most accurate best_n, best_spearman, best_kendall, and within
            the k highest scores chosen_n, chosen_spearman, chosen_kendall; correlations with _lo and _hi. See
            `ssnr.studies.top`.
        scores: one row per proxy and architecture: architecture, proxy, kind, published_in, recipe, seed, data, score,
            log_score, status, reason, accuracy. A failed row has no score.
        benchmark: what the scores were joined with.
        population: which architectures: "all", "used" or "classes"; see `ssnr.studies.populations`.
        notes: what a reader has to know: which space, what is missing, what failed.
        n: architectures that are both in the store and in the benchmark.
        coverage: share of the benchmark's population for which at least one proxy has a number.
    """

    table: pd.DataFrame
    scores: pd.DataFrame
    benchmark: BenchmarkTable
    notes: tuple[str, ...] = ()
    n: int = 0
    coverage: float = 0.0
    population: str = "all"
    top: pd.DataFrame = field(default_factory=pd.DataFrame)

    def to_json(self) -> dict[str, Any]:
        """The document of `ssnr correlate --json`; what is not defined is None."""
        rows = []
        shares = _records(self.top)
        for at, row in enumerate(_records(self.table)):
            names = {name: row[name] for name in columns.NAMES} | {"published_in": row["published_in"] or None}
            counts = {name: row[name] for name in ("n", "coverage", "failed", "dead", "ties", "choice", "regret")}
            top = [_top_json(other) for other in shares if other["row"] == at]
            rows.append({**names, **_estimates(row), **counts, "top": top, "note": row["note"] or None})
        b = self.benchmark
        head = {"benchmark": b.name, "source": b.source, "metric": b.metric, "split": b.split, "epochs": b.epochs,
                "runs": b.runs, "population": self.population}  # fmt: skip
        return {**head, "n": self.n, "coverage": self.coverage, "notes": list(self.notes), "rows": rows}

    def to_frame(self) -> pd.DataFrame:
        """The table with the benchmark and the population named in every row, and the top measures of each share.

        A measure of the best tenth is in a column such as `precision@10%`.
        """
        frame = self.table.copy()
        for share in self.top["share"].unique().tolist() if len(self.top) else ():
            measures = self.top[self.top["share"] == share].set_index("row").drop(columns=[*columns.NAMES, "share"])
            frame = frame.join(measures.add_suffix(f"@{share * 100:g}%"))
        for position, name in enumerate(("name", "source", "metric", "split", "epochs", "runs")):
            frame.insert(position, "benchmark" if name == "name" else name, getattr(self.benchmark, name))
        frame.insert(6, "population", self.population)
        return frame

    def to_csv(self, path: str | Path | None = None) -> str | None:
        """`to_frame` as CSV: into a file, or as text where none is named.

        Raises:
            SsnrError: the file cannot be written.
        """
        return sheets.to_csv(self.to_frame(), path)

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

    def top_sheet(self) -> sheets.Sheet:
        """The measures of the top as they are shown: of each share, and the first choice."""
        return sheets.tops(self.table, self.top, self._title())

    def _title(self) -> str:
        population = "" if self.population == "all" else f", population {self.population}"
        return f"{self.benchmark.name}, {describe_metric(self.benchmark)}{population}"

    def plot(self, proxies: Sequence[str] | None = None, *, backend: str = "matplotlib") -> Any:
        """Score against accuracy, a panel per proxy; a matplotlib figure, or Plotly's with hover.

        Args:
            proxies: which, in this order; by default all of the study, best first.
            backend: "matplotlib" or "plotly" (extra `report`).

        Raises:
            UsageError: a proxy that the study does not hold, or another backend.
        """
        from ssnr.core.figures import checked
        from ssnr.studies import plots

        draw = plots.interactive if checked(backend) == "plotly" else plots.score_vs_accuracy
        return draw(self, proxies)

    def _repr_html_(self) -> str:
        sheet = self.sheet()
        table = views.html_table(
            [c.heading for c in sheet.columns], [cells for _, cells in sheet.cells()], self._title()
        )
        return table + "".join(f"<p>{escape(note)}</p>" for note in self.notes)

    def __str__(self) -> str:
        from rich.console import Console

        page = io.StringIO()
        shown = [self.to_rich(), *([self.top_sheet().to_rich()] if len(self.top) else ())]
        Console(file=page, width=140, color_system=None).print(*shown)
        return page.getvalue()

    def __repr__(self) -> str:
        population = "" if self.population == "all" else f" ({self.population})"
        return f"<study of {self.benchmark.name}{population}: {len(self.table)} rows, {self.n:,} architectures>"


def study(
    store: Store | str | Path,
    benchmark: BenchmarkTable | str,
    proxies: Iterable[Asked] | None = None,
    *,
    recipe: str | Recipe | None = None,
    seed: int | None = None,
    data: str | None = None,
    population: str = "all",
    top: Iterable[float] = (),
    published: Iterable[str] = (),
    ci: bool = True,
) -> Study:
    """Correlate what a store holds with a benchmark's accuracies.

    Args:
        store: an open store or the path of one.
        benchmark: accuracies by architecture string, or the name of a benchmark.
        proxies: which, combinations such as `rank(synflow,-ntk)` among them (`ssnr.core.combinations`); by default
            every measured saliency and its magnitude as sum, ssnr and layerwise_ssnr. Controls are always there, on the
            same architectures.
        recipe: only results of this recipe.
        seed: only results of this seed.
        data: only results on the batch of this fingerprint; what needs no batch stays.
        population: "all" architectures, those "used" in full, or one of each of the "classes" of isomorphic ones.
        top: shares of the population, such as 0.1 for the best tenth, whose measures are wanted.
        published: proxies that others published for this benchmark (`ssnr list published`) and that are wanted as rows
            of kind "published"; "all" for every one.
        ci: whether to add 95 % intervals.

    Raises:
        UsageError: nothing of the benchmark's family, or nothing of what was asked for, is in the store; an unknown
            population or one that the space does not define; a share outside (0, 1].
        StoreError: the store cannot be read.
    """
    populations.checked(population)
    shares = tops.checked_shares(top)
    if isinstance(benchmark, str):
        benchmark = benchmarks.load(benchmark)
    if not isinstance(store, Store):
        with Store(store, create=False) as opened:
            return study(opened, benchmark, proxies, recipe=recipe, seed=seed, data=data, population=population,
                         top=shares, published=published, ci=ci)  # fmt: skip
    note = getattr(benchmark, "note", "")
    notes: list[str] = [f"{benchmark.name}: {note}"] if note else []
    space = choose_space(store, benchmark, notes)
    groups = choose_groups(store, space, recipe, seed, data, notes)
    asked = choose_proxies(store, space, groups, proxies, notes)
    joined = columns.join(store, space, benchmark, notes, population)
    found = _evaluate(store, groups, asked, joined, notes)
    found += columns.controls(found, joined)
    found += columns.published(
        benchmark, (published,) if isinstance(published, str) else tuple(published), joined, notes
    )
    table = pd.DataFrame([columns.row(column, joined, ci) for column in found])
    table["seed"] = table["seed"].astype("Int64")
    table = table.sort_values(["kendall", "proxy"], ascending=[False, True], na_position="last", kind="stable")
    at_top = pd.DataFrame(
        [
            {"row": number} | columns.top_row(found[at], joined, share, ci)
            for number, at in enumerate(table.index)
            for share in shares
        ]
    )
    if shares:
        at_top["seed"] = at_top["seed"].astype("Int64")
    scored = np.any([column.scored for column in found if column.kind == "proxy" or not asked], axis=0)
    return Study(
        table.reset_index(drop=True),
        pd.concat([columns.tidy(column, joined) for column in found], ignore_index=True),
        benchmark,
        tuple(notes),
        n=len(joined.accuracy),
        coverage=int(scored.sum()) / joined.size,
        population=population,
        top=at_top,
    )


def _evaluate(
    store: Store,
    groups: Sequence[Group],
    asked: Sequence[Proxy | Combination],
    joined: columns.Joined,
    notes: list[str],
) -> list[columns.Column]:
    """The columns of what was asked for; members of combinations that were not are evaluated, but not shown."""
    shown, found, members = {one.text for one in asked}, [], []
    for group in groups:
        wanted = [proxy for proxy in needed(asked) if proxy.measured == group.measured]
        of_group = columns.evaluate_group(store, group, wanted, joined)
        members += of_group
        of_group = [column for column in of_group if column.proxy in shown]
        columns.report(of_group, notes)
        found += of_group
    for one in asked:
        if isinstance(one, Combination):
            for column in combined.columns_of(one, members, columns.controls([], joined)):
                columns.report([column], notes)
                found.append(column)
    return found


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[assignment]
    return rows


def _estimates(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Both correlations and their intervals, as JSON has them."""
    return {
        key: value
        for name in ("spearman", "kendall")
        for key, value in (
            (name, row[prefix + name]),
            (f"{name}_ci", [row[f"{prefix}{name}_lo"], row[f"{prefix}{name}_hi"]]),
        )
    }


def _top_json(row: dict[str, Any]) -> dict[str, Any]:
    within = {kind: {"n": row[f"{kind}_n"], **_estimates(row, f"{kind}_")} for kind in ("best", "chosen")}
    return {name: row[name] for name in ("share", "k", "precision", "ndcg")} | within
