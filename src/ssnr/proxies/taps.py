"""What each entry of a convolution's kernel is multiplied with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssnr.interpret.double_backward import each_axis


def taps(x: Tensor, given: Mapping[str, Any], sizes: Sequence[int]) -> Iterator[Tensor]:
    """For each entry of the kernel in turn, what it meets at each position of the output: (N, C, *sizes).

    Args:
        x: what goes into the convolution, (N, C, …).
        given: the convolution's arguments by name.
        sizes: of the output, without samples and channels.

    >>> x = torch.arange(5.0).reshape(1, 1, 5)
    >>> [tap.flatten().tolist() for tap in taps(x, {"weight": torch.ones(1, 1, 2), "stride": 2}, [2])]
    [[0.0, 2.0], [1.0, 3.0]]
    """
    kernel = given["weight"].shape[2:]
    strides, dilations = (each_axis(given.get(key, 1), len(kernel)) for key in ("stride", "dilation"))
    edges = _edges(given.get("padding", 0), kernel, dilations)
    padded = F.pad(x, [size for pair in reversed(edges) for size in pair]) if any(map(any, edges)) else x
    for entry in itertools.product(*map(range, kernel)):
        axes = zip(entry, sizes, strides, dilations, strict=True)
        where = [slice(at * d, at * d + (size - 1) * s + 1, s) for at, size, s, d in axes]
        yield padded[(slice(None), slice(None), *where)]


def gradients_of_samples(x: Tensor, gradient: Tensor, given: Mapping[str, Any]) -> Tensor:
    """The gradients of a convolution's weight, of each sample: (N, weights), weights as they lie in memory.

    Args:
        x: what goes into the convolution, (N, C, …).
        gradient: of what comes out, (N, out, …).
        given: the convolution's arguments by name.
    """
    weight, groups = given["weight"], given.get("groups", 1)
    products = _by_channel if weight.shape[1] == 1 < groups else _by_group
    found = products(gradient, taps(x, given, gradient.shape[2:]), groups)  # (N, out, kernel, in)
    return (found.transpose(2, 3) if weight.is_contiguous() else found).reshape(len(x), -1)


def _by_group(gradient: Tensor, met: Iterator[Tensor], groups: int) -> Tensor:
    """Σ over positions of δ xᵀ, one matrix product a tap."""
    n, outputs, *sizes = gradient.shape

    def matrices(value: Tensor) -> Tensor:  # (N · groups, positions, channels)
        rows = value.movedim(1, -1).reshape(n, math.prod(sizes), groups, -1)
        return rows.transpose(1, 2).reshape(n * groups, math.prod(sizes), -1)

    delta = matrices(gradient).transpose(1, 2)
    return torch.stack([torch.bmm(delta, matrices(tap)).reshape(n, outputs, -1) for tap in met], 2)


def _by_channel(gradient: Tensor, met: Iterator[Tensor], groups: int) -> Tensor:
    """The same where each output has one input channel."""
    positions, each = list(range(2, gradient.dim())), gradient.shape[1] // groups
    found = []
    for tap in met:
        own = tap if each == 1 else tap.repeat_interleave(each, 1)
        found.append((gradient * own).sum(positions))
    return torch.stack(found, 2)[..., None]


def _edges(padding: Any, kernel: Sequence[int], dilations: Sequence[int]) -> list[tuple[int, int]]:
    """How many zeros stand before and after each axis."""
    if padding == "same":
        wide = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
        return [(w // 2, w - w // 2) for w in wide]
    return [(p, p) for p in each_axis(0 if padding == "valid" else padding, len(kernel))]
