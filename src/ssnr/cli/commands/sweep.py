"""`ssnr sweep`: many architectures of a space into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssnr.cli import options, quantities, terminal
from ssnr.cli.app import app


@app.command()
def sweep(
    space: Annotated[str, typer.Argument(help=options.SPACE)],
    proxy: options.Proxies = None,
    archs: Annotated[str, typer.Option(help="all, a number drawn from the seed, or a file with one a line.")] = "all",
    store: options.StorePath = Path("ssnr.sqlite"),
    input_shape: options.SpaceShape = None,
    workers: options.Workers = None,
    seed: options.Seed = 0,
    data: options.Data = None,
    batch_size: options.BatchSize = 64,
    recipe: options.RecipeName = "seed",
    dtype: options.Dtype = None,
    images: options.Images = None,
    init: options.Init = None,
    executor: Annotated[
        str, typer.Option(help="Where workers run: local, ray (a Ray of its own), or ray:ADDRESS, such as ray:auto.")
    ] = "local",
    gpus: Annotated[
        float, typer.Option(help="With Ray: the share of a GPU of each worker, such as 0.25; it scores there.")
    ] = 0.0,
    timeout: Annotated[
        str | None, typer.Option(help="What one network may take before it is marked failed, such as 60s or 5min.")
    ] = None,
    max_memory: Annotated[str | None, typer.Option(help="What one worker may take, such as 4GB.")] = None,
    shard: Annotated[
        str | None, typer.Option(help="3/16: the third of sixteen parts, into a store of its own; then ssnr merge.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Score many architectures into a store; the same command again does only what is missing."""
    from ssnr.cli.sweeping import architectures, batch_of, is_number, space_of, swept
    from ssnr.engine.executors import executor_of
    from ssnr.engine.shards import shard_of

    parsed, chosen = options.proxies_of(proxy), options.recipe_of(recipe, dtype, init, images)
    seconds = quantities.seconds_of("--timeout", timeout)
    most = quantities.bytes_of("--max-memory", max_memory)
    own = shard_of(shard)
    executor_of(executor, gpus)
    where = space_of(space, input_shape)
    asked = architectures(where, archs, seed)
    classes = where.num_classes if any(p.data for p in parsed) else None
    batch = batch_of(parsed, data, where.input_shape, classes, batch_size, seed)
    repeats = len(asked) - len(set(asked))
    if repeats:
        terminal.note(f"{repeats:,} of {len(asked):,} architectures are repeats: scored once, kept once")
    summary = swept(where, asked, parsed, store, workers, seed, batch, chosen, executor, seconds, most, own, gpus)
    if json:
        drawn = {"of": where.size, "seed": seed, "replacement": False} if is_number(archs) else None
        terminal.print_json(summary | {"repeats": repeats, "drawn": drawn})
        raise typer.Exit(1 if summary["lost"] else 0)
    print(f"{summary['architectures']:,} architectures of {where.name}, {summary['networks']:,} distinct networks, "
          f"{summary['scored']:,} scored now, {summary['failed']:,} failed → {store}")  # fmt: skip
    for one in summary["lost"][:5]:
        terminal.note(f"lost: {one['network']}: {one['reason']}")
    if summary["lost"]:
        more = len(summary["lost"]) - 5
        terminal.note(f"{len(summary['lost']):,} networks could not be scored{f', {more:,} more' if more > 0 else ''}")
        raise typer.Exit(1)
