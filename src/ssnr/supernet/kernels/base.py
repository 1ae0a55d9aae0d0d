"""What the steps of a supernet are made of: weights, and the shape that every step has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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

    def of_architectures(self, gradient: Tensor) -> Tensor:
        """(b, numel) gradients in memory order → those of architectures (b / images, numel)."""
        return gradient if self.images == 1 else gradient.view(-1, self.images, self.flat.numel()).sum(1)


Gradients = Iterator[tuple[Layer, slice, Tensor]]  # layer, samples, gradients of their architectures (…, numel)
# Of a layer, by its slot: a weight for each of the architectures that use it, in the parts that gradients come in.
Own = Mapping[int, Sequence[tuple[slice, Tensor]]]


class Step(Protocol):
    """One step on activations x (H, W, b, C) and on gradients g of the shape that `forward` gives.

    `reads`: whether anything after `forward` looks at the numbers in x. `bends`: whether its derivative changes with x
    or with weights.
    """

    reads: bool
    bends: bool

    def forward(self, x: Tensor) -> Tensor:
        """The step."""

    def backward(self, x: Tensor, g: Tensor) -> Tensor:
        """The gradient for x, given the gradient g of the output; x may have one sample that stands for all."""

    def gradients(self, x: Tensor, g: Tensor) -> Gradients:
        """∂R/∂θ of every architecture, new tensors; x may have one sample that stands for all."""

    def tangent(self, x: Tensor, dx: Tensor, own: Own) -> Tensor:
        """The derivative of `forward` where x moves along dx and every architecture's weights along its `own`."""

    def backward_tangent(self, x: Tensor, dx: Tensor | None, g: Tensor | None, dg: Tensor, own: Own) -> Tensor:
        """The derivative of `backward` where g moves along dg too; what does not bend needs neither dx nor g."""


class Straight:
    """What steps share whose derivative is the same wherever x moves to from where it is."""

    bends = False

    def backward(self, x: Tensor, g: Tensor) -> Tensor:
        """The step's own."""
        raise NotImplementedError

    def gradients(self, x: Tensor, g: Tensor) -> Gradients:
        """None: there are no weights."""
        return iter(())

    def backward_tangent(self, x: Tensor, dx: Tensor | None, g: Tensor | None, dg: Tensor, own: Own) -> Tensor:
        """The step back itself, of dg."""
        return self.backward(x, dg)


def as_image(x: Tensor) -> Tensor:
    """(H, W, b, C) → one image (1, b·C, H, W), the channels of all samples its own, in channels-last memory."""
    return x.flatten(2).unsqueeze(0).permute(0, 3, 1, 2)


def restored(image: Tensor, samples: int) -> Tensor:
    """(1, b·C, H, W) → (H, W, b, C)."""
    _, channels, height, width = image.shape
    return image.permute(0, 2, 3, 1).reshape(height, width, samples, channels // samples)
