"""Poolings of many architectures' activations at once; `steps.py` says how they are laid out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ssnr.supernet.kernels.base import Own, Straight, as_image, restored


class AveragePool3(Straight):
    """Means over 3×3 windows of the pixels inside the image: sums of three along both axes, by the pixels' number.

    At stride 2 the image has even sides.
    """

    reads = False

    def __init__(self, height: int, width: int, stride: int, dtype: torch.dtype) -> None:
        self.stride = stride
        rows, columns = (_window_sizes(n, stride, dtype) for n in (height, width))
        self.share = (rows[:, None] * columns[None, :]).reciprocal()[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """(H, W, b, C) → (H/stride, W/stride, b, C)."""
        return (_sums_of_three(x) if self.stride == 1 else _sums_of_three_by_two(x)).mul_(self.share)

    def backward(self, x: Tensor, g: Tensor) -> Tensor:
        """Shares of each window, summed over the windows that a pixel is in."""
        shares = g * self.share
        return _sums_of_three(shares) if self.stride == 1 else _spread_by_two(shares)

    def tangent(self, x: Tensor, dx: Tensor, own: Own) -> Tensor:
        """The same of dx."""
        return self.forward(dx)


class AveragePool2(Straight):
    """Means over 2×2 windows side by side."""

    reads = False

    def forward(self, x: Tensor) -> Tensor:
        """(H, W, b, C) → (H/2, W/2, b, C)."""
        rows = x[::2] + x[1::2]
        return (rows[:, ::2] + rows[:, 1::2]).mul_(0.25)

    def backward(self, x: Tensor, g: Tensor) -> Tensor:
        """A quarter to each pixel."""
        height, width, batch, channels = g.shape
        quarter = (g * 0.25)[:, None, :, None]
        return quarter.expand(height, 2, width, 2, batch, channels).reshape(2 * height, 2 * width, batch, channels)

    def tangent(self, x: Tensor, dx: Tensor, own: Own) -> Tensor:
        """The same of dx."""
        return self.forward(dx)


class MaxPool(Straight):
    """The largest of the pixels inside the image, of 3×3 windows; linear as long as no other pixel becomes it.

    Pixels that tie do so because the network computes the same of both, and it does not matter which is taken. Pixels
    that differ by less than rounding are another matter: in float32 now and then (one DARTS network in twenty) another
    one is the largest than in float64, and a layer or two before it differ by up to a hundredth.
    """

    reads = True

    def __init__(self, stride: int) -> None:
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(H, W, b, C) → (H/stride, W/stride, b, C)."""
        return restored(F.max_pool2d(as_image(x), 3, self.stride, 1), x.shape[2])

    def backward(self, x: Tensor, g: Tensor) -> Tensor:
        """To each window's largest pixel."""
        samples = g.shape[2]
        image, window = as_image(x.expand(-1, -1, samples, -1)), ([3, 3], [self.stride] * 2, [1, 1], [1, 1], False)
        _, largest = F.max_pool2d(image, 3, self.stride, 1, return_indices=True)
        below: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(as_image(g), image, *window, largest)
        return restored(below, samples)

    def tangent(self, x: Tensor, dx: Tensor, own: Own) -> Tensor:
        """Where each window's largest pixel goes."""
        samples = dx.shape[2]
        image = as_image(x.expand(-1, -1, samples, -1))
        _, largest = F.max_pool2d(image, 3, self.stride, 1, return_indices=True)
        moved = as_image(dx).flatten(2).gather(2, largest.flatten(2)).view(largest.shape)
        return restored(moved, samples)


def _sums_of_three(x: Tensor) -> Tensor:
    """Σ over the 3×3 window around each pixel, one axis after the other; a new tensor."""
    return _three_columns(_three_rows(x))


def _three_rows(x: Tensor) -> Tensor:
    """x[h − 1] + x[h] + x[h + 1] where there are such rows."""
    out = torch.empty(x.shape, dtype=x.dtype)
    torch.add(x[:-1], x[1:], out=out[:-1])
    out[-1] = x[-1]
    out[1:] += x[:-1]
    return out


def _three_columns(x: Tensor) -> Tensor:
    out = torch.empty(x.shape, dtype=x.dtype)
    torch.add(x[:, :-1], x[:, 1:], out=out[:, :-1])
    out[:, -1] = x[:, -1]
    out[:, 1:] += x[:, :-1]
    return out


def _sums_of_three_by_two(x: Tensor) -> Tensor:
    """Σ over the 3×3 window around every other pixel of every other row."""
    rows = x[::2] + x[1::2]
    rows[1:] += x[1:-1:2]
    out = rows[:, ::2] + rows[:, 1::2]
    out[:, 1:] += rows[:, 1:-1:2]
    return out


def _spread_by_two(g: Tensor) -> Tensor:
    """The transpose of `_sums_of_three_by_two`: an odd row or column lies in two windows."""
    height, width, *rest = g.shape
    rows = g.new_empty((2 * height, width, *rest))
    rows[::2] = g
    rows[1::2] = g
    rows[1:-1:2] += g[1:]
    out = g.new_empty((2 * height, 2 * width, *rest))
    out[:, ::2] = rows
    out[:, 1::2] = rows
    out[:, 1:-1:2] += rows[:, 1:]
    return out


def _window_sizes(size: int, stride: int, dtype: torch.dtype) -> Tensor:
    """How many pixels of a window of three lie inside, for each place."""
    inside = torch.full((size,), 3.0, dtype=dtype)
    inside[0] -= 1
    inside[-1] -= 1
    return inside[::stride]
