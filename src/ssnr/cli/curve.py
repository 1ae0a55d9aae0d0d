"""`ssnr prune --curve`: accuracy and scores while a network is pruned, with progress on stderr."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ssnr.cli import terminal
from ssnr.cli.progress import progress
from ssnr.core.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from ssnr.paper.pruning_runs import TrainAndPruneConfig
    from ssnr.studies.sheet import Sheet


def draw_curve(
    text: str, ways: TrainAndPruneConfig, densities: list[float] | None, shape: tuple[int, ...] | None,
    data: str | None, size: int, out: Path, *, as_json: bool,
) -> None:  # fmt: skip
    """Accuracy and scores at each density, as a table, and as NAME-curve.csv and a picture beside `out`."""
    from ssnr.cli.targets import resolve
    from ssnr.data import cifar10
    from ssnr.paper import plots as paper_plots
    from ssnr.paper import pruning_runs as experiments
    from ssnr.paper.fig1 import Fig1Config
    from ssnr.paper.training import cifar10_images
    from ssnr.studies import plots, sheet

    reads_data, target, folder = experiments.check_saliency(ways.saliency), resolve(text), cifar10_folder(data)
    images, work = cifar10_images(folder), out.with_name(f"{out.stem}-curve")
    with progress(text) as notify:
        protocol = experiments.on_images(
            lambda: resolve(text, seed=ways.seed).net, images, ways, work, notify=notify,
            input_shape=shape or target.input_shape,
            batch=cifar10(folder, size, seed=ways.seed) if reads_data else None,
        )  # fmt: skip
        identity = f"{text} {ways} {images.fingerprint}"
        record = work / "points.jsonl"
        table = experiments.curve(protocol, densities or Fig1Config.densities, (), record=record, identity=identity)
    files = [work.with_name(f"{work.name}.csv"), *plots.save(paper_plots.pruning_curve(table), work)]
    sheet.to_csv(table, files[0])
    if as_json:
        terminal.print_json(
            {"target": text, "saliency": ways.saliency, "points": table.to_dict("records"),
             "files": list(map(str, files)), "recipe": ways.recipe, "seed": ways.seed,
             "versions": terminal.versions()}
        )  # fmt: skip
        return
    terminal.show(_curve_table(table).to_rich())
    print("\n".join(map(str, files)))


def _curve_table(table: pd.DataFrame) -> Sheet:
    from ssnr.paper.curve import READINGS, SCORES
    from ssnr.studies.sheet import Sheet

    rows = [
        (READINGS[row["reading"]], f"{row['density']:g}", f"{row['kept']:,}", f"{row['accuracy']:.2f}",
         *(f"{row[name]:.5g}" for name in SCORES))
        for row in table.to_dict("records")
    ]  # fmt: skip
    return Sheet.of(("reading", "density", "weights", "accuracy %", *SCORES), rows)


def cifar10_folder(data: str | None) -> str:
    """The folder of CIFAR-10 that `--data cifar10:DIR` or the environment names.

    Raises:
        UsageError: neither does.
    """
    kind, _, where = (data or "cifar10").partition(":")
    folder = where or os.environ.get("SSNR_CIFAR10", "")
    if kind != "cifar10" or not folder:
        raise UsageError("training needs CIFAR-10: --data cifar10:DIR, or set SSNR_CIFAR10 to cifar-10-batches-py")
    return folder
