"""The pass of plain and snip: real images, ReLU, batch norm by an architecture's own images, mean cross-entropy.

As synflow's pass, with signed weights and steps that are not linear. An architecture has its k images side by side
as samples of the batch. With one image, what all architectures compute alike is computed once, as for synflow.
Batch norms keep activations near 1, so that nothing is scaled: numbers are as large as in each network alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ssnr.data import Batch as Images
from ssnr.supernet.batch import BatchPass, Exponents, MomentTable, Note, Samples, Steps, Users, _numbers
from ssnr.supernet.kernels.base import Gradients, Step
from ssnr.supernet.kernels.nonlinear import Norm, Relu
from ssnr.supernet.layouts import base as layouts
from ssnr.supernet.layouts.base import MOST_IMAGES, Block, Shape

LOSS_MEASURES = ("plain", "plain_noise", "grasp", "grasp_noise")
# Squares of float32 saliencies beyond these leave its range.
_SMALL, _LARGE = 1e-13, 1e13


def unread(batch: Images, shape: tuple[int, ...], classes: int) -> str | None:
    """Why the loss pass cannot read a batch; None where it can."""
    inputs, labels = batch.inputs, batch.targets
    if not isinstance(inputs, Tensor) or tuple(inputs.shape[1:]) != tuple(shape):
        return f"the inputs are not one tensor of shape (N, {', '.join(map(str, shape))})"
    if not 1 <= len(inputs) <= MOST_IMAGES:
        return f"{len(inputs)} images: expected 1 … {MOST_IMAGES}"
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.shape != inputs.shape[:1]:
        return "the targets are not one class label an image"
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        return f"labels {int(labels.min())} … {int(labels.max())}: expected 0 … {classes - 1}"
    return None


class LossHead:
    """Steps without weights, global average pooling, a linear layer, cross-entropy; forward and back at once."""

    def __init__(
        self, spec: layouts.Head, weight: Tensor, bias: Tensor, slot: int, dtype: torch.dtype, images: int
    ) -> None:
        self.slot, self.images = slot, images
        self.weight, self.bias = weight.to(dtype), bias.to(dtype)
        self.steps: list[Step] = [Norm(images) if isinstance(step, layouts.Norm) else Relu() for step in spec.before]

    def backward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of the mean loss of each architecture at x (H, W, b, C), and S of the weight (b / images, numel)."""
        into, features, chances = self.forward(x)
        error = self.error(chances, labels)
        saliencies = self.outer(error, features).mul_(self.weight).flatten(1)
        g = spread(error @ self.weight, x.shape)
        for step, before in zip(reversed(self.steps), reversed(into), strict=True):
            g = step.backward(before, g)
        return g, saliencies

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """What goes into each step, the features (b, C) and the chances of the classes."""
        into = []
        for step in self.steps:
            into.append(x)
            x = step.forward(x)
        features = x.mean((0, 1))
        return into, features, torch.softmax(features @ self.weight.t() + self.bias, 1)

    def error(self, chances: Tensor, labels: Tensor) -> Tensor:
        """Gradient of the mean loss of each architecture at the outputs."""
        error = chances.clone()
        error[torch.arange(len(error)), labels] -= 1.0
        return error.div_(self.images)

    def apart(self, x: Tensor) -> Tensor:
        """(b, n) → (b / images, images, n)."""
        return x.view(-1, self.images, x.shape[1])

    def outer(self, error: Tensor, features: Tensor) -> Tensor:
        """Σ over an architecture's images of error ⊗ features."""
        return self.apart(error).transpose(1, 2) @ self.apart(features)


def spread(g: Tensor, shape: torch.Size) -> Tensor:
    """The gradient of every pixel of (H, W, b, C), from that of the features (b, C), their means."""
    return (g / (shape[0] * shape[1])).expand(shape).contiguous()


class LossBatch(BatchPass):
    """One pass of `architectures`, each with `images` samples."""

    columns = 4

    def __init__(
        self, blocks: Sequence[Block], steps: Sequence[Steps], shapes: Sequence[Sequence[Shape]],
        groups: Sequence[Sequence[Users]], slots: int, architectures: int, images: int,
    ) -> None:  # fmt: skip
        super().__init__(blocks, steps, shapes, groups, slots, architectures * images)
        self._images, self._architectures = images, architectures

    def run(self, x: Tensor, labels: Tensor, head: LossHead) -> MomentTable:
        """Moments of every layer from images (H, W, k, C) and their labels (k)."""
        if self._images > 1:
            x = x.repeat(1, 1, self._architectures, 1)
        out, _ = self.forward(x)
        out = out.expand(-1, -1, self._size, -1)
        g, saliencies = head.backward(out, labels.repeat(self._architectures))
        self._notes.append(Note(head.slot, range(self._architectures), reduced(saliencies)))
        return self._of_architectures(self.backward(g))

    def _of_architectures(self, table: MomentTable) -> MomentTable:
        columns = table.columns[:, :, : self._architectures]
        return MomentTable(columns, np.zeros((len(self._blocks) + 1, self._architectures), np.int64))

    def _normalise(self, x: Tensor) -> Exponents:
        return np.zeros(x.shape[2], np.int64)

    def _or_zeros(self, value: Tensor | None, k: int, node: int) -> Tensor:
        found = super()._or_zeros(value, k, node)
        if self._images > 1 and found.shape[2] == 1:
            return found.expand(-1, -1, self._size, -1).contiguous()
        return found

    def _note(self, gradients: Gradients, samples: Samples) -> None:
        for layer, part, values in gradients:
            numbers = _numbers(samples, part)[:: self._images]
            self._notes.append(Note(layer.slot, [n // self._images for n in numbers], reduced(values.mul_(layer.flat))))


def reduced(values: Tensor) -> tuple[list[float], list[float], list[float], list[float]]:
    """Σ S, Σ S², Σ |S| and largest |S| of each row; values are changed."""
    total = values.sum(1)
    magnitude, peak = values.abs_().sum(1), values.amax(1)
    largest = float(peak.max())
    if values.dtype == torch.float32 and not _SMALL < float(peak.min()) <= largest < _LARGE:
        square = values.double().square_().sum(1)
    else:
        square = values.square_().sum(1)
    return total.tolist(), square.tolist(), magnitude.tolist(), peak.tolist()
