"""Rows of a suite as a table, on a terminal and in Markdown."""

from __future__ import annotations

import re
from typing import Any

from rich.table import Table

from benchmarks.harness import Row

_ENDS = ("_lo", "_hi")


def columns(rows: list[Row]) -> list[str]:
    """Names in the order in which they first come up; the ends of a spread are shown with its median."""
    return [name for name in dict.fromkeys(name for row in rows for name in row) if not name.endswith(_ENDS)]


def cell(row: Row, name: str) -> str:
    """One value, with the ends of its spread where there are repeats.

    >>> cell({"s": 1.0, "s_lo": 0.5, "s_hi": 12.25, "repeats": 3}, "s")
    '1 [0.5, 12.2]'
    >>> cell({}, "s")
    '–'
    """
    text = _text(row.get(name))
    if row.get("repeats", 1) < 2 or f"{name}_lo" not in row:
        return text
    return f"{text} [{_text(row[f'{name}_lo'])}, {_text(row[f'{name}_hi'])}]"


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def rich_table(title: str, rows: list[Row]) -> Table:
    """For a terminal."""
    table = Table(title=title, title_justify="left")
    for name in columns(rows):
        table.add_column(name, justify="left" if _is_text(rows, name) else "right")
    for row in rows:
        table.add_row(*(cell(row, name) for name in columns(rows)))
    return table


def _is_text(rows: list[Row], name: str) -> bool:
    return any(isinstance(row.get(name), str) for row in rows)


def facts(document: Row) -> str:
    """The machine in one line."""
    known = document["machine"]
    return (
        f"{known['date']}: {known['cores']} cores of {known['processor']}, {known['memory_gib']} GiB, load "
        f"{known['load']:.1f} at the start; Python {known['python']}, torch {known['torch']}, numpy {known['numpy']}; "
        f"threads: {known['threads']}; seed {known['seed']}{'; quick' if document['quick'] else ''}"
    )


def markdown_table(rows: list[Row]) -> str:
    """For a page."""
    names = columns(rows)
    lines = [names, ["---" if _is_text(rows, name) else "---:" for name in names]]
    lines += [[cell(row, name) for name in names] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown(document: Row) -> str:
    """All tables, each under its title."""
    parts = [facts(document)]
    parts += [f"## {suite['title']}\n\n{markdown_table(suite['rows'])}" for suite in document["suites"].values()]
    return "\n\n".join(parts)


def filled(page: str, document: Row) -> str:
    """A page whose blocks `<!-- NAME -->` … `<!-- /NAME -->` hold the tables of a document, where it has them."""
    for name, suite in document["suites"].items():
        block = f"{markdown_table(suite['rows'])}\n\n{facts(document)}"
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        page = pattern.sub(lambda match, block=block: f"{match[1]}{block}\n{match[2]}", page)
    return page
