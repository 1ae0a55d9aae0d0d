"""How results are shown: one line, an HTML table for notebooks, a data frame, a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from ssnr.core.errors import UsageError
from ssnr.core.moments import LayerScore

if TYPE_CHECKING:
    import pandas as pd

    from ssnr.core.results import Score

# Layers beyond this many are left out of a notebook's table; `to_frame` has all.
_MOST_ROWS = 60


def number(value: float | None, log_value: float | None = None) -> str:
    """A value as people read it: six digits, its logarithm where it is beyond float64, a dash for none.

    >>> number(4942.42576), number(math.inf, 744.898), number(None)
    ('4942.43', 'e^744.898', '–')
    """
    if value is None:
        return "–"
    if math.isinf(value) and log_value is not None:
        return f"e^{log_value:.6g}"
    return f"{value:.6g}"


def headline(score: Score) -> str:
    """A score in a few words.

    >>> from ssnr.core.results import Score, failed
    >>> headline(Score(2.5)), headline(failed("no weight"))
    ('2.5, ok', 'failed: no weight')
    """
    if score.value is None:
        return f"{score.status}: {score.reason}"
    words = [number(score.value, score.log_value), score.status]
    if score.status == "dead" and score.reason:
        words[-1] = f"dead: {score.reason}"
    if score.layers:
        words.append(_counted(len(score.layers), "layer"))
    if score.notes:
        words.append(_counted(len(score.notes), "note"))
    return ", ".join(words)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def layers_frame(layers: Sequence[LayerScore]) -> pd.DataFrame:
    """One row per layer."""
    import pandas as pd

    return pd.DataFrame(layers, columns=list(LayerScore._fields))


def scores_frame(scores: Mapping[str, Score]) -> pd.DataFrame:
    """One row per proxy."""
    import pandas as pd

    columns = ["proxy", "value", "log_value", "status", "reason", "notes"]
    rows = [(name, s.value, s.log_value, s.status, s.reason, "; ".join(s.notes)) for name, s in scores.items()]
    return pd.DataFrame(rows, columns=columns).set_index("proxy")


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """A plain HTML table; everything is escaped.

    >>> html_table(["a"], [["<b>"]])
    '<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    head = "".join(f"<th>{escape(text)}</th>" for text in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def score_html(score: Score) -> str:
    """The headline, notes, and a row per layer."""
    shown = score.layers[:_MOST_ROWS]
    rows = [
        (layer.name, f"{layer.numel:,}", number(layer.total), number(layer.sigma), number(layer.ratio),
         layer.flag or "")
        for layer in shown
    ]  # fmt: skip
    more = len(score.layers) - len(shown)
    parts = [f"<p><b>{escape(headline(score))}</b></p>", *(f"<p>{escape(note)}</p>" for note in score.notes)]
    if rows:
        parts.append(html_table(("layer", "weights", "Σ S", "σ", "Σ S/σ", ""), rows))
    if more:
        parts.append(f"<p>and {more} layers more: .to_frame()</p>")
    return "".join(parts)


def scores_html(scores: Mapping[str, Score]) -> str:
    """A row per proxy."""
    rows = [
        (name, number(s.value, s.log_value), s.status, "; ".join(filter(None, (s.reason, *s.notes))))
        for name, s in scores.items()
    ]
    return html_table(("proxy", "value", "status", ""), rows)


def with_layers(scores: Mapping[str, Score]) -> tuple[Sequence[LayerScore], str]:
    """The layers of the first score that has any, and a title.

    Raises:
        UsageError: none has.
    """
    for name, score in scores.items():
        if score.layers:
            return score.layers, f"{name}: {headline(score)}"
    raise UsageError("nothing to plot: none of these scores has layers (plain proxies and failures have none)")


def layers_figure(layers: Sequence[LayerScore], title: str, backend: str = "matplotlib") -> Any:
    """Σ S, σ and Σ S/σ of each layer, in the order of the network; what is dead or degenerate is grey.

    Raises:
        UsageError: no layers; another backend than matplotlib or plotly.
    """
    if not layers:
        raise UsageError("nothing to plot: this score has no layers")
    from ssnr.core.figures import bars

    names = [layer.name + (f" ({layer.flag})" if layer.flag else "") for layer in layers]
    columns = {"Σ S": [x.total for x in layers], "σ": [x.sigma for x in layers], "Σ S/σ": [x.ratio for x in layers]}
    return bars(names, columns, title, dull=[layer.flag is not None for layer in layers], backend=backend)
