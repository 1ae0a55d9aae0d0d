"""`ssnr prune`: masks to files; or, with --curve, accuracy and scores while a network is pruned."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssnr.cli import options, terminal
from ssnr.cli.app import app
from ssnr.cli.progress import progress
from ssnr.core.errors import LayerCollapseWarning, SsnrError, UsageError

if TYPE_CHECKING:
    from ssnr.cli.targets import Target
    from ssnr.core.catalogue import Saliency
    from ssnr.data import Batch
    from ssnr.pruning import Masks
    from ssnr.studies.sheet import Sheet


@app.command()
def prune(
    target: Annotated[str, typer.Argument(metavar="TARGET", help=options.TARGETS)],
    saliency: Annotated[
        str,
        typer.Option(
            "-s",
            "--saliency",
            help="Which weights count: synflow, snip, grasp, magnitude, random, or any other saliency of "
            "`ssnr list proxies`.",
        ),
    ] = "synflow",
    density: Annotated[
        list[float] | None,
        typer.Option(
            "-d",
            "--density",
            help="Share of the weights to keep, above 0, at most 1; repeat it for several; "
            "default 0.1, with --curve 1 … 0.001.",
        ),
    ] = None,
    scope: Annotated[
        str,
        typer.Option(
            callback=options.one_of("scope", ("global", "layer")),
            help="global: weights of all layers compete; layer: every layer keeps the density.",
        ),
    ] = "global",
    rounds: Annotated[
        int | None,
        typer.Option(
            callback=options.at_least("--rounds", 1),
            help="How often to compute the saliency on what is left, the density falling exponentially; "
            "default 100 for synflow, 1 for others.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="A layer or module to leave dense, such as classifier; repeat it for several."),
    ] = None,
    input_shape: options.InputShape = None,
    data: options.Data = None,
    batch_size: options.BatchSize = 64,
    seed: options.Seed = 0,
    recipe: options.RecipeName = "seed",
    device: options.Device = "auto",
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            help="File of masks to write; with several densities, NAME-DENSITY.pt each. The table goes to NAME.csv, "
            "with --curve to NAME-curve.csv.",
        ),
    ] = Path("masks.pt"),
    curve: Annotated[
        bool, typer.Option("--curve", help="Instead of masks: accuracy on CIFAR-10 and scores at each density.")
    ] = False,
    epochs: Annotated[
        int | None,
        typer.Option(
            callback=options.at_least("--epochs", 0),
            help="--curve: train the network first; default 0, its weights as they are.",
        ),
    ] = None,
    finetune_epochs: Annotated[
        int | None,
        typer.Option(
            callback=options.at_least("--finetune-epochs", 0), help="--curve: train a little after each pruning."
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            callback=options.one_of("--precision", options.PRECISIONS),
            help="--curve: of trainings, float32 (the default) or bfloat16.",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Choose which weights to keep, by saliency; write the masks, show how many each layer keeps.

    Masks are plain bool tensors by parameter name: `ssnr.pruning.apply(net, ssnr.Masks.load("masks.pt"))` puts them on
    a network through `torch.nn.utils.prune`.
    """
    from ssnr import pruning

    rule = pruning.rule_of(saliency)
    for one in density or ():
        pruning.check_density(one)
    chosen = options.recipe_of(recipe, None)
    if curve:
        from ssnr.cli.curve import draw_curve
        from ssnr.paper.pruning_runs import TrainAndPruneConfig

        ways = TrainAndPruneConfig(
            epochs=epochs or 0, finetune_epochs=finetune_epochs or 0, precision=precision or "float32",
            saliency=saliency, scope=scope, rounds=rounds, exclude=tuple(exclude or ()), recipe=str(chosen), seed=seed,
            device=options.device_of(device),
        )  # fmt: skip
        draw_curve(target, ways, density, options.shape_of(input_shape), data, batch_size, out, as_json=json)
        return
    for name, value in (("--epochs", epochs), ("--finetune-epochs", finetune_epochs), ("--precision", precision)):
        if value is not None:
            raise UsageError(f"{name} {value}: only with --curve; masks need no training")
    from ssnr.cli.targets import resolve

    files = _files(out, density or [0.1])
    where, made = options.device_of(device), resolve(target, seed=seed, variant=chosen.variant)
    shape = options.shape_of(input_shape) or made.input_shape
    if shape is None and rule is not None and (rule.data or rule.family == "synflow"):
        raise UsageError(f"{target}: name the shape of one input, such as --input-shape 3,32,32")
    batch = _batch(made, rule, shape, data, batch_size, seed)
    made.net.to(where)
    found = {
        one: _masks(
            made.net, saliency, one, file, batch=batch, input_shape=shape, scope=scope, rounds=rounds,
            exclude=exclude or (), recipe=chosen, seed=seed,
        )
        for one, file in files.items()
    }  # fmt: skip
    table = _write_table(found, out.with_suffix(".csv"))
    if json:
        terminal.print_json(
            {
                "target": target,
                "saliency": saliency,
                "scope": scope,
                "masks": [_document(one, masks, files[one]) for one, masks in found.items()],
                "table": str(table),
                "batch": None if batch is None else {"fingerprint": batch.fingerprint, "notes": list(batch.notes)},
                "recipe": str(chosen),
                "mode": chosen.mode,
                "seed": seed,
                "device": where,
                "versions": terminal.versions(),
            }
        )
        return
    terminal.show(_shown(found).to_rich())
    print("\n".join(map(str, (*files.values(), table))))


def _batch(
    made: Target, rule: Saliency | None, shape: tuple[int, ...] | None, data: str | None, size: int, seed: int
) -> Batch | None:
    """The batch that the saliency reads; None where it reads none."""
    from ssnr.cli.sweeping import batch_of
    from ssnr.cli.targets import outputs_for_labels

    if shape is not None and rule is not None and rule.data:
        classes = made.classes or outputs_for_labels(made.net, shape)
        return batch_of((rule,), data, shape, classes, size, seed)
    if data is not None:
        terminal.note(f"--data {data}: not read, {'random' if rule is None else rule.name} needs no data")
    return None


def _masks(net: Any, saliency: str, density: float, file: Path, **how: Any) -> Masks:
    """Masks of one density, written; says where a layer runs empty."""
    from ssnr import pruning

    with progress(f"{saliency} at density {density:g}") as notify, warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapseWarning)  # a line below says it
        found = pruning.masks(net, saliency, density, progress=partial(notify, ""), **how)
    found.save(file)
    if found.collapsed:
        terminal.note(f"density {density:g}: {pruning.collapse(found)}")
    return found


def _files(out: Path, densities: list[float]) -> dict[float, Path]:
    """Density → file of its masks; the density stands in the name where there are several."""
    if out.suffix == ".csv":
        raise UsageError(f"--out {out}: the table goes there; name the file of masks, such as masks.pt")
    if not out.parent.is_dir():
        raise SsnrError(f"cannot write {out}: there is no folder {out.parent}")
    if len(set(densities)) == 1:
        return {densities[0]: out}
    return {density: out.with_name(f"{out.stem}-{density:g}{out.suffix}") for density in densities}


def _document(density: float, masks: Masks, file: Path) -> dict[str, Any]:
    return {
        "asked": density,
        "density": masks.density,
        "total": masks.total,
        "kept": masks.kept,
        "rounds": masks.how["rounds"],
        "collapsed": list(masks.collapsed),
        "file": str(file),
        "layers": masks.table().to_dict("records"),
    }


def _write_table(found: dict[float, Masks], path: Path) -> Path:
    import pandas as pd

    tables = [masks.table().assign(asked=density) for density, masks in found.items()]
    try:
        pd.concat(tables)[["asked", *tables[0].columns[:-1]]].to_csv(path, index=False)
    except OSError as error:
        raise SsnrError(f"cannot write {path}: {error.strerror}") from error
    return path


def _shown(found: dict[float, Masks]) -> Sheet:
    """Weights kept in each layer, one column a density, and the sums in the last row."""
    from ssnr.studies.sheet import Sheet

    columns = [masks.table() for masks in found.values()]
    rows = [
        (name, f"{numel:,}", *(_cell(int(c["kept"].iloc[row]), int(numel)) for c in columns))
        for row, (name, numel) in enumerate(zip(columns[0]["name"], columns[0]["numel"], strict=True))
    ]
    first = next(iter(found.values()))
    rows.append(("all", f"{first.total:,}", *(_cell(m.kept, m.total) for m in found.values())))
    return Sheet.of(("layer", "weights", *(f"kept at {density:g}" for density in found)), rows)


def _cell(kept: int, numel: int) -> str:
    return f"{kept:,} ({kept / numel:.3g})" if kept else "0 (collapsed)"
