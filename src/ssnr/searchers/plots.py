"""Pictures of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from ssnr.studies.plots import BLUE, GREY, VERMILION, _figure

if TYPE_CHECKING:
    from ssnr.searchers.result import SearchResult


def history(found: SearchResult) -> Figure:
    """Each trial's objective, and the best so far."""
    (objective,) = found.objectives
    table = found.table[found.table["status"] == "ok"].dropna(subset=[objective.name])
    values = table[objective.name].to_numpy(dtype=np.float64)
    best = np.maximum.accumulate(values) if objective.larger else np.minimum.accumulate(values)
    figure = _figure(6.4, 4.0)
    axes = figure.subplots()
    axes.plot(table["trial"], values, ".", color=GREY, markersize=3, label="trials", rasterized=True)
    axes.step(table["trial"], best, where="post", color=BLUE, label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(objective.text)
    axes.legend(frameon=False, fontsize=8)
    axes.grid(linewidth=0.4, alpha=0.5)
    axes.set_title(f"Search of {found.space}: {len(found.table):,} trials", fontsize=10)
    return figure


def front(found: SearchResult) -> Figure:
    """The first two objectives of every trial, those that no other one beats joined by a line."""
    first, second = found.objectives[:2]
    ranked = found.ranked
    figure = _figure(6.4, 4.4)
    axes = figure.subplots()
    if len(ranked):
        axes.plot(ranked[second.name], ranked[first.name], ".", color=GREY, markersize=3, label="trials",
                  rasterized=True)  # fmt: skip
        best = ranked[ranked["rank"] == 1].sort_values(second.name)
        axes.plot(best[second.name], best[first.name], "-o", color=VERMILION, markersize=4, label="front")
        axes.legend(frameon=False, fontsize=8)
        values = ranked[second.name]
        if values.min() > 0 and values.max() > 100 * values.min():
            axes.set_xscale("log")
    axes.set_xlabel(second.text)
    axes.set_ylabel(first.text)
    axes.grid(linewidth=0.4, alpha=0.5)
    axes.set_title(f"Search of {found.space}: {len(found.table):,} trials", fontsize=10)
    return figure
