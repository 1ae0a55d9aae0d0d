"""`ssnr export`: a store's scores as a table for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssnr.cli import options, terminal
from ssnr.cli.app import app
from ssnr.core.errors import UsageError


@app.command()
def export(
    store: Annotated[Path, typer.Argument(help="What `ssnr sweep` wrote.")],
    out: Annotated[Path, typer.Option("-o", "--out", help=".csv, .parquet or .sqlite (a table `scores`).")],
    proxy: options.Proxies = None,
    long: Annotated[bool, typer.Option("--long/--wide", help="A row per score, or a row per architecture.")] = False,
) -> None:
    """Write scores as a table that pandas, DuckDB, datasette or a spreadsheet reads."""
    from ssnr.studies.export import SUFFIXES
    from ssnr.studies.export import export as write

    if out.suffix not in SUFFIXES:
        raise UsageError(f"-o {out}: expected a name that ends in .csv, .parquet or .sqlite")
    if not store.is_file():
        raise UsageError(f"{store}: no such store")
    with terminal.status("reading and writing"):
        table = write(store, out, proxies=proxy or None, long=long)
    print(f"{len(table):,} rows, {len(table.columns)} columns → {out}")
