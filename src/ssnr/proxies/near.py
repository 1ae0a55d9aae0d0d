"""near: into how many directions what a layer puts out spreads, before and after its activation."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ssnr.core.errors import ScoringError
from ssnr.proxies.capture import capture_of


def effective_rank(matrix: Tensor) -> float:
    """exp(−Σ p ln p), p the singular values as shares of their sum; 0 of a matrix of zeros (Roy & Vetterli, 2007).

    >>> round(effective_rank(torch.eye(3)), 12)
    3.0
    """
    values = torch.linalg.svdvals(matrix.double())
    total = float(values.sum())
    if not total > 0:
        return 0.0
    return math.exp(float(torch.special.entr(values / total).sum()))


def near_score(matrices: Iterable[Tensor]) -> float:
    """Σ of `effective_rank`."""
    return sum(map(effective_rank, matrices))


def near(context: Any) -> float:
    """Σ over layers of the effective ranks of what they put out, before and after norm and activation.

    Of each convolution, linear layer, norm and activation: C rows of its C channels, rows being samples or positions of
    maps, from a place drawn from the seed; all rows where there are fewer than C (Husistein, Reiher & Eckhoff, ICLR
    2025). One draw, at the network's own weights.
    """
    capture = capture_of(context)
    capture.pairs("near")
    blocks = capture.observed("blocks").blocks
    if not blocks:
        raise ScoringError("near reads what layers and activations put out, and none was seen")
    return near_score(blocks)
