"""What `ssnr reproduce fig1` and `ssnr prune --curve` do: train, prune, measure; progress on stderr."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ssnr.cli import terminal as terminal
from ssnr.core.errors import SsnrError, UsageError

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from ssnr.paper.fig1 import Plan
    from ssnr.paper.pruning_runs import Ways


def fig1(
    *, out: Path, quick: bool, data: str | None, device: str, epochs: int | None, densities: list[float] | None,
    precision: str, saliencies: list[str] | None, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """`ssnr reproduce fig1`: train, prune, measure what is missing; then picture and tables."""
    from ssnr.cli.commands import make_folder
    from ssnr.paper import fig1 as figure

    folder = cifar10_folder(data)
    plan = _plan(quick, epochs, densities, precision, saliencies, seed, device)
    make_folder(out)
    with terminal.jobs("figure 1") as notify:
        result = figure.fig1(folder, out, plan, notify=notify)
    if as_json:
        terminal.print_json(result.to_json())
        return
    terminal.show(result.to_rich())
    print("\n".join((result.description, *map(str, result.files))))


def curve(
    text: str, ways: Ways, *, densities: list[float] | None, input_shape: str | None, data: str | None, batch_size: int,
    out: Path, as_json: bool,
) -> None:  # fmt: skip
    """`ssnr prune --curve`: accuracy and scores at each density, as a table, a CSV and a picture beside `out`."""
    from ssnr.cli.commands import shape_of, versions
    from ssnr.cli.targets import resolve
    from ssnr.data import cifar10
    from ssnr.paper import plots as paper_plots
    from ssnr.paper import pruning_runs as experiments
    from ssnr.paper.fig1 import Plan
    from ssnr.paper.training import cifar10_images
    from ssnr.studies import plots

    if ways.epochs < 0 or ways.finetune_epochs < 0:
        raise UsageError(f"--epochs {ways.epochs}, --finetune-epochs {ways.finetune_epochs}: expected 0 or more")
    reads_data, target, folder = experiments.check_saliency(ways.saliency), resolve(text), cifar10_folder(data)
    images, work = cifar10_images(folder), out.with_name(f"{out.stem}-curve")
    with terminal.jobs(text) as notify:
        protocol = experiments.on_images(
            lambda: resolve(text, seed=ways.seed).net, images, ways, work, notify=notify,
            input_shape=shape_of(input_shape) or target.input_shape,
            batch=cifar10(folder, batch_size, seed=ways.seed) if reads_data else None,
        )  # fmt: skip
        identity = f"{text} {ways} {images.fingerprint}"
        record = work / "points.jsonl"
        table = experiments.curve(protocol, densities or Plan.densities, (), record=record, identity=identity)
    files = [out.with_suffix(".csv"), *plots.save(paper_plots.pruning_curve(table), out.with_suffix(""))]
    try:
        table.to_csv(files[0], index=False, lineterminator="\n")
    except OSError as error:
        raise SsnrError(f"cannot write {files[0]}: {error.strerror}") from error
    if as_json:
        terminal.print_json(
            {"target": text, "saliency": ways.saliency, "points": table.to_dict("records"),
             "files": list(map(str, files)), "recipe": ways.recipe, "seed": ways.seed, "versions": versions()}
        )  # fmt: skip
        return
    terminal.show(_curve_table(table))
    print("\n".join(map(str, files)))


def _curve_table(table: pd.DataFrame) -> Table:
    from ssnr.paper.curve import READINGS, SCORES

    page = terminal.table("reading", "density", "weights", "accuracy %", *SCORES)
    for row in table.to_dict("records"):
        cells = [f"{row['density']:g}", f"{row['kept']:,}", f"{row['accuracy']:.2f}"]
        page.add_row(READINGS[row["reading"]], *cells, *(f"{row[name]:.5g}" for name in SCORES))
    return page


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


def _plan(
    quick: bool, epochs: int | None, densities: list[float] | None, precision: str, saliencies: list[str] | None,
    seed: int, device: str,
) -> Plan:  # fmt: skip
    from ssnr.paper.fig1 import QUICK, Plan

    if saliencies is not None and len(saliencies) > 1:
        raise UsageError(f"figure 1 takes one --saliency, got {len(saliencies)}")
    plan = QUICK if quick else Plan()
    ways = replace(plan.ways, precision=precision, seed=seed, device=device)
    if saliencies:
        ways = replace(ways, saliency=saliencies[0])
    if epochs is not None:
        if epochs < 1:
            raise UsageError(f"--epochs {epochs}: expected at least 1")
        ways = replace(ways, epochs=epochs)
    if densities:
        plan = replace(plan, densities=tuple(densities), init_densities=tuple(densities))
    return replace(plan, ways=ways)
