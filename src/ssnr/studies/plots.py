"""Figures from tidy tables. No pyplot, no global state: a figure is made, returned and saved.

Colours are those of Okabe & Ito (2008) and the map cividis (Nuñez, Anderton & Renslow, 2018): both keep their order and
their differences under every common colour blindness and in grey.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from ssnr.core.errors import SsnrError, UsageError
from ssnr.core.figures import picture, plotly, unmarked
from ssnr.studies.selection import describe_metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ssnr.studies.study import Study

BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
DPI = 200
LOG_DECADES = 3.0  # scores that are all positive and span more than this are shown by their logarithm
_PANEL = (3.6, 4.2)  # inches
_MAX_PANELS_A_ROW = 3
_FAR = 2**20  # cells: keeps a pair of cell numbers in 64 bits

Floats = NDArray[np.float64]


def score_vs_accuracy(
    study: Study, proxies: Sequence[str] | None = None, *, title: str = "", across: int = _MAX_PANELS_A_ROW
) -> Figure:
    """One panel per proxy: score on x, accuracy on y, one dot per architecture, ρ and τ written in.

    Dots are coloured by how many lie around them, so that 15,625 stay readable, and the legend says what colour stands
    for how many. What is dead by a score that is drawn (score 0) is a cross in every panel; where such networks are far
    less accurate than all others they have a strip of their own. A score that is positive and spans more than three
    decades is on a logarithmic axis, there dead ones stand left of the smallest. Failed scores are counted in the
    panel, never drawn.

    Args:
        study: scores × accuracies.
        proxies: as written in `study.table`, in this order; by default every proxy of the study, best first.
        title: above all panels.
        across: how many panels per row.

    Raises:
        UsageError: a proxy that the study does not hold.
    """
    rows = _rows(study, proxies)
    panels = [(row, _points(study.scores, row)) for _, row in rows.iterrows()]
    dead = {name for _, points in panels for name in points.loc[points["status"] == "dead", "architecture"]}
    across = min(len(rows), across)
    down = -(-len(rows) // across)
    figure = picture(_PANEL[0] * across + 0.5, _PANEL[1] * down + 0.5)
    axes = figure.subplots(down, across, sharey=True, squeeze=False)
    most = max(_most_around(points) for _, points in panels)
    for ax, (row, points) in zip(axes.flat, panels, strict=False):
        _scatter(ax, row, points, dead, most)
    for ax in axes.flat[len(rows) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("\n".join([study.benchmark.name, *textwrap.wrap(describe_metric(study.benchmark), 50)]))
    handles = _legend(most, bool(dead))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False,
                  handletextpad=0.1, columnspacing=1.2)  # fmt: skip
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _legend(most: int, dead: bool) -> list[Line2D]:
    """What colours and crosses mean: the number of networks in the same spot, a power of ten a colour."""
    found = [Line2D([], [], linestyle="none", label="networks in one spot:")]
    for power in range(len(str(most))):
        colour = matplotlib.colormaps["cividis"](np.log(10**power) / np.log(most) if most > 1 else 0.0)
        found.append(Line2D([], [], linestyle="none", marker="o", markersize=4, color=colour, label=f"{10**power:,}"))
    if dead:
        found.append(Line2D([], [], linestyle="none", marker="x", markersize=4, color=VERMILION, label="dead, score 0"))
    return found


def _most_around(points: pd.DataFrame) -> int:
    """The largest number of networks in one spot of a panel."""
    x, _ = coordinates(points)
    drawn = (points["status"] != "dead").to_numpy() & np.isfinite(x)
    _, density = _by_density(x[drawn], points["accuracy"].to_numpy(dtype=np.float64)[drawn])
    return round(float(np.exp(density.max()))) if len(density) else 1


def interactive(study: Study, proxies: Sequence[str] | None = None) -> Any:
    """The same panels as `score_vs_accuracy`, as a figure of Plotly with the architecture under the pointer.

    Raises:
        UsageError: a proxy that the study does not hold; Plotly is not installed.
    """
    graph_objects = plotly()
    from plotly.subplots import make_subplots

    rows = _rows(study, proxies)
    figure = make_subplots(
        1, len(rows), shared_yaxes=True, subplot_titles=[str(row["proxy"]) for _, row in rows.iterrows()]
    )
    for place, (_, row) in enumerate(rows.iterrows(), start=1):
        points = _points(study.scores, row)
        x, logarithmic = coordinates(points)
        names = points["architecture"].map(unmarked)
        figure.add_trace(
            graph_objects.Scattergl(x=x, y=points["accuracy"], mode="markers", text=names, showlegend=False,
                                    marker={"size": 4, "color": BLUE, "opacity": 0.6}), row=1, col=place,
        )  # fmt: skip
        figure.update_xaxes(title_text="log₁₀ score" if logarithmic else "score", row=1, col=place)
    figure.update_yaxes(title_text=study.benchmark.name, row=1, col=1)
    return figure


def correlations(study: Study) -> Figure:
    """Spearman's ρ and Kendall's τ of every row of a study with 95 % intervals; controls are open squares."""
    table = study.table.iloc[::-1].reset_index(drop=True)
    figure = picture(8.2, 1.3 + 0.28 * len(table))
    axes = figure.subplots(1, 2, sharey=True)
    for ax, name, title in zip(axes, ("spearman", "kendall"), ("Spearman ρ", "Kendall τ"), strict=True):
        for at, (_, row) in enumerate(table.iterrows()):
            _estimate(ax, at, row, name)
        if table[name].min() < 0:
            ax.axvline(0, color=GREY, linewidth=0.6, zorder=0)
        ax.set_xlabel(f"{title} with\n{study.benchmark.name}")
        ax.grid(axis="x", linewidth=0.4, alpha=0.5)
        ax.margins(x=0.08)
    axes[0].set_yticks(range(len(table)), _labels(table))
    axes[0].set_ylim(-0.6, len(table) - 0.4)
    figure.suptitle(f"Proxies (dots) and controls (squares): {describe_metric(study.benchmark)}", fontsize=9)
    return figure


def save(figure: Figure, path: str | Path) -> list[Path]:
    """Write `path`.png (200 dpi) and `path`.pdf (vector text and axes, dots as an image); the same bytes every time.

    Args:
        figure: what to write.
        path: without suffix; its folder is created.

    Raises:
        SsnrError: the files cannot be written.
    """
    stem = Path(path)
    files = [stem.with_name(stem.name + suffix) for suffix in (".png", ".pdf")]
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        # Without date and version the bytes depend on the figure alone.
        with matplotlib.rc_context({"pdf.fonttype": 42}):
            figure.savefig(files[0], dpi=DPI, metadata={"Software": None})
            figure.savefig(files[1], dpi=DPI, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    except OSError as error:
        raise SsnrError(f"cannot write {stem}.png and .pdf: {error.strerror or error}") from error
    return files


# --- panels ---------------------------------------------------------------------------------------------------


def _rows(study: Study, proxies: Sequence[str] | None) -> pd.DataFrame:
    table = study.table
    if proxies is None:
        rows = table[table["kind"] == "proxy"]
        if rows.empty:
            raise UsageError(f"the study of {study.benchmark.name} holds no proxy to draw")
        return rows
    known = list(dict.fromkeys(table["proxy"]))
    for name in proxies:
        if name not in known:
            raise UsageError(f"the study holds no {name!r} to draw; it has {', '.join(known)}")
    return pd.concat([table[table["proxy"] == name] for name in proxies])


def _same(values: pd.Series, value: object) -> pd.Series:
    return values.isna() if pd.isna(value) else values == value  # type: ignore[call-overload]


def _points(scores: pd.DataFrame, row: pd.Series) -> pd.DataFrame:
    """The tidy rows behind one row of the table."""
    mask = scores["proxy"] == row["proxy"]
    for name in ("kind", "recipe", "seed", "data"):
        mask &= _same(scores[name], row[name])
    points: pd.DataFrame = scores[mask & scores["score"].notna()]
    return points


def _scatter(ax: Axes, row: pd.Series, points: pd.DataFrame, elsewhere: Set[str] = frozenset(), most: int = 0) -> None:
    """A panel; what is dead `elsewhere`, by another score, is a cross too; colours end at `most` networks in a spot."""
    dead = (points["status"] == "dead").to_numpy() | points["architecture"].isin(list(elsewhere)).to_numpy()
    accuracy = points["accuracy"].to_numpy(dtype=np.float64)
    x, logarithmic = coordinates(points)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=logarithmic))
    if logarithmic:
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"$10^{{{value:g}}}$"))
    else:
        ax.ticklabel_format(axis="x", style="sci", scilimits=(-2, 4))
    drawn = ~dead & np.isfinite(x)
    order, density = _by_density(x[drawn], accuracy[drawn])
    ax.scatter(x[drawn][order], accuracy[drawn][order], c=density, cmap="cividis", s=4, linewidths=0,
               vmin=0, vmax=np.log(most) if most > 1 else None, rasterized=True)  # fmt: skip
    ax.scatter(x[dead], accuracy[dead], c=VERMILION, marker="x", s=12, linewidths=0.7, rasterized=True)
    _break_axis(ax, x, accuracy, drawn, dead)
    ax.text(0.97, 0.04, caption(row), transform=ax.transAxes, ha="right", va="bottom", fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2})  # fmt: skip
    ax.set_title(row["proxy"], fontsize=10)
    zero = ", × at 0" if (points["status"] == "dead").any() else ""
    ax.set_xlabel(f"score (log scale{zero})" if logarithmic else "score")
    ax.grid(linewidth=0.4, alpha=0.4)


def _break_axis(ax: Axes, x: Floats, accuracy: Floats, drawn: NDArray[np.bool_], dead: NDArray[np.bool_]) -> None:
    """Where dead networks are far less accurate than all others, the axis ends above them and they stand in a strip.

    Else they would squash the rest: at 10 % of ten classes, where others begin at 50 %.
    """
    if not dead.any() or not drawn.any():
        return
    low, high = float(accuracy[drawn].min()), float(accuracy[drawn].max())
    if float(accuracy[dead].max()) > low - 0.4 * (high - low) or high == low:
        return
    ax.set_ylim(low - 0.14 * (high - low), high + 0.04 * (high - low))
    ax.axhspan(low - 0.14 * (high - low), low - 0.06 * (high - low), color=GREY, alpha=0.12, linewidth=0)
    strip = low - 0.1 * (high - low)
    ax.set_yticks([tick for tick in ax.get_yticks() if low - 0.06 * (high - low) < tick <= high + 0.04 * (high - low)])
    ax.plot(x[dead], np.full(int(dead.sum()), strip), "x", color=VERMILION, markersize=4, rasterized=True)
    said = f"{float(np.median(accuracy[dead])):.3g}"
    ax.text(0.12, strip, f"dead, at {said} (axis broken)", transform=ax.get_yaxis_transform(), va="center",
            fontsize=7, color=GREY)  # fmt: skip


def caption(row: pd.Series) -> str:
    """The numbers in a panel.

    >>> row = {"spearman": 0.8178, "kendall": 0.634, "n": 15625, "failed": 0, "dead": 341, "note": ""}
    >>> print(caption(pd.Series(row)))
    ρ = 0.818
    τ = 0.634
    n = 15,625
    dead (×): 341
    """
    lines = [f"{s} = {row[c]:.3f}" for s, c in (("ρ", "spearman"), ("τ", "kendall")) if not pd.isna(row[c])]
    counts = [f"{text}: {row[c]:,}" for text, c in (("dead (×)", "dead"), ("failed", "failed")) if row[c]]
    return "\n".join([*(lines or [row["note"]]), f"n = {row['n']:,}", *counts])


def coordinates(points: pd.DataFrame) -> tuple[Floats, bool]:
    """Positions on the x axis, and whether they are decimal logarithms.

    A logarithmic axis shows log₁₀ of the score, from `log_score` where float64 cannot hold the score itself; dead
    scores, which are 0, stand a twentieth of the range left of the smallest.
    """
    score = points["score"].to_numpy(dtype=np.float64)
    log = points["log_score"].to_numpy(dtype=np.float64) / np.log(10)
    dead = (points["status"] == "dead").to_numpy()
    positive = (score > 0) | ~np.isnan(log)
    if dead.all() or not positive[~dead].all():
        return score, False
    known = np.isnan(log) & (score > 0)
    log[known] = np.log10(score[known])
    low, high = log[~dead].min(), log[~dead].max()
    if high - low <= LOG_DECADES:
        return score, False
    log[dead] = low - (high - low) / 20
    return log, True


def _by_density(x: Floats, y: Floats, bins: int = 80) -> tuple[NDArray[np.int64], Floats]:
    """Order from sparse to dense, and the logarithm of the number of neighbours in that order."""
    if len(x) == 0:
        return np.empty(0, dtype=np.int64), np.empty(0)
    cells = []
    for values in (x, y):
        # Cells of the range that holds nearly everything: a few far outliers must not make one cell of the rest.
        low, high = np.quantile(values, [0.01, 0.99])
        width = (high - low) or (float(np.ptp(values)) or 1.0)
        cells.append(np.clip(np.floor((values - low) / width * bins), -_FAR, _FAR).astype(np.int64))
    _, cell, counts = np.unique(cells[0] * (2 * _FAR + 1) + cells[1], return_inverse=True, return_counts=True)
    density = np.log(counts[cell])
    order = np.argsort(density, kind="stable")
    return order, density[order]


def _estimate(ax: Axes, at: int, row: pd.Series, name: str) -> None:
    control = row["kind"] == "control"
    value, low, high = (row[name + suffix] for suffix in ("", "_lo", "_hi"))
    if pd.isna(value):
        ax.text(0.02, at, row["note"], transform=ax.get_yaxis_transform(), va="center", fontsize=8, color=GREY)
        return
    color = VERMILION if control else BLUE
    if not pd.isna(low):
        ax.plot([low, high], [at, at], color=color, linewidth=1, marker="|", markersize=7)
    ax.plot([value], [at], marker="s" if control else "o", color=color, markersize=4, linestyle="none",
            markerfacecolor="white" if control else color)  # fmt: skip


def _labels(table: pd.DataFrame) -> list[str]:
    """Proxy names, with what tells rows of one name apart."""
    labels = []
    for _, row in table.iterrows():
        twins = table[table["proxy"] == row["proxy"]]
        apart = [f"{name} {row[name]}" for name in ("recipe", "seed", "data", "n") if twins[name].nunique() > 1]
        labels.append(" ".join([row["proxy"], *apart]))
    return labels
