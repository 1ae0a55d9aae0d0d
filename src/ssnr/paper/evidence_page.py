"""The evidence as a page: tables in Markdown, and one figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure

from ssnr.core.figures import picture
from ssnr.paper.evidence import FROZEN, PROXIES, SHARES, Evidence
from ssnr.studies import plots
from ssnr.studies import sheet as sheets
from ssnr.studies.plots import BLUE, GREEN, GREY, VERMILION, _points, _scatter
from ssnr.studies.sheet import Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHORT = {
    FROZEN: "noise_ssnr",
    "snip_noise/layerwise_ssnr(0.5,8)": "(0.5,8)",
    "snip_noise/layerwise_ssnr": "paper's aggregate",
    "snip_noise/ssnr": "ssnr",
    "snip_noise/sum": "sum",
    "synflow/layerwise_ssnr": "synflow, paper's",
}
_POPULATIONS = {"all": "", "used": ", without idle operations", "classes": ", one of each class"}


def write(found: Evidence, folder: str | Path) -> list[Path]:
    """evidence.md, .csv, .png and .pdf in a folder, which is created.

    Raises:
        SsnrError: a file cannot be written.
    """
    stem = Path(folder) / "evidence"
    figures = plots.save(figure(found), stem) if found.study is not None else []
    sheets.save(found.table, stem, to_markdown(found))
    return [*figures, stem.with_suffix(".csv"), stem.with_suffix(".md")]


def to_markdown(found: Evidence) -> str:
    """All tables."""
    lines = ["# Evidence: one image of noise", ""]
    for heading, sheet in _sheets(found):
        lines += [f"## {heading}", "", sheet.to_markdown(), ""]
    return "\n".join(lines)


def to_json(found: Evidence) -> dict[str, Any]:
    """All tables as lists of rows; what is not defined is None."""
    tables = {"rows": found.table, "top": found.top, "images": found.images, "powers": found.powers,
              "layers": found.layers}  # fmt: skip
    return {key: table.astype(object).where(table.notna(), None).to_dict("records") for key, table in tables.items()}


def correlations(found: Evidence) -> Sheet:
    """ρ / τ of every part: the frozen proxy with its spread over seeds, what it is built from, the best control."""
    headings = ("benchmark", "n", "seeds", *(_SHORT[name] for name in PROXIES), "best control")
    return Sheet.of(headings, _correlation_rows(found.table))


def _correlation_rows(table: pd.DataFrame) -> Iterator[list[str]]:
    for (_, population), rows in table.groupby(["part", "population"], sort=False):
        by_name = {str(row["proxy"]): row for _, row in rows.iterrows()}
        frozen = by_name[FROZEN]
        title = f"{frozen['title']}{_POPULATIONS[str(population)]}"
        controls = rows[rows["kind"] == "control"].sort_values("spearman")
        best = controls.iloc[-1]
        cells = [_pair(by_name[name]) if name in by_name else "" for name in PROXIES]
        loses = "" if best["spearman"] < frozen["spearman"] else " (!)"
        yield [title, f"{frozen['n']:,}", str(frozen["seeds"]), *cells, f"{_pair(best)} {best['proxy']}{loses}"]


def _pair(row: pd.Series) -> str:
    """ρ / τ, with standard deviations over seeds where there are several."""
    if pd.isna(row["spearman"]):
        return "–"
    if pd.isna(row["spearman_sd"]) or row["kind"] == "control":
        return f"{row['spearman']:.3f} / {row['kendall']:.3f}"
    return f"{row['spearman']:.3f} ± {row['spearman_sd']:.3f} / {row['kendall']:.3f} ± {row['kendall_sd']:.3f}"


def at_the_top(found: Evidence) -> Sheet:
    """Precision, nDCG and the first choice of the frozen proxy and the best control."""
    headings = ("benchmark", "proxy", *(f"precision@{s:.0%}" for s in SHARES), "nDCG@10%", "first choice", "regret")
    rows = []
    for _, part in found.table[found.table["population"] == "all"].groupby("part", sort=False):
        controls = part[part["kind"] == "control"].sort_values("spearman")
        for row in (*part[part["kind"] == "proxy"].to_dict("records"), controls.iloc[-1].to_dict()):
            measures = [_number(row[f"precision@{s:.0%}"], 3) for s in SHARES]
            rows.append([row["title"], row["proxy"], *measures, _number(row["ndcg@10%"], 3),
                         _number(row["choice"], 2), _number(row["regret"], 2)])  # fmt: skip
    return Sheet.of(headings, rows, left=("proxy",))


def _number(value: float, digits: int) -> str:
    return "–" if pd.isna(value) else f"{value:.{digits}f}"


def _sheets(found: Evidence) -> Iterator[tuple[str, Sheet]]:
    yield "Spearman ρ / Kendall τ", correlations(found)
    yield "The top", at_the_top(found)
    if len(found.images):
        of_images = [
            (row["kind"], row["images"], f"{row['spearman']:.3f}",
             f"{row['kendall']:.3f} [{row['kendall_lo']:.3f}, {row['kendall_hi']:.3f}]", f"{row['dead']:,}")
            for row in found.images.to_dict("records")
        ]  # fmt: skip
        yield (
            "What the saliency reads: the 1,000 cells of the choice",
            Sheet.of(("input", "images", "ρ", "τ [95 %]", "dead"), of_images),
        )
    if len(found.powers):
        rows = [
            (row["cells"], row["q"], f"{row['spearman']:.3f}", f"{row['kendall']:.3f}")
            for row in found.powers.to_dict("records")
        ]
        yield "The power q, on the cells of the choice and on all", Sheet.of(("cells", "q", "ρ", "τ"), rows)
    if len(found.layers):
        shown = found.layers.sort_values("share", ascending=False)
        decide = [(r["layer"], f"{r['share']:.1%}", f"{r['top']:.1%}") for r in shown.to_dict("records")]
        yield "Which layers decide", Sheet.of(("layers", "share of the numerator", "of the 100 highest scores"), decide)


# --- figure -------------------------------------------------------------------------------------------------------


def figure(found: Evidence) -> Figure:
    """Score against accuracy of the sum, the paper's aggregate and the frozen proxy; below, what they depend on."""
    assert found.study is not None
    page = picture(11.4, 8.2 if len(found.images) else 7.6)
    axes = page.subplots(2, 3, gridspec_kw={"height_ratios": [1.25, 1.0]})
    titles = ("saliency sum", "layer-wise SSNR, the paper's", "noise_ssnr")
    for ax, name, title in zip(axes[0], ("snip_noise/sum", "snip_noise/layerwise_ssnr", FROZEN), titles, strict=True):
        (_, row), *_ = found.study.table[found.study.table["proxy"] == name].iterrows()
        _scatter(ax, row, _points(found.study.scores, row))
        ax.set_title(title, fontsize=10)
    axes[0, 0].set_ylabel("CIFAR-10 test accuracy, %")
    _curve(axes[1, 0], found.images)
    _power(axes[1, 1], found.powers)
    _top(axes[1, 2], found.top)
    page.suptitle(
        f"Snip of one image of noise, all {found.study.n:,} networks of NAS-Bench-201 before training", fontsize=11
    )
    return page


def _curve(ax: Axes, table: pd.DataFrame) -> None:
    """ρ over the number of images; one image of other kinds as single points."""
    looks: Sequence[tuple[str, str, str]] = (("noise", BLUE, "o"), ("CIFAR-10 images", VERMILION, "s"))
    for kind, colour, marker in looks:
        rows = table[table["kind"] == kind] if len(table) else table
        if len(rows):
            ax.plot(rows["images"], rows["spearman"], color=colour, marker=marker, markersize=4, label=kind)
    others = table[~table["kind"].isin([kind for kind, *_ in looks])] if len(table) else table
    for marker, row in zip(("^", "v", "D"), others.to_dict("records"), strict=False):
        ax.plot([row["images"]], [row["spearman"]], color=GREY, marker=marker, markersize=5, linestyle="none",
                markerfacecolor="white", label=row["kind"])  # fmt: skip
    ax.set_xscale("log", base=2)
    _finish(ax, "how many images", "ρ, 1,000 cells of the choice")


def _power(ax: Axes, table: pd.DataFrame) -> None:
    for cells, colour, line in (("choice", BLUE, "-"), ("all", GREEN, "--")):
        rows = table[table["cells"] == cells]
        label = "1,000 cells of the choice" if cells == "choice" else "all cells"
        ax.plot(rows["q"], rows["spearman"], color=colour, linestyle=line, marker="o", markersize=3, label=label)
    _finish(ax, "power q of each layer's ratio", "ρ with CIFAR-10 accuracy")


def _top(ax: Axes, table: pd.DataFrame) -> None:
    own = table[table["part"] == "nb201-c10"]
    looks = (
        (FROZEN, BLUE, "-"), ("snip_noise/layerwise_ssnr", GREEN, "--"), ("snip_noise/sum", VERMILION, ":"),
        ("reachable_params", GREY, "-."),
    )  # fmt: skip
    for name, colour, line in looks:
        rows = own[own["proxy"] == name].sort_values("share")
        ax.plot(100 * rows["share"], rows["spearman"], color=colour, linestyle=line, marker="o", markersize=3,
                label=_SHORT.get(name, name))  # fmt: skip
    ax.axhline(0, color=GREY, linewidth=0.5)
    ax.set_xscale("log")
    _finish(ax, "only the most accurate …, %", "ρ within them")


def _finish(ax: Axes, x: str, y: str) -> None:
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid(linewidth=0.4, alpha=0.5)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=7, frameon=False)
