"""`ssnr rank`: one's own networks under a budget, best first."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ssnr.cli import options, quantities, terminal
from ssnr.cli.app import app
from ssnr.cli.commands.score import cell, rank_key, scored, shapes_of
from ssnr.core.errors import SsnrError


@app.command()
def rank(
    targets: Annotated[list[str], typer.Argument(metavar="TARGET…", help=options.TARGETS)],
    proxy: options.Proxies = None,
    max_params: Annotated[str | None, typer.Option(help="Largest number of parameters, such as 1.5M.")] = None,
    max_flops: Annotated[str | None, typer.Option(help="Most multiply-accumulates of one input, such as 300M.")] = None,
    input_shape: options.InputShapes = None,
    data: options.Data = None,
    batch_size: options.BatchSize = 64,
    seed: options.Seed = 0,
    recipe: options.RecipeName = "seed",
    dtype: options.Dtype = None,
    images: options.Images = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Networks sorted by the first proxy; those above the budget are named, and not scored."""
    parsed, chosen = options.proxies_of(proxy), options.recipe_of(recipe, dtype, images=images)
    shapes, where = shapes_of(input_shape, len(targets)), options.device_of(device)
    most = {"params": quantities.count_of("--max-params", max_params),
            "flops": quantities.count_of("--max-flops", max_flops)}  # fmt: skip
    rows: list[dict[str, Any]] = []
    for text, shape in zip(targets, shapes, strict=True):
        counts, over = _over(text, shape, most, seed)
        row: dict[str, Any] = {"target": text, **counts, "over": over, "scores": {}}
        if not over:
            row["scores"] = scored(text, shape, parsed, chosen, data, batch_size, seed, where, False)[2]
        rows.append(row)
    rows.sort(key=lambda row: (bool(row["over"]), *(rank_key(row["scores"][parsed[0].text], parsed[0])
                                                    if row["scores"] else ())))  # fmt: skip
    if json:
        terminal.print_json({"ranking": [_document(row) for row in rows], "recipe": str(chosen), "seed": seed})
    else:
        _show(rows, [one.text for one in parsed])
    failures = [f"{r['target']}: {s.reason}" for r in rows for s in r["scores"].values() if s.status == "failed"]
    if failures:
        raise SsnrError("; ".join(failures))


def _over(
    text: str, shape: tuple[int, ...] | None, most: dict[str, float | None], seed: int
) -> tuple[dict[str, int], str | None]:
    """Parameters and multiply-accumulates of a target, and which of them are above the budget."""
    from ssnr.cli.targets import resolve
    from ssnr.proxies.controls import count

    target = resolve(text, seed=seed)
    inputs = target.inputs(1, seed) if target.inputs is not None else None
    found = count(target.net, shape or target.input_shape, inputs)
    counts = {"params": found.params, "flops": found.flops}
    above = [f"{name} {counts[name]:,}" for name, high in most.items() if high is not None and counts[name] > high]
    return counts, ", ".join(above) or None


def _document(row: dict[str, Any]) -> dict[str, Any]:
    scores = {name: {"value": s.value, "log_value": s.log_value, "status": s.status, "reason": s.reason}
              for name, s in row["scores"].items()}  # fmt: skip
    return row | {"scores": scores}


def _show(rows: list[dict[str, Any]], names: list[str]) -> None:
    from ssnr.studies.sheet import Sheet

    cells = [
        (str(number) if not row["over"] else "–", row["target"], f"{row['params']:,}", f"{row['flops']:,}",
         *(cell(row["scores"][name]) if row["scores"] else "over budget" for name in names))
        for number, row in enumerate(rows, start=1)
    ]  # fmt: skip
    terminal.show(Sheet.of(("#", "target", "params", "flops", *names), cells, left=("target",)).to_rich())
