"""The paper's own figures from tidy tables."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from ssnr.core.figures import picture
from ssnr.paper.curve import READINGS, SCORES, relative, tracking
from ssnr.studies.plots import _MAX_PANELS_A_ROW, BLUE, GREEN, VERMILION, _estimate


def table1(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """One panel per column: Kendall τ with its interval; a diamond is the paper's value, squares are controls.

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


_LOOKS = dict(zip(SCORES, ((VERMILION, "s", ":"), (BLUE, "^", "--"), (GREEN, "D", "-.")), strict=True))
_NAMES: dict[object, str] = dict(zip(SCORES, ("the sum", "the SSNR", "the layer-wise"), strict=True))


def pruning_curve(table: pd.DataFrame) -> Figure:
    """A column a reading: above on linear axes, below on a logarithmic one.

    Above are accuracy, on the left axis, and scores relative to the dense network, on the right; below all of them
    relative.
    Above each column stands how far accuracy holds, and how much of each score is left there. Density runs from 1 on
    the left to the sparsest network on the right, on a logarithmic axis.

    Args:
        table: as `pruning_runs.curve` returns it.
    """
    shares, follows = relative(table), tracking(table)
    readings = list(dict.fromkeys(table["reading"]))
    figure = picture(4.4 * len(readings) + 0.6, 7.4)
    axes = figure.subplots(2, len(readings), sharex=True, sharey="row", squeeze=False)
    for (above, below), reading in zip(axes.T, readings, strict=True):
        own, share = table[table["reading"] == reading], shares[shares["reading"] == reading]
        right = above.twinx()
        look = {"color": "black", "marker": "o", "markersize": 4, "linewidth": 2, "label": "accuracy"}
        above.plot(own["density"], own["accuracy"], **look)
        below.plot(own["density"], share["accuracy"], **look)
        for name, (colour, marker, line) in _LOOKS.items():
            for ax in (right, below):
                ax.plot(own["density"], share[name], color=colour, marker=marker, markersize=3.5, linestyle=line,
                        linewidth=1.2, label=name)  # fmt: skip
        above.set_title(_said(reading, follows), fontsize=9)
        above.set_ylim(0, 100)
        right.set_ylim(0, max(1.05, 1.05 * float(share[list(SCORES)].max().max())))
        below.set_yscale("log")
        below.set_xscale("log")
        below.set_xlim(1.2, float(table["density"].min()) / 1.2)
        below.set_xlabel("share of the weights that is left")
        for ax in (above, below):
            ax.grid(linewidth=0.4, alpha=0.5)
        if reading == readings[-1]:
            right.set_ylabel("score relative to the dense network")
    axes[0, 0].set_ylabel("test accuracy, %")
    axes[1, 0].set_ylabel("relative to the dense network, log scale")
    lines = axes[1, 0].get_lines()
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), fontsize=9, frameon=False)
    return figure


def _said(reading: str, follows: pd.DataFrame) -> str:
    """What a column shows."""
    rows = follows[follows["reading"] == reading].set_index("score")
    holds, title = float(rows["holds"].iloc[0]), READINGS[reading].capitalize()
    if holds >= 1:
        return f"{title}:\naccuracy falls with the first pruning,\nand so does every score"
    left = ", ".join(f"{100 * share:.2g} % of {_NAMES[name]}" for name, share in rows["left"].astype(float).items())
    return f"{title}:\naccuracy holds down to {100 * holds:g} % of the weights,\nwith {left}"
