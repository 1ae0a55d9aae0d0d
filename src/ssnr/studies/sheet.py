"""One table in every form: terminal, Markdown, LaTeX, CSV, JSON. Numbers stay numbers until they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from ssnr.core.errors import SsnrError

if TYPE_CHECKING:
    from rich.table import Table

Record = Mapping[Any, Any]


def _plain(name: str, row: Record) -> str:
    return str(row[name])


def _never(row: Record) -> bool:
    return False


class Column(NamedTuple):
    """How a column is shown.

    Attributes:
        heading: above it.
        text: a row → what stands in the cell; a line break starts a second line.
        right: whether it is flush right, as numbers are.
        best: whether a row's cell is bold.
    """

    heading: str
    text: Callable[[Record], str]
    right: bool = True
    best: Callable[[Record], bool] = _never


@dataclass(frozen=True, eq=False)
class Sheet:
    """Rows with the way each column is shown.

    Attributes:
        frame: the rows as data.
        columns: as they are shown.
        title: above the table.
        notes: below it.
        quiet: which rows stand back: dim on a terminal, italic in LaTeX.

    >>> sheet = Sheet.of(("proxy", "τ"), [("synflow", "0.58"), ("params", "0.57")])
    >>> print(sheet.to_markdown())
    | proxy   |    τ |
    |:--------|-----:|
    | synflow | 0.58 |
    | params  | 0.57 |
    """

    frame: pd.DataFrame
    columns: tuple[Column, ...]
    title: str = ""
    notes: tuple[str, ...] = ()
    quiet: Callable[[Record], bool] = _never

    @classmethod
    def of(
        cls, headings: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "", left: Iterable[str] = ()
    ) -> Sheet:
        """A table of cells as they are; the first column and those in `left` are flush left."""
        frame = pd.DataFrame([dict(zip(headings, row, strict=True)) for row in rows], columns=list(headings))
        flush = {headings[0], *left}
        columns = [Column(name, partial(_plain, name), name not in flush) for name in headings]
        return cls(frame.astype(object), tuple(columns), title)

    def cells(self) -> list[tuple[Record, list[str]]]:
        """Each row with the text of its cells."""
        return [(row, [column.text(row) for column in self.columns]) for row in self.frame.to_dict("records")]

    def to_rich(self) -> Table:
        """The table for a terminal."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        page = Table(
            title=Text(self.title) if self.title else None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
            caption=Text("\n".join(self.notes)) if self.notes else None, caption_justify="left",
        )  # fmt: skip
        for number, column in enumerate(self.columns):
            justify = "right" if column.right else "left"
            page.add_column(Text(column.heading), justify=justify, overflow="fold", no_wrap=number == 0)  # type: ignore[arg-type]
        for row, cells in self.cells():
            texts = [Text(c, style="bold" if k.best(row) else "") for c, k in zip(cells, self.columns, strict=True)]
            page.add_row(*texts, style="dim" if self.quiet(row) else None)
        return page

    def to_markdown(self) -> str:
        """A table of GitHub's Markdown, without title and notes."""
        shown = [
            [f"**{_marked(c)}**" if k.best(row) else _marked(c) for c, k in zip(cells, self.columns, strict=True)]
            for row, cells in self.cells()
        ]
        frame = pd.DataFrame(shown, columns=[column.heading for column in self.columns])
        align = ["right" if column.right else "left" for column in self.columns]
        return str(frame.to_markdown(index=False, tablefmt="pipe", disable_numparse=True, colalign=align))

    def to_latex(self) -> str:
        r"""A `tabular` for `\usepackage{booktabs}`: the best of a column bold, rows that stand back italic."""
        align = "".join("r" if column.right else "l" for column in self.columns)
        lines = ["% " + self.title.replace("\n", " ")] if self.title else []
        lines += [rf"\begin{{tabular}}{{{align}}}", r"\toprule"]
        lines += [" & ".join(escape(column.heading) for column in self.columns) + r" \\", r"\midrule"]
        for row, cells in self.cells():
            shown = [escape(cell.replace("\n", " ")) for cell in cells]
            shown = [_bold(c) if k.best(row) else c for c, k in zip(shown, self.columns, strict=True)]
            if self.quiet(row):
                shown[0] = rf"\textit{{{shown[0]}}}"
            lines.append(" & ".join(shown) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

    def to_csv(self, path: str | Path | None = None) -> str | None:
        """The rows as data: into a file, or as text where none is named.

        Raises:
            SsnrError: the file cannot be written.
        """
        return to_csv(self.frame, path)

    def to_json(self) -> list[dict[str, Any]]:
        """The rows as data; what is not defined is None."""
        rows = self.frame.astype(object).where(self.frame.notna(), None).to_dict("records")
        return [{str(key): value for key, value in row.items()} for row in rows]


def to_csv(table: pd.DataFrame, path: str | Path | None = None) -> str | None:
    """A table as CSV: into a file, or as text where none is named.

    Raises:
        SsnrError: the file cannot be written.
    """
    if path is None:
        return str(table.to_csv(index=False, lineterminator="\n"))
    try:
        table.to_csv(path, index=False, lineterminator="\n")
    except OSError as error:
        raise SsnrError(f"cannot write {path}: {error.strerror or error}") from error
    return None


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


def _marked(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", "<br>")


def _bold(text: str) -> str:
    number, space, interval = text.partition(" [")
    return rf"\textbf{{{number}}}{space}{interval}"


_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "ρ": r"$\rho$",
        "τ": r"$\tau_b$",
    }
)


def escape(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    >>> print(escape("grasp_abs/layerwise_ssnr & 95 %"))
    grasp\_abs/layerwise\_ssnr \& 95 \%
    """
    return text.translate(_ESCAPES)


# --- correlations ---------------------------------------------------------------------------------------------


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


def percent(share: float) -> str:
    """A share as a percentage that never rounds to all or nothing.

    >>> [percent(share) for share in (1.0, 0.75, 5 / 15_625, 0.99999)]
    ['100 %', '75.0 %', '0.032 %', '99.9 %']
    """
    if share in (0.0, 1.0):
        return f"{share:.0%}".replace("%", " %")
    return f"{min(share * 100, 99.9):.{1 if share >= 0.01 else 3}f} %"


# How a row came about: shown only where rows differ in it.
_ORIGIN = ("recipe", "seed", "data")
_COUNTS = ("n", "coverage", "failed", "dead", "ties")


def correlations(
    table: pd.DataFrame, title: str, notes: Sequence[str] = (), counts: Sequence[str] | None = None
) -> Sheet:
    """A study's table: controls stand back, the best of each correlation is bold.

    Without `counts`, what all rows share stands in the title, so that the table fits 80 columns.
    """
    proxies = table[table["kind"] == "proxy"]
    names = [*(name for name in _ORIGIN if proxies[name].nunique() > 1), *(counts or _COUNTS)]
    if counts is None and table["n"].nunique() == 1:
        names = [name for name in names if name not in ("n", "coverage")]
        title += f"\nn = {table['n'].iloc[0]:,}, coverage {percent(table['coverage'].iloc[0])}"
    interval = " [95 %]" if table["kendall_lo"].notna().any() else ""
    columns = [Column("proxy", named if counts is None else partial(_plain, "proxy"), right=False)]
    for name, heading in (("spearman", "Spearman ρ"), ("kendall", "Kendall τ")):
        best = table[name].max()
        columns.append(
            Column(
                heading + interval,
                partial(_estimate, name),
                best=partial(_is, name, best),
            )
        )
    columns += [Column(name, partial(_text, name), name not in _ORIGIN) for name in names]
    return Sheet(table, tuple(columns), title, tuple(notes), is_control)


def tops(table: pd.DataFrame, top: pd.DataFrame, title: str) -> Sheet:
    """A study's measures of the top, one number a share in each cell, and the first choice."""
    shares = " / ".join(f"{share * 100:g}" for share in sorted(top["share"].unique()))
    frame = table.copy()
    for name in ("precision", "ndcg", "best_spearman"):
        cells = top.groupby("row")[name].agg(lambda numbers: " / ".join(map(_short, numbers)))
        frame[name] = cells
    columns = (
        Column("proxy", named, right=False),
        Column("precision", partial(_plain, "precision")),
        Column("nDCG", partial(_plain, "ndcg")),
        Column("ρ of the best", partial(_plain, "best_spearman")),
        Column("first choice", partial(_plain, "choice")),
        Column("below the best", partial(_plain, "regret")),
    )
    for name in ("choice", "regret"):
        frame[name] = [_short(value) for value in frame[name]]
    return Sheet(frame, columns, f"{title}\nthe top {shares} %", quiet=is_control)


def _short(number: float) -> str:
    return "–" if pd.isna(number) else f"{number:.2f}"


def _estimate(name: str, row: Record) -> str:
    return estimate(row, name)


def _is(name: str, best: float, row: Record) -> bool:
    return bool(row[name] == best)


def named(row: Record) -> str:
    """A proxy's name, marked where it is a control, or published by others."""
    return str(row["proxy"]) + ("" if row["kind"] == "proxy" else f" ({row['kind']})")


def is_control(row: Record) -> bool:
    """Whether a row is about a control."""
    return bool(row["kind"] == "control")


def _text(name: str, row: Record) -> str:
    value = row[name]
    if pd.isna(value):
        return ""
    if name == "coverage":
        return percent(value)
    return f"{value:,}" if isinstance(value, int) else str(value)
