"""Pictures of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ssnr.core.figures import picture, plotly, unmarked
from ssnr.studies.plots import BLUE, GREY, VERMILION

if TYPE_CHECKING:
    from ssnr.searchers.result import SearchResult


def best_so_far(found: SearchResult) -> pd.DataFrame:
    """The trials that have the one objective: trial, architecture, value, best."""
    (objective,) = found.objectives
    table = found.table[found.table["status"] == "ok"].dropna(subset=[objective.name])
    values = table[objective.name].to_numpy(dtype=np.float64)
    best = np.maximum.accumulate(values) if objective.larger else np.minimum.accumulate(values)
    return table[["trial", "architecture"]].assign(value=values, best=best)


def history(found: SearchResult) -> Figure:
    """Each trial's objective, and the best so far."""
    table = best_so_far(found)
    figure = picture(6.4, 4.0)
    axes = figure.subplots()
    axes.plot(table["trial"], table["value"], ".", color=GREY, markersize=3, label="trials", rasterized=True)
    axes.step(table["trial"], table["best"], where="post", color=BLUE, label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(found.objectives[0].text)
    axes.legend(frameon=False, fontsize=8)
    axes.grid(linewidth=0.4, alpha=0.5)
    axes.set_title(_title(found), fontsize=10)
    return figure


def front(found: SearchResult) -> Figure:
    """The first two objectives of every trial, those that no other one beats joined by a line."""
    first, second = found.objectives[:2]
    ranked = found.ranked
    figure = picture(6.4, 4.4)
    axes = figure.subplots()
    if len(ranked):
        axes.plot(ranked[second.name], ranked[first.name], ".", color=GREY, markersize=3, label="trials",
                  rasterized=True)  # fmt: skip
        best = ranked[ranked["rank"] == 1].sort_values(second.name)
        axes.plot(best[second.name], best[first.name], "-o", color=VERMILION, markersize=4, label="front")
        axes.legend(frameon=False, fontsize=8)
        if _wide(ranked[second.name]):
            axes.set_xscale("log")
    axes.set_xlabel(second.text)
    axes.set_ylabel(first.text)
    axes.grid(linewidth=0.4, alpha=0.5)
    axes.set_title(_title(found), fontsize=10)
    return figure


def interactive(found: SearchResult) -> Any:
    """The same as `history` or `front`, as a figure of Plotly with the architecture under the pointer.

    Raises:
        UsageError: Plotly is not installed.
    """
    draw = plotly()
    if len(found.objectives) == 1:
        table = best_so_far(found)
        x, y, line, names = "trial", "value", table[["trial", "best"]], ("trial", found.objectives[0].text)
        said, shape = "best so far", "hv"
    else:
        first, second = found.objectives[:2]
        table, names, x, y = found.ranked, (second.text, first.text), second.name, first.name
        line = table.loc[table["rank"] == 1, [x, y]].sort_values(x)
        said, shape = "front", "linear"
    figure = draw.Figure()
    figure.add_scatter(x=table[x], y=table[y], mode="markers", text=table["architecture"].map(unmarked), name="trials",
                       marker={"size": 4, "color": GREY})  # fmt: skip
    figure.add_scatter(x=line.iloc[:, 0], y=line.iloc[:, 1], mode="lines", name=said,
                       line={"shape": shape, "color": BLUE})  # fmt: skip
    wide = len(found.objectives) > 1 and len(table) > 0 and _wide(table[x])
    figure.update_xaxes(title_text=unmarked(names[0]), type="log" if wide else "linear")
    figure.update_yaxes(title_text=unmarked(names[1]))
    figure.update_layout(title=unmarked(_title(found)))
    return figure


def _title(found: SearchResult) -> str:
    return f"Search of {found.space}: {len(found.table):,} trials"


def _wide(values: pd.Series) -> bool:
    return bool(values.min() > 0 and values.max() > 100 * values.min())
