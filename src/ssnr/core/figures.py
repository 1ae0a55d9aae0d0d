"""Figures: made, returned, shown by a notebook; no pyplot, no global state. matplotlib, or Plotly when asked."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ssnr.core.errors import UsageError

BACKENDS = ("matplotlib", "plotly")
_BLUE, _GREY = "#2a6fbb", "#9aa0a6"


class Picture(Figure):
    """A figure that notebooks show. They draw others only once pyplot has been imported."""

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        self.savefig(out, format="png", dpi=100)
        return out.getvalue()


def picture(width: float, height: float) -> Picture:
    """An empty figure of so many inches."""
    made = Picture(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def checked(backend: str) -> str:
    """The backend.

    Raises:
        UsageError: another one than these.
    """
    if backend not in BACKENDS:
        raise UsageError(f"backend {backend!r}: expected matplotlib or plotly")
    return backend


def plotly() -> Any:
    """Plotly's graph objects.

    Raises:
        UsageError: it is not installed.
    """
    try:
        from plotly import graph_objects
    except ImportError as error:
        raise UsageError("interactive plots need Plotly: pip install 'ssnr[report]'") from error
    return graph_objects


def unmarked(text: object) -> str:
    """Text for Plotly, which reads some markup, as it stands."""
    return str(text).replace("<", "‹").replace(">", "›")


def bars(
    names: Sequence[str],
    columns: Mapping[str, Sequence[float]],
    title: str,
    *,
    dull: Sequence[bool] | None = None,
    mark: float | None = None,
    backend: str = "matplotlib",
) -> Any:
    """Bars side by side: a row per name, a panel per column; logarithmic where all is positive over three decades.

    Args:
        names: of the rows, top to bottom.
        columns: label of the panel → a value a row.
        title: above all.
        dull: rows that are drawn grey.
        mark: where a dashed line stands, in every panel.
        backend: "matplotlib" or "plotly".

    Raises:
        UsageError: another backend, or Plotly is not installed.
    """
    colours = [_GREY if grey else _BLUE for grey in dull or [False] * len(names)]
    return (_bars_plotly if checked(backend) == "plotly" else _bars)(names, columns, title, colours, mark)


def _wide(values: Sequence[float]) -> bool:
    positive = [v for v in values if v > 0]
    return bool(positive) and min(values) >= 0 and max(positive) > 1000 * min(positive)


def _bars(
    names: Sequence[str], columns: Mapping[str, Sequence[float]], title: str, colours: list[str], mark: float | None
) -> Picture:
    figure = picture(7.2 if len(columns) > 1 else 6.0, max(2.4, 0.9 + 0.22 * len(names)))
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axis, (label, values) in zip(axes, columns.items(), strict=True):
        axis.barh(range(len(names)), values, color=colours)
        axis.set_xlabel(label)
        if _wide(values):
            axis.set_xscale("log")
        if mark is not None:
            axis.axvline(mark, color="#555555", linestyle="--", linewidth=1)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.suptitle(title, fontsize="medium")
    return figure


def _bars_plotly(
    names: Sequence[str], columns: Mapping[str, Sequence[float]], title: str, colours: list[str], mark: float | None
) -> Any:
    graph_objects = plotly()
    from plotly.subplots import make_subplots

    figure = make_subplots(1, len(columns), shared_yaxes=True)
    for place, (label, values) in enumerate(columns.items(), start=1):
        figure.add_trace(
            graph_objects.Bar(x=list(values), y=[unmarked(name) for name in names], orientation="h", showlegend=False,
                              marker={"color": colours}), row=1, col=place,
        )  # fmt: skip
        figure.update_xaxes(title_text=label, type="log" if _wide(values) else "linear", row=1, col=place)
        if mark is not None:
            figure.add_vline(x=mark, line_dash="dash", line_color="#555555", row=1, col=place)
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(title=unmarked(title), height=max(260, 90 + 22 * len(names)), margin={"t": 50})
    return figure
