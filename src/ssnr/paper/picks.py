"""What a search by score finds: the accuracy of its pick over the number of networks that it looked at.

Every network of NAS-Bench-201 has a score and an accuracy, so that searches are simulated: of T networks drawn at
random, under a budget of parameters or none, the one with the highest score is the pick. Its accuracy is averaged over
repeats, and stands beside the best accuracy of the space and that of a random network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ssnr import benchmarks
from ssnr.core.figures import picture
from ssnr.paper.evidence import path_of, recipe_of
from ssnr.spaces import get_space
from ssnr.store import Store
from ssnr.studies import plots
from ssnr.studies import sheet as sheets
from ssnr.studies.plots import BLUE, GREEN, GREY, VERMILION
from ssnr.studies.sheet import Sheet
from ssnr.studies.study import study

PROXIES = ("noise_ssnr", "synflow/layerwise_ssnr", "synflow/sum", "params")
DATASETS = ("cifar10", "cifar100", "imagenet16-120")
TRIALS = (1, 3, 10, 30, 100, 300, 1000, 3000, 15_625)
BUDGETS = (None, 300_000)  # parameters; the median of the space is 344,346
REPEATS = 10


@dataclass(frozen=True, eq=False)
class Picks:
    """What searches found.

    Attributes:
        table: one row a data set, budget, proxy and number of trials: dataset, budget, proxy, trials, accuracy (mean
            over repeats), spread (standard deviation), optimum (best accuracy within the budget), random (mean
            accuracy within the budget), repeats.
    """

    table: pd.DataFrame

    def sheet(self) -> Sheet:
        """The accuracy of the pick of the whole space and of 100 networks."""
        rows = []
        for dataset, budget in product(DATASETS, BUDGETS):
            part = self.table[(self.table["dataset"] == dataset) & _is(self.table["budget"], budget)]
            for proxy in PROXIES:
                own = part[part["proxy"] == proxy].set_index("trials")
                few, all_ = own.loc[100], own.iloc[-1]
                rows.append(
                    (dataset, "any" if budget is None else f"≤ {budget:,}", proxy,
                     f"{few['accuracy']:.2f} ± {few['spread']:.2f}", f"{all_['accuracy']:.2f}",
                     f"{all_['optimum']:.2f}", f"{all_['random']:.2f}")
                )  # fmt: skip
        headings = ("data set", "parameters", "score", "pick of 100", "pick of all", "optimum", "a random network")
        return Sheet.of(headings, rows, left=("parameters", "score"))

    def to_markdown(self) -> str:
        """What search.md holds."""
        return "\n".join(["# What a search finds", "", __doc__.partition("\n\n")[2].strip(), "",
                          self.sheet().to_markdown(), ""])  # fmt: skip


def _is(budgets: pd.Series, budget: int | None) -> pd.Series:
    return budgets.isna() if budget is None else budgets == budget


def picks(folder: str | Path, *, seeds: Sequence[int] = (0,), repeats: int = REPEATS) -> Picks:
    """Simulated searches on NAS-Bench-201, from the stores that `ssnr reproduce evidence` fills.

    Raises:
        UsageError: a score is not in the store.
    """
    rows: list[dict[str, object]] = []
    recipe = recipe_of(1, one_supernet=True)
    with Store(path_of(Path(folder), "nasbench201"), create=False) as store:
        for dataset in DATASETS:
            table = benchmarks.load(f"nasbench201/{dataset}", "nats")
            wanted = [proxy for proxy in PROXIES if proxy != "params"]
            for seed in seeds:
                found = study(store, table, wanted, recipe=recipe, seed=seed, ci=False).scores
                wide = found.pivot_table(index="architecture", columns="proxy", values="score", aggfunc="first")
                accuracy = found.drop_duplicates("architecture").set_index("architecture")["accuracy"]
                rows += _simulated(dataset, wide, accuracy.loc[wide.index].to_numpy(dtype=float), repeats, seed)
    everything = pd.DataFrame(rows)
    keys = ["dataset", "budget", "proxy", "trials"]
    means = everything.groupby(keys, sort=False, dropna=False).agg(
        accuracy=("accuracy", "mean"), spread=("accuracy", "std"), optimum=("optimum", "first"),
        random=("random", "first"), repeats=("accuracy", "size"),
    )  # fmt: skip
    return Picks(means.reset_index())


def _simulated(
    dataset: str, scores: pd.DataFrame, accuracy: NDArray[np.float64], repeats: int, seed: int
) -> list[dict[str, object]]:
    space = get_space("nasbench201")
    params = np.array([space.counts(arch).params for arch in scores.index])
    columns = {proxy: params if proxy == "params" else scores[proxy].to_numpy(dtype=float) for proxy in PROXIES}
    rows: list[dict[str, object]] = []
    for budget in BUDGETS:
        within = np.flatnonzero(params <= (np.inf if budget is None else budget))
        best, mean = float(accuracy[within].max()), float(accuracy[within].mean())
        for trials in (t for t in TRIALS if t <= len(within) or t == TRIALS[-1]):
            for repeat in range(repeats):
                rng = np.random.default_rng([seed, repeat, trials])
                drawn = rng.permutation(within)[:trials]
                for proxy, values in columns.items():
                    pick = drawn[int(np.argmax(np.nan_to_num(values[drawn], nan=-np.inf)))]
                    rows.append(
                        {"dataset": dataset, "budget": budget, "proxy": proxy, "trials": trials,
                         "accuracy": float(accuracy[pick]), "optimum": best, "random": mean}
                    )  # fmt: skip
    return rows


def figure(found: Picks) -> Figure:
    """Accuracy of the pick over trials, a column a data set, a row a budget."""
    page = picture(11.0, 6.4)
    axes = page.subplots(len(BUDGETS), len(DATASETS), sharex=True, squeeze=False)
    looks = dict(zip(PROXIES, ((BLUE, "-"), (GREEN, "--"), (VERMILION, ":"), (GREY, "-.")), strict=True))
    for row, budget in zip(axes, BUDGETS, strict=True):
        for ax, dataset in zip(row, DATASETS, strict=True):
            part = found.table[(found.table["dataset"] == dataset) & _is(found.table["budget"], budget)]
            for proxy, (colour, line) in looks.items():
                own = part[part["proxy"] == proxy]
                ax.plot(own["trials"], own["accuracy"], color=colour, linestyle=line, marker="o", markersize=3,
                        label=proxy)  # fmt: skip
            ax.axhline(part["optimum"].iloc[0], color="black", linewidth=0.8)
            ax.annotate("optimum", (1, part["optimum"].iloc[0]), fontsize=7, va="bottom")
            ax.set_xscale("log")
            ax.grid(linewidth=0.4, alpha=0.5)
            said = "all networks" if budget is None else f"at most {budget:,} parameters"
            ax.set_title(f"{dataset}, {said}", fontsize=9)
            ax.set_ylim(bottom=part["accuracy"][part["trials"] >= 10].min() - 1)
    for ax in axes[-1]:
        ax.set_xlabel("networks looked at")
    for ax in axes[:, 0]:
        ax.set_ylabel("test accuracy of the pick, %")
    axes[0, 0].legend(fontsize=7, frameon=False, loc="lower right")
    return page


def write(found: Picks, folder: str | Path) -> list[Path]:
    """search.png, .pdf, .csv and .md in a folder, which is created.

    Raises:
        SsnrError: a file cannot be written.
    """
    stem = Path(folder) / "search"
    figures = plots.save(figure(found), stem)
    sheets.save(found.table, stem, found.to_markdown())
    return [*figures, stem.with_suffix(".csv"), stem.with_suffix(".md")]
