"""gradsign: how far the gradients of single images agree in sign."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ssnr.core.errors import ScoringError
from ssnr.proxies.capture import capture_of


def gradsign_score(samples: Iterable[dict[str, Tensor]]) -> float:
    """Σ_w |Σ_n sign(g_nw)|.

    Args:
        samples: for each sample, layer name → gradient of its loss.

    Raises:
        ScoringError: no weight has a gradient.

    >>> rows = torch.tensor([[1.0, -1, 2, 0], [2, 1, 3, 0], [-1, 1, 1, 0]])
    >>> gradsign_score({"w": row} for row in rows)
    5.0
    """
    total: dict[str, Tensor] = {}
    for sample in samples:
        for name, g in sample.items():
            total[name] = total[name].add_(g.sign()) if name in total else g.sign()
    if not total:
        raise ScoringError("gradsign: the loss depends on no weight")
    return sum(float(signs.double().abs().sum()) for signs in total.values())


def gradsign(context: Any) -> float:
    """Σ_w |Σ_n sign(g_nw)|, g_n the gradient of image n alone (Zhang & Jia, ICLR 2022).

    Each image has the batch statistics of a batch of one. From one backward pass where every layer is a linear layer or
    a convolution; else from N.
    """
    capture = capture_of(context)
    capture.pairs("gradsign")
    found: list[Tensor] = []

    def take(name: str, rows: Tensor) -> None:
        found.append(rows.sign_().sum(0).abs().sum(dtype=torch.float64))

    if capture.per_sample(take, of_loss=True):
        return float(torch.stack(found).sum())
    return gradsign_score(capture.each_sample())
