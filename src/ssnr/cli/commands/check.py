"""`ssnr check`: is a store what was written?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssnr.cli import terminal
from ssnr.cli.app import app


@app.command()
def check(
    store: Annotated[Path, typer.Argument(help="What `ssnr sweep` wrote.")],
    repair: Annotated[bool, typer.Option("--repair", help="Drop what is damaged; the old file is kept.")] = False,
) -> None:
    """Hold every row of a store against its checksum; exit code 1 where something is damaged."""
    from ssnr import store as stores

    if repair:
        found, kept = stores.repair(store)
    else:
        found, kept = stores.check(store), None
    if found.file:
        terminal.note(f"{store}: the file: {found.file}")
    for row in found.rows[:10]:
        terminal.note(f"{store}: damaged: {row}")
    if len(found.rows) > 10:
        terminal.note(f"{store}: and {len(found.rows) - 10:,} rows more")
    unchecked = f", {found.unchecked:,} written without a checksum" if found.unchecked else ""
    print(f"{store}: {found.sound:,} rows as they were written, {len(found.rows):,} damaged{unchecked}")
    if kept is not None:
        print(f"{store}: written anew without what is damaged; the same sweep fills it again. The old file is {kept}")
    elif found.any:
        raise typer.Exit(1)
