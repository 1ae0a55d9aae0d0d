"""Moments: the six numbers and one exponent that are kept of each layer's saliency.

Every saliency ends here, every aggregate starts here. A layer l with saliencies S_1 … S_N is kept as

    N_l        number of weights
    total      Σ_i S_i
    m2         Σ_i (S_i − total/N)²            the centred second moment, so that σ_l = sqrt(m2 / N_l)
    abs_total  Σ_i |S_i|
    abs_m2     Σ_i (|S_i| − abs_total/N)²
    peak       max_i |S_i|

in float64, all of one layer in the unit 2**exponent (squares in its square), chosen so that peak lies in [½, 1):
squares of 1e200 or 1e−200 are as exact as squares of 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssnr.core.errors import ScoringError

if TYPE_CHECKING:
    from torch import Tensor

# Below this share of the network's largest magnitude a layer is rounding dust: dead. Judged before any division,
# because the ratio of dust to its own spread looks like any other.
DUST = 1e-12
# σ below this share of the layer's own largest magnitude is rounding: the layer is constant.
CONSTANT = {"float64": 1e-12, "float32": 1e-6}

COLUMNS = ("total", "m2", "abs_total", "abs_m2", "peak")


class Rules(NamedTuple):
    """The choices of a recipe that act on moments (`ssnr list recipes`)."""

    ddof: int = 0  # σ² = m2 / (N − ddof): 0 is the biased estimate of the paper
    degenerate: str = "zero"  # what a layer without spread adds to layer-wise SSNR: "zero" or its "sum"
    idle: str = "exclude"  # whether dead and unused layers count in N and σ of the whole network: "exclude" or "zeros"


class LayerScore(NamedTuple):
    """One layer of a score: `ratio` is what it adds to layer-wise SSNR, `flag` says why that is 0."""

    name: str
    numel: int
    total: float
    sigma: float
    ratio: float
    flag: str | None  # None, "degenerate", "dead" or "unused"


@dataclass(frozen=True)
class Moments:
    """Moments of every scored layer of one network; arrays of one length, one entry a layer."""

    names: tuple[str, ...]
    numel: NDArray[np.int64]
    exponent: NDArray[np.int64]
    total: NDArray[np.float64]
    m2: NDArray[np.float64]
    abs_total: NDArray[np.float64]
    abs_m2: NDArray[np.float64]
    peak: NDArray[np.float64]
    unused: NDArray[np.bool_]  # the layer took no part in the pass at all (no gradient arrived)
    precision: str = "float64"
    rules: Rules = Rules()

    def magnitude(self) -> Moments:
        """The moments of |S|: snip from plain, grasp_abs from grasp, without another pass."""
        return replace(self, total=self.abs_total, m2=self.abs_m2)

    def under(self, rules: Rules) -> Moments:
        """The same moments, read by another recipe's rules."""
        return replace(self, rules=rules)

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Layers no weight of which has any saliency beyond rounding dust; unused layers among them."""
        dead: NDArray[np.bool_] = self.peak == 0
        if not dead.all():
            magnitude = np.where(dead, -np.inf, np.log2(np.where(dead, 1.0, self.peak)) + self.exponent)
            dead |= magnitude <= magnitude.max() + np.log2(DUST)
        return dead

    @property
    def live(self) -> NDArray[np.bool_]:
        """Layers that count in N and σ of the whole network."""
        return ~self.dead if self.rules.idle == "exclude" else np.ones_like(self.unused)

    @property
    def sigma(self) -> NDArray[np.float64]:
        """σ_l in units of 2**exponent; 0 where the layer has no more weights than `ddof`."""
        divisor = np.maximum(self.numel - self.rules.ddof, 1)
        return np.sqrt(self.m2 / divisor)

    @property
    def degenerate(self) -> NDArray[np.bool_]:
        """Live layers whose spread is nothing but rounding, or which have a single weight."""
        constant = self.sigma <= CONSTANT[self.precision] * self.peak
        return ((self.numel < 2) | constant) & ~self.dead

    @property
    def ratio(self) -> NDArray[np.float64]:
        """S_l / σ_l, what each layer adds to layer-wise SSNR."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self.total / self.sigma
        degenerate = self.degenerate
        flat = np.ldexp(self.total, self.exponent) if self.rules.degenerate == "sum" else np.zeros_like(ratio)
        ratio = np.where(degenerate, flat, ratio)
        return np.where(self.dead, 0.0, ratio)

    def layers(self) -> tuple[LayerScore, ...]:
        """The table of a score, one row per layer."""
        flags: NDArray[np.object_] = np.full(len(self.names), None, dtype=object)
        flags[self.degenerate] = "degenerate"
        flags[self.dead] = "dead"
        flags[self.unused] = "unused"
        with np.errstate(over="ignore", under="ignore"):
            total, sigma = np.ldexp(self.total, self.exponent), np.ldexp(self.sigma, self.exponent)
        columns = (self.numel.tolist(), total.tolist(), sigma.tolist(), self.ratio.tolist(), flags.tolist())
        return tuple(LayerScore(*row) for row in zip(self.names, *columns, strict=True))


class LayerMoments(NamedTuple):
    """Moments of one layer in the unit 2**exponent; `from_tensors` takes them in place of a tensor."""

    size: int
    columns: tuple[float, ...] = (0.0,) * len(COLUMNS)
    exponent: int = 0
    precision: str = "float64"

    @property
    def peak(self) -> float:
        """The largest magnitude."""
        return float(np.ldexp(self.columns[-1], self.exponent))


def from_tensors(
    saliency: Mapping[str, Tensor | LayerMoments | None],
    numel: Mapping[str, int] | None = None,
    *,
    exponent: Mapping[str, int] | None = None,
    rules: Rules = Rules(),  # noqa: B008 - immutable
) -> Moments:
    """Named saliency tensors → moments, in float64.

    Args:
        saliency: layer name → one saliency per weight, or its moments, or None for a layer that no gradient reached.
        numel: number of weights of the layers that are None (others are counted).
        exponent: per layer e, where the tensor stands for tensor · 2**e.
        rules: how aggregates read the result.

    Raises:
        ScoringError: a layer holds NaN or infinity; the message names the first.

    >>> import torch
    >>> from_tensors({"w": torch.tensor([1e200, 3e200], dtype=torch.float64)}).ratio
    array([4.])
    """
    rows: list[LayerMoments] = []
    for name, values in saliency.items():
        row = values if isinstance(values, LayerMoments) else None if values is None else reduced(values)
        if row is None or row.size == 0:
            rows.append(LayerMoments(0 if numel is None else numel.get(name, 0)))
            continue
        if not np.isfinite(row.columns[-1]):
            kind = "NaN" if np.isnan(row.columns[-1]) else "infinity"
            raise ScoringError(
                f"layer {name!r}: its saliency is not finite ({kind})", "nan" if kind == "NaN" else "infinite"
            )
        shift = (exponent or {}).get(name, 0) if row.columns[-1] else 0
        rows.append(row._replace(exponent=row.exponent + shift))
    table = np.array([row.columns for row in rows], dtype=np.float64).reshape(len(rows), len(COLUMNS))
    return Moments(
        names=tuple(saliency),
        numel=np.array([row.size for row in rows], dtype=np.int64),
        exponent=np.array([row.exponent for row in rows], dtype=np.int64),
        **dict(zip(COLUMNS, table.T, strict=True)),
        unused=np.array([values is None for values in saliency.values()], dtype=np.bool_),
        precision="float32" if any(row.precision == "float32" for row in rows) else "float64",
        rules=rules,
    )


def reduced(values: Tensor, weights: Tensor | None = None) -> LayerMoments:
    """One layer's saliency → its moments; with `weights`, the saliency is |weights ⊙ values|.

    A processor takes it in pieces that stay in its cache from the product to the last sum. What is not finite shows in
    the last column.
    """
    import torch

    precision = "float64" if values.dtype == torch.float64 else "float32"
    size, flat = values.numel(), values.detach().reshape(-1)
    factor = None if weights is None else weights.detach().reshape(-1)
    step = _PIECE if flat.device.type == "cpu" else max(size, 1)
    parts = []
    for start in range(0, size, step):
        part = flat[start : start + step]
        if factor is not None:
            part = part * factor[start : start + step]
        columns, exponent = _part(part.to(torch.float64), magnitudes=factor is not None)
        parts.append(LayerMoments(len(part), columns, exponent, precision))
        if not np.isfinite(columns[-1]):
            return LayerMoments(size, columns, 0, precision)
    return _joined(parts) if len(parts) > 1 else parts[0] if parts else LayerMoments(0, precision=precision)


def _joined(parts: Sequence[LayerMoments]) -> LayerMoments:
    """Moments of pieces → of the whole: m2 = Σ m2_k + Σ n_k (mean_k − mean)² (Chan, Golub & LeVeque, 1983)."""
    peaks = np.array([part.columns[-1] for part in parts])
    exponent = max((part.exponent for part in parts if part.columns[-1]), default=0)
    shift = np.maximum([part.exponent - exponent for part in parts], -2000)
    count = np.array([part.size for part in parts], dtype=np.float64)
    table = np.array([part.columns for part in parts])
    found: list[float] = []
    for sums, squares in ((table[:, 0], table[:, 1]), (table[:, 2], table[:, 3])):
        sums, squares = np.ldexp(sums, shift), np.ldexp(squares, 2 * shift)
        between = count * (sums / count - sums.sum() / count.sum()) ** 2
        found += [float(sums.sum()), float(squares.sum() + between.sum())]
    found.append(float(np.ldexp(peaks, shift).max()))
    return LayerMoments(int(count.sum()), tuple(found), exponent, parts[0].precision)


def _part(values: Tensor, *, magnitudes: bool) -> tuple[tuple[float, ...], int]:
    """Moments of one flat float64 tensor, or of its magnitudes, and the power of two that they are in."""
    import torch

    low, high = (float(v) for v in torch.aminmax(values))
    peak = max(-low, high)
    if magnitudes and low < 0:
        values, low = values.abs(), 0.0
    if peak == 0.0 or not np.isfinite(peak):
        return (0.0, 0.0, 0.0, 0.0, peak), 0
    mantissa, scale = np.frexp(peak)
    # Scaling by a power of two is exact, so ordinary magnitudes are scaled after the sums instead of before.
    ordinary = -300 < scale < 300
    if not ordinary:
        # In two steps: 2**-scale itself may not be a float64.
        half = -int(scale) // 2
        values = values * 2.0**half * 2.0 ** (-int(scale) - half)
    total, m2 = _sum_m2(values)
    abs_total, abs_m2 = (abs(total), m2) if low >= 0 or high <= 0 else _sum_m2(values.abs())
    if ordinary:
        total, abs_total = float(np.ldexp(total, -scale)), float(np.ldexp(abs_total, -scale))
        m2, abs_m2 = float(np.ldexp(m2, -2 * scale)), float(np.ldexp(abs_m2, -2 * scale))
    return (total, m2, abs_total, abs_m2, float(mantissa)), int(scale)


def _sum_m2(values: Tensor) -> tuple[float, float]:
    """Sum and centred second moment, in two passes: the one-pass formula loses what a small σ stands for."""
    total = float(values.sum())
    centred = values - total / values.numel()
    return total, float(centred.dot(centred))


_PIECE = 1 << 16


# --- bytes, for the store -------------------------------------------------------------------------------------

_PRECISIONS = ("float64", "float32")


def pack(m: Moments) -> bytes:
    """Everything but the names, as little-endian bytes; `unpack` is its exact inverse."""
    header = np.array([len(m.names), _PRECISIONS.index(m.precision)], dtype="<i8")
    integers = np.stack([m.numel, m.exponent]).astype("<i8")
    floats = np.stack([getattr(m, column) for column in COLUMNS]).astype("<f8")
    return header.tobytes() + integers.tobytes() + floats.tobytes() + m.unused.astype(np.uint8).tobytes()


def unpack(blob: bytes, names: Sequence[str], rules: Rules = Rules()) -> Moments:  # noqa: B008 - immutable
    """Read what `pack` wrote.

    Raises:
        ValueError: the bytes do not hold one entry for each name.
    """
    count, precision = (int(v) for v in np.frombuffer(blob, "<i8", 2))
    if count != len(names) or len(blob) != 16 + count * (8 * (2 + len(COLUMNS)) + 1):
        raise ValueError(f"moments of {count} layers in {len(blob)} bytes, but {len(names)} names")
    integers = np.frombuffer(blob, "<i8", 2 * count, 16).reshape(2, count).astype(np.int64)
    floats = np.frombuffer(blob, "<f8", len(COLUMNS) * count, 16 * (1 + count)).reshape(-1, count).astype(np.float64)
    unused = np.frombuffer(blob, np.uint8, count, 16 + count * 8 * (2 + len(COLUMNS))).astype(np.bool_)
    return Moments(
        tuple(names), integers[0], integers[1], floats[0], floats[1], floats[2], floats[3], floats[4], unused,
        precision=_PRECISIONS[precision], rules=rules,
    )  # fmt: skip
