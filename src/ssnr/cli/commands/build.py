"""`ssnr build`: a network as a file that needs no search any more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssnr.cli import exporting, options
from ssnr.cli.app import app


@app.command()
def build(
    target: Annotated[str, typer.Argument(help="A network, such as nasbench201:ARCH or file.py:factory.")],
    out: Annotated[Path, typer.Option("-o", "--out", help=exporting.HELP)],
    input_shape: options.InputShape = None,
    seed: options.Seed = 0,
) -> None:
    """Build a network, initialised from the seed, and write it: a program, its weights, or a script that makes it."""
    exporting.check("-o", out)
    exporting.write(target, out, options.shape_of(input_shape), seed)
    print(out)
