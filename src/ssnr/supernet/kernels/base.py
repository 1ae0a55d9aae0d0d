"""What the steps of a supernet are made of: weights by magnitude, and the shape that every step has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor


class Layer:
    """One weight |θ| of the supernet; `slot` is its row in the table of moments."""

    def __init__(self, weight: Tensor, slot: int, dtype: torch.dtype) -> None:
        self.slot = slot
        self.magnitude = torch.empty(weight.shape, dtype=dtype, memory_format=torch.channels_last).copy_(weight).abs_()
        # In memory order: output channel, then row and column of the kernel, then input channel.
        self.flat = self.magnitude.permute(0, 2, 3, 1).reshape(-1)

    def saliencies(self, gradient: Tensor) -> Tensor:
        """(b, numel) gradients in memory order → as many saliencies, in place."""
        return gradient.mul_(self.flat)


Gradients = Iterator[tuple[Layer, slice, Tensor]]  # layer, samples, their saliencies (samples, numel)


class Step(Protocol):
    """One step on activations x (H, W, b, C) and on gradients g of the shape that `forward` gives.

    `reads`: whether anything behind `forward` looks at the numbers in x.
    """

    reads: bool

    def forward(self, x: Tensor) -> Tensor:
        """The step."""

    def backward(self, x: Tensor, g: Tensor) -> Tensor:
        """Its transpose where x lies; x may have one sample that stands for all."""

    def saliencies(self, x: Tensor, g: Tensor) -> Gradients:
        """θ ⊙ ∂R/∂θ of every sample; x may have one sample that stands for all."""


def as_image(x: Tensor) -> Tensor:
    """(H, W, b, C) → one image (1, b·C, H, W), the channels of all samples its own, in channels-last memory."""
    return x.flatten(2).unsqueeze(0).permute(0, 3, 1, 2)


def restored(image: Tensor, samples: int) -> Tensor:
    """(1, b·C, H, W) → (H, W, b, C)."""
    _, channels, height, width = image.shape
    return image.permute(0, 2, 3, 1).reshape(height, width, samples, channels // samples)
