"""Moments → one number. Pure functions of `Moments`: a new one over an old store costs no scoring.

An aggregate returns a `ScaledNumber`, mantissa · 2**exponent, so that a sum of 1e323 keeps its logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from ssnr.core.errors import ScoringError
from ssnr.core.moments import CONSTANT, Moments
from ssnr.core.registry import Registry


class ScaledNumber(NamedTuple):
    """mantissa · 2**exponent."""

    mantissa: float
    exponent: int = 0

    @property
    def value(self) -> float:
        """The plain number; ±inf where float64 cannot hold it."""
        try:
            return math.ldexp(self.mantissa, self.exponent)
        except OverflowError:
            return math.copysign(math.inf, self.mantissa)

    @property
    def log(self) -> float | None:
        """Natural logarithm, exact where the plain value overflows; None for what is not positive."""
        return math.log(self.mantissa) + self.exponent * math.log(2) if self.mantissa > 0 else None


@dataclass(frozen=True)
class Aggregate:
    """A registered aggregate: its name, its function and the parameters it takes, `name=default` where optional."""

    name: str
    function: Callable[..., ScaledNumber]
    parameters: tuple[str, ...]
    summary: str

    def __call__(self, m: Moments, *arguments: float) -> ScaledNumber:
        return self.function(m, *arguments)

    @property
    def required(self) -> int:
        """How many numbers must be given where any is."""
        return sum("=" not in parameter for parameter in self.parameters)


AGGREGATES: Registry[Aggregate] = Registry("aggregate")


F = TypeVar("F", bound="Callable[..., ScaledNumber | float]")


def register_aggregate(*, parameters: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Add an aggregate under its function's name; it may return a plain float.

    >>> @register_aggregate()
    ... def largest_layer(m):
    ...     return float(m.numel.max())
    >>> AGGREGATES.remove("largest_layer")
    """

    def add(function: F) -> F:
        name = function.__name__.rstrip("_")

        def scaled(m: Moments, *arguments: float) -> ScaledNumber:
            result = function(m, *arguments)
            return result if isinstance(result, ScaledNumber) else ScaledNumber(float(result))

        summary = (function.__doc__ or "").strip().split("\n")[0]
        AGGREGATES.add(name, Aggregate(name, scaled, parameters, summary))
        return function

    return add


@register_aggregate()
def sum_(m: Moments) -> ScaledNumber:
    """Saliency sum S = Σ_l S_l (Abdelfattah, Mehrotra, Dudziak & Lane, 2021)."""
    total, _, exponent = _whole(m)
    return ScaledNumber(total, exponent)


@register_aggregate()
def ssnr(m: Moments) -> float:
    """Overall SSNR S/σ, σ² = (1/N) Σ_i (S_i − S/N)² over all N live weights.

    A network without spread adds nothing: 0.
    """
    total, m2, _ = _whole(m)
    count = int(m.numel[m.live].sum())
    if count <= m.rules.ddof:
        return 0.0
    sigma = math.sqrt(m2 / (count - m.rules.ddof))
    peak = _peak(m)
    return total / sigma if sigma > CONSTANT[m.precision] * peak else 0.0


@register_aggregate(parameters=("p", "q", "r=0"))
def layerwise_ssnr(m: Moments, p: float = 1.0, q: float = 1.0, r: float = 0.0) -> ScaledNumber | float:
    """Layer-wise SSNR Σ_l N_l^p (S_l / (N_l σ_l))^q / S^r, S = Σ_l S_l; the plain name is the paper's Σ_l S_l/σ_l.

    p = ½ and q = 1 sum the z-scores √N_l·mean/σ_l of the layers' mean saliency. q > 1 lets the layers with the smallest
    spread decide. r > 0 counts the sum against a network: gradients that grow on their way back make it large.
    Layers without spread, with one weight, or dead add 0.

    Raises:
        ScoringError: a fractional q and a layer with a negative sum, whose power is not a real number; r and a sum that
            is not positive.
    """
    ratio = m.ratio
    if p == 1.0 and q == 1.0:
        signal = float(ratio.sum())
    else:
        base = ratio / np.maximum(m.numel, 1)
        if q != int(q) and (base < 0).any():
            raise ScoringError(f"layerwise_ssnr({p:g},{q:g}): layer {m.names[int(base.argmin())]!r} has a negative sum")
        used = base != 0
        signal = float((m.numel[used].astype(np.float64) ** p * base[used] ** q).sum())
    if r == 0.0:
        return signal
    total, _, exponent = _whole(m)
    if total <= 0:
        raise ScoringError(f"layerwise_ssnr({p:g},{q:g},{r:g}): the sum of all saliencies is not positive")
    power = -r * (math.log2(total) + exponent)
    return ScaledNumber(signal * 2.0 ** (power - math.floor(power)), math.floor(power))


@register_aggregate()
def mean(m: Moments) -> ScaledNumber:
    """Mean saliency of the live weights, S/N."""
    total, _, exponent = _whole(m)
    return ScaledNumber(total / max(int(m.numel[m.live].sum()), 1), exponent)


@register_aggregate()
def l2(m: Moments) -> ScaledNumber:
    """Euclidean norm of all saliencies, sqrt(Σ_i S_i²)."""
    total, m2, exponent = _whole(m)
    count = max(int(m.numel[m.live].sum()), 1)
    return ScaledNumber(math.sqrt(m2 + total * total / count), exponent)


def _whole(m: Moments) -> tuple[float, float, int]:
    """Sum and centred second moment over all live weights, and the power of two that they are in."""
    live = m.live & (m.numel > 0)
    if not live.any():
        return 0.0, 0.0, 0
    exponent = int(m.exponent[live & ~m.dead].max(initial=-(2**40))) if (live & ~m.dead).any() else 0
    shift = np.maximum(m.exponent[live] - exponent, -2000)
    count, total = m.numel[live], np.ldexp(m.total[live], shift)
    m2 = np.ldexp(m.m2[live], 2 * shift)
    whole = float(total.sum())
    between = count * (total / count - whole / count.sum()) ** 2
    return whole, float(m2.sum() + between.sum()), exponent


def _peak(m: Moments) -> float:
    """The largest magnitude of all live weights, in the unit of `_whole`."""
    _, _, exponent = _whole(m)
    shift = np.maximum(m.exponent - exponent, -2000)
    return float(np.ldexp(m.peak, shift)[m.live].max(initial=0.0))
