"""The scalar that data-driven saliencies differentiate."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssnr._errors import ScoringError, UsageError
from ssnr._model import outputs_of
from ssnr.saliencies.signals import Loss, moved


def loss_of(
    output: Any, targets: Tensor | None, device: torch.device, dtype: torch.dtype, loss: Loss | None, temperature: float
) -> Tensor:
    """The scalar that data-driven saliencies differentiate."""
    wanted = moved(targets, device, dtype)
    if loss is not None:
        value = loss(output, wanted)
    else:
        logits = outputs_of(output)[0]
        if wanted is None:
            if logits.numel() != 1:
                raise UsageError("this proxy needs labels: batch=(inputs, targets), or loss=lambda output, targets: …")
            value = logits.sum()
        elif wanted.is_floating_point():
            value = F.mse_loss(logits / temperature, wanted)
        else:
            _check_labels(logits, wanted)
            value = F.cross_entropy(logits / temperature, wanted)
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise UsageError(f"the loss should be one number, got {getattr(value, 'shape', type(value).__name__)}")
    if not bool(torch.isfinite(value)):
        raise ScoringError(f"the loss is {float(value)}")
    return value.reshape(())


def _check_labels(logits: Tensor, targets: Tensor) -> None:
    if logits.dim() < 2:
        raise UsageError(f"class labels need outputs (N, classes), got shape {tuple(logits.shape)}; pass loss= instead")
    if targets.shape[0] != logits.shape[0]:
        raise UsageError(f"{targets.shape[0]} labels for outputs of shape {tuple(logits.shape)}")
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= logits.shape[1]:
        raise UsageError(
            f"label {high if high >= logits.shape[1] else low} for a network with {logits.shape[1]} outputs"
        )
