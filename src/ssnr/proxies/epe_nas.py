"""epe_nas: correlations of input gradients within each class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssnr.core.errors import ScoringError, UsageError
from ssnr.proxies.capture import capture_of
from ssnr.proxies.jacov import K, correlations

_MANY = 100  # classes above which the defining program compares classes with each other


def epe_score(jacobian: Tensor, labels: Tensor, classes: int) -> float:
    """Of each class c with rows M_c: E_c = Σ ln(|corr(M_c)| + 1e−5), over the whole matrix.

    Up to 100 classes Σ_c |E_c|; above, E_c is divided by its number of rows, classes of one row are left out, and the
    score is Σ_{c,c'} |E_c − E_c'| / number of classes with rows.

    Args:
        jacobian: (N, entries of one input).
        labels: (N,) integers.
        classes: of the data set.

    Raises:
        ScoringError: one class only; a row is constant.
    """
    present = torch.unique(labels)
    if len(present) < 2:
        raise ScoringError(f"epe_nas compares classes: all {len(labels)} labels are {int(present[0])}")
    found: list[Tensor] = []
    for label in present:
        rows = jacobian[labels == label]
        if classes > _MANY and len(rows) < 2:
            continue
        logs = (correlations(rows, "epe_nas").abs() + K).log().sum()
        found.append(logs / len(rows) if classes > _MANY else logs)
    if not found:
        raise ScoringError("epe_nas: no class of the batch has two samples")
    each = torch.stack(found)
    if classes <= _MANY:
        return float(each.abs().sum())
    return float((each[:, None] - each[None, :]).abs().sum() / len(present))


def epe_nas(context: Any) -> float:
    """Σ_c |Σ ln(|corr(M_c)| + k)|, M_c the input gradients of class c (Lopes et al., ICANN 2021)."""
    capture = capture_of(context)
    capture.pairs("epe_nas")
    targets = context.batch.targets
    whole = isinstance(targets, Tensor) and targets.dim() == 1 and not targets.is_floating_point()
    if not whole:
        raise UsageError("epe_nas needs one class label for each sample: batch=(inputs, integer labels)")
    outputs = capture.data.output
    classes = outputs.shape[1] if isinstance(outputs, Tensor) and outputs.dim() > 1 else int(targets.max()) + 1
    return epe_score(capture.jacobian, targets.to(capture.jacobian.device), classes)
