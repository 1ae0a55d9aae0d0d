"""zico: how steady gradients are from one batch to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ssnr.core.errors import ScoringError
from ssnr.proxies.capture import capture_of


def zico_score(batches: Sequence[dict[str, Tensor]]) -> float:
    """Σ_l ln( Σ_w mean|g_w| / σ(g_w) ) over the batches, σ biased.

    Weights with σ = 0 are left out, and layers without any other.

    Args:
        batches: for each batch, layer name → gradient.

    Raises:
        ScoringError: no gradient changes from batch to batch.

    >>> one, other = torch.tensor([1.0, 2, -1, 0]), torch.tensor([3.0, 2, 1, 0])
    >>> round(zico_score([{"w": one}, {"w": other}]), 10)
    1.0986122887
    """
    total, live = 0.0, False
    for name in batches[0]:
        found = [batch[name].double().flatten() for batch in batches if name in batch]
        if len(found) < len(batches):
            continue
        g = torch.stack(found)
        spread = (g - g.mean(0)).square_().mean(0).sqrt_()  # g.std adds up one after the other: ten times slower
        moving = spread > 0
        ratio = float((g.abs().mean(0)[moving] / spread[moving]).sum())
        if ratio > 0:
            total, live = total + float(torch.tensor(ratio, dtype=torch.float64).log()), True
    if not live:
        raise ScoringError("zico: no gradient changes from one half of the batch to the other")
    return total


def zico(context: Any) -> float:
    """Σ_l ln Σ_w mean|g|/σ(g) over the two halves of the batch (Li, Yang, Bhardwaj & Marculescu, ICLR 2023)."""
    capture = capture_of(context)
    capture.pairs("zico")
    return zico_score(capture.halves)
