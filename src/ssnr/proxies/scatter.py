"""Sums of products of channels over all positions of all images, part by part.

Maps of a batch are millions of numbers. As one float64 matrix they would leave the processor's cache many times over;
here a part that fits into it is centred and multiplied in its own precision, and only the sums are float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

_PART = 1 << 16  # numbers that are multiplied at once
_ROWS = 1 << 12  # whose squares are added up in their own precision
_SAFE = (1e-24, 1e24)  # a trace between them lost nothing to overflow or underflow of float32


class Scatter(NamedTuple):
    """What the rows of a (…, C) tensor are spread over.

    Attributes:
        products: Σ (x − mean)(x − mean)ᵀ · scale² over rows x: (C, C), float64.
        mean: of the rows, about: (C,).
        rows: how many.
        scale: 1, or a power of two that keeps squares within the range of the dtype.
    """

    products: Tensor
    mean: Tensor
    rows: int
    scale: float = 1.0

    @property
    def trace(self) -> float:
        """Σ of squares."""
        return float(self.products.diagonal().sum())

    def constant(self, rows: Tensor, share: float) -> bool:
        """Whether no entry of the rows is further from its channel's mean than a share of the largest entry."""
        size = max(self.trace, 0.0) ** 0.5 / self.scale  # ‖centred rows‖, which no entry exceeds
        least = size / rows.numel() ** 0.5  # and which the largest exceeds
        if least > share * (float(self.mean.abs().max()) + size):
            return False
        largest = max(float((part - self.mean).abs().max()) for part in parts(rows))
        return not largest > share * float(rows.abs().max())


def parts(rows: Tensor) -> Iterator[Tensor]:
    """All rows of (…, C), in matrices of rows that fit into a cache.

    >>> [part.shape for part in parts(torch.zeros(3, 2, 5))]
    [torch.Size([6, 5])]
    """
    channels = rows.shape[-1]
    most = min(max(_PART // channels, min(channels, 1024)), _ROWS)
    if rows.dim() == 1:
        rows = rows[None]
    each = max(math.prod(rows.shape[1:-1]), 1)
    for some in torch.split(rows, max(most // each, 1)):
        yield from torch.split(some.reshape(-1, channels), most)


def scatter(rows: Tensor) -> Scatter:
    """Products of centred channels over the rows of (…, C).

    >>> scatter(torch.tensor([[1.0, 2], [3, 2]])).products.tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """
    mean = rows.mean(list(range(rows.dim() - 1)))
    found = _scatter(rows, mean, 1.0)
    if _SAFE[0] < found.trace < _SAFE[1] or rows.dtype == torch.float64:
        return found
    largest = max(float((part - mean).abs().max()) for part in parts(rows))
    if not 0 < largest < math.inf:
        return found
    return _scatter(rows, mean, 2.0 ** -math.frexp(largest)[1])


def _scatter(rows: Tensor, mean: Tensor, scale: float) -> Scatter:
    """With what the mean, a rounded number, leaves of the sum of each channel taken off again."""
    channels, count = rows.shape[-1], rows.numel() // rows.shape[-1]
    total = torch.zeros(channels, channels, dtype=torch.float64, device=rows.device)
    left = torch.zeros(channels, dtype=torch.float64, device=rows.device)
    for part in parts(rows):
        centred = part - mean
        if scale != 1.0:
            centred *= scale
        total += centred.T @ centred
        left += centred.sum(0)
    return Scatter(total - torch.outer(left, left) / count, mean, count, scale)


def cross(one: Tensor, other: Tensor) -> Tensor:
    """Σ x yᵀ over the rows of two tensors (…, C) and (…, D) of as many: (C, D), float64.

    >>> cross(torch.tensor([[1.0, 2], [3, 4]]), torch.tensor([[1.0], [-1]])).tolist()
    [[-2.0], [-2.0]]
    """
    total = torch.zeros(one.shape[-1], other.shape[-1], dtype=torch.float64, device=one.device)
    for some in range(0, len(one), step := _samples(one, other)):
        a, b = (value[some : some + step].reshape(-1, value.shape[-1]) for value in (one, other))
        total += a.T @ b
    return total


def _samples(*values: Tensor) -> int:
    """How many samples at once are a part of each."""
    return max(_PART // max(value[0].numel() for value in values), 1)
