"""`ssnr fetch`: the files of a benchmark."""

from __future__ import annotations

from typing import Annotated

import typer

from ssnr.cli import options, terminal
from ssnr.cli.app import app


@app.command()
def fetch(
    benchmark: Annotated[str, typer.Argument(help="See `ssnr list benchmarks`.")], json: options.Json = False
) -> None:
    """Find a benchmark's files, or download them, and check their hashes."""
    from ssnr import benchmarks

    files = [str(path) for path in benchmarks.fetch(benchmark)]
    if json:
        terminal.print_json({"benchmark": benchmark, "files": files})
    else:
        print("\n".join(files))
