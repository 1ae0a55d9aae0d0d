"""intrain: how many dimensions activations fill, times how evenly gradients are spread."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ssnr.core.errors import ScoringError
from ssnr.proxies.capture import Capture, capture_of, gradients
from ssnr.proxies.scatter import scatter
from ssnr.proxies.watch import Observed
from ssnr.saliencies.noise import drawn_loss

SAMPLES = 64
SIDE = 64  # of the images that are drawn
EPSILON = 1e-10
ROUNDING = 100  # units of rounding of the largest gradient, below which there is none


def participation(rows: Tensor) -> float | None:
    """PR = (tr C)² / tr C², C the covariance of the last axis; None of what is constant.

    >>> import torch
    >>> participation(torch.tensor([[1.0, 1], [-1, 1], [1, -1], [-1, -1]]))
    2.0
    """
    found = scatter(rows)
    if found.constant(rows, 1e-6):
        return None
    return float(found.trace**2 / found.products.square().sum())


def health(gradient: Tensor) -> float:
    """min(1, σ(g) / (max |g| + 1e−10)), σ biased.

    >>> import torch
    >>> round(health(torch.tensor([3.0, 1.0])), 9)
    0.333333333
    """
    g = gradient.double()
    return min(1.0, float(g.std(correction=0) / (g.abs().max() + EPSILON)))


def intrain_score(ratios: Sequence[float], found: Iterable[Tensor]) -> float:
    """Σ_l ln PR_l · (1 + Σ_i h_i) / ln(L + 1), L the number of layers.

    >>> import torch
    >>> intrain_score([math.e], [torch.tensor([1.0, -1.0])]) * math.log(2)
    1.9999999999
    """
    return sum(map(math.log, ratios)) * (1 + sum(map(health, found))) / math.log(len(ratios) + 1)


def intrain(context: Any) -> float:
    """Σ_l ln PR(C_l) · (1 + Σ_i min(1, σ(g_i)/max|g_i|)) / ln(L + 1) (Zhou et al., CVPR 2026).

    C_l is the covariance of the channels that convolution or linear layer l puts out, positions of all images being the
    samples; g_i the gradient of parameter i, biases and scales of norms among them. 64 normal images of 64 × 64, or of
    the network's own shape where it takes no such image, with drawn labels. A constant layer has no PR and adds
    nothing; nor does a parameter that the loss does not depend on.
    """
    capture = capture_of(context)
    seen, leaves = _pass(capture)
    if not seen.numbers:
        raise ScoringError("intrain reads what convolution and linear layers put out, and none was seen to vary")
    loss = drawn_loss(seen.output, None, seed=capture.seed, loss=None, model=capture.model)
    if not loss.requires_grad:
        raise ScoringError("intrain: the output depends on no weight")
    found = [g for g in gradients(loss, list(leaves.values())) if g is not None]
    return intrain_score(seen.numbers, _beyond_rounding(found))


def _beyond_rounding(found: list[Tensor]) -> list[Tensor]:
    """Without the gradients that are 0 but for rounding, such as of a bias right before a batch norm."""
    largest = [float(g.abs().max()) for g in found]
    dust = ROUNDING * max(largest, default=0.0) * (torch.finfo(found[0].dtype).eps if found else 0)
    return [g for g, size in zip(found, largest, strict=True) if size > dust]


def _pass(capture: Capture) -> tuple[Observed, dict[str, Tensor]]:
    """A pass on drawn images of 64 × 64, or else of the network's own shape."""
    shape = capture.shape
    sides = [(shape[0], SIDE, SIDE), shape] if len(shape) == 3 and shape[1:] != (SIDE, SIDE) else [shape]
    for wanted in sides:
        try:
            images = capture.noise(SAMPLES, capture.generator(), wanted)
            return capture.forward(images, weights=True, every=True, layer=participation, features=False)
        except ScoringError:
            if wanted == sides[-1]:
                raise
    raise AssertionError
