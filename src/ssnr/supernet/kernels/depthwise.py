"""Depthwise convolutions of many architectures' activations at once; `steps.py` says how they are laid out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ssnr.supernet.kernels.base import Gradients, Layer, Own, as_image, restored
from ssnr.supernet.layouts import base as layouts

# The widest kernel whose weight gradients oneDNN has fast code for; a wider one is put together from pieces.
_WIDEST = 3


class Depthwise:
    """k×k convolution of each channel by itself, with padding that keeps the size.

    The channels of all samples are channels of one image, on which the weights are repeated. At dilation 2 and stride
    2 only pixels with even row and column take part: a plain convolution of those.
    """

    reads = bends = True

    def __init__(self, spec: layouts.Depthwise, layer: Layer) -> None:
        self.spec, self.layer = spec, layer
        self._flipped = layer.weight.flip(2, 3)
        self._sparse = spec.stride == spec.dilation == 2
        self._stride, self._dilation = (1, 1) if self._sparse else (spec.stride, spec.dilation)

    def forward(self, x: Tensor) -> Tensor:
        """(H, W, b, C) → (⌈H/stride⌉, ⌈W/stride⌉, b, C)."""
        return self._convolved(self._read(x), self._repeated(self.layer.weight, x), self._stride)

    def backward(self, x: Tensor, g: Tensor) -> Tensor:
        """The transposed convolution."""
        repeated = self._repeated(self._flipped if self._stride == 1 else self.layer.weight, g)
        return self._transposed(x, g, repeated)

    def gradients(self, x: Tensor, g: Tensor) -> Gradients:
        """Each sample's sum over pixels of shifted input times output gradient."""
        samples = g.shape[2]
        x = self._read(x).expand(-1, -1, samples, -1)
        if self._dilation == 2:
            # Only pixels whose rows, and columns, are both even or both odd meet: four images, not dilated.
            gradient = self._gradients(_quarters(x), _quarters(g)).reshape(4, -1).sum(0)
        else:
            gradient = self._gradients(x, g)
        yield self.layer, slice(0, samples), self.layer.of_architectures(gradient.reshape(samples, -1))

    def tangent(self, x: Tensor, dx: Tensor, own: Own) -> Tensor:
        """θ ∗ dx + own ∗ x."""
        weight = self._own(own)
        x = self._read(x).expand(-1, -1, len(weight) // self.spec.channels, -1)
        return self.forward(dx).add(self._convolved(x, weight, self._stride))

    def backward_tangent(self, x: Tensor, dx: Tensor | None, g: Tensor | None, dg: Tensor, own: Own) -> Tensor:
        """θᵀ ∗ dg + ownᵀ ∗ g."""
        assert g is not None
        weight = self._own(own)
        return self.backward(x, dg).add_(self._transposed(x, g, weight.flip(2, 3) if self._stride == 1 else weight))

    def _own(self, own: Own) -> Tensor:
        """(b·C, 1, k, k): each sample's weights, those of its architecture."""
        ((_, weights),) = own[self.layer.slot]
        return weights.repeat_interleave(self.layer.images, 0).view(-1, *self.layer.weight.shape[1:])

    def _transposed(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        """The transposed convolution, with weights of every sample; those of stride 1 are flipped."""
        shape = (*x.shape[:2], *g.shape[2:])
        if self._stride > 1:
            image = _image(g.new_empty(shape))  # only its shape is read
            return restored(self._backward(image, g, weight, 0), g.shape[2])
        below = self._convolved(g, weight, 1)
        if not self._sparse:
            return below
        out = g.new_zeros(shape)
        out[::2, ::2] = below
        return out

    def _read(self, x: Tensor) -> Tensor:
        """The pixels that take part."""
        return x[::2, ::2] if self._sparse else x

    def _repeated(self, weight: Tensor, x: Tensor) -> Tensor:
        return weight.expand(x.shape[2], *weight.shape).flatten(0, 1)

    def _convolved(self, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        """Convolution with weights (b·C, 1, k, k) of every sample."""
        image, dilation = _image(x), self._dilation
        padding = dilation * (self.spec.kernel // 2)
        return restored(F.conv2d(image, weight, None, stride, padding, dilation, len(weight)), x.shape[2])

    def _gradients(self, x: Tensor, g: Tensor) -> Tensor:
        """(samples · channels, 1, k, k) weight gradients, not dilated."""
        kernel, padding = self.spec.kernel, self.spec.kernel // 2
        if kernel <= _WIDEST or x.dtype == torch.float64:
            return self._backward(_image(x), g, g.new_empty((g[0, 0].numel(), 1, kernel, kernel)), 1)
        # Padded by hand: with padding of its own the wider one takes a hundred times as long on small images.
        weight = g.new_empty((g[0, 0].numel(), 1, kernel, _WIDEST))
        padded = F.pad(x, (0, 0, 0, 0, *(padding,) * 4))
        width, found = x.shape[1] + _WIDEST - 1, []
        for start in range(0, kernel, _WIDEST):
            first = min(start, kernel - _WIDEST)
            piece = _image(padded[:, first : first + width])
            found.append(self._backward(piece, g, weight, 1, padding=0)[..., start - first :])
        return torch.cat(found, dim=3)

    def _backward(self, image: Tensor, g: Tensor, weight: Tensor, which: int, padding: int | None = None) -> Tensor:
        """The gradient of a convolution by its image (0) or its weight (1), of which then only the shape is read."""
        padding = self.spec.kernel // 2 if padding is None else padding
        gradient: Tensor = torch.ops.aten.convolution_backward(
            _image(g), image, weight, None, [self._stride] * 2, [padding] * 2, [1, 1], False, [0, 0], len(weight),
            [which == 0, which == 1, False],
        )[which]  # fmt: skip
        return gradient


def _image(x: Tensor) -> Tensor:
    """All channels of all samples as one image; in float64, which oneDNN leaves to PyTorch, plane by plane."""
    image = as_image(x)
    return image.contiguous() if x.dtype == torch.float64 else image


def _quarters(x: Tensor) -> Tensor:
    """(H, W, b, C) → (H/2, W/2, 4·b, C): pixels by evenness of row and column."""
    height, width, samples, channels = x.shape
    parts = x.reshape(height // 2, 2, width // 2, 2, samples, channels).permute(0, 2, 1, 3, 4, 5)
    return parts.reshape(height // 2, width // 2, 4 * samples, channels)
