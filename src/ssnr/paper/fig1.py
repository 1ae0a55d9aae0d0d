"""Figure 1 of the paper: VGG-16 on CIFAR-10 is pruned, and the score falls before accuracy does; does the SSNR?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ssnr.data import cifar10
from ssnr.paper import curve as curves
from ssnr.paper import plots as paper_plots
from ssnr.paper.compact import compact
from ssnr.paper.pruning_runs import Notify, TrainAndPruneConfig, check_saliency, curve, on_images
from ssnr.paper.training import Images, cifar10_images
from ssnr.pruning import check_density, rounds_of
from ssnr.spaces import get_space
from ssnr.studies import plots
from ssnr.studies import sheet as sheets
from ssnr.studies.sheet import Sheet

if TYPE_CHECKING:
    from rich.table import Table

_HEADINGS = ("reading", "score", "n", "ρ", "τ", "gap", "accuracy holds to", "left there")
_FIRST = ("density", "weights", "accuracy %", *(f"{name}, relative" for name in curves.SCORES))


@dataclass(frozen=True)
class Fig1Config:
    """What the figure is made of.

    Attributes:
        arch: of the space `vgg`.
        densities: shares of the weights that are left when the trained network is pruned.
        init_densities: those at which a network is pruned at initialisation and trained; each costs a whole training.
        ways: how networks are trained and pruned.
        train_images: only the first so many; None for all.
        test_images: likewise.
    """

    arch: str = "16"
    densities: tuple[float, ...] = (1, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.003, 0.002, 0.001)
    init_densities: tuple[float, ...] = (1, 0.1, 0.03, 0.01, 0.003, 0.001)
    ways: TrainAndPruneConfig = TrainAndPruneConfig()
    train_images: int | None = None
    test_images: int | None = None


# A quarter of the width, a fifth of the epochs: minutes, and the same shape.
QUICK = Fig1Config(arch="16-w16", ways=TrainAndPruneConfig(epochs=4), train_images=10_000, test_images=2_000)


@dataclass(frozen=True, eq=False)
class Fig1Result:
    """Figure 1 and what it says.

    Attributes:
        table: of `experiments.curve`: a row for each pruned network.
        tracking: of `curves.tracking`: how each score follows accuracy.
        files: fig1.png, fig1.pdf, fig1.csv, fig1.md.
        description: the protocol in words.
    """

    table: pd.DataFrame
    tracking: pd.DataFrame
    files: tuple[Path, ...]
    description: str

    def to_markdown(self) -> str:
        """What fig1.md holds."""
        lines = ["# Figure 1: accuracy and scores while a network is pruned", "", self.description, ""]
        lines.append(self.sheet().to_markdown())
        for reading, cells in self._readings():
            part = Sheet.of(_FIRST, cells)
            lines += ["", f"## {curves.READINGS[reading].capitalize()}", "", part.to_markdown()]
        return "\n".join(lines) + "\n"

    def to_rich(self) -> Table:
        """How each score follows accuracy, for a terminal."""
        return self.sheet().to_rich()

    def sheet(self) -> Sheet:
        """How each score follows accuracy."""
        title = "Figure 1: does the score follow accuracy?"
        return Sheet.of(_HEADINGS, self._tracking(), title=title, left=_HEADINGS[:2])

    def to_json(self) -> dict[str, Any]:
        """Points, numbers, protocol and files."""
        return {
            "description": self.description,
            "points": _records(self.table),
            "tracking": _records(self.tracking),
            "files": [str(file) for file in self.files],
        }

    def _tracking(self) -> Iterator[list[str]]:
        for row in self.tracking.to_dict("records"):
            yield [
                curves.READINGS[row["reading"]], row["score"], str(row["n"]),
                *("–" if pd.isna(row[name]) else f"{row[name]:.3f}" for name in ("spearman", "kendall", "gap")),
                f"{row['holds']:g}", "–" if pd.isna(row["left"]) else f"{row['left']:.2%}",
            ]  # fmt: skip

    def _readings(self) -> Iterator[tuple[str, list[list[str]]]]:
        shares = curves.relative(self.table)
        for reading in dict.fromkeys(self.table["reading"]):
            own, share = self.table[self.table["reading"] == reading], shares[shares["reading"] == reading]
            cells = [
                [f"{row['density']:g}", f"{row['kept']:,}", f"{row['accuracy']:.2f}",
                 *("–" if pd.isna(part[name]) else f"{part[name]:.4g}" for name in curves.SCORES)]
                for row, part in zip(own.to_dict("records"), share.to_dict("records"), strict=True)
            ]  # fmt: skip
            yield reading, cells


def fig1(
    folder: str | Path, out: str | Path, plan: Fig1Config | None = None, *, notify: Notify | None = None
) -> Fig1Result:
    """Train, prune, measure and draw; what was done before, in the same `out`, is not done again.

    Writes fig1.png, fig1.pdf, fig1.csv and fig1.md into `out`, and into `out`/fig1 a checkpoint of every training and a
    record of every point, from which a killed run goes on.

    Args:
        folder: CIFAR-10, the whole Python archive or a part of it.
        out: folder of the files; created.
        plan: what to make; the paper's VGG-16 by default.
        notify: called with (what is being done, steps done, steps in all).

    Raises:
        UsageError: the folder is not CIFAR-10, a density outside (0, 1], or `out` holds the figure of another plan.
        SsnrError: a training diverged, or a file cannot be written.
    """
    chosen = plan or Fig1Config()
    ways, space, work = chosen.ways, get_space("vgg"), Path(out) / "fig1"
    data = check_saliency(ways.saliency)
    for density in (*chosen.densities, *chosen.init_densities):
        check_density(density)
    images = cifar10_images(folder, train=chosen.train_images, test=chosen.test_images)
    protocol = on_images(
        lambda: space.build(chosen.arch, seed=ways.seed), images, ways, work, input_shape=space.input_shape,
        batch=cifar10(folder, min(256, len(images.train)), seed=ways.seed) if data else None, shrink=compact,
        notify=notify,
    )  # fmt: skip
    description = describe(chosen, images)
    table = curve(
        protocol, chosen.densities, chosen.init_densities, record=work / "points.jsonl",
        identity=f"{description} {images.fingerprint}",
    )  # fmt: skip
    return draw(table, out, description)


def draw(table: pd.DataFrame, out: str | Path, description: str) -> Fig1Result:
    """Picture and tables of a curve.

    Raises:
        SsnrError: a file cannot be written.
    """
    folder = Path(out)
    figures = plots.save(paper_plots.pruning_curve(table), folder / "fig1")
    files = (*figures, folder / "fig1.csv", folder / "fig1.md")
    result = Fig1Result(table, curves.tracking(table), files, description)
    sheets.save(table, folder / "fig1", result.to_markdown())
    return result


def describe(plan: Fig1Config, images: Images) -> str:
    """The protocol in words."""
    w = plan.ways
    short = f", then {w.finetune_epochs} at {w.finetune_lr:g} after a pruning" if w.finetune_epochs else ""
    return (
        f"vgg:{plan.arch} on {images.name}. {w.saliency} masks over all layers"
        f" in {w.rounds or rounds_of(w.saliency)} rounds; scores of the weights that are left, norms bypassed. "
        f"Training: {w.epochs} epochs of SGD with momentum 0.9, weight decay 0.0005, batch {w.batch_size}, "
        f"learning rate {w.lr:g} falling to 0 along a cosine{short}, crops and mirror images, {w.precision}, "
        f"seed {w.seed}."
    )


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = table.to_dict("records")
    return [{str(key): None if pd.isna(value) else value for key, value in row.items()} for row in rows]
