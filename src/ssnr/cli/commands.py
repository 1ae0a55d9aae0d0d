"""What the commands do: call the library, print a table or JSON on stdout, progress and notes on stderr."""

from __future__ import annotations

import math
import platform
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssnr._version import SCORING_VERSION, __version__
from ssnr.cli import terminal as terminal
from ssnr.core.catalogue import Proxy, parse_proxies
from ssnr.core.errors import Interrupted, SsnrError, UsageError
from ssnr.core.recipes import Recipe, get_recipe, shared, with_option
from ssnr.core.registry import unknown
from ssnr.core.results import Score

if TYPE_CHECKING:
    from rich.table import Table

    from ssnr.cli.targets import Target
    from ssnr.data import Batch
    from ssnr.spaces import Space

MOST = 1_000_000  # architectures that `--archs all` takes for meant
HEADLINE = ("synflow/layerwise_ssnr",)
FIGURE_2 = ("synflow/sum", "synflow/ssnr", "synflow/layerwise_ssnr")


# --- score ----------------------------------------------------------------------------------------------------


def score(
    targets: list[str], proxies: list[str] | None, *, input_shape: str | None, data: str | None, batch_size: int,
    seed: int, recipe: str, dtype: str | None, device: str, per_layer: bool, as_json: bool, check: bool = False,
) -> None:  # fmt: skip
    """`ssnr score`: build each target, score it, print."""
    parsed, chosen = parse_proxies(proxies or HEADLINE), recipe_of(recipe, dtype)
    shape = shape_of(input_shape)
    from ssnr.cli.targets import batch_for, outputs_for_labels, resolve
    from ssnr.scoring import score as score_network

    where = device_of(device)
    documents, rows, failures = [], [], []
    if not -(2**63) <= seed < 2**63:
        raise UsageError(f"--seed {seed}: expected a whole number of at most 63 bits")
    for text in targets:
        with redirect_stdout(sys.stderr):  # what a user's own code prints is no part of the answer
            target = resolve(text, seed=seed, variant=chosen.variant)
        one = shape or target.input_shape
        if one is None and target.inputs is None:
            raise UsageError(f"{text}: name the shape of one input, such as --input-shape 3,32,32")
        batch, labels = None, any(p.data for p in parsed)
        if one is None:
            batch = batch_for(target, batch_size if labels else 1, labels=labels, seed=seed)
        elif labels:
            from ssnr import data as batches

            classes = target.classes or outputs_for_labels(target.net, one)
            batch = batches.load(data, one, classes, size=batch_size, seed=seed)
            terminal.note(f"batch: {'; '.join((batch.fingerprint, *batch.notes))}")
        with redirect_stdout(sys.stderr):
            scores = score_network(
                target.net.to(where), batch, parsed, input_shape=one, recipe=chosen, seed=seed, check=check
            )
        for note in dict.fromkeys(note for s in scores.values() for note in s.notes):
            terminal.note(f"{text}: {note}")
        parameters = sum(p.numel() for p in target.net.parameters())
        documents.append(_document(target, parameters, scores, batch, where, chosen))
        rows.append((text, parameters, scores))
        failures += [f"{text}: {name}: {s.reason}" for name, s in scores.items() if s.status == "failed"]
    if as_json:
        terminal.print_json({"targets": documents, "recipe": str(chosen), "seed": seed, "versions": versions()})
    else:
        terminal.show(_score_table(rows, parsed))
        for text, _, scores in rows if per_layer else []:
            for name, result in scores.items():
                terminal.show(_layer_table(f"{text} · {name}", result))
    if failures:
        raise SsnrError("; ".join(failures))


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


def _score_table(rows: list[tuple[str, int, dict[str, Score]]], parsed: tuple[Proxy, ...]) -> Table:
    table = terminal.table("target", "params", *(p.text for p in parsed))
    for text, parameters, scores in rows:
        table.add_row(text, f"{parameters:,}", *(_cell(scores[p.text]) for p in parsed))
    return table


def _cell(s: Score) -> str:
    if s.status == "failed":
        return "failed"
    shown = f"e^{s.log_value:.6g}" if s.value is not None and math.isinf(s.value) and s.log_value else f"{s.value:.6g}"
    return shown if s.status == "ok" else f"{shown} ({s.status})"


def _layer_table(title: str, s: Score) -> Table:
    table = terminal.table("layer", "weights", "sum", "σ", "sum/σ", "", title=title)
    for layer in s.layers:
        numbers = (f"{v:.6g}" for v in (layer.total, layer.sigma, layer.ratio))
        table.add_row(layer.name, f"{layer.numel:,}", *numbers, layer.flag or "")
    return table


# --- sweep ----------------------------------------------------------------------------------------------------


def sweep(
    name: str, proxies: list[str] | None, *, archs: str, store: Path, workers: int | None, seed: int, data: str | None,
    batch_size: int, recipe: str, dtype: str | None, init: str, executor: str, as_json: bool,
) -> None:  # fmt: skip
    """`ssnr sweep`: lay out, score what is missing, say what is kept."""
    from ssnr.spaces import get_space

    parsed, chosen, space = parse_proxies(proxies or HEADLINE), recipe_of(recipe, dtype, init), get_space(name)
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: expected at least 1")
    chosen_archs = _architectures(space, archs, seed)
    batch = None
    if any(p.data for p in parsed):
        from ssnr import data as batches

        batch = batches.load(data, space.input_shape, space.num_classes, size=batch_size, seed=seed)
        terminal.note(f"batch: {'; '.join((batch.fingerprint, *batch.notes))}")
    repeats = len(chosen_archs) - len(set(chosen_archs))
    if repeats:
        terminal.note(f"{repeats:,} of {len(chosen_archs):,} architectures are repeats: scored once, kept once")
    summary = _sweep(space, chosen_archs, parsed, store, workers, seed, batch, chosen, executor)
    if as_json:
        drawn = {"of": len(space), "seed": seed, "replacement": False} if _is_number(archs) else None
        terminal.print_json(summary | {"repeats": repeats, "drawn": drawn})
        return
    print(f"{summary['architectures']:,} architectures of {space.name}, {summary['networks']:,} distinct networks, "
          f"{summary['scored']:,} scored now, {summary['failed']:,} failed → {store}")  # fmt: skip


def _sweep(
    space: Space, archs: list[str], proxies: tuple[Proxy, ...], path: Path, workers: int | None, seed: int,
    batch: Batch | None, recipe: Recipe, executor: str = "local",
) -> dict[str, Any]:  # fmt: skip
    from ssnr.engine import local as _workers

    if workers != 1:
        _workers.warm_up()
    from ssnr import engine
    from ssnr.store import Store

    with Store(path) as store:
        layout = engine.plan(space, archs, proxies, store=store, seed=seed, batch=batch, recipe=recipe)
        already = layout.distinct - len(layout.missing)
        if already and layout.groups:  # controls alone are never missing
            terminal.note(f"{path}: {already:,} of {layout.distinct:,} networks are there already")
        done = failures = 0
        steps = engine.run(layout, store, workers=workers, executor=executor)
        try:
            for step in terminal.shown(steps, space.name, len(layout.missing)):
                done, failures = step.done, step.failed
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped: {already + done:,} of {layout.distinct:,} networks are in {path}; "
                "the same command does the rest"
            ) from None
        return {
            "space": space.name,
            "store": str(path),
            "architectures": len(layout.networks),
            "networks": layout.distinct,
            "scored": done,
            "failed": failures,
        }


def _architectures(space: Space, text: str, seed: int) -> list[str]:
    """`all`, a number drawn from the seed, or a file with one architecture a line."""
    import numpy as np

    if text == "all":
        if len(space) > MOST:
            raise UsageError(
                f"{space.name} has {len(space):,} architectures: draw a number with --archs N, or name a file"
            )
        return list(space.all())
    if _is_number(text):
        return space.sample_many(int(text), np.random.default_rng(seed))
    path = Path(text)
    if not path.is_file():
        raise UsageError(f"--archs {text!r}: expected all, a number, or a file with one architecture a line")
    found = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            try:
                found.append(space.parse(line.strip()))
            except UsageError as error:
                raise UsageError(f"{path}, line {number}: {error}") from error
    if not found:
        raise UsageError(f"{path} holds no architecture")
    return found


def _is_number(text: str) -> bool:
    return text.lstrip("-").isdigit()


# --- correlate, reproduce -------------------------------------------------------------------------------------


def correlate(
    path: Path, benchmark: str, *, source: str | None, proxies: list[str] | None, as_json: bool, csv: bool, latex: bool
) -> None:
    """`ssnr correlate`: join, correlate, print in the form asked for."""
    from ssnr import benchmarks
    from ssnr.store import Store
    from ssnr.studies.study import study

    if as_json + csv + latex > 1:
        raise UsageError("--json, --csv and --latex: choose one")
    asked = None if proxies is None else [p.text for p in parse_proxies(proxies)]
    table = benchmarks.load(benchmark, source)
    with Store(path, create=False) as store, terminal.status(f"correlating with {table.name} ({table.source})"):
        result = study(store, table, asked)
    if as_json:
        terminal.print_json(result.to_json())
    elif csv:
        sys.stdout.write(result.to_csv())
    elif latex:
        sys.stdout.write(result.to_latex())
    else:
        terminal.show(result.to_rich())


def reproduce(
    what: str, *, out: Path, store: Path | None, source: str | None, workers: int | None, seed: int, as_json: bool,
    saliencies: list[str] | None, columns: list[str] | None, seeds: int, dtype: str | None, init: str,
) -> None:  # fmt: skip
    """`ssnr reproduce`: sweep what is missing, then picture and table."""
    if what not in ("fig2", "table1"):
        raise unknown("result of the paper", what, ("fig1", "fig2", "table1"))
    make_folder(out)
    if what == "table1":
        path, recipe = store or out / "table1.sqlite", recipe_of("seed", dtype, init)
        _table1(out, path, saliencies or ["synflow"], columns, workers, seeds, recipe, as_json)
        return
    from ssnr import benchmarks
    from ssnr.paper.fig2 import fig2
    from ssnr.spaces import get_space
    from ssnr.store import Store

    table = benchmarks.load("nasbench201/cifar10", source)
    path, space = store or out / "nasbench201.sqlite", get_space("nasbench201")
    recipe = recipe_of("seed", dtype, init)
    _sweep(space, list(space.all()), parse_proxies(FIGURE_2), path, workers, seed, None, recipe)
    with Store(path, create=False) as opened, terminal.status("correlating and drawing"):
        result = fig2(opened, table, out, recipe=recipe, seed=seed)
    if as_json:
        terminal.print_json(result.to_json())
        return
    terminal.show(result.study.to_rich())
    terminal.show(result.to_rich())
    print("\n".join(str(file) for file in (path, *result.files)))


def _table1(
    out: Path, path: Path, saliencies: list[str], keys: list[str] | None, workers: int | None, seeds: int,
    recipe: Recipe, as_json: bool,
) -> None:  # fmt: skip
    """Sweep each space that table 1 needs, for each seed, then put the table together."""
    from ssnr.paper import table1
    from ssnr.store import Store

    if seeds < 1:
        raise UsageError(f"--seeds {seeds}: expected at least 1")
    chosen = table1.columns(keys)
    parsed = parse_proxies(saliencies)
    for proxy in parsed:
        if proxy.saliency is None or "/" in proxy.text:
            raise UsageError(f"--saliency {proxy.text}: expected a saliency such as synflow, grasp_abs or snip")
    for sweep_ in table1.sweeps(chosen, table1.load(chosen)):
        for seed in range(seeds):
            batch = None
            if any(p.data for p in parsed):
                from ssnr import data as batches

                batch = batches.load(None, sweep_.space.input_shape, sweep_.space.num_classes)
            _sweep(sweep_.space, sweep_.architectures, parsed, path, workers, seed, batch, recipe)
    with Store(path, create=False) as opened, terminal.status("correlating and drawing"):
        result = table1.table1(
            opened, out, saliencies=[p.text for p in parsed], keys=keys, recipe=recipe, seeds=range(seeds)
        )
    if as_json:
        terminal.print_json(result.to_json())
        return
    terminal.show(result.to_rich())
    print("\n".join([*result.notes, "", *map(str, (path, *result.files))]))


# --- fetch ----------------------------------------------------------------------------------------------


def fetch(benchmark: str, *, as_json: bool) -> None:
    """`ssnr fetch`: the files of a benchmark, found or downloaded, hashes checked."""
    from ssnr import benchmarks

    files = [str(path) for path in benchmarks.fetch(benchmark)]
    if as_json:
        terminal.print_json({"benchmark": benchmark, "files": files})
    else:
        print("\n".join(files))


# --- helpers --------------------------------------------------------------------------------------------------


def recipe_of(text: str, dtype: str | None, init: str = "independent") -> Recipe:
    """The recipe that the options name."""
    chosen = get_recipe(text)
    if dtype is not None:
        chosen = with_option(chosen, "dtype", dtype)
    chosen = with_option(chosen, "init", init)
    return shared(chosen) if init == "shared" else chosen


def make_folder(out: Path) -> None:
    """Create the folder that the option names, where it is not there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SsnrError(f"cannot create the folder {out}: {error.strerror}") from error


def shape_of(text: str | None) -> tuple[int, ...] | None:
    """The input shape that the option names."""
    if text is None:
        return None
    try:
        shape = tuple(int(part) for part in text.lower().replace("x", ",").strip("() ").split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise UsageError(f"--input-shape {text!r}: expected positive whole numbers such as 3,32,32")
    return shape


def device_of(text: str) -> str:
    """The device that the option names, in torch's words."""
    import torch

    if text == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"--device {text!r}: {str(error).splitlines()[0]}") from error
    return text


def versions() -> dict[str, Any]:
    """What the numbers were made with."""
    import torch

    return {"ssnr": __version__, "scoring": SCORING_VERSION, "torch": torch.__version__,
            "python": platform.python_version()}  # fmt: skip
