"""What the commands do: call the library, print a table or JSON on stdout, progress and notes on stderr."""

from __future__ import annotations

import json
import math
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssnr._errors import Interrupted, SsnrError, UsageError
from ssnr._registry import unknown
from ssnr._version import SCORING_VERSION, __version__
from ssnr.proxies import Proxy, Score, parse_proxies
from ssnr.recipes import RECIPES, Recipe, get_recipe, with_option

if TYPE_CHECKING:
    from rich.table import Table

    from ssnr.data import Batch
    from ssnr.engine import Plan
    from ssnr.spaces import Space

HEADLINE = ("synflow/layerwise_ssnr",)
FIGURE_2 = ("synflow/sum", "synflow/ssnr", "synflow/layerwise_ssnr")


# --- score ----------------------------------------------------------------------------------------------------


def score(
    targets: list[str], proxies: list[str] | None, *, input_shape: str | None, data: str | None, batch_size: int,
    seed: int, recipe: str, dtype: str | None, device: str, per_layer: bool, as_json: bool,
) -> None:  # fmt: skip
    """`ssnr score`: build each target, score it, print."""
    parsed, chosen = parse_proxies(proxies or HEADLINE), _recipe(recipe, dtype)
    shape = _shape(input_shape)
    from ssnr.scoring import score as score_network
    from ssnr.targets import outputs_for_labels, resolve

    where = _device(device)
    documents, rows, failures = [], [], []
    for text in targets:
        target = resolve(text, seed=seed, variant=chosen.variant)
        one = shape or target.input_shape
        if one is None:
            raise UsageError(f"{text}: name the shape of one input, such as --input-shape 3,32,32")
        batch = None
        if any(p.data for p in parsed):
            from ssnr import data as batches

            classes = target.classes or outputs_for_labels(target.net, one)
            batch = batches.load(data, one, classes, size=batch_size, seed=seed)
            _note(f"batch: {'; '.join((batch.fingerprint, *batch.notes))}")
        scores = score_network(target.net.to(where), batch, parsed, input_shape=one, recipe=chosen, seed=seed)
        parameters = sum(p.numel() for p in target.net.parameters())
        documents.append(_document(text, parameters, scores, batch, where, chosen))
        rows.append((text, parameters, scores))
        failures += [f"{text}: {name}: {s.reason}" for name, s in scores.items() if s.status == "failed"]
    if as_json:
        _print_json({"targets": documents, "recipe": str(chosen), "seed": seed, "versions": _versions()})
    else:
        _print(_score_table(rows, parsed))
        for text, _, scores in rows if per_layer else []:
            for name, result in scores.items():
                _print(_layer_table(f"{text} · {name}", result))
    if failures:
        raise SsnrError("; ".join(failures))


def _document(
    text: str, parameters: int, scores: dict[str, Score], batch: Batch | None, device: str, recipe: Recipe
) -> dict[str, Any]:
    return {
        "target": text,
        "params": parameters,
        "scores": {name: _score_json(s) for name, s in scores.items()},
        "batch": None if batch is None else {"fingerprint": batch.fingerprint, "notes": list(batch.notes)},
        "mode": recipe.mode,
        "device": device,
    }


def _score_json(s: Score) -> dict[str, Any]:
    return {
        "value": s.value,
        "log_value": s.log_value,
        "status": s.status,
        "reason": s.reason,
        "layers": [layer._asdict() for layer in s.layers],
    }


def _score_table(rows: list[tuple[str, int, dict[str, Score]]], parsed: tuple[Proxy, ...]) -> Table:
    table = _table("target", "params", *(p.text for p in parsed))
    for text, parameters, scores in rows:
        table.add_row(text, f"{parameters:,}", *(_cell(scores[p.text]) for p in parsed))
    return table


def _cell(s: Score) -> str:
    if s.status == "failed":
        return "failed"
    shown = f"e^{s.log_value:.6g}" if s.value is not None and math.isinf(s.value) and s.log_value else f"{s.value:.6g}"
    return shown if s.status == "ok" else f"{shown} ({s.status})"


def _layer_table(title: str, s: Score) -> Table:
    table = _table("layer", "weights", "sum", "σ", "sum/σ", "", title=title)
    for layer in s.layers:
        numbers = (f"{v:.6g}" for v in (layer.total, layer.sigma, layer.ratio))
        table.add_row(layer.name, f"{layer.numel:,}", *numbers, layer.flag or "")
    return table


# --- sweep ----------------------------------------------------------------------------------------------------


def sweep(
    name: str, proxies: list[str] | None, *, archs: str, store: Path, workers: int | None, seed: int, data: str | None,
    batch_size: int, recipe: str, dtype: str | None, executor: str, as_json: bool,
) -> None:  # fmt: skip
    """`ssnr sweep`: lay out, score what is missing, say what is kept."""
    from ssnr.spaces import get_space

    parsed, chosen, space = parse_proxies(proxies or HEADLINE), _recipe(recipe, dtype), get_space(name)
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: expected at least 1")
    chosen_archs = _architectures(space, archs, seed)
    batch = None
    if any(p.data for p in parsed):
        from ssnr import data as batches

        batch = batches.load(data, space.input_shape, space.num_classes, size=batch_size, seed=seed)
        _note(f"batch: {'; '.join((batch.fingerprint, *batch.notes))}")
    summary = _sweep(space, chosen_archs, parsed, store, workers, seed, batch, chosen, executor)
    if as_json:
        _print_json(summary)
        return
    print(f"{summary['architectures']:,} architectures of {space.name}, {summary['networks']:,} distinct networks, "
          f"{summary['scored']:,} scored now, {summary['failed']:,} failed → {store}")  # fmt: skip


def _sweep(
    space: Space, archs: list[str], proxies: tuple[Proxy, ...], path: Path, workers: int | None, seed: int,
    batch: Batch | None, recipe: Recipe, executor: str = "local",
) -> dict[str, Any]:  # fmt: skip
    from ssnr import engine
    from ssnr.store import Store

    with Store(path) as store:
        layout = engine.plan(space, archs, proxies, store=store, seed=seed, batch=batch, recipe=recipe)
        already = layout.distinct - len(layout.missing)
        if already:
            _note(f"{path}: {already:,} of {layout.distinct:,} networks are there already")
        done = failures = 0
        try:
            for step in _shown(engine.run(layout, store, workers=workers, executor=executor), layout):
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


def _shown(steps: Iterator[Any], layout: Plan) -> Iterator[Any]:
    """The steps of a sweep, with a progress bar on stderr: rate and time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TextColumn("{task.fields[rate]}"), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(layout.job.space.name, total=len(layout.missing) or None, rate="")
        for step in steps:
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, completed=step.done, total=step.total, rate=f"{speed:.1f}/s" if speed else "")
            yield step


def _architectures(space: Space, text: str, seed: int) -> list[str]:
    """`all`, a number drawn from the seed, or a file with one architecture a line."""
    import numpy as np

    if text == "all":
        return list(space.all())
    if text.lstrip("-").isdigit():
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


# --- correlate, reproduce -------------------------------------------------------------------------------------


def correlate(
    path: Path, benchmark: str, *, source: str | None, proxies: list[str] | None, as_json: bool, csv: bool, latex: bool
) -> None:
    """`ssnr correlate`: join, correlate, print in the form asked for."""
    from ssnr import benchmarks
    from ssnr.store import Store
    from ssnr.studies import study

    if as_json + csv + latex > 1:
        raise UsageError("--json, --csv and --latex: choose one")
    asked = None if proxies is None else [p.text for p in parse_proxies(proxies)]
    table = benchmarks.load(benchmark, source)
    with Store(path, create=False) as store, _status(f"correlating with {table.name} ({table.source})"):
        result = study(store, table, asked)
    if as_json:
        _print_json(result.to_json())
    elif csv:
        sys.stdout.write(result.to_csv())
    elif latex:
        sys.stdout.write(result.to_latex())
    else:
        _print(result.to_rich())


def reproduce(
    what: str, *, out: Path, store: Path | None, source: str | None, workers: int | None, seed: int, as_json: bool
) -> None:
    """`ssnr reproduce`: sweep what is missing, then picture and table."""
    if what not in ("fig2",):
        raise unknown("result of the paper", what, ("fig2",))
    from ssnr import benchmarks
    from ssnr.reproduce import fig2
    from ssnr.spaces import get_space
    from ssnr.store import Store

    table = benchmarks.load("nasbench201/cifar10", source)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SsnrError(f"cannot create the folder {out}: {error.strerror}") from error
    path, space = store or out / "nasbench201.sqlite", get_space("nasbench201")
    _sweep(space, list(space.all()), parse_proxies(FIGURE_2), path, workers, seed, None, get_recipe("seed"))
    with Store(path, create=False) as opened, _status("correlating and drawing"):
        result = fig2(opened, table, out)
    if as_json:
        _print_json(result.to_json())
        return
    _print(result.study.to_rich())
    _print(result.to_rich())
    print("\n".join(str(file) for file in (path, *result.files)))


# --- fetch, list ----------------------------------------------------------------------------------------------


def fetch(benchmark: str, *, as_json: bool) -> None:
    """`ssnr fetch`: the files of a benchmark, found or downloaded, hashes checked."""
    from ssnr import benchmarks

    files = [str(path) for path in benchmarks.fetch(benchmark)]
    if as_json:
        _print_json({"benchmark": benchmark, "files": files})
    else:
        print("\n".join(files))


def list_(kind: str, *, as_json: bool) -> None:
    """`ssnr list`: the registries as tables."""
    tables = {
        "proxies": _proxy_rows, "aggregates": _aggregate_rows, "spaces": _space_rows, "benchmarks": _benchmark_rows,
        "recipes": _recipe_rows,
    }  # fmt: skip
    if kind not in tables:
        raise unknown("list", kind, tables)
    header, rows = tables[kind]()
    if as_json:
        _print_json([dict(zip(header, row, strict=True)) for row in rows])
        return
    table = _table(*header)
    for row in rows:
        table.add_row(*map(str, row))
    _print(table)


Rows = tuple[tuple[str, ...], list[tuple[Any, ...]]]


def _proxy_rows() -> Rows:
    from ssnr.proxies import PLAIN, SALIENCIES

    rows: list[tuple[Any, ...]] = [
        (s.name, s.formula, "labels" if s.data else "none", s.passes, _better(s.higher_is_better), s.reference)
        for s in (SALIENCIES[name] for name in SALIENCIES)
    ]
    rows += [
        (p.name, p.formula, "batch" if p.data else "none", "", _better(p.higher_is_better), p.reference)
        for p in (PLAIN[name] for name in PLAIN)
    ]
    return ("proxy", "S_i of weight i", "data", "passes", "better", "reference"), rows


def _better(higher: bool) -> str:
    return "higher" if higher else "lower"


def _aggregate_rows() -> Rows:
    from ssnr.aggregate import AGGREGATES

    entries = [AGGREGATES[name] for name in AGGREGATES]
    shown = [(e.name + (f"({','.join(e.parameters)})" if e.parameters else ""), e.summary) for e in entries]
    return ("aggregate", "of the layers' moments"), shown


def _space_rows() -> Rows:
    from ssnr.spaces import SPACES

    rows: list[tuple[Any, ...]] = []
    for name in SPACES:
        space = SPACES[name]("")
        rows.append(
            (name, f"{len(space):,}", "×".join(map(str, space.input_shape)), (SPACES[name].__doc__ or "").strip())
        )
    return ("space", "architectures", "input", "what"), rows


def _benchmark_rows() -> Rows:
    from ssnr import benchmarks

    header, rows = benchmarks.listing()
    return header, rows


def _recipe_rows() -> Rows:
    return ("recipe", "what"), [(r.name, r.summary) for r in RECIPES.values()]


# --- helpers --------------------------------------------------------------------------------------------------


def _recipe(text: str, dtype: str | None) -> Recipe:
    chosen = get_recipe(text)
    return chosen if dtype is None else with_option(chosen, "dtype", dtype)


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        shape = tuple(int(part) for part in text.lower().replace("x", ",").strip("() ").split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise UsageError(f"--input-shape {text!r}: expected positive whole numbers such as 3,32,32")
    return shape


def _device(text: str) -> str:
    import torch

    if text == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"--device {text!r}: {str(error).splitlines()[0]}") from error
    return text


def _versions() -> dict[str, Any]:
    import torch

    return {"ssnr": __version__, "scoring": SCORING_VERSION, "torch": torch.__version__,
            "python": platform.python_version()}  # fmt: skip


def _print_json(document: Any) -> None:
    print(json.dumps(_finite(document), indent=1, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    """JSON has no infinity: such a value is null there, and `log_value` carries the number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _table(*columns: str, title: str | None = None) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", justify="left")
    return table


def _print(renderable: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    # A pipe or a file has no width of its own: do not fold architecture strings there.
    console.print(renderable, width=None if console.is_terminal else 200)


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")


@contextmanager
def _status(text: str) -> Iterator[None]:
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield
