"""The paper's own figures from tidy tables."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from ssnr.core.figures import picture
from ssnr.paper.curve import READINGS, SCORES, relative, tracking
from ssnr.studies.plots import _MAX_PANELS_A_ROW, BLUE, GREEN, VERMILION, _estimate


def table1(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """One panel a column of table 1: Kendall τ with its interval, the paper's value as a diamond, controls as squares.

    Args:
        table: `Table1Result.table`.
        titles: column key → heading, in the order of the panels.
    """
    names = list(dict.fromkeys(table["proxy"]))
    across = min(len(titles), _MAX_PANELS_A_ROW)
    down = -(-len(titles) // across)
    figure = picture(3.0 * across + 1.6, (0.9 + 0.24 * len(names)) * down)
    axes = figure.subplots(down, across, sharey=True, squeeze=False)
    for ax, (key, title) in zip(axes.flat, titles.items(), strict=False):
        for _, row in table[table["column"] == key].iterrows():
            at = len(names) - 1 - names.index(row["proxy"])
            _estimate(ax, at, row.combine_first(pd.Series({"note": ""})), "kendall")
            if not pd.isna(row["paper"]):
                ax.plot([row["paper"]], [at], marker="D", color="black", markersize=4, markerfacecolor="none")
        ax.set_title(title, fontsize=9)
        ax.grid(axis="x", linewidth=0.4, alpha=0.5)
        ax.margins(x=0.08)
    for ax in axes.flat[len(titles) :]:
        ax.set_visible(False)
    for ax in axes.flat:
        ax.tick_params(labelsize=8)
    axes[0, 0].set_yticks(range(len(names)), names[::-1])
    axes[0, 0].set_ylim(-0.6, len(names) - 0.4)
    figure.suptitle("Kendall τ: this run (dots, 95 %), the paper (diamonds), controls (squares)", fontsize=9)
    return figure


def pruning_curve(table: pd.DataFrame) -> Figure:
    """One panel a reading: accuracy in percent on the left axis, each score relative to the dense network on the right.

    Above each panel stands how the ranks of each score and of accuracy agree. Density runs from 1 on the left to the
    sparsest network on the right, on a logarithmic axis.

    Args:
        table: of `experiments.curve`.
    """
    shares, follows = relative(table), tracking(table)
    readings = list(dict.fromkeys(table["reading"]))
    figure = picture(4.4 * len(readings) + 0.6, 4.2)
    axes = figure.subplots(1, len(readings), sharey=True, squeeze=False)[0]
    looks = dict(zip(SCORES, ((VERMILION, "s", ":"), (BLUE, "^", "--"), (GREEN, "D", "-.")), strict=True))
    for ax, reading in zip(axes, readings, strict=True):
        own, share = table[table["reading"] == reading], shares[shares["reading"] == reading]
        right = ax.twinx()
        ax.plot(own["density"], own["accuracy"], color="black", marker="o", markersize=4, linewidth=2, label="accuracy")
        for name, (colour, marker, line) in looks.items():
            right.plot(own["density"], share[name], color=colour, marker=marker, markersize=3.5, linestyle=line,
                       linewidth=1.2, label=name)  # fmt: skip
        ax.set_xscale("log")
        ax.set_xlim(1.2, float(table["density"].min()) / 1.2)
        ax.set_ylim(0, 100)
        right.set_ylim(0, max(1.05, 1.05 * float(share[list(SCORES)].max().max())))
        rho = follows[follows["reading"] == reading].set_index("score")["spearman"]
        said = " · ".join(f"{name} {rho[name]:.2f}" for name in SCORES)
        ax.set_title(f"{READINGS[reading]}\nSpearman ρ with accuracy: {said}", fontsize=8)
        ax.set_xlabel("share of the weights that is left")
        ax.grid(linewidth=0.4, alpha=0.5)
        if ax is axes[-1]:
            right.set_ylabel("score relative to the dense network")
    axes[0].set_ylabel("test accuracy, %")
    lines = [*axes[0].get_lines(), *right.get_lines()]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), fontsize=9, frameon=False)
    return figure
