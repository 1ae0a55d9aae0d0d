"""`ssnr report`: a sweep as one page that opens anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssnr.cli import options, terminal
from ssnr.cli.app import app
from ssnr.core.errors import UsageError


@app.command()
def report(
    stores: Annotated[list[Path], typer.Argument(metavar="STORE…", help="What `ssnr sweep` wrote.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The page.")] = Path("report.html"),
    benchmark: Annotated[
        list[str] | None,
        typer.Option(help="Accuracies, such as nasbench201/cifar10 or a CSV file; repeat it; default all here."),
    ] = None,
    proxy: options.Proxies = None,
    title: Annotated[str | None, typer.Option(help="Above the page.")] = None,
) -> None:
    """Correlations, plots, layers and what was measured, in one HTML file that needs no server and no network."""
    if out.suffix not in (".html", ".htm"):
        raise UsageError(f"-o {out}: expected a name that ends in .html")
    for store in stores:
        if not store.is_file():
            raise UsageError(f"{store}: no such store")
    from ssnr.reports import report as write

    with terminal.status("reading, correlating and writing"):
        write(list(stores), out, benchmarks=benchmark or (), proxies=proxy, title=title)
    terminal.note(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    print(out)
