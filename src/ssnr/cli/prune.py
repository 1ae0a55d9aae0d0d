"""What `ssnr prune` does: masks to files, their densities layer by layer to the terminal and to a CSV."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssnr.cli import terminal as terminal
from ssnr.cli.commands import device_of, recipe_of, shape_of, versions
from ssnr.core.errors import LayerCollapseWarning, SsnrError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from ssnr.cli.targets import Target
    from ssnr.data import Batch
    from ssnr.pruning import Masks


def prune(
    text: str, *, saliency: str, densities: list[float], scope: str, rounds: int | None, exclude: list[str],
    input_shape: str | None, data: str | None, batch_size: int, seed: int, recipe: str, device: str, out: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """`ssnr prune`: one set of masks a density, one table over all."""
    from ssnr import pruning
    from ssnr.cli.targets import resolve

    chosen, shape, files = recipe_of(recipe, None), shape_of(input_shape), _files(out, densities)
    rule = pruning.rule_of(saliency)
    for density in densities:
        pruning.check_density(density)
    where, target = device_of(device), resolve(text, seed=seed, variant=chosen.variant)
    one = shape or target.input_shape
    if one is None and rule is not None and (rule.data or rule.family == "synflow"):
        raise UsageError(f"{text}: name the shape of one input, such as --input-shape 3,32,32")
    batch = _batch(target, one, data, batch_size, seed) if one is not None and rule is not None and rule.data else None
    target.net.to(where)
    found: dict[float, Masks] = {}
    for density, file in files.items():
        times = pruning.rounds_of(saliency) if rounds is None else rounds
        with terminal.counted(f"{saliency} at density {density:g}", times) as progress, warnings.catch_warnings():
            warnings.simplefilter("ignore", LayerCollapseWarning)  # said below, in one line
            found[density] = pruning.masks(
                target.net, saliency, density, batch=batch, input_shape=one, scope=scope, rounds=rounds,
                exclude=exclude, recipe=chosen, seed=seed, progress=progress,
            )  # fmt: skip
        found[density].save(file)
        if found[density].collapsed:
            terminal.note(f"density {density:g}: {pruning.collapse(found[density])}")
    table = _write_table(found, out.with_suffix(".csv"))
    if as_json:
        document = {
            "target": text,
            "saliency": saliency,
            "scope": scope,
            "masks": [_document(density, masks, files[density]) for density, masks in found.items()],
            "table": str(table),
            "batch": None if batch is None else {"fingerprint": batch.fingerprint, "notes": list(batch.notes)},
            "recipe": str(chosen),
            "mode": chosen.mode,
            "seed": seed,
            "device": where,
            "versions": versions(),
        }
        terminal.print_json(document)
        return
    terminal.show(_shown(found))
    print("\n".join(map(str, (*files.values(), table))))


def _files(out: Path, densities: list[float]) -> dict[float, Path]:
    """Density → file of its masks; the density stands in the name where there are several."""
    if out.suffix == ".csv":
        raise UsageError(f"--out {out}: the table goes there; name the file of masks, such as masks.pt")
    if not out.parent.is_dir():
        raise SsnrError(f"cannot write {out}: there is no folder {out.parent}")
    if len(set(densities)) == 1:
        return {densities[0]: out}
    return {density: out.with_name(f"{out.stem}-{density:g}{out.suffix}") for density in densities}


def _batch(target: Target, shape: tuple[int, ...], data: str | None, size: int, seed: int) -> Batch:
    """The batch of a saliency that reads data; says which."""
    from ssnr import data as batches
    from ssnr.cli.targets import outputs_for_labels

    classes = target.classes or outputs_for_labels(target.net, shape)
    batch = batches.load(data, shape, classes, size=size, seed=seed)
    terminal.note(f"batch: {'; '.join((batch.fingerprint, *batch.notes))}")
    return batch


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


def _shown(found: dict[float, Masks]) -> Table:
    """Weights kept in each layer, one column a density, and the sums below."""
    table = terminal.table("layer", "weights", *(f"kept at {density:g}" for density in found))
    columns = [masks.table() for masks in found.values()]
    for row, (name, numel) in enumerate(zip(columns[0]["name"], columns[0]["numel"], strict=True)):
        cells = [_cell(int(c["kept"].iloc[row]), int(numel)) for c in columns]
        table.add_row(name, f"{numel:,}", *cells, end_section=row == len(columns[0]) - 1)
    first = next(iter(found.values()))
    table.add_row("all", f"{first.total:,}", *(_cell(m.kept, m.total) for m in found.values()))
    return table


def _cell(kept: int, numel: int) -> str:
    return f"{kept:,} ({kept / numel:.3g})" if kept else "0 (collapsed)"
