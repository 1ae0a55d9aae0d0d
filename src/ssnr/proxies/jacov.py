"""jacov: how little the input gradients of different images resemble each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssnr.core.errors import ScoringError
from ssnr.proxies.capture import capture_of

K = 1e-5


def correlations(rows: Tensor, name: str) -> Tensor:
    """Pearson's coefficient of each two rows, float64.

    Raises:
        ScoringError: a row is constant, so that it has none.
    """
    centred = rows.double() - rows.double().mean(1, keepdim=True)
    peak = centred.abs().amax(1, keepdim=True)
    flat = peak[:, 0] <= 1e-14 * rows.double().abs().amax(1)
    if bool(flat.any()):
        raise ScoringError(
            f"{name}: the input gradient of sample {int(flat.nonzero()[0])} is the same at every entry, "
            "so that it correlates with nothing"
        )
    unit = centred / peak
    unit = unit / torch.linalg.vector_norm(unit, dim=1, keepdim=True)
    found: Tensor = (unit @ unit.T).clamp(-1, 1)
    return found


def jacov_score(jacobian: Tensor) -> float:
    """−Σ_i [ln(v_i + k) + 1/(v_i + k)], v the eigenvalues of the correlations of the rows, k = 1e−5.

    Args:
        jacobian: (N, entries of one input).

    Raises:
        ScoringError: a row is constant.
    """
    values = torch.linalg.eigvalsh(correlations(jacobian, "jacov")).clamp_min(0) + K
    return -float((values.log() + 1 / values).sum())


def jacov(context: Any) -> float:
    """−Σ [ln(v + k) + 1/(v + k)], v the eigenvalues of the correlations of input gradients (Mellor et al., 2020 v1)."""
    capture = capture_of(context)
    capture.pairs("jacov")
    return jacov_score(capture.jacobian)
