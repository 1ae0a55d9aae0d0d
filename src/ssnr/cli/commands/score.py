"""`ssnr score`: networks one by one."""

from __future__ import annotations

import math
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssnr.cli import options, terminal
from ssnr.cli.app import app
from ssnr.core.errors import SsnrError, UsageError
from ssnr.core.results import Scores

if TYPE_CHECKING:
    from ssnr.cli.targets import Target
    from ssnr.core.catalogue import Proxy
    from ssnr.core.recipes import Recipe
    from ssnr.core.results import Score
    from ssnr.data import Batch
    from ssnr.studies.sheet import Sheet

_Row = tuple[str, int, "dict[str, Score]"]


@app.command()
def score(
    targets: Annotated[list[str], typer.Argument(metavar="TARGET…", help=options.TARGETS)],
    proxy: options.Proxies = None,
    input_shape: options.InputShapes = None,
    data: options.Data = None,
    batch_size: options.BatchSize = 64,
    seed: options.Seed = 0,
    recipe: options.RecipeName = "seed",
    dtype: options.Dtype = None,
    images: options.Images = None,
    device: options.Device = "auto",
    sort: Annotated[bool, typer.Option("--sort", help="Rows by the first proxy, best first.")] = False,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="Show every layer.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Picture of the first target's layers: .png, .pdf, .svg.")] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Run passes again, and say if they differ; hold grasp's second derivatives against differences.",
        ),
    ] = False,
    json: options.Json = False,
) -> None:
    """Score networks; nothing is trained, nothing is changed."""
    parsed, chosen = options.proxies_of(proxy), options.recipe_of(recipe, dtype, images=images)
    if plot is not None and plot.suffix not in (".png", ".pdf", ".svg"):
        raise UsageError(f"--plot {plot}: expected a name that ends in .png, .pdf or .svg")
    shapes = shapes_of(input_shape, len(targets))
    where = options.device_of(device)
    documents, rows, failures = [], [], []
    for text, shape in zip(targets, shapes, strict=True):
        target, batch, scores = scored(text, shape, parsed, chosen, data, batch_size, seed, where, check)
        for note in dict.fromkeys(note for s in scores.values() for note in s.notes):
            terminal.note(f"{text}: {note}")
        parameters = sum(p.numel() for p in target.net.parameters())
        documents.append(_document(target, parameters, scores, batch, where, chosen))
        rows.append((text, parameters, scores))
        failures += [f"{text}: {name}: {s.reason}" for name, s in scores.items() if s.status == "failed"]
    if plot is not None:
        Scores(rows[0][2]).plot().savefig(plot, dpi=200)
        terminal.note(f"layers of {rows[0][0]}: {plot}")
    if sort:
        order = sorted(range(len(rows)), key=lambda k: rank_key(rows[k][2][parsed[0].text], parsed[0]))
        documents, rows = [documents[k] for k in order], [rows[k] for k in order]
    if json:
        terminal.print_json(
            {"targets": documents, "recipe": str(chosen), "seed": seed, "versions": terminal.versions()}
        )
    else:
        terminal.show(_score_table(rows, parsed).to_rich())
        for text, _, scores in rows if per_layer else []:
            for name, result in scores.items():
                terminal.show(_layer_table(f"{text} · {name}", result).to_rich())
    if failures:
        raise SsnrError("; ".join(failures))


def shapes_of(given: list[str] | None, targets: int) -> list[tuple[int, ...] | None]:
    """One shape a target: none, one for all, or one for each."""
    if given and len(given) not in (1, targets):
        raise UsageError(f"{len(given)} times --input-shape for {targets} targets: expected one for all, or one each")
    shapes = [options.shape_of(text) for text in given or (None,)]
    return shapes * targets if len(shapes) == 1 else shapes


def scored(
    text: str, shape: tuple[int, ...] | None, proxies: tuple[Proxy, ...], recipe: Recipe, data: str | None, size: int,
    seed: int, device: str, check: bool,
) -> tuple[Target, Batch | None, dict[str, Score]]:  # fmt: skip
    """One target: the network, the batch that its proxies read, and its scores."""
    from ssnr.cli.sweeping import batch_of
    from ssnr.cli.targets import batch_for, outputs_for_labels, resolve
    from ssnr.scoring import score as score_network

    with redirect_stdout(sys.stderr):  # what a user's own code prints is no part of the answer
        target = resolve(text, seed=seed, variant=recipe.variant)
    shape = shape or target.input_shape
    if shape is None and target.inputs is None:
        raise UsageError(f"{text}: name the shape of one input, such as --input-shape 3,32,32")
    labels = any(p.data for p in proxies)
    if shape is None:
        batch: Batch | None = batch_for(target, size if labels else 1, labels=labels, seed=seed)
    else:
        classes = (target.classes or outputs_for_labels(target.net, shape)) if labels else None
        batch = batch_of(proxies, data, shape, classes, size, seed)
    with redirect_stdout(sys.stderr):
        scores = score_network(
            target.net.to(device), batch, proxies, input_shape=shape, recipe=recipe, seed=seed, check=check
        )
    return target, batch, scores


def rank_key(s: Score, proxy: Proxy) -> tuple[bool, float]:
    """Best first, failures last; a sum that overflows is compared by its logarithm."""
    if s.value is None:
        return (True, 0.0)
    entry = proxy.plain or proxy.saliency
    assert entry is not None
    value = s.log_value if s.log_value is not None and math.isinf(s.value) else s.value
    return (False, -value if entry.higher_is_better else value)


def _document(
    target: Target, parameters: int, scores: dict[str, Score], batch: Batch | None, device: str, recipe: Recipe
) -> dict[str, Any]:
    return {
        "target": target.text,
        "params": parameters,
        "scores": {name: _score_json(s) for name, s in scores.items()},
        "batch": None if batch is None else {"fingerprint": batch.fingerprint, "notes": list(batch.notes)},
        "mode": recipe.mode,
        "init": target.init,
        "device": device,
    }


def _score_json(s: Score) -> dict[str, Any]:
    return {
        "value": s.value,
        "log_value": s.log_value,
        "status": s.status,
        "reason": s.reason,
        "layers": [layer._asdict() for layer in s.layers],
        "notes": list(s.notes),
        "approximated": list(s.approximated),
    }


def _score_table(rows: list[_Row], parsed: tuple[Proxy, ...]) -> Sheet:
    from ssnr.studies.sheet import Sheet

    shown = [(text, f"{params:,}", *(cell(scores[p.text]) for p in parsed)) for text, params, scores in rows]
    return Sheet.of(("target", "params", *(p.text for p in parsed)), shown)


def cell(s: Score) -> str:
    """A score as it stands in a table."""
    if s.status == "failed":
        return "failed"
    shown = f"e^{s.log_value:.6g}" if s.value is not None and math.isinf(s.value) and s.log_value else f"{s.value:.6g}"
    return shown if s.status == "ok" else f"{shown} ({s.status})"


def _layer_table(title: str, s: Score) -> Sheet:
    from ssnr.studies.sheet import Sheet

    shown = [
        (layer.name, f"{layer.numel:,}", *(f"{v:.6g}" for v in (layer.total, layer.sigma, layer.ratio)),
         layer.flag or "")
        for layer in s.layers
    ]  # fmt: skip
    return Sheet.of(("layer", "weights", "sum", "σ", "sum/σ", ""), shown, title=title, left=("",))
