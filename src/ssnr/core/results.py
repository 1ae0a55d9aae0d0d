"""What a measurement and a score are: status, value or reason, layers; and moments → score, in one place."""

from __future__ import annotations

from typing import NamedTuple

from ssnr.core.aggregates import AGGREGATES
from ssnr.core.catalogue import Proxy
from ssnr.core.errors import ScoringError
from ssnr.core.moments import LayerScore, Moments
from ssnr.core.recipes import Recipe

# How the note begins that lists the modules which synflow only approximates.
APPROXIMATED = "approximated, not of degree one at |θ|: "


class Score(NamedTuple):
    """One proxy of one network.

    `value` is None where scoring failed (`reason` says why) and may be infinite where only `log_value`, the natural
    logarithm of a positive value, can hold the number. `status` is "ok", "dead" (the output does not depend on the
    input; value 0) or "failed". `notes` say what a reader of the number should know.
    """

    value: float | None
    log_value: float | None = None
    status: str = "ok"
    reason: str | None = None
    layers: tuple[LayerScore, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def approximated(self) -> tuple[str, ...]:
        """Modules that are not of degree one at |θ|, so that synflow is that of the real function there."""
        listed = [note.removeprefix(APPROXIMATED) for note in self.notes if note.startswith(APPROXIMATED)]
        return tuple(listed[0].split(", ")) if listed else ()


def failed(reason: str) -> Score:
    """A score without a number."""
    return Score(None, None, "failed", reason)


def evaluate(
    proxy: Proxy,
    moments: Moments,
    recipe: Recipe,
    status: str = "ok",
    reason: str | None = None,
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
        return Score(0.0, None, "dead", reason or "no weight has any saliency", layers)
    try:
        result = AGGREGATES[proxy.aggregate](m, *proxy.arguments)
    except ScoringError as error:
        return failed(str(error))._replace(layers=layers)
    value, log_value = result.value, result.log
    if value != value:
        return failed(f"{proxy.text} is not a number")._replace(layers=layers)
    if takes_logarithm(proxy, recipe):
        value, log_value = (log_value if log_value is not None else 0.0), None
    overflow = "beyond float64: see log_value" if abs(value) == float("inf") else None
    return Score(value, log_value, "ok", overflow, layers)


def takes_logarithm(proxy: Proxy, recipe: Recipe) -> bool:
    """Whether the recipe's value is the logarithm of the plain one."""
    return recipe.log == "ln" and proxy.measured == "synflow" and proxy.aggregate == "sum"


class Counts(NamedTuple):
    """The controls that every study shows beside its proxies.

    `params` counts every trainable number of the built network, `flops` its multiply-accumulates for one image
    (convolutions and linear layers, plus one per output element where there is a bias), `reachable_params` the scored
    weights on some path from the input to the output, `layers` the scored layers on such a path.
    """

    params: int
    flops: int
    reachable_params: int
    layers: int


class Result(NamedTuple):
    """One measurement: moments of a saliency, or the value of a plain proxy, or the reason why neither is there."""

    network: str
    status: str
    reason: str | None = None
    moments: Moments | None = None
    value: float | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()  # not stored: they say what holds for every network of a space
