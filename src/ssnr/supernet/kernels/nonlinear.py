"""ReLU and batch norm of many architectures' activations at once, each architecture with statistics of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from ssnr.supernet.kernels.base import Gradients, Own, Straight, as_image, restored

EPS = 1e-5  # PyTorch's, which every space's norms keep


class Relu(Straight):
    """max(x, 0), with derivative 0 at 0 as in PyTorch."""

    reads = True

    def forward(self, x: Tensor) -> Tensor:
        """(H, W, b, C), a new tensor."""
        return x.clamp_min(0.0)

    def backward(self, x: Tensor, g: Tensor) -> Tensor:
        """The gradient where x is positive."""
        if x.shape == g.shape:
            return torch.ops.aten.threshold_backward(g, x, 0.0)  # type: ignore[no-any-return]
        return g * (x > 0)

    def tangent(self, x: Tensor, dx: Tensor, own: Own) -> Tensor:
        """Motion where x is positive."""
        return self.backward(x, dx)


class Norm:
    """Batch norm as it starts: (x − mean) / sqrt(var + eps), the biased variance over an architecture's images.

    The channels of all architectures are channels of one image, so that one call serves the whole batch.
    """

    reads = bends = True

    def __init__(self, images: int) -> None:
        self.images = images

    def forward(self, x: Tensor) -> Tensor:
        """(H, W, b, C), a new tensor."""
        image = self._image(x)
        out: Tensor = torch.native_batch_norm(image, None, None, None, None, True, 0.0, EPS)[0]
        return self._restored(out, x.shape[2])

    def backward(self, x: Tensor, g: Tensor) -> Tensor:
        """Through mean and variance too."""
        image = self._image(x)
        # The forward pass again: a reduction by itself takes four times as long in this layout.
        _, mean, scale = torch.native_batch_norm(image, None, None, None, None, True, 0.0, EPS)
        if x.shape[2] < g.shape[2]:  # one sample that stands for all
            image = self._image(x.expand_as(g))
            mean, scale = mean.repeat(g.shape[2]), scale.repeat(g.shape[2])
        below: Tensor = torch.ops.aten.native_batch_norm_backward(
            self._image(g), image, None, None, None, mean, scale, True, EPS, [True, False, False]
        )[0]
        return self._restored(below, g.shape[2])

    def gradients(self, x: Tensor, g: Tensor) -> Gradients:
        """None: norms are not scored."""
        return iter(())

    def tangent(self, x: Tensor, dx: Tensor, own: Own) -> Tensor:
        """J dx, where J = s (1 − 11ᵀ/n − yyᵀ/n) for outputs y, n pixels and scale s is its own transpose."""
        return self.backward(x, dx)

    def backward_tangent(self, x: Tensor, dx: Tensor | None, g: Tensor | None, dg: Tensor, own: Own) -> Tensor:
        """J dg + (dJ) g, with ⟨·⟩ for means over pixels and dy = J dx.

        (dJ) g = −s ⟨y dx⟩ J g − s ⟨y g⟩ dy − s ⟨dy g⟩ y, so that one J serves the first three of four terms.
        """
        assert dx is not None and g is not None
        x = x.expand_as(g)
        image, first, second = self._image(x), self._image(dx), self._image(g)
        _, mean, scale = torch.native_batch_norm(image, None, None, None, None, True, 0.0, EPS)
        along_dx, mean_dx = _means(image, first, mean, scale)
        along_g, mean_g = _means(image, second, mean, scale)
        product, _ = _means(first, second, torch.zeros_like(mean), torch.ones_like(scale))
        both = scale * (product - mean_dx * mean_g - along_dx * along_g)
        moved = torch.addcmul(self._image(dg), _each(scale * along_dx), second, value=-1)
        moved.addcmul_(_each(scale * along_g), first, value=-1)
        below: Tensor = torch.ops.aten.native_batch_norm_backward(
            moved, image, None, None, None, mean, scale, True, EPS, [True, False, False]
        )[0]
        weight = scale.square() * both
        below.addcmul_(_each(weight), image, value=-1).add_(_each(weight * mean))
        return self._restored(below, g.shape[2])

    def _image(self, x: Tensor) -> Tensor:
        """(H, W, b, C) → (1, b·C, H, W), or of several images (1, b/images·C, H · images, W)."""
        if self.images == 1:
            return as_image(x)
        height, width, samples, channels = x.shape
        apart = x.view(height, width, samples // self.images, self.images, channels).permute(3, 0, 1, 2, 4)
        return as_image(apart.reshape(self.images * height, width, -1, channels))

    def _restored(self, image: Tensor, samples: int) -> Tensor:
        x = restored(image, samples // self.images)
        if self.images == 1:
            return x
        rows, width, architectures, channels = x.shape
        apart = x.view(self.images, rows // self.images, width, architectures, channels).permute(1, 2, 3, 0, 4)
        return apart.reshape(rows // self.images, width, samples, channels)


def _means(x: Tensor, v: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Over pixels, of (x − mean) · scale · v and of v; the norm's own reduction is the fastest in this layout."""
    _, products, total = torch.ops.aten.native_batch_norm_backward(
        v, x, None, None, None, mean, scale, True, EPS, [False, True, True]
    )
    pixels = x.shape[2] * x.shape[3]
    return products / pixels, total / pixels


def _each(values: Tensor) -> Tensor:
    """One number a channel, for all its pixels."""
    return values[:, None, None]
