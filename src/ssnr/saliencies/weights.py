"""Saliencies that are read off the weights: no pass."""

from __future__ import annotations

from collections.abc import Collection

import torch

from ssnr.networks.masks import with_pruned_zero
from ssnr.networks.model import Model
from ssnr.saliencies.signal import Signal, share_of_norm


def weight_saliencies(model: Model, names: Collection[str]) -> dict[str, Signal]:
    """Magnitude |θ| and l2_norm θ²/‖θ_l‖, whose sum over a layer is its norm ‖θ_l‖."""
    found: dict[str, Signal] = {}
    weights = {n: with_pruned_zero(n, p.detach().to(torch.float64), model.masks) for n, p in model.scored.items()}
    if "magnitude" in names:
        found["magnitude"] = Signal({name: w.abs() for name, w in weights.items()})
    if "l2_norm" in names:
        found["l2_norm"] = Signal({name: share_of_norm(w) for name, w in weights.items()})
    return found
