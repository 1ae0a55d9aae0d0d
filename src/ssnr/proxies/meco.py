"""meco: how far the channels of feature maps are from being linear in each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ssnr.core.errors import ScoringError
from ssnr.proxies.capture import capture_of

CHANNELS = 8  # that `meco_opt` draws of each map


def smallest(maps: Tensor) -> float:
    """The smallest eigenvalue of Pearson's correlations of the channels of one map (C, positions).

    Coefficients with a constant channel are 0, as is its diagonal entry: such a map has a smallest eigenvalue of 0 or
    below.

    >>> round(smallest(torch.tensor([[1.0, 2, 3, 4], [2, 1, 4, 3]])), 12)
    0.4
    """
    rows = maps.double() - maps.double().mean(1, keepdim=True)
    size = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    rows = torch.where(size > 1e-14 * maps.double().abs().amax(1, keepdim=True), rows / size, torch.zeros_like(rows))
    return float(torch.linalg.eigvalsh(rows @ rows.T)[0])


def meco_score(maps: Iterable[Tensor]) -> float:
    """Σ over feature maps of `smallest`."""
    return sum(map(smallest, maps))


def meco_opt_score(maps: Iterable[Tensor], generator: torch.Generator) -> float:
    """`meco_score` of 8 channels of each map, drawn, times C/8; maps of fewer channels are taken whole."""
    total = 0.0
    for value in maps:
        few = min(CHANNELS, len(value))
        drawn = torch.randperm(len(value), generator=generator)[:few]
        total += smallest(value[drawn.to(value.device)]) * len(value) / few
    return total


def _maps(context: Any, name: str) -> list[Tensor]:
    maps = capture_of(context).observed("maps").maps
    if not maps:
        raise ScoringError(f"{name} reads feature maps (samples, channels, height, width), and this network has none")
    return maps


def meco(context: Any) -> float:
    """Σ λ_min of the correlations between the channels of the first image's feature maps (Jiang et al., NeurIPS 2023).

    A feature map is what a convolution, norm, activation, pooling, sum or concatenation outputs; each counts once.
    """
    return meco_score(_maps(context, "meco"))


def meco_opt(context: Any) -> float:
    """Meco of 8 channels drawn from each map, times C/8 (Jiang et al., NeurIPS 2023)."""
    return meco_opt_score(_maps(context, "meco_opt"), capture_of(context).generator())
