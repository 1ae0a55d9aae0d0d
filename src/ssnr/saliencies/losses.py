"""The scalar that data-driven saliencies differentiate.

    targets                  output                       loss
    none                     one number, or its `loss`    itself
    none                     only numbers (named losses)  their sum
    int (N,)                 (N, C)                       cross-entropy
    int (N, *)               (N, C, *)                    cross-entropy at every place
    int (N, T)               (N, T, V)                    cross-entropy over the last axis
    0/1, any integer type    the same shape, or (N, 1)    binary cross-entropy of logits
    float                    the same shape, or (N, 1)    mean squared error

Of several outputs the one called `logits` counts, else the first. Anything else takes `loss=`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssnr.core.errors import ScoringError, SsnrError, UsageError, kind_of, one_line
from ssnr.networks.calling import outputs_of
from ssnr.networks.precision import OnePrecision
from ssnr.networks.trees import flatten, to_device
from ssnr.saliencies.signal import Loss, dense

IGNORED = -100  # the label that cross-entropy leaves out


def loss_of(
    output: Any, targets: Any, device: torch.device, dtype: torch.dtype, loss: Loss | None, temperature: float
) -> Tensor:
    """The scalar that data-driven saliencies differentiate: `loss(output, targets)`, or by the table above.

    Raises:
        UsageError: targets that do not fit the output; a loss that is not one number.
        ScoringError: the loss raised, or is not finite.
    """
    wanted = to_device(targets, device, dtype)
    try:
        if loss is not None:
            with OnePrecision(dtype):
                value = loss(output, wanted)
        elif wanted is None:
            value = _own_loss(output)
        elif not isinstance(wanted, Tensor):
            raise UsageError(f"targets of type {type(wanted).__name__} need loss=lambda output, targets: …")
        else:
            value = _default(dense(_logits(output)) / temperature, wanted)
    except SsnrError:
        raise
    except Exception as error:
        raise ScoringError(f"the loss raised {type(error).__name__}: {one_line(error)}", kind_of(error)) from error
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(f"the loss should be one number, got {got}")
    if not bool(torch.isfinite(value)):
        number = float(value.detach())
        raise ScoringError(f"the loss is {number}", "nan" if number != number else "infinite")
    return value.reshape(())


def _named(output: Any, name: str) -> Tensor | None:
    """An entry or attribute of the output, where it is a floating tensor."""
    if isinstance(output, (Tensor, list)):
        return None
    found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
    return found if isinstance(found, Tensor) and found.is_floating_point() else None


def _own_loss(output: Any) -> Tensor:
    """What a network that computes its own loss gives back."""
    loss = _named(output, "loss")
    if loss is not None and loss.numel() == 1:
        return loss.sum()
    outputs = outputs_of(output)
    several = isinstance(output, Mapping) or dataclasses.is_dataclass(output)
    if len(outputs) == 1 or several:
        if all(out.numel() == 1 for out in outputs):
            return torch.stack([out.sum() for out in outputs]).sum()
    elif outputs[0].dim() == 0:
        return outputs[0]
    raise UsageError("this proxy needs labels: batch=(inputs, targets), or loss=lambda output, targets: …")


def _logits(output: Any) -> Tensor:
    named = _named(output, "logits")
    if named is not None:
        return named
    outputs = flatten(output)
    return outputs[0] if outputs else outputs_of(output)[0]


def _default(logits: Tensor, targets: Tensor) -> Tensor:
    if logits.shape[:1] != targets.shape[:1] and logits.dim() > 0 and targets.dim() > 0:
        raise UsageError(f"{targets.shape[0]} labels for outputs of shape {tuple(logits.shape)}; pass loss= instead")
    if targets.is_complex():
        raise UsageError(f"complex targets ({targets.dtype}) need loss=lambda output, targets: …".replace("torch.", ""))
    if logits.dim() == 1 and targets.dim() == 0 and not targets.is_floating_point():
        logits, targets = logits[None], targets[None]  # one sample without a batch
    if targets.is_floating_point():
        return F.mse_loss(logits, _alike(logits, targets))
    classes = targets.long()
    if logits.dim() > 2 and classes.dim() == 1 and logits.shape[2:].numel() == 1:
        logits = logits.flatten(1)  # a fully convolutional head
    single = logits.dim() > 1 and logits.shape[1] == 1 and logits.shape[2:] == classes.shape[1:]
    if logits.shape == classes.shape or single:
        return _binary(logits, classes)
    if logits.dim() == classes.dim() + 1:
        if logits.shape[2:] == classes.shape[1:]:
            _check_classes(classes, logits.shape[1])
            return F.cross_entropy(logits, classes)
        if logits.shape[:-1] == classes.shape:
            _check_classes(classes, logits.shape[-1])
            return F.cross_entropy(logits.flatten(0, -2), classes.flatten())
    raise UsageError(
        f"labels of shape {tuple(classes.shape)} for outputs of shape {tuple(logits.shape)}: expected outputs "
        f"(N, classes) for labels (N,), or pass loss= instead"
    )


def _alike(logits: Tensor, targets: Tensor) -> Tensor:
    """Targets in the shape of the outputs, where only axes of length one differ: (N,) for (N, 1)."""
    if [n for n in logits.shape if n != 1] != [n for n in targets.shape if n != 1]:
        raise UsageError(
            f"targets of shape {tuple(targets.shape)} for outputs of shape {tuple(logits.shape)}; pass loss= instead"
        )
    return targets.reshape(logits.shape)


def _binary(logits: Tensor, classes: Tensor) -> Tensor:
    if int(classes.min()) < 0 or int(classes.max()) > 1:
        raise UsageError(
            f"class labels need outputs (N, classes), got shape {tuple(logits.shape)}, which only fits labels 0 and 1; "
            "pass loss= instead"
        )
    return F.binary_cross_entropy_with_logits(logits, _alike(logits, classes.to(logits.dtype)))


def _check_classes(classes: Tensor, outputs: int) -> None:
    counted = classes[classes != IGNORED]
    if not counted.numel():
        raise UsageError(f"all labels are {IGNORED}: there is nothing to compute a loss from")
    low, high = int(counted.min()), int(counted.max())
    if low < 0 or high >= outputs:
        raise UsageError(f"label {high if high >= outputs else low} for a network with {outputs} outputs")
