"""What a measurement and a score are: status, value or reason, layers; and measurement → score, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ssnr.core import views
from ssnr.core.aggregates import AGGREGATES
from ssnr.core.catalogue import Proxy
from ssnr.core.errors import Failure, FailureKind, ScoringError
from ssnr.core.moments import LayerScore, Moments
from ssnr.core.recipes import Recipe

if TYPE_CHECKING:
    import pandas as pd

Status = Literal["ok", "dead", "failed"]

# How the note begins that lists the modules which synflow only approximates.
APPROXIMATED = "approximated, not of degree one at |θ|: "


@dataclass(frozen=True, repr=False)
class Score:
    """One proxy of one network.

    Attributes:
        value: None where scoring failed; infinite where only `log_value` can hold the number.
        log_value: natural logarithm of a positive sum.
        status: "ok", "dead" (the output does not depend on the input; value 0) or "failed".
        reason: why it is dead or failed.
        layers: what each layer adds.
        notes: what a reader of the number should know.
        kind: of a failure, for programs (`ssnr.core.errors.FailureKind`); stores keep the reason alone.
    """

    value: float | None
    log_value: float | None = None
    status: Status = "ok"
    reason: str | None = None
    layers: tuple[LayerScore, ...] = ()
    notes: tuple[str, ...] = ()
    kind: FailureKind | None = field(default=None, compare=False)

    @property
    def approximated(self) -> tuple[str, ...]:
        """Modules that are not of degree one at |θ|, so that synflow is that of the real function there."""
        listed = [note.removeprefix(APPROXIMATED) for note in self.notes if note.startswith(APPROXIMATED)]
        return tuple(listed[0].split(", ")) if listed else ()

    def to_frame(self) -> pd.DataFrame:
        """One row per layer: name, numel, total, sigma, ratio, flag."""
        return views.layers_frame(self.layers)

    def plot(self, *, backend: str = "matplotlib") -> Any:
        """Bars of Σ S, σ and their ratio, layer by layer; a figure of matplotlib, or of Plotly (extra `report`).

        Raises:
            UsageError: no layers; another backend than matplotlib or plotly.
        """
        return views.layers_figure(self.layers, views.headline(self), backend)

    def __repr__(self) -> str:
        return f"Score({views.headline(self)})"

    def _repr_html_(self) -> str:
        return views.score_html(self)


class Scores(dict[str, Score]):
    """The scores of one network, by proxy: a dictionary that notebooks show as a table."""

    def to_frame(self) -> pd.DataFrame:
        """One row per proxy: value, log_value, status, reason, notes."""
        return views.scores_frame(self)

    def plot(self, *, backend: str = "matplotlib") -> Any:
        """Bars of the layers of the first score that has any; a figure of matplotlib, or of Plotly (extra `report`).

        Raises:
            UsageError: none has; another backend than matplotlib or plotly.
        """
        return views.layers_figure(*views.with_layers(self), backend)

    def _repr_html_(self) -> str:
        return views.scores_html(self)


def failed(reason: str, kind: FailureKind = "refused") -> Score:
    """A score without a number."""
    return Score(None, None, "failed", reason, kind=kind)


def evaluate(
    proxy: Proxy,
    moments: Moments,
    recipe: Recipe,
    status: str = "ok",
    reason: str | None = None,
    notes: tuple[str, ...] = (),
    *,
    with_layers: bool = True,
) -> Score:
    """Moments of the measured saliency → the score of a proxy. Pure; the same for a fresh pass and an old store."""
    assert proxy.saliency is not None
    if status == "failed":
        return failed(reason or "unknown")
    m = moments.under(recipe.rules)
    if proxy.saliency.is_magnitude:
        m = m.magnitude()
    layers = m.layers() if with_layers else ()
    if status == "dead" or m.dead.all():
        return Score(0.0, None, "dead", reason or "no weight has any saliency", layers, notes)
    try:
        result = AGGREGATES[proxy.aggregate](m, *proxy.arguments)
    except ScoringError as error:
        return Score(None, None, "failed", str(error), layers, notes, error.kind)
    value, log_value = result.value, result.log
    if value != value:
        return Score(None, None, "failed", f"{proxy.text} is not a number", layers, notes, "nan")
    if takes_logarithm(proxy, recipe):
        value, log_value = (log_value if log_value is not None else 0.0), None
    overflow = "beyond float64: see log_value" if abs(value) == float("inf") else None
    return Score(value, log_value, "ok", overflow, layers, notes)


def takes_logarithm(proxy: Proxy, recipe: Recipe) -> bool:
    """Whether the recipe's value is the logarithm of the plain one."""
    return recipe.log == "ln" and proxy.measured == "synflow" and proxy.aggregate == "sum"


class Counts(NamedTuple):
    """The controls that every study shows beside its proxies.

    `params` counts every parameter of the built network, `trainable` those that ask for gradients, `flops` its
    multiply-accumulates for one image (convolutions, linear layers, recurrent gates and attention, plus one per output
    element where a convolution or linear layer has a bias), `reachable_params` the scored weights on some path from the
    input to the output, `layers` the scored layers on such a path.
    """

    params: int
    flops: int
    reachable_params: int
    layers: int
    trainable: int


@dataclass(frozen=True)
class Result:
    """One measurement: moments of a saliency, or the value of a plain proxy, or the reason why neither is there."""

    network: str
    status: Status
    reason: str | None = None
    moments: Moments | None = None
    value: float | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    kind: FailureKind | None = None

    @classmethod
    def of(cls, failure: Failure, network: str = "") -> Result:
        """The measurement that failed."""
        return cls(network, "failed", failure.reason, kind=failure.kind)


def score_of(proxy: Proxy, result: Result, recipe: Recipe, *, with_layers: bool = True) -> Score:
    """What is measured, or read from a store → the score of a proxy that it was measured for."""
    if result.status == "failed":
        return failed(result.reason or "unknown", result.kind or "refused")
    if proxy.saliency is not None and result.moments is not None:
        return evaluate(
            proxy, result.moments, recipe, result.status, result.reason, result.notes, with_layers=with_layers
        )
    if result.status == "dead":
        return Score(0.0, None, "dead", result.reason, notes=result.notes)
    if proxy.saliency is None and result.value is not None and result.value == result.value:
        return Score(result.value, None, "ok", result.reason, notes=result.notes)
    return failed(result.reason or "the store holds no number for it")


def scores_of(proxies: tuple[Proxy, ...], results: Mapping[str, Result], recipe: Recipe) -> Scores:
    """The scores of one network, by proxy text."""
    return Scores({proxy.text: score_of(proxy, results[proxy.measured], recipe) for proxy in proxies})
