"""The figures and tables of the paper, one function each, from a store that has been swept already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ssnr.core.recipes import Recipe
from ssnr.store import Store
from ssnr.studies import plots
from ssnr.studies import sheet as sheets
from ssnr.studies.selection import BenchmarkTable, describe_metric
from ssnr.studies.sheet import Sheet, estimate, named, percent
from ssnr.studies.study import Study, study

if TYPE_CHECKING:
    from rich.table import Table

# Figure 2: Spearman correlation with accuracy of all NAS-Bench-201 models. The paper does not state which accuracy,
# which normalisation layers or which seed.
FIG2_PAPER = {"synflow/sum": 0.7754, "synflow/ssnr": 0.7785, "synflow/layerwise_ssnr": 0.8178}
CONTROL = "reachable_params"  # the panel beside them: the number of weights on some path from input to output
_HEADINGS = ("score", "paper ρ", "ρ [95 %]", "difference", "τ [95 %]")


@dataclass(frozen=True, eq=False)
class Fig2Result:
    """Figure 2 and what it says.

    Attributes:
        table: a row for each of the three proxies in the paper's order, then for each control: proxy, kind, paper,
            spearman, spearman_lo, spearman_hi, difference (own minus paper), kendall, kendall_lo, kendall_hi, n,
            coverage, failed, dead.
        files: fig2.png, fig2.pdf, fig2.csv, fig2.md.
        study: everything it says, as tables.
        description: the protocol in words.
    """

    table: pd.DataFrame
    files: tuple[Path, ...]
    study: Study
    description: str

    def to_markdown(self) -> str:
        """What fig2.md holds."""
        lines = ["# Figure 2: score against accuracy", "", self.description, ""]
        lines.append(self.sheet().to_markdown())
        return "\n".join([*lines, "", *(f"* {note}" for note in self.study.notes)]).rstrip("\n") + "\n"

    def to_rich(self) -> Table:
        """Paper value beside own value, for a terminal."""
        return self.sheet().to_rich()

    def sheet(self) -> Sheet:
        """Paper value beside own value."""
        return Sheet.of(_HEADINGS, self._cells(), title="Figure 2: paper and this run")

    def to_json(self) -> dict[str, Any]:
        """The study's document with the paper's value in each row, the protocol and the files."""
        document = self.study.to_json()
        for row in document["rows"]:
            row["paper"] = FIG2_PAPER.get(row["proxy"])
        return document | {"description": self.description, "files": [str(file) for file in self.files]}

    def _cells(self) -> Iterator[list[str]]:
        for row in self.table.to_dict("records"):
            paper = "" if pd.isna(row["paper"]) else f"{row['paper']:.4f}"
            difference = "" if pd.isna(row["difference"]) else f"{row['difference']:+.4f}"
            yield [named(row), paper, estimate(row, "spearman"), difference, estimate(row, "kendall")]


def fig2(
    store: Store | str | Path,
    benchmark: BenchmarkTable,
    out: str | Path,
    *,
    recipe: str | Recipe = "seed",
    seed: int = 0,
    ci: bool = True,
) -> Fig2Result:
    """Figure 2: synflow as saliency sum, overall SSNR and layer-wise SSNR against accuracy, a control beside.

    Nothing is scored: the store must hold synflow for the architectures to draw (`ssnr sweep`). Writes fig2.png,
    fig2.pdf, fig2.csv and fig2.md into `out`, which is created.

    Args:
        store: an open store or the path of one.
        benchmark: the accuracies.
        out: folder of the four files.
        recipe: how synflow was measured.
        seed: of the initial weights.
        ci: whether to add 95 % bootstrap intervals.

    Raises:
        UsageError: the store holds no synflow of this recipe and seed for the benchmark's space.
        SsnrError: a file cannot be written.
    """
    found = study(store, benchmark, list(FIG2_PAPER), recipe=recipe, seed=seed, ci=ci)
    table = _beside_paper(found.table)
    folder = Path(out)
    title = f"Synflow of {found.n:,} networks: its sum, two signal-to-noise ratios, and a control that counts weights"
    drawn = plots.score_vs_accuracy(found, [*FIG2_PAPER, CONTROL], title=title, across=4)
    figures = plots.save(drawn, folder / "fig2")
    files = (*figures, folder / "fig2.csv", folder / "fig2.md")
    result = Fig2Result(table, files, found, _describe(found, recipe, seed))
    sheets.save(table, folder / "fig2", result.to_markdown())
    return result


def _beside_paper(table: pd.DataFrame) -> pd.DataFrame:
    """The three rows in the paper's order, then the controls, each beside what the paper gives."""
    proxies = table[table["kind"] == "proxy"].set_index("proxy", drop=False).loc[list(FIG2_PAPER)]
    rows = pd.concat([proxies, table[table["kind"] == "control"]], ignore_index=True)
    rows["paper"] = rows["proxy"].map(FIG2_PAPER).astype(float)
    rows["difference"] = rows["spearman"] - rows["paper"]
    columns = ["proxy", "kind", "paper", "spearman", "spearman_lo", "spearman_hi", "difference"]
    columns += ["kendall", "kendall_lo", "kendall_hi", "n", "coverage", "failed", "dead", "note"]
    return rows[columns]


def _describe(found: Study, recipe: str | Recipe, seed: int) -> str:
    b = found.benchmark
    return (
        f"{found.n:,} architectures ({percent(found.coverage)} of {b.name}), {describe_metric(b)}. "
        f"Synflow with recipe {recipe}, initial weights from seed {seed}, one initialisation of each architecture. "
        f"Dead networks enter with score 0, failed ones not at all. "
        f"The paper states neither which accuracy, nor which normalisation layers were bypassed, nor the seed. "
        f"Controls count weights and layers: a proxy below them is no better than counting."
    )
