"""Batch norms on statistics of the whole batch or of each sample, exact and fast in any order of memory.

PyTorch's own kernels for channels last add up a channel's values one after the other: of a million float32 numbers the
sum has three correct digits less than pairwise sums have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_aten = torch.ops.aten
Maybe = Tensor | None

# In place of a momentum, in a call of `native_batch_norm` with fixed statistics: these are the batch's own.
OF_BATCH = -1.0
_PART = 1 << 20  # numbers


def normed(x: Tensor, weight: Maybe, bias: Maybe, eps: float, *, alone: bool = False, constant: bool = False) -> Tensor:
    """A batch norm of (N, C, …) in train mode, w (x − mean) / √(var + ε) + b, var biased.

    Args:
        x: what comes in.
        weight: w, of each channel; 1 without.
        bias: b, of each channel; 0 without.
        eps: ε.
        alone: whether each sample has its own statistics, those of a batch of one.
        constant: whether gradients take the statistics as constants.

    >>> normed(torch.tensor([[[1.0, 3.0]], [[5.0, 7.0]]]), None, None, 0.0, alone=True).tolist()
    [[[-1.0, 1.0]], [[-1.0, 1.0]]]
    """
    found: Tensor = _Norm.apply(x, weight, bias, eps, alone, constant)  # type: ignore[no-untyped-call]
    return found


class _Norm(torch.autograd.Function):
    """With c = x − mean, s = 1/√(var + ε) and sums and means over the values of a channel, g gives gradients.

    of x   w s (g − mean g − c s² mean(g c)); with constant statistics w s g
    of w   s Σ g c
    of b   Σ g
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Maybe, bias: Maybe, eps: float, alone: bool, constant: bool) -> Tensor:
        over = tuple(range(2, x.dim())) if alone else (0, *range(2, x.dim()))
        mean = x.mean(over, keepdim=True)
        squares = [(part - m).square_().sum(over) for part, m in _parts(x, mean)]
        variance = (torch.cat(squares) if alone else torch.stack(squares).sum(0)) / math.prod(x.shape[d] for d in over)
        inverse = (variance + eps).rsqrt().view(mean.shape)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.over, ctx.constant = over, constant
        if alone:
            out = (x - mean).mul_(_scale(inverse, weight))
            return out if bias is None else out.sub_(-_of_channels(bias, x))
        # As one operation: to those that watch, it is a batch norm.
        found: Tensor = _aten.native_batch_norm(x, weight, bias, mean.flatten(), variance, False, OF_BATCH, eps)[0]
        return found

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight, mean, inverse = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        scale = _scale(inverse, weight)
        along = total = of_x = None
        if needs_weight or (needs_x and not ctx.constant):
            products = [(a - m).mul_(b).sum(ctx.over, keepdim=True) for a, m, b in _parts(x, mean, g)]
            along = torch.cat(products) if len(mean) == len(x) else torch.stack(products).sum(0)
        if needs_bias or (needs_x and not ctx.constant):
            total = g.sum(ctx.over, keepdim=True)
        if needs_x and ctx.constant:
            of_x = g * scale
        elif needs_x:
            assert along is not None and total is not None
            n = math.prod(x.shape[d] for d in ctx.over)
            by_x, shift = along * (-scale * inverse * inverse / n), total * (scale / n)
            of_x = (x - mean).mul_(by_x).addcmul_(g, scale).sub_(shift)
        of_weight = None if along is None or not needs_weight else (along * inverse).sum(0).flatten()
        of_bias = None if total is None or not needs_bias else total.sum(0).flatten()
        return of_x, of_weight, of_bias, None, None, None


def _parts(x: Tensor, mean: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Some samples at a time, of which a difference or a product needs no memory to speak of, with their mean."""
    some = max(_PART // max(x[0].numel(), 1), 1)
    for start in range(0, len(x), some):
        where = slice(start, start + some)
        yield x[where], mean[where] if len(mean) > 1 else mean, *(other[where] for other in others)


def _scale(inverse: Tensor, weight: Maybe) -> Tensor:
    return inverse if weight is None else inverse * _of_channels(weight, inverse)


def _of_channels(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(1, -1, *[1] * (like.dim() - 2))
