"""`ssnr correlate`: stored scores against measured accuracies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ssnr.cli import options, terminal
from ssnr.cli.app import app
from ssnr.core.errors import UsageError


def _population(given: str) -> str:
    from ssnr.studies.populations import checked

    return checked(given)


@app.command()
def correlate(
    store: Annotated[Path, typer.Argument(help="The file that a sweep wrote.")],
    benchmark: Annotated[str, typer.Option(help="See `ssnr list benchmarks`, or a CSV with architecture, accuracy.")],
    source: Annotated[
        str | None, typer.Option(help="Which table of the benchmark, such as nats, naslib or analog.")
    ] = None,
    proxy: options.Proxies = None,
    space: Annotated[
        str | None,
        typer.Option(help="Your own space (file.py:build), if the CSV holds its architectures."),
    ] = None,
    population: Annotated[
        str,
        typer.Option(
            callback=_population,
            help="all architectures, those used (no idle operation), or one of each of the classes of isomorphic ones.",
        ),
    ] = "all",
    top: Annotated[
        str | None, typer.Option(help="Measures of the best 1, 5 and 10 percent: `--top 1,5,10`; any percentages.")
    ] = None,
    published: Annotated[
        str | None,
        typer.Option(help="Scores that others published, as further rows: naswot,zen or all; `ssnr list published`."),
    ] = None,
    json: options.Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="A LaTeX table on stdout.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="A Markdown table on stdout.")] = False,
) -> None:
    """Rank correlations of stored scores with measured accuracies, beside the controls; scores nothing again."""
    from ssnr import benchmarks
    from ssnr.cli.sweeping import space_of
    from ssnr.core import combinations
    from ssnr.store import Store
    from ssnr.studies.study import study

    if json + csv + latex + markdown > 1:
        raise UsageError("--json, --csv, --latex and --markdown: choose one")
    shares = _shares(top)
    others = [] if published is None else [name.strip() for name in published.split(",")]
    asked = None if proxy is None else [combinations.parse(text) for text in proxy]
    family = None if space is None else space_of(space).family
    table = benchmarks.load(benchmark, source, family=family)
    with Store(store, create=False) as opened, terminal.status(f"correlating with {table.name} ({table.source})"):
        result = study(opened, table, asked, population=population, top=shares, published=others)
    if json:
        terminal.print_json(result.to_json())
    elif csv:
        sys.stdout.write(result.to_csv() or "")
    elif latex:
        sys.stdout.write(result.to_latex())
    elif markdown:
        print(result.to_markdown())
        if shares:
            print(f"\n{result.top_sheet().to_markdown()}")
    else:
        terminal.show(result.to_rich())
        if shares:
            terminal.show(result.top_sheet().to_rich())


def _shares(text: str | None) -> tuple[float, ...]:
    """`--top` as shares of one."""
    parts = [] if text is None else text.replace("%", "").split(",")
    try:
        percentages = [float(part) for part in parts]
    except ValueError:
        raise UsageError(f"--top {text}: expected percentages such as 1,5,10") from None
    for percentage in percentages:
        if not 0 < percentage <= 100:
            raise UsageError(f"--top {text}: {percentage:g} is no percentage above 0 and up to 100")
    return tuple(percentage / 100 for percentage in percentages)
