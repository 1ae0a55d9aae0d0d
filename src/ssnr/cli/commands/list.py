"""`ssnr list`: the registries as tables."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ssnr.cli import options, terminal
from ssnr.cli.app import app
from ssnr.core.errors import UsageError
from ssnr.core.recipes import RECIPES
from ssnr.core.registry import unknown


@app.command("list")
def list_(
    kind: Annotated[
        str, typer.Argument(help="proxies, aggregates, spaces, benchmarks, published or recipes")
    ] = "proxies",
    json: options.Json = False,
) -> None:
    """What there is, by name."""
    tables = {
        "proxies": _proxy_rows, "aggregates": _aggregate_rows, "spaces": _space_rows, "benchmarks": _benchmark_rows,
        "published": _published_rows, "recipes": _recipe_rows,
    }  # fmt: skip
    if kind not in tables:
        raise unknown("list", kind, tables)
    header, rows = tables[kind]()
    if json:
        terminal.print_json([dict(zip(header, row, strict=True)) for row in rows])
        return
    from ssnr.studies.sheet import Sheet

    terminal.show(Sheet.of(header, rows, left=header).to_rich())


Rows = tuple[tuple[str, ...], list[tuple[Any, ...]]]


def _proxy_rows() -> Rows:
    from ssnr.core.catalogue import COMBINED, PLAIN, REGULARISED, SALIENCIES

    rows: list[tuple[Any, ...]] = [
        (s.name, s.formula, "labels" if s.data else "none", s.passes, _better(s.higher_is_better), s.reference)
        for s in (SALIENCIES[name] for name in SALIENCIES)
    ]
    rows += [
        (p.name, p.formula, "batch" if p.data else "none", p.passes, _better(p.higher_is_better), p.reference)
        for p in (PLAIN[name] for name in PLAIN)
    ]
    rows += [(name, text, "of a study", "those of its members", "higher", "") for name, text in COMBINED.items()]
    rows.append((f"{REGULARISED}(mu,sigma)", "ln swap − (params/1000 − μ)²/σ", "of a study", "those of swap", "higher",
                 "Peng, Song, Fayek, Ciesielski & Chang, ICLR 2024"))  # fmt: skip
    return ("proxy", "formula", "data", "passes", "better", "reference"), rows


def _better(higher: bool) -> str:
    return "higher" if higher else "lower"


def _aggregate_rows() -> Rows:
    from ssnr.core.aggregates import AGGREGATES

    entries = [AGGREGATES[name] for name in AGGREGATES]
    shown = [(e.name + (f"({','.join(e.parameters)})" if e.parameters else ""), e.summary) for e in entries]
    return ("aggregate", "of the layers' moments"), shown


def _space_rows() -> Rows:
    from ssnr.spaces import SPACES

    rows: list[tuple[Any, ...]] = []
    for name in SPACES:
        space = SPACES[name]("")
        try:
            shape = "×".join(map(str, space.input_shape))
        except UsageError:  # of the user's own, without one
            shape = "not known"
        size = "not known" if space.size is None else f"{space.size:,}"
        rows.append((name, size, shape, (SPACES[name].__doc__ or "").strip()))
    return ("space", "architectures", "input", "what"), rows


def _benchmark_rows() -> Rows:
    from ssnr import benchmarks

    header, rows = benchmarks.listing()
    return header, rows


def _published_rows() -> Rows:
    from ssnr import benchmarks

    header, rows = benchmarks.published_listing()
    return header, rows


def _recipe_rows() -> Rows:
    return ("recipe", "what"), [(r.name, r.summary) for r in RECIPES.values()]
