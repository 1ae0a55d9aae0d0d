"""What a search by score finds: the accuracy of its pick over the number of networks that it looked at.

Where networks have a score and an accuracy each, searches are simulated: of T networks drawn at random, under a budget
of parameters or none, the one with the highest score is the pick. Its accuracy is averaged over repeats, and stands
beside the best accuracy of the benchmark and that of a random network, both within the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ssnr.core.figures import picture
from ssnr.paper.evidence import Part, accuracies, parts, path_of, recipe_of
from ssnr.store import Store
from ssnr.studies import plots
from ssnr.studies import sheet as sheets
from ssnr.studies.plots import BLUE, GREEN, GREY, VERMILION
from ssnr.studies.sheet import Sheet
from ssnr.studies.study import study

PROXIES = ("noise_ssnr", "rank(noise_ssnr,params)", "synflow/layerwise_ssnr", "synflow/sum", "params")
BENCHMARKS = ("nb201-c10", "nb201-c100", "nb201-in16", "nb101", "nb301", "tnb-scene")
TRIALS = (1, 3, 10, 30, 100, 300, 1000, 3000, 15_625)
REPEATS = 10
_COLUMNS = 3  # panels side by side
_LOOKS = dict(zip(PROXIES, ((BLUE, "-"), (BLUE, ":"), (GREEN, "--"), (VERMILION, ":"), (GREY, "-.")), strict=True))


@dataclass(frozen=True, eq=False)
class Picks:
    """What searches found.

    Attributes:
        table: one row per benchmark, budget, proxy and number of trials: benchmark, budget (parameters, NaN for any), n
            (networks within it), proxy, trials, accuracy (mean over repeats), spread (standard deviation), optimum
            (best accuracy within the budget), random (mean accuracy within the budget), repeats.
    """

    table: pd.DataFrame

    def sheet(self) -> Sheet:
        """The accuracy of the pick of all networks, and of 30."""
        rows = []
        for (benchmark, _), part in self.table.groupby(["benchmark", "budget"], sort=False, dropna=False):
            budget = part["budget"].iloc[0]
            within = "any" if pd.isna(budget) else f"≤ {budget:,.0f}"
            for proxy in PROXIES:
                own = part[part["proxy"] == proxy].set_index("trials")
                few, all_ = own.loc[30], own.iloc[-1]
                rows.append(
                    (benchmark, f"{all_['n']:,}", within, proxy, f"{few['accuracy']:.2f} ± {few['spread']:.2f}",
                     f"{all_['accuracy']:.2f}", f"{all_['optimum']:.2f}", f"{all_['random']:.2f}")
                )  # fmt: skip
        headings = ("benchmark", "n", "parameters", "score", "pick of 30", "pick of all", "optimum", "a random network")
        return Sheet.of(headings, rows, left=("parameters", "score"))

    def to_markdown(self) -> str:
        """What search.md holds."""
        return "\n".join(["# What a search finds", "", __doc__.partition("\n\n")[2].strip(), "",
                          self.sheet().to_markdown(), ""])  # fmt: skip


def budgets(params: NDArray[np.float64]) -> tuple[int | None, int]:
    """No budget, and one that half of the networks meet: the median number of parameters, rounded up to two digits."""
    middle = int(np.median(params))
    step = 10 ** (len(str(middle)) - 2)
    return None, -(-middle // step) * step


def picks(
    folder: str | Path, keys: Sequence[str] = BENCHMARKS, *, seeds: Sequence[int] = (0,), repeats: int = REPEATS
) -> Picks:
    """Simulated searches, from the stores that `ssnr reproduce evidence` fills.

    Args:
        folder: where the stores are.
        keys: parts of the evidence.
        seeds: of weights and image, for the parts that are scored with several.
        repeats: searches of each kind.

    Raises:
        UsageError: an unknown part, or a score is not in the store.
    """
    rows: list[dict[str, object]] = []
    for part in parts(keys):
        recipe, known = recipe_of(part.images, one_supernet=part.shared), accuracies(part)
        with Store(path_of(Path(folder), part.space), create=False) as store:
            for seed in seeds if part.repeated else seeds[:1]:
                wanted = [proxy for proxy in PROXIES if proxy != "params"]
                found = study(store, known, wanted, recipe=recipe, seed=seed, ci=False).scores
                wide = found.pivot_table(index="architecture", columns="proxy", values="score", aggfunc="first")
                accuracy = found.drop_duplicates("architecture").set_index("architecture")["accuracy"]
                rows += simulated(part, wide, accuracy.loc[wide.index].to_numpy(dtype=float), repeats, seed)
    return Picks(summary(pd.DataFrame(rows)))


def summary(searches: pd.DataFrame) -> pd.DataFrame:
    """Means and standard deviations over repeats and seeds."""
    keys = ["benchmark", "budget", "n", "proxy", "trials"]
    return (
        searches.groupby(keys, sort=False, dropna=False)
        .agg(accuracy=("accuracy", "mean"), spread=("accuracy", "std"), optimum=("optimum", "first"),
             random=("random", "first"), repeats=("accuracy", "size"))
        .reset_index()
    )  # fmt: skip


def simulated(
    part: Part, scores: pd.DataFrame, accuracy: NDArray[np.float64], repeats: int, seed: int
) -> list[dict[str, object]]:
    """One row per search: scores are columns by proxy, rows by architecture."""
    columns = {proxy: scores[proxy].to_numpy(dtype=float) for proxy in PROXIES}
    params = columns["params"]
    rows: list[dict[str, object]] = []
    for budget in budgets(params):
        within = np.flatnonzero(params <= (np.inf if budget is None else budget))
        best, mean = float(accuracy[within].max()), float(accuracy[within].mean())
        for trials in (*(t for t in TRIALS if t < len(within)), len(within)):
            for repeat in range(repeats):
                rng = np.random.default_rng([seed, repeat, trials])
                drawn = rng.permutation(within)[:trials]
                for proxy, values in columns.items():
                    pick = drawn[int(np.argmax(np.nan_to_num(values[drawn], nan=-np.inf)))]
                    rows.append(
                        {"benchmark": part.title, "budget": budget, "n": len(within), "proxy": proxy,
                         "trials": trials, "accuracy": float(accuracy[pick]), "optimum": best, "random": mean}
                    )  # fmt: skip
    return rows


def figure(found: Picks) -> Figure:
    """Accuracy of the pick over trials: a column per benchmark, above without a budget, below with one."""
    titles = list(dict.fromkeys(found.table["benchmark"]))
    bands = -(-len(titles) // _COLUMNS)
    page = picture(11.0, 6.4 * bands)
    axes = page.subplots(2 * bands, _COLUMNS, squeeze=False)
    for place, (title, limited) in enumerate(product(titles, (False, True))):
        band, column = divmod(place // 2, _COLUMNS)
        part = found.table[(found.table["benchmark"] == title) & (found.table["budget"].notna() == limited)]
        _panel(axes[2 * band + limited][column], part)
    for empty in range(len(titles), bands * _COLUMNS):
        for below in (0, 1):
            axes[2 * (bands - 1) + below][empty % _COLUMNS].axis("off")
    axes[0, 0].legend(fontsize=7, frameon=False, loc="lower right")
    return page


def _panel(ax: Axes, part: pd.DataFrame) -> None:
    first = part.iloc[0]
    for proxy, (colour, line) in _LOOKS.items():
        own = part[part["proxy"] == proxy]
        ax.plot(own["trials"], own["accuracy"], color=colour, linestyle=line, marker="o", markersize=3, label=proxy)
    ax.axhline(first["optimum"], color="black", linewidth=0.8)
    ax.annotate("optimum", (1, first["optimum"]), fontsize=7, va="bottom")
    ax.set_xscale("log")
    ax.grid(linewidth=0.4, alpha=0.5)
    said = "all networks" if pd.isna(first["budget"]) else f"≤ {first['budget']:,.0f} parameters"
    ax.set_title(f"{first['benchmark']}, {said}", fontsize=9)
    worst = part["accuracy"][part["trials"] >= 10].min()
    ax.set_ylim(bottom=worst - 0.15 * (first["optimum"] - worst))
    ax.set_xlabel("networks looked at", fontsize=8)
    ax.set_ylabel("accuracy of the pick", fontsize=8)


def write(found: Picks, folder: str | Path) -> list[Path]:
    """search.png, .pdf, .csv and .md in a folder, which is created.

    Raises:
        SsnrError: a file cannot be written.
    """
    stem = Path(folder) / "search"
    figures = plots.save(figure(found), stem)
    sheets.save(found.table, stem, found.to_markdown())
    return [*figures, stem.with_suffix(".csv"), stem.with_suffix(".md")]
