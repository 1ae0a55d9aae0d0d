"""`ssnr merge`: several stores into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssnr.cli import options, terminal
from ssnr.cli.app import app
from ssnr.cli.progress import progress
from ssnr.core.errors import Interrupted, UsageError


@app.command()
def merge(
    stores: Annotated[list[Path], typer.Argument(metavar="STORE…", help="What `ssnr sweep` wrote.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Where to; created, or added to.")],
    keep: Annotated[
        str | None,
        typer.Option(
            callback=options.one_of("--keep", ("first",)),
            help="first: if two stores differ, keep the result that is in the target already.",
        ),
    ] = None,
) -> None:
    """Write what several stores hold into one; run again, it does only what is missing."""
    from ssnr.store import Store
    from ssnr.store import merge as run

    for store in stores:
        if not store.is_file():
            raise UsageError(f"{store}: no such store")
    try:
        with progress("merge") as notify:
            conflicts = run(list(stores), out, keep=keep, notify=lambda done, total: notify("", done, total))
    except KeyboardInterrupt:
        raise Interrupted(f"stopped: what was merged is in {out}; the same command does the rest") from None
    for conflict in conflicts[:5]:
        terminal.note(f"kept the first of {conflict}")
    with Store(out, create=False) as merged:
        rows = sum(len(merged.done(group)) for group in merged.groups())
        archs = sum(1 for space in merged.spaces() for _ in merged.architectures(space))
    differ = f", {len(conflicts):,} that differed" if conflicts else ""
    print(f"{len(stores)} stores: {archs:,} architectures, {rows:,} results{differ} → {out}")
