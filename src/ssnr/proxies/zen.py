"""zen: how much a network of Gaussian weights amplifies a small change of its input."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ssnr.core.errors import ScoringError
from ssnr.proxies.capture import Capture, capture_of

GAMMA = 0.01
SAMPLES = 16


def gaussian(capture: Capture, weights: dict[str, Tensor], generator: torch.Generator) -> None:
    """Weights N(0, 1), biases 0, scales of norms 1, in place."""
    for name, value in weights.items():
        if name.rpartition(".")[2].startswith("running_") or not value.is_floating_point():
            continue
        if name in capture.model.scored:
            value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64))
        elif name.endswith("bias"):
            value.zero_()
        elif name.endswith("weight"):
            value.fill_(1.0)


def zen_score(features: Tensor, moved: Tensor, variances: list[float]) -> float:
    """Ln mean_n Σ |f(x) − f(x + γε)| + ½ Σ ln v over batch norms, v the mean over channels of the batch variance.

    Args:
        features: f(x), (N, …).
        moved: f(x + γε), the same shape.
        variances: of each batch norm.

    Raises:
        ScoringError: the features do not change with the input.
    """
    change = float((features.double() - moved.double()).abs().flatten(1).sum(1).mean())
    if not change > 0:
        raise ScoringError("zen: the features before the classifier do not change with the input")
    return math.log(change) + 0.5 * sum(math.log(v) for v in variances if v > 0)


def zen(context: Any) -> float:
    """Ln E|f(x) − f(x + γε)| + Σ ln σ of batch norms, weights and images N(0, 1) (Lin et al., ICCV 2021).

    f is the last feature map with more than one position, which the network pools before its classifier; of a network
    without any, the input of its last linear layer. 16 images, γ = 0.01, one draw of the weights, batch statistics.
    """
    capture = capture_of(context)
    generator = capture.generator()
    x = capture.noise(SAMPLES, generator)
    near = x + GAMMA * capture.noise(SAMPLES, generator)
    drawn: dict[str, Tensor] = {}

    def change(weights: dict[str, Tensor]) -> None:
        if not drawn:
            gaussian(capture, weights, generator)
            drawn.update({name: value.clone() for name, value in weights.items()})
        for name, value in weights.items():
            value.copy_(drawn[name])

    first, second = (capture.forward(inputs, change=change, mode="train", sources=False)[0] for inputs in (x, near))
    if first.features is None or second.features is None:
        raise ScoringError("zen reads the features before a classifier: no feature map and no linear layer was seen")
    variances = [0.5 * (a + b) for (a, _), (b, _) in zip(first.variances, second.variances, strict=True)]
    return zen_score(first.features, second.features, variances)
