"""`ssnr plot`: a sweep as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssnr.cli import options, terminal
from ssnr.cli.app import app
from ssnr.core.errors import SsnrError, UsageError


@app.command()
def plot(
    store: Annotated[Path, typer.Argument(help="What `ssnr sweep` wrote.")],
    benchmark: Annotated[str, typer.Option(help="Accuracies, such as nasbench201/cifar10 or a CSV file.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The picture: .png, .pdf or .svg.")] = Path("plot.png"),
    source: Annotated[str | None, typer.Option(help="Which accuracies, where a benchmark has several.")] = None,
    proxy: options.Proxies = None,
    kind: Annotated[
        str,
        typer.Option(
            callback=options.one_of("--kind", ("scatter", "correlations")),
            help="scatter: score against accuracy with the controls beside; correlations: ρ and τ with intervals.",
        ),
    ] = "scatter",
) -> None:
    """Draw score against accuracy, a panel per proxy, or the correlations of all of them."""
    if out.suffix not in (".png", ".pdf", ".svg"):
        raise UsageError(f"-o {out}: expected a name that ends in .png, .pdf or .svg")
    if not store.is_file():
        raise UsageError(f"{store}: no such store")
    from ssnr import benchmarks
    from ssnr.core.catalogue import CONTROLS
    from ssnr.studies import plots
    from ssnr.studies.study import study

    table = benchmarks.load(benchmark, source)
    with terminal.status("correlating and drawing"):
        found = study(store, table, proxy or None)
        shown = [*found.table.loc[found.table["kind"] == "proxy", "proxy"], *CONTROLS[:3]]
        known = set(found.table["proxy"])
        figure = (
            plots.correlations(found)
            if kind == "correlations"
            else plots.score_vs_accuracy(found, [name for name in dict.fromkeys(shown) if name in known])
        )
    try:
        figure.savefig(out, dpi=plots.DPI)
    except OSError as error:
        raise SsnrError(f"cannot write {out}: {error.strerror or error}") from error
    print(out)
