"""`ssnr reproduce`: what the paper and the pages of the docs show, each a command with its own options."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssnr.cli import options, terminal
from ssnr.cli.app import group
from ssnr.cli.progress import progress
from ssnr.core.catalogue import parse_proxies
from ssnr.core.errors import UsageError

if TYPE_CHECKING:
    from ssnr.paper.evidence import Sweep
    from ssnr.paper.fig1 import Fig1Config

FIGURE_2 = ("synflow/sum", "synflow/ssnr", "synflow/layerwise_ssnr")

Parts = Annotated[
    list[str] | None,
    typer.Option("--part", help="Only these benchmarks, such as nb201-c10 or nb301; repeat it for several."),
]
Seeds = Annotated[
    int, typer.Option(callback=options.at_least("--seeds", 1), help="Initialisations and images, 0 … K−1.")
]

reproduce = group(
    "reproduce",
    "Make a result again on real data: the paper's (fig1, fig2, table1), or the docs' (evidence, search, proxies).",
)


@reproduce.command()
def fig1(
    out: options.Out = Path("out"),
    quick: Annotated[bool, typer.Option("--quick", help="A slim network and few epochs: minutes.")] = False,
    data: Annotated[str | None, typer.Option(help="cifar10:DIR; default the folder that SSNR_CIFAR10 names.")] = None,
    epochs: Annotated[
        int | None,
        typer.Option(callback=options.at_least("--epochs", 1), help="Of each training; default 20, with --quick 4."),
    ] = None,
    density: options.Densities = None,
    saliency: Annotated[list[str] | None, typer.Option(help="By which to prune; default synflow.")] = None,
    precision: options.Precision = "float32",
    device: Annotated[str, typer.Option(help="Where to train: auto, cpu, cuda …")] = "auto",
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Accuracy and scores while VGG-16 is pruned."""
    from ssnr.cli.curve import cifar10_folder
    from ssnr.paper import fig1 as figure

    folder = cifar10_folder(data)
    plan = _plan(quick, epochs, density, precision, saliency or ["synflow"], seed, options.device_of(device))
    options.make_folder(out)
    with progress("figure 1") as notify:
        result = figure.fig1(folder, out, plan, notify=notify)
    if json:
        terminal.print_json(result.to_json())
        return
    terminal.show(result.to_rich())
    print("\n".join((result.description, *map(str, result.files))))


def _plan(
    quick: bool, epochs: int | None, densities: list[float] | None, precision: str, saliencies: list[str], seed: int,
    device: str,
) -> Fig1Config:  # fmt: skip
    from ssnr.paper.fig1 import QUICK, Fig1Config

    if len(saliencies) > 1:
        raise UsageError(f"figure 1 takes one --saliency, got {len(saliencies)}")
    plan = QUICK if quick else Fig1Config()
    ways = replace(plan.ways, precision=precision, seed=seed, device=device, saliency=saliencies[0])
    if epochs is not None:
        ways = replace(ways, epochs=epochs)
    if densities:
        plan = replace(plan, densities=tuple(densities), init_densities=tuple(densities))
    return replace(plan, ways=ways)


@reproduce.command()
def fig2(
    out: options.Out = Path("out"),
    store: Annotated[
        Path | None, typer.Option(help="Store to use or resume; default nasbench201.sqlite in --out.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="Which accuracies: nats, naslib or analog; default nats where its file is, else analog."),
    ] = None,
    dtype: options.Dtype = None,
    init: options.Init = None,
    workers: options.Workers = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Score against accuracy, all of NAS-Bench-201."""
    from ssnr import benchmarks
    from ssnr.cli.sweeping import swept
    from ssnr.paper.fig2 import fig2 as figure
    from ssnr.spaces import get_space
    from ssnr.store import Store

    options.make_folder(out)
    table = benchmarks.load("nasbench201/cifar10", source)
    path, space = store or out / "nasbench201.sqlite", get_space("nasbench201")
    recipe = options.recipe_of("seed", dtype, init)
    swept(space, list(space.all()), parse_proxies(FIGURE_2), path, workers, seed, None, recipe)
    with Store(path, create=False) as opened, terminal.status("correlating and drawing"):
        result = figure(opened, table, out, recipe=recipe, seed=seed)
    if json:
        terminal.print_json(result.to_json())
        return
    terminal.show(result.study.to_rich())
    terminal.show(result.to_rich())
    print("\n".join(str(file) for file in (path, *result.files)))


@reproduce.command()
def table1(
    out: options.Out = Path("out"),
    store: Annotated[Path | None, typer.Option(help="Store to use or resume; default table1.sqlite in --out.")] = None,
    saliency: Annotated[list[str] | None, typer.Option(help="Rows; repeat it for several; default synflow.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Only these columns, such as nb301 or class_scene; repeat it for several."),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(callback=options.at_least("--seeds", 1), help="Initialisations to average over, 0 … K−1."),
    ] = 1,
    dtype: options.Dtype = None,
    init: options.Init = None,
    workers: options.Workers = None,
    json: options.Json = False,
) -> None:
    """Kendall τ on NAS-Bench-201, NAS-Bench-301 and TransNAS-Bench-101 micro."""
    from ssnr.cli.sweeping import batch_of, swept
    from ssnr.paper import table1 as tables
    from ssnr.store import Store

    chosen, parsed = tables.columns(column), parse_proxies(saliency or ["synflow"])
    for proxy in parsed:
        if proxy.saliency is None or "/" in proxy.text:
            raise UsageError(f"--saliency {proxy.text}: expected a saliency such as synflow, grasp_abs or snip")
    recipe = options.recipe_of("seed", dtype, init)
    options.make_folder(out)
    path = store or out / "table1.sqlite"
    for one in tables.sweeps(chosen, tables.load(chosen)):
        for seed in range(seeds):
            batch = batch_of(parsed, None, one.space.input_shape, one.space.num_classes, 64, 0)
            swept(one.space, one.architectures, parsed, path, workers, seed, batch, recipe)
    with Store(path, create=False) as opened, terminal.status("correlating and drawing"):
        result = tables.table1(
            opened, out, saliencies=[p.text for p in parsed], keys=column, recipe=recipe, seeds=range(seeds)
        )
    if json:
        terminal.print_json(result.to_json())
        return
    terminal.show(result.to_rich())
    print("\n".join([*result.notes, "", *map(str, (path, *result.files))]))


def _fill(out: Path, sweeps: Iterable[Sweep], workers: int | None) -> None:
    """Score what is missing in the stores of the evidence."""
    from ssnr.cli.sweeping import swept
    from ssnr.paper.parts import path_of
    from ssnr.spaces import get_space

    for sweep in sweeps:
        for seed in sweep.seeds:
            swept(get_space(sweep.space), sweep.architectures, parse_proxies(sweep.proxies), path_of(out, sweep.space),
                  workers, seed, sweep.batch, sweep.recipe)  # fmt: skip


@reproduce.command()
def evidence(
    out: options.Out = Path("out"),
    part: Parts = None,
    seeds: Seeds = 5,
    data: Annotated[str | None, typer.Option(help="cifar10:DIR, for real images; default SSNR_CIFAR10.")] = None,
    curves: Annotated[bool, typer.Option("--curves/--no-curves", help="More images, real ones, other inputs.")] = True,
    most_images: Annotated[
        int,
        typer.Option(callback=options.at_least("--most-images", 1), help="Where the curve over images ends."),
    ] = 64,
    workers: options.Workers = None,
    json: options.Json = False,
) -> None:
    """What one image of noise says of accuracy, on every benchmark, with the choice of the proxy frozen."""
    from ssnr.cli.curve import cifar10_folder
    from ssnr.paper import evidence as study
    from ssnr.paper import evidence_page

    chosen = study.parts(part)
    folder = cifar10_folder(data) if curves else None
    options.make_folder(out)
    points = study.points(folder, most_images) if curves else []
    _fill(out, (*study.sweeps(chosen, seeds), *(point.sweep for point in points)), workers)
    with terminal.status("correlating and drawing"):
        found = study.evidence(out, part, seeds=seeds, curves=points)
        files = evidence_page.write(found, out)
    if json:
        terminal.print_json(evidence_page.to_json(found) | {"files": [str(file) for file in files]})
        return
    terminal.show(evidence_page.correlations(found).to_rich())
    print("\n".join(str(file) for file in files))


@reproduce.command()
def search(
    out: options.Out = Path("out"),
    seeds: Seeds = 1,
    repeats: Annotated[
        int, typer.Option(callback=options.at_least("--repeats", 1), help="Simulated searches of each kind.")
    ] = 10,
    part: Parts = None,
    workers: options.Workers = None,
    json: options.Json = False,
) -> None:
    """What a search by score finds in each benchmark: the accuracy of the pick, with and without a budget."""
    from ssnr.paper import evidence, picks

    keys = part or picks.BENCHMARKS
    options.make_folder(out)
    _fill(out, evidence.sweeps(evidence.parts(keys), seeds), workers)
    with terminal.status("searching and drawing"):
        found = picks.picks(out, keys, seeds=range(seeds), repeats=repeats)
        files = picks.write(found, out)
    if json:
        rows = found.table.astype(object).where(found.table.notna(), None).to_dict("records")
        terminal.print_json({"rows": rows, "files": [str(file) for file in files]})
        return
    terminal.show(found.sheet().to_rich())
    print("\n".join(str(file) for file in files))


@reproduce.command()
def proxies(
    out: options.Out = Path("out"),
    part: Parts = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option("-p", "--proxy", help="Score only these, such as naswot; repeat it for several. Default all."),
    ] = None,
    networks: Annotated[
        int, typer.Option(callback=options.at_least("--networks", 3), help="How many of each benchmark, at most.")
    ] = 1000,
    cost: Annotated[bool, typer.Option("--cost/--no-cost", help="Milliseconds on one cell of NAS-Bench-201.")] = True,
    repeats: Annotated[
        int, typer.Option(callback=options.at_least("--repeats", 1), help="Turns of which the least counts.")
    ] = 3,
    data: options.Data = None,
    workers: options.Workers = None,
    json: options.Json = False,
) -> None:
    """Every proxy of the field on the same networks: formula, source, cost, and how it ranks."""
    import json as jsons

    from ssnr.cli.sweeping import batch_of, swept
    from ssnr.paper import field, field_page
    from ssnr.spaces import get_space

    chosen, asked = field.parts(part), field.chosen_proxies(proxy)
    options.make_folder(out)
    for one in field.sweeps(chosen, networks):
        space, parsed = get_space(one.space), parse_proxies(asked)
        batch = batch_of(parsed, data, space.input_shape, space.num_classes, one.samples, field.SEED)
        swept(space, one.architectures, parsed, field.path_of(out, one.space), workers, field.SEED, batch, one.recipe)
    kept = out / "proxies-cost.json"
    costs = field.read_costs(kept) if cost else None
    if cost and costs is None:
        batch = batch_of(parse_proxies(field.PROXIES), data, (3, 32, 32), 10, 64, field.SEED)
        assert batch is not None
        with progress("cost") as notify:
            costs = field.costs(batch, repeats, notify)
        kept.write_text(jsons.dumps(costs, indent=1) + "\n")
    with terminal.status("correlating"):
        found = field.rows(out, chosen, networks)
        files = field_page.write(found, costs, out)
    if json:
        rows = found.astype(object).where(found.notna(), None).to_dict("records")
        terminal.print_json({"rows": rows, "cost": costs, "files": [str(file) for file in files]})
        return
    for title, sheet in field_page.ranks(found, quote=""):
        terminal.show(replace(sheet, title=title).to_rich())
    print("\n".join(str(file) for file in files))
