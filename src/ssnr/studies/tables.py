"""A study's table for the terminal and for a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ssnr.core.errors import SsnrError

if TYPE_CHECKING:
    from rich.table import Table

# How a row came about: shown only where rows differ in it.
_ORIGIN = ("recipe", "seed", "data")
_COUNTS = ("n", "coverage", "failed", "dead", "ties")


def save(table: pd.DataFrame, stem: Path, page: str) -> None:
    """Write a table as `stem`.csv and the page about it as `stem`.md.

    Raises:
        SsnrError: a file cannot be written.
    """
    try:
        table.to_csv(stem.with_name(f"{stem.name}.csv"), index=False, lineterminator="\n")
        stem.with_name(f"{stem.name}.md").write_text(page, encoding="utf-8")
    except OSError as error:
        raise SsnrError(f"cannot write {stem}.csv and .md: {error.strerror or error}") from error


def estimate(row: Mapping[Any, Any], name: str) -> str:
    """A correlation with its interval, or the reason why there is none.

    >>> estimate({"kendall": 0.6571, "kendall_lo": 0.6511, "kendall_hi": 0.6633, "note": ""}, "kendall")
    '0.6571 [0.651, 0.663]'
    >>> estimate({"kendall": float("nan"), "note": "constant"}, "kendall")
    'constant'
    """
    if pd.isna(row[name]):
        return str(row["note"])
    low, high = row[f"{name}_lo"], row[f"{name}_hi"]
    return f"{row[name]:.4f}" if pd.isna(low) else f"{row[name]:.4f} [{low:.3f}, {high:.3f}]"


def _origin(table: pd.DataFrame) -> list[str]:
    proxies = table[table["kind"] == "proxy"]
    return [name for name in _ORIGIN if proxies[name].nunique() > 1]


def _text(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)


def rich_table(table: pd.DataFrame, title: str, notes: Sequence[str] = ()) -> Table:
    """The table for a terminal: controls are dim, the notes stand below.

    What all rows share stands in the title, so that the table fits 80 columns.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    columns = [*_origin(table), *_COUNTS]
    if table["n"].nunique() == 1:
        columns = [name for name in columns if name not in ("n", "coverage")]
        title += f"\nn = {table['n'].iloc[0]:,}, coverage {percent(table['coverage'].iloc[0])}"
    page = Table(
        title=Text(title), title_justify="left", caption=Text("\n".join(notes)), caption_justify="left",
        box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    interval = " [95 %]" if table["kendall_lo"].notna().any() else ""
    page.add_column("proxy", no_wrap=True)
    for name in ("Spearman ρ", "Kendall τ"):
        page.add_column(Text(name + interval), justify="right")
    for name in columns:
        page.add_column(name, justify="left" if name in _ORIGIN else "right")
    for row in table.to_dict("records"):
        control = row["kind"] == "control"
        cells = [row["proxy"] + (" (control)" if control else ""), estimate(row, "spearman"), estimate(row, "kendall")]
        cells += [percent(row[name]) if name == "coverage" else _text(row[name]) for name in columns]
        page.add_row(*map(Text, cells), style="dim" if control else None)
    return page


def percent(share: float) -> str:
    """A share as a percentage that never rounds to all or nothing.

    >>> [percent(share) for share in (1.0, 0.75, 5 / 15_625, 0.99999)]
    ['100 %', '75.0 %', '0.032 %', '99.9 %']
    """
    if share in (0.0, 1.0):
        return f"{share:.0%}".replace("%", " %")
    return f"{min(share * 100, 99.9):.{1 if share >= 0.01 else 3}f} %"


_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
)


def escape(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    >>> print(escape("grasp_abs/layerwise_ssnr & 95 %"))
    grasp\_abs/layerwise\_ssnr \& 95 \%
    """
    return text.translate(_ESCAPES)


def latex(table: pd.DataFrame, title: str) -> str:
    r"""A `tabular` for `\usepackage{booktabs}`; the best value of each correlation is bold, controls are italic."""
    origin = _origin(table)
    best = {name: table[name].max() for name in ("spearman", "kendall")}
    names = ["Proxy", *(name.capitalize() for name in origin), r"Spearman $\rho$", r"Kendall $\tau_b$", "$n$"]
    lines = [
        "% " + title.replace("\n", " "),
        rf"\begin{{tabular}}{{l{'l' * len(origin)}rrrrr}}",
        r"\toprule",
        " & ".join([*names, "Failed", "Dead"]) + r" \\",
        r"\midrule",
    ]
    for row in table.to_dict("records"):
        name = escape(row["proxy"])
        cells = [rf"\textit{{{name}}}" if row["kind"] == "control" else name]
        cells += [escape(_text(row[column])) for column in origin]
        for column in best:
            text = estimate(row, column)
            number, space, interval = text.partition(" [")
            cells.append(rf"\textbf{{{number}}}{space}{interval}" if row[column] == best[column] else text)
        cells += [str(row[column]) for column in ("n", "failed", "dead")]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
