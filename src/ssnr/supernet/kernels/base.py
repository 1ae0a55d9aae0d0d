"""What the steps of a supernet are made of: weights, and the shape that every step has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor


class Layer:
    """One weight of the supernet as a pass reads it; `slot` is its row in the table of moments.

    Synflow reads |θ|, the loss pass θ (`signed`). An architecture has `images` samples of a batch, side by side.
    """

    def __init__(self, weight: Tensor, slot: int, dtype: torch.dtype, *, signed: bool = False, images: int = 1) -> None:
        self.slot, self.images = slot, images
        self.weight = torch.empty(weight.shape, dtype=dtype, memory_format=torch.channels_last).copy_(weight)
        if not signed:
            self.weight.abs_()
        # In memory order: output channel, then row and column of the kernel, then input channel.
        self.flat = self.weight.permute(0, 2, 3, 1).reshape(-1)

    def saliencies(self, gradient: Tensor) -> Tensor:
        """(b, numel) gradients in memory order → saliencies (b / images, numel), in place where that is possible."""
        if self.images > 1:
            gradient = gradient.view(-1, self.images, self.flat.numel()).sum(1)
        return gradient.mul_(self.flat)


Gradients = Iterator[tuple[Layer, slice, Tensor]]  # layer, samples, their saliencies (samples, numel)


class Step(Protocol):
    """One step on activations x (H, W, b, C) and on gradients g of the shape that `forward` gives.

    `reads`: whether anything after `forward` looks at the numbers in x.
    """

    reads: bool

    def forward(self, x: Tensor) -> Tensor:
        """The step."""

    def backward(self, x: Tensor, g: Tensor) -> Tensor:
        """The gradient for x, given the gradient g of the output; x may have one sample that stands for all."""

    def saliencies(self, x: Tensor, g: Tensor) -> Gradients:
        """θ ⊙ ∂R/∂θ of every architecture; x may have one sample that stands for all."""


def as_image(x: Tensor) -> Tensor:
    """(H, W, b, C) → one image (1, b·C, H, W), the channels of all samples its own, in channels-last memory."""
    return x.flatten(2).unsqueeze(0).permute(0, 3, 1, 2)


def restored(image: Tensor, samples: int) -> Tensor:
    """(1, b·C, H, W) → (H, W, b, C)."""
    _, channels, height, width = image.shape
    return image.permute(0, 2, 3, 1).reshape(height, width, samples, channels // samples)
