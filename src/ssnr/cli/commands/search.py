"""`ssnr search`: the best networks of a space under constraints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssnr.cli import exporting, options, quantities, terminal
from ssnr.cli.app import app
from ssnr.cli.progress import progress
from ssnr.core.catalogue import HEADLINE
from ssnr.core.errors import Interrupted, UsageError

_COUNT = "such as 300k, 1.5M or 1e6"


@app.command()
def search(
    space: Annotated[str, typer.Argument(help=options.SPACE)],
    objective: Annotated[
        list[str] | None,
        typer.Option("-p", "--objective", help="A proxy, or -NAME for as small as can be; several give a front."),
    ] = None,
    max_params: Annotated[str | None, typer.Option(help=f"Largest number of parameters, {_COUNT}.")] = None,
    min_params: Annotated[str | None, typer.Option(help="Smallest number of parameters.")] = None,
    max_flops: Annotated[str | None, typer.Option(help=f"Most multiply-accumulates of one input, {_COUNT}.")] = None,
    min_flops: Annotated[str | None, typer.Option(help="Fewest multiply-accumulates of one input.")] = None,
    max_latency: Annotated[str | None, typer.Option(help="Longest forward pass of one input, such as 5ms.")] = None,
    max_memory: Annotated[str | None, typer.Option(help="Most memory of a forward pass, such as 200MB.")] = None,
    latency_csv: Annotated[
        Path | None, typer.Option(help="A table with latencies: architecture, and latency_ms, latency_us or latency.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where latency and memory are measured: cpu, cuda …")] = "cpu",
    trials: Annotated[
        int | None,
        typer.Option(callback=options.at_least("--trials", 1), help="Networks to look at; default 1,000, or all."),
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Stop after this time, such as 10min; the running batch is finished.")
    ] = None,
    sampler: Annotated[
        str, typer.Option(help="exhaustive, random, evolution, nsga2 or tpe; auto chooses by the size of the space.")
    ] = "auto",
    store: options.StorePath = Path("search.sqlite"),
    input_shape: options.SpaceShape = None,
    workers: options.Workers = None,
    seed: options.Seed = 0,
    data: options.Data = None,
    batch_size: options.BatchSize = 64,
    recipe: Annotated[
        str | None,
        typer.Option(help="The choices that change numbers; default float32, shared where searched in full."),
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(help="Accuracies to show beside the best, such as nasbench201/cifar10.")
    ] = None,
    top: Annotated[int, typer.Option(callback=options.at_least("--top", 1), help="How many of the best to show.")] = 10,
    plot: Annotated[Path | None, typer.Option(help="Picture of the front, or of the best so far: .png, .pdf.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Every trial as a table.")] = None,
    optuna: Annotated[
        str | None, typer.Option(help="Every trial as an Optuna study: a SQLite file or a URL; for optuna-dashboard.")
    ] = None,
    export: Annotated[Path | None, typer.Option(help=f"The best network as a file: {exporting.HELP}")] = None,
    json: options.Json = False,
) -> None:
    """The best networks of a space under constraints, by scores before training; run again, it goes on."""
    from ssnr.cli.sweeping import batch_of, space_of
    from ssnr.searchers import search as run
    from ssnr.searchers.goals import MEASURED, objectives_of
    from ssnr.searchers.measures import measure_of
    from ssnr.searchers.samplers import optuna_or_say

    where, wanted = space_of(space, input_shape), objective or [HEADLINE]
    parsed = objectives_of(wanted)
    constraints = _constraints(
        params=(("--min-params", min_params), ("--max-params", max_params)),
        flops=(("--min-flops", min_flops), ("--max-flops", max_flops)),
    )
    for name, most in (("latency", quantities.seconds_of("--max-latency", max_latency)),
                       ("memory", quantities.bytes_of("--max-memory", max_memory))):  # fmt: skip
        if most is not None:
            constraints[name] = most
    asked = [name for name in (*(one.name for one in parsed), *constraints) if name in MEASURED]
    measure = measure_of(asked, where, device=options.device_of(device) if asked else device, table=latency_csv)
    seconds = quantities.seconds_of("--time", time)
    if plot is not None and plot.suffix not in (".png", ".pdf", ".svg"):
        raise UsageError(f"--plot {plot}: expected a name that ends in .png, .pdf or .svg")
    if export is not None:
        exporting.check("--export", export)
    if optuna is not None:
        optuna_or_say()
    proxies = [one.proxy for one in parsed if one.proxy is not None]
    classes = where.num_classes if any(p.data for p in proxies) else None
    batch = batch_of(proxies, data, where.input_shape, classes, batch_size, seed)
    accuracy = _accuracies(benchmark)
    try:
        with progress(where.name) as notify:
            found = run(where, wanted, store=store, constraints=constraints, trials=trials, seconds=seconds,
                        sampler=sampler, workers=workers, seed=seed, batch=batch, recipe=recipe, measure=measure,
                        notify=lambda done, total: notify("", done, total))  # fmt: skip
    except KeyboardInterrupt:
        raise Interrupted(f"stopped: what is scored is in {store}; the same command goes on") from None
    if csv is not None:
        found.to_csv(csv)
    if plot is not None:
        found.plot().savefig(plot, dpi=200)
    if optuna is not None:
        found.to_optuna(optuna, space=where)
    if accuracy is not None:
        found.table["accuracy"] = found.table["architecture"].map(accuracy)
    if export is not None:
        exporting.write(f"{space}:{found.best['architecture']}", export, where.input_shape, seed)
    if json:
        terminal.print_json(found.to_json(top))
        return
    _ = found.best  # says why there is none
    terminal.show(found.sheet(top).to_rich())
    for path in (store, csv, plot, optuna, export):
        if path is not None:
            print(path)


def _constraints(**given: tuple[tuple[str, str | None], tuple[str, str | None]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, ends in given.items():
        low, high = (quantities.count_of(option, text) for option, text in ends)
        if low is not None or high is not None:
            found[name] = (low, high)
    return found


def _accuracies(benchmark: str | None) -> dict[str, float] | None:
    if benchmark is None:
        return None
    from ssnr import benchmarks

    table = benchmarks.load(benchmark).table
    return dict(zip(map(str, table.index), table["accuracy"].astype(float), strict=True))
