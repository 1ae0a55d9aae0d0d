"""The steps of a supernet, forward and backward, on many architectures at once.

Activations are laid out as (height, width, batch, channels). There a shift by one pixel is a shift by `batch` columns
of a (height, width · batch) image, so that one convolution, dilated by `batch`, serves the whole batch; and a sample's
channels are a group of channels of one (height, width) image, so that one grouped convolution gives every sample's own
weight gradient. Neither needs a copy. No step keeps anything for its backward pass: everything is linear where x lies.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ssnr.supernet.kernels.base import Gradients, Layer, Own, Step, as_image, restored
from ssnr.supernet.kernels.depthwise import Depthwise
from ssnr.supernet.kernels.nonlinear import Norm, Relu
from ssnr.supernet.kernels.pools import AveragePool2, AveragePool3, MaxPool
from ssnr.supernet.layouts import base as layouts

# Weights whose gradients one grouped convolution gives at once: beyond, they no longer fit the core's own cache.
_CHUNK, _SAMPLES = 1 << 18, 16
# Of float32 products; it uses the widest instructions of every processor, MKL only those of its own maker's.
_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


class Conv:
    """k×k convolution with padding ⌊k/2⌋."""

    reads = bends = True

    def __init__(self, spec: layouts.Conv, layer: Layer) -> None:
        self.spec, self.layer = spec, layer
        self._matrix = layer.weight[:, :, 0, 0]  # of a 1×1 convolution, all there is
        if spec.kernel > 1 and spec.stride == 1:
            flipped = layer.weight.transpose(0, 1).flip(2, 3)
            self._transposed = flipped.contiguous(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """(H, W, b, C) → (⌈H/stride⌉, ⌈W/stride⌉, b, O)."""
        if self.spec.kernel == 1:
            return _product(self._read(x), self._matrix.t())
        if self.spec.stride == 1:
            return self._shifted(x, self.layer.weight)
        return _samples_last(F.conv2d(_samples_first(x), self.layer.weight, None, self.spec.stride, self._padding))

    def backward(self, x: Tensor, g: Tensor) -> Tensor:
        """The transposed convolution; the size that a stride took comes back even."""
        stride, weight = self.spec.stride, self.layer.weight
        if stride == 1:
            return _product(g, self._matrix) if self.spec.kernel == 1 else self._shifted(g, self._transposed)
        return _samples_last(F.conv_transpose2d(_samples_first(g), weight, None, stride, self._padding, stride - 1))

    def gradients(self, x: Tensor, g: Tensor) -> Gradients:
        """Each sample's sum over pixels of shifted input times output gradient."""
        samples, images = g.shape[2], self.layer.images
        chunk = max(1, min(_SAMPLES, _CHUNK // self.layer.flat.numel()) // images) * images
        gradients = self._grouped
        if self.spec.kernel == 1:
            x, gradients = self._read(x), _pixelwise
        for start in range(0, samples, chunk):
            part = slice(start, min(start + chunk, samples))
            one = x if x.shape[2] == 1 else x[:, :, part]
            yield self.layer, part, self.layer.of_architectures(gradients(one, g[:, :, part]))

    def tangent(self, x: Tensor, dx: Tensor, own: Own) -> Tensor:
        """θ ∗ dx + own ∗ x."""
        parts = own[self.layer.slot]
        samples = parts[-1][0].stop
        out = self.forward(dx)
        out = out if out.shape[2] == samples else out.repeat(1, 1, samples, 1)
        for part, weights in parts:
            out[:, :, part] += self._own(x if x.shape[2] == 1 else x[:, :, part], weights)
        return out

    def backward_tangent(self, x: Tensor, dx: Tensor | None, g: Tensor | None, dg: Tensor, own: Own) -> Tensor:
        """θᵀ ∗ dg + ownᵀ ∗ g."""
        assert g is not None
        below = self.backward(x, dg)
        for part, weights in own[self.layer.slot]:
            below[:, :, part] += self._own_backward(g[:, :, part], weights, below.shape[:2])
        return below

    def _own(self, x: Tensor, weights: Tensor) -> Tensor:
        """Each sample's convolution with its architecture's weights (b / images, numel)."""
        if self.spec.kernel == 1:
            return _matrices(self._read(x), self._of_samples(weights).transpose(1, 2))
        stride, padding = [self.spec.stride] * 2, [self._padding] * 2
        weight, samples = self._grouped_weight(weights)
        return restored(F.conv2d(as_image(x), weight, None, stride, padding, [1, 1], x.shape[2]), samples)

    def _own_backward(self, g: Tensor, weights: Tensor, size: tuple[int, ...]) -> Tensor:
        """Its transpose, for inputs of (height, width)."""
        if self.spec.kernel == self.spec.stride == 1:
            return _matrices(g, self._of_samples(weights))
        stride, padding = [self.spec.stride] * 2, [self._padding] * 2
        weight, samples = self._grouped_weight(weights)
        image = as_image(g.new_empty((*size, samples, self.spec.channels_in)))  # only its shape is read
        below: Tensor = torch.ops.aten.convolution_backward(
            as_image(g), image, weight, None, stride, padding, [1, 1], False, [0, 0], samples, [True, False, False]
        )[0]
        return restored(below, samples)

    def _of_samples(self, weights: Tensor) -> Tensor:
        """Architectures' weights (b / images, numel) as those of samples (b, O, numel / O)."""
        if self.layer.images > 1:
            weights = weights.repeat_interleave(self.layer.images, 0)
        return weights.view(len(weights), self.spec.channels_out, -1)

    def _grouped_weight(self, weights: Tensor) -> tuple[Tensor, int]:
        """Those of samples as the weight of a grouped convolution, one group a sample, and how many samples."""
        of_samples, kernel = self._of_samples(weights), [self.spec.kernel] * 2
        return of_samples.view(-1, *kernel, self.spec.channels_in).permute(0, 3, 1, 2), len(of_samples)

    @property
    def _padding(self) -> int:
        return self.spec.kernel // 2

    def _read(self, x: Tensor) -> Tensor:
        """The pixels that a 1×1 convolution reads."""
        stride = self.spec.stride
        return x if stride == 1 else x[::stride, ::stride].contiguous()

    def _shifted(self, x: Tensor, weight: Tensor) -> Tensor:
        """Convolution of stride 1, the batch being part of the image's width."""
        height, width, batch, channels = x.shape
        image = x.reshape(1, height, width * batch, channels).permute(0, 3, 1, 2)
        padding = self._padding
        out = F.conv2d(image, weight, None, 1, (padding, padding * batch), (1, batch))
        return out.permute(0, 2, 3, 1).reshape(height, width, batch, -1)

    def _grouped(self, x: Tensor, g: Tensor) -> Tensor:
        """(b, numel) weight gradients, samples as groups; one x for all of them needs no groups."""
        samples, padding, stride = g.shape[2], self._padding, self.spec.stride
        image, out = (t.flatten(2).unsqueeze(0).permute(0, 3, 1, 2) for t in (x, g))
        weight = self.layer.weight
        # Only the shape of this one is read.
        weight = weight.new_empty((samples * weight.shape[0], *weight.shape[2:], weight.shape[1])).permute(0, 3, 1, 2)
        gradient: Tensor = torch.ops.aten.convolution_backward(
            out, image, weight, None, [stride, stride], [padding, padding], [1, 1], False, [0, 0], x.shape[2],
            [False, True, False],
        )[1]  # fmt: skip
        return gradient.permute(0, 2, 3, 1).reshape(samples, -1)


class Halves:
    """1×1 convolutions of the pixels with even, and of those with odd, row and column."""

    reads = bends = True

    def __init__(self, even: Conv, odd: Conv) -> None:
        self.even, self.odd = even, odd

    def forward(self, x: Tensor) -> Tensor:
        """(H, W, b, C) → (H/2, W/2, b, O)."""
        even, odd = self._parts(x)
        return torch.cat((self.even.forward(even), self.odd.forward(odd)), dim=3)

    def backward(self, x: Tensor, g: Tensor) -> Tensor:
        """Zero at pixels of which one of row and column is even, the other odd."""
        even, odd = self._split(g)
        return self._spread(self.even.backward(x, even), self.odd.backward(x, odd))

    def gradients(self, x: Tensor, g: Tensor) -> Gradients:
        """Those of both convolutions."""
        for conv, half, gradient in zip((self.even, self.odd), self._parts(x), self._split(g), strict=True):
            yield from conv.gradients(half, gradient)

    def tangent(self, x: Tensor, dx: Tensor, own: Own) -> Tensor:
        """Those of both convolutions."""
        parts = zip((self.even, self.odd), self._parts(x), self._parts(dx), strict=True)
        return torch.cat([conv.tangent(half, moves, own) for conv, half, moves in parts], dim=3)

    def backward_tangent(self, x: Tensor, dx: Tensor | None, g: Tensor | None, dg: Tensor, own: Own) -> Tensor:
        """Those of both convolutions."""
        assert g is not None
        parts = zip((self.even, self.odd), self._split(g), self._split(dg), strict=True)
        return self._spread(*(conv.backward_tangent(x, dx, half, moves, own) for conv, half, moves in parts))

    def _spread(self, even: Tensor, odd: Tensor) -> Tensor:
        height, width, batch, channels = even.shape
        out = even.new_zeros((2 * height, 2 * width, batch, channels))
        out[::2, ::2] = even
        out[1::2, 1::2] = odd
        return out

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[::2, ::2].contiguous(), x[1::2, 1::2].contiguous()

    def _split(self, g: Tensor) -> tuple[Tensor, Tensor]:
        first = self.even.spec.channels_out
        return g[..., :first].contiguous(), g[..., first:].contiguous()


def build(
    operation: layouts.Operation, layers: list[Layer], shape: layouts.Shape, dtype: torch.dtype, images: int = 1
) -> list[Step]:
    """The steps of an operation on activations of that shape, its convolutions with these layers."""
    left, made = iter(layers), list[Step]()
    for spec in operation:
        if isinstance(spec, layouts.Conv):
            made.append(Conv(spec, next(left)))
        elif isinstance(spec, layouts.Depthwise):
            made.append(Depthwise(spec, next(left)))
        elif isinstance(spec, layouts.Halves):
            made.append(Halves(Conv(spec.even, next(left)), Conv(spec.odd, next(left))))
        elif isinstance(spec, layouts.MaxPool):
            made.append(MaxPool(spec.stride))
        elif isinstance(spec, layouts.Relu):
            made.append(Relu())
        elif isinstance(spec, layouts.Norm):
            made.append(Norm(images))
        else:
            made.append(AveragePool2() if spec.kernel == 2 else AveragePool3(*shape[:2], spec.stride, dtype))
        shape = layouts.shape_after((spec,), shape)
    return made


class Head:
    """Global average pooling and a linear layer on `repeats` copies of the features; never overflows, in float64."""

    def __init__(self, spec: layouts.Head, layer: Layer) -> None:
        self.spec, self.layer = spec, layer
        weight = layer.weight.double().view(spec.outputs, spec.repeats, spec.channels)
        # Per feature, over outputs and copies: S = |W| f, so that these three are all that its moments need.
        self._sum, self._square, self._peak = weight.sum((0, 1)), weight.square().sum((0, 1)), weight.amax((0, 1))

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Σ S, Σ S² and largest S of each sample (b) from x (H, W, b, C)."""
        features = x.double().mean((0, 1))
        return features @ self._sum, features.square() @ self._square, (features * self._peak).amax(1)

    def backward(self, x: Tensor) -> Tensor:
        """Gradient of the sum of all outputs at x: the same for every pixel and sample, and a new tensor."""
        share = (self._sum / (x.shape[0] * x.shape[1])).to(x.dtype)
        return share.expand(x.shape).contiguous()


def _product(x: Tensor, matrix: Tensor) -> Tensor:
    """Every pixel's channels times a matrix."""
    height, width, batch, channels = x.shape
    if x.dtype != torch.float32 or not _ONEDNN:
        return (x.reshape(-1, channels) @ matrix).view(height, width, batch, -1)
    image = x.reshape(1, height, width * batch, channels).permute(0, 3, 1, 2)
    kernel = matrix.t()[:, :, None, None]
    out: Tensor = torch.ops.aten.mkldnn_convolution(image, kernel, None, [0, 0], [1, 1], [1, 1], 1)
    return out.permute(0, 2, 3, 1).reshape(height, width, batch, -1)


def _matrices(x: Tensor, matrices: Tensor) -> Tensor:
    """Every pixel's channels times a matrix (b, C, O) of each sample."""
    height, width = x.shape[:2]
    out = torch.bmm(x.flatten(0, 1).transpose(0, 1).expand(len(matrices), -1, -1), matrices)
    return out.view(len(matrices), height, width, -1).permute(1, 2, 0, 3)


def _pixelwise(x: Tensor, g: Tensor) -> Tensor:
    """(b, O·C): Σ over pixels of g ⊗ x, the weight gradient of a 1×1 convolution."""
    left, right = g.flatten(0, 1).permute(1, 2, 0), x.flatten(0, 1).transpose(0, 1)
    return torch.bmm(left, right.expand(len(left), -1, -1)).flatten(1)


def _samples_first(x: Tensor) -> Tensor:
    """(H, W, b, C) → (b, C, H, W) in channels-last memory."""
    return x.permute(2, 0, 1, 3).contiguous().permute(0, 3, 1, 2)


def _samples_last(x: Tensor) -> Tensor:
    """(b, C, H, W) → (H, W, b, C)."""
    return x.permute(2, 3, 0, 1).contiguous()
