"""Table 1 of the paper: Kendall τ of saliency × aggregate on three families of benchmarks.

The columns are a list of facts (`COLUMNS`); what to sweep follows from it (`sweeps`), and so does the table (`table1`),
which scores nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ssnr import benchmarks
from ssnr.core.catalogue import CONTROLS, parse_proxy
from ssnr.core.errors import SsnrError
from ssnr.core.recipes import Recipe, get_recipe
from ssnr.paper import plots as paper_plots
from ssnr.paper.parts import chosen as chosen_of
from ssnr.paper.parts import sample
from ssnr.spaces import Space, get_space
from ssnr.store import Store
from ssnr.studies import plots
from ssnr.studies.selection import BenchmarkTable, describe_metric
from ssnr.studies.sheet import Column as Shown
from ssnr.studies.sheet import Sheet, is_control, named
from ssnr.studies.study import Study, study

if TYPE_CHECKING:
    from rich.table import Table

AGGREGATES = ("sum", "ssnr", "layerwise_ssnr", "layerwise_ssnr(0.75,3)")
SAMPLE = 5000  # "by running NASLib with test size 5000"


class Column(NamedTuple):
    """One column: whose networks, whose accuracies, which architectures, and what the paper prints for synflow."""

    key: str
    title: str
    space: str
    benchmark: str
    source: str | None = None
    sample: int | None = None  # architectures drawn from the seed; None: all that the benchmark has
    paper: tuple[float, float, float] | None = None  # sum, ssnr, layerwise_ssnr
    protocol: str = ""  # what differs from the paper, as far as it is known


_NASLIB = (
    "the paper ran NASLib with test size 5000, which draws with replacement; it states neither the norms that were "
    "bypassed nor the seed"
)
_MICRO = (
    "the paper's 5,000 test architectures can only be repeats of the 4,096 cells; NASLib scores batches of its own "
    "loader's networks with 63 scene and 100 object classes"
)

_SURROGATE = (
    "accuracies are a surrogate's predictions, and the paper sampled 5,000 genotypes; 1,218 have published accuracies"
)
_OBJECT = f"{_MICRO}; the published synflow of all 4,096 cells gives .3253 here, far from the paper's .4926"
_TNB = "transnasbench101-micro"

COLUMNS = (
    Column("nb201-c10", "NB201 C10", "nasbench201", "nasbench201/cifar10",
           "naslib", SAMPLE, (0.5152, 0.5316, 0.5549), _NASLIB),
    Column("nb201-c100", "NB201 C100", "nasbench201/cifar100", "nasbench201/cifar100",
           "naslib", SAMPLE, (0.5615, 0.5252, 0.5943), _NASLIB),
    Column("nb301", "NB301 C10", "darts", "nasbench301/cifar10",
           paper=(0.1199, 0.2072, 0.3392), protocol=_SURROGATE),
    Column("jigsaw", "TNB Jigsaw", f"{_TNB}/jigsaw", f"{_TNB}/jigsaw",
           paper=(0.3311, 0.3829, 0.3807), protocol=_MICRO),
    Column("class_object", "TNB Object", f"{_TNB}/class_object", f"{_TNB}/class_object",
           paper=(0.4926, 0.4337, 0.4356), protocol=_OBJECT),
    Column("class_scene", "TNB Scene", _TNB, f"{_TNB}/class_scene",
           paper=(0.5408, 0.5995, 0.5794), protocol=_MICRO),
    Column("nb201-c10-test", "NB201 C10 test, all", "nasbench201", "nasbench201/cifar10", "nats"),
    Column("nb201-c100-test", "NB201 C100 test, all", "nasbench201/cifar100", "nasbench201/cifar100", "nats"),
    Column("darts-swap", "DARTS-SWAP C10", "darts", "darts-swap/cifar10"),
)  # fmt: skip


class Sweep(NamedTuple):
    """What has to be in the store: one space, its architectures."""

    space: Space
    architectures: list[str]


def columns(keys: Sequence[str] | None = None) -> tuple[Column, ...]:
    """The columns by key, all by default.

    Raises:
        UsageError: an unknown key.
    """
    return chosen_of(COLUMNS, keys, "column")


def load(chosen: Sequence[Column], *, seed: int = 0) -> dict[str, BenchmarkTable]:
    """The accuracies of each column, cut down to its sample."""
    return {c.key: sample(benchmarks.load(c.benchmark, c.source), c.sample, seed) for c in chosen}


def sweeps(chosen: Sequence[Column], accuracies: dict[str, BenchmarkTable]) -> list[Sweep]:
    """What the columns need, each space once, with every architecture that one of its columns asks for."""
    needed: dict[str, dict[str, None]] = {}
    for column in chosen:
        needed.setdefault(column.space, {}).update(dict.fromkeys(accuracies[column.key].table.index))
    return [Sweep(get_space(name), list(archs)) for name, archs in needed.items()]


@dataclass(frozen=True, eq=False)
class Table1Result:
    """Table 1 and what it says.

    Attributes:
        table: one row per proxy or control and column: column, proxy, kind, kendall, kendall_lo, kendall_hi, spread
            (standard deviation over seeds), seeds, spearman, n, failed, dead, paper, best (of its column, without
            controls).
        notes: protocol, and where the paper's value lies outside the interval.
        files: table1.png, .pdf, .csv, .md, .tex.
    """

    table: pd.DataFrame
    notes: tuple[str, ...]
    files: tuple[Path, ...]
    titles: dict[str, str]

    def to_rich(self) -> Table:
        """For a terminal: own value with its interval, the paper's below; best of each column in bold."""
        return self.sheet().to_rich()

    def to_markdown(self) -> str:
        """What table1.md holds."""
        lines = ["# Table 1: Kendall τ", "", self.sheet().to_markdown(), "", *(f"* {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def to_latex(self) -> str:
        r"""A `tabular` for `\usepackage{booktabs}`."""
        return self.sheet().to_latex()

    def sheet(self) -> Sheet:
        """One row per proxy or control, one column per benchmark."""
        by_key = {key: rows.set_index("proxy") for key, rows in self.table.groupby("column")}
        columns = [Shown("proxy", named, right=False)]
        for key, title in self.titles.items():
            rows = by_key[key]
            columns.append(Shown(title, partial(_shown, rows), best=partial(_is_best, rows)))
        frame = self.table[["proxy", "kind"]].drop_duplicates("proxy")
        return Sheet(frame, tuple(columns), "Table 1: Kendall τ [95 %], paper in brackets below", (), is_control)

    def to_json(self) -> dict[str, Any]:
        """Rows, notes, files; what is not defined is None."""
        rows = self.table.astype(object).where(self.table.notna(), None).to_dict("records")
        return {"rows": rows, "notes": list(self.notes), "files": [str(file) for file in self.files]}


def _shown(rows: pd.DataFrame, row: Mapping[Any, Any]) -> str:
    return _cell(rows.loc[row["proxy"]]) if row["proxy"] in rows.index else ""


def _is_best(rows: pd.DataFrame, row: Mapping[Any, Any]) -> bool:
    return row["proxy"] in rows.index and bool(rows.loc[row["proxy"], "best"])


def _cell(row: pd.Series[Any]) -> str:
    if pd.isna(row["kendall"]):
        return ""
    spread = f" ± {row['spread']:.3f}" if row["seeds"] > 1 else ""
    interval = "" if pd.isna(row["kendall_lo"]) else f" [{row['kendall_lo']:.3f}, {row['kendall_hi']:.3f}]"
    paper = "" if pd.isna(row["paper"]) else f"\n({row['paper']:.4f})"
    return f"{row['kendall']:.4f}{spread}{interval}{paper}"


def table1(
    store: Store | str | Path,
    out: str | Path,
    *,
    saliencies: Sequence[str] = ("synflow",),
    keys: Sequence[str] | None = None,
    recipe: str | Recipe = "seed",
    seeds: Sequence[int] = (0,),
    ci: bool = True,
) -> Table1Result:
    """Table 1 from a store that has been swept: saliencies × aggregates and the controls, beside the paper's values.

    Writes table1.csv, .md, .tex, .png and .pdf into `out`.

    Args:
        store: what `sweeps` asks for, measured.
        out: folder of the files, created.
        saliencies: rows, times sum, ssnr, layerwise_ssnr and layerwise_ssnr(0.75,3).
        keys: columns; all by default.
        recipe: how the saliencies were measured.
        seeds: of the initial weights; τ is their mean, the spread their standard deviation.
        ci: whether to add 95 % bootstrap intervals (their mean ends over seeds).

    Raises:
        UsageError: an unknown column, or something is not in the store.
        SsnrError: a file cannot be written.
    """
    if not isinstance(store, Store):
        with Store(store, create=False) as opened:
            return table1(opened, out, saliencies=saliencies, keys=keys, recipe=recipe, seeds=seeds, ci=ci)
    chosen = columns(keys)
    accuracies = load(chosen)
    proxies = [parse_proxy(f"{saliency}/{aggregate}").text for saliency in saliencies for aggregate in AGGREGATES]
    text = str(get_recipe(recipe))
    rows: list[pd.DataFrame] = []
    notes: list[str] = []
    for column in chosen:
        found = [study(store, accuracies[column.key], proxies, recipe=text, seed=seed, ci=ci) for seed in seeds]
        part = _column(column, found, proxies)
        rows.append(part)
        notes += _notes(column, found[0], part)
    table = pd.concat(rows, ignore_index=True)
    titles = {column.key: column.title for column in chosen}
    return _write(Table1Result(table, tuple(dict.fromkeys(notes)), (), titles), Path(out))


def _column(column: Column, found: Sequence[Study], proxies: Sequence[str]) -> pd.DataFrame:
    """A column's rows: the mean over seeds, in the order of the proxies, then the controls."""
    tables = pd.concat([one.table for one in found], ignore_index=True)
    paper = dict(zip((f"synflow/{name}" for name in AGGREGATES[:3]), column.paper or (), strict=False))
    rows = []
    for name in (*proxies, *CONTROLS):
        same = tables[tables["proxy"] == name]
        if same.empty:
            continue
        taus = same["kendall"].to_numpy(dtype=float)
        rows.append(
            {
                "column": column.key,
                "proxy": name,
                "kind": same["kind"].iloc[0],
                "kendall": taus.mean(),
                "kendall_lo": same["kendall_lo"].mean(),
                "kendall_hi": same["kendall_hi"].mean(),
                "spread": taus.std(ddof=1) if len(taus) > 1 else np.nan,
                "seeds": 1 if same["kind"].iloc[0] == "control" else len(taus),
                "spearman": same["spearman"].mean(),
                "n": int(same["n"].iloc[0]),
                "failed": int(same["failed"].max()),
                "dead": int(same["dead"].max()),
                "paper": paper.get(name, np.nan),
            }
        )
    table = pd.DataFrame(rows)
    scored = table["kendall"].where(table["kind"] == "proxy")
    return table.assign(best=scored.notna() & (scored == scored.max()))


def _notes(column: Column, found: Study, rows: pd.DataFrame) -> Iterator[str]:
    """What was correlated, and where the paper's number lies outside the interval."""
    yield f"{column.title}: {found.n:,} architectures of {column.space}, {describe_metric(found.benchmark)}"
    apart = []
    for row in rows.to_dict("records"):
        inside = (
            pd.isna(row["paper"])
            or pd.isna(row["kendall_lo"])
            or row["kendall_lo"] <= row["paper"] <= row["kendall_hi"]
        )
        if not inside:
            apart.append(f"{row['proxy']} {row['kendall']:.4f} (paper {row['paper']:.4f})")
    if apart:
        yield f"{column.title}: outside the interval: {', '.join(apart)}. In protocol, {column.protocol}"
    above = rows[(rows["kind"] == "control") & (rows["kendall"] > rows.loc[rows["kind"] == "proxy", "kendall"].max())]
    if len(above):
        best = above.sort_values("kendall").iloc[-1]
        yield f"{column.title}: the control {best['proxy']} ({best['kendall']:.4f}) is above every proxy shown"


def _write(result: Table1Result, folder: Path) -> Table1Result:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figures = plots.save(paper_plots.table1(result.table, result.titles), folder / "table1")
        files = (*figures, *(folder / f"table1.{suffix}" for suffix in ("csv", "md", "tex")))
        result = dataclasses.replace(result, files=files)
        result.table.to_csv(files[-3], index=False, lineterminator="\n")
        files[-2].write_text(result.to_markdown(), encoding="utf-8")
        files[-1].write_text(result.to_latex(), encoding="utf-8")
    except OSError as error:
        raise SsnrError(f"cannot write table 1 into {folder}: {error.strerror or error}") from error
    return result
