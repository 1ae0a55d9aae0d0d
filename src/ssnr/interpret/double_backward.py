"""Convolutions, batch norms, ReLUs and 3×3 averages that are cheap to differentiate twice.

PyTorch's own second derivatives are put together from parts: that of a convolution's weight as a convolution whose
kernel is a whole image, that of batch norm as some thirty passes over the activations. Here each is three or four of
the kernels that the first backward pass uses, and an average is sums of three along both axes, forward and backward.
Values are the same up to rounding; what is not covered is PyTorch's.

Where nothing is differentiated twice, PyTorch's own kernels do the work: the same ones in the same order, so that a
saliency is the same to the last bit whether or not another one needs second derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_aten = torch.ops.aten
Maybe = Tensor | None


class Geometry(NamedTuple):
    """What a convolution is beside its tensors, as `aten::convolution` takes it."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int


class _Convolution(torch.autograd.Function):
    """y = x ∗ w + b."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Maybe, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        out: Tensor = _aten.convolution(x, weight, bias, *geometry)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        return *_apply(_ConvolutionBackward, g, x, weight, ctx.geometry, ctx.needs_input_grad[:3]), None


class _ConvolutionBackward(torch.autograd.Function):
    """(g, x, w) → gradients of x, w and b: each is bilinear, so its own gradients are convolutions of the same kind."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, wanted: tuple[bool, bool, bool]
    ) -> tuple[Maybe, Maybe, Maybe]:
        ctx.save_for_backward(g, x, weight)
        ctx.geometry = geometry
        ctx.set_materialize_grads(False)
        return _gradients(g, x, weight, geometry, wanted)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_x: Maybe, to_weight: Maybe, to_bias: Maybe) -> Any:
        g, x, weight = ctx.saved_tensors
        needs_g, needs_x, needs_weight = ctx.needs_input_grad[:3]
        geometry = ctx.geometry
        of_g = of_x = of_weight = None
        if needs_g:
            if to_weight is not None:
                of_g = _aten.convolution(x, to_weight, to_bias, *geometry)
            if to_x is not None:
                bias = to_bias if of_g is None else None
                of_g = _sum(of_g, _aten.convolution(to_x, weight, bias, *geometry))
            if of_g is None and to_bias is not None:
                of_g = to_bias.view(-1, *[1] * (g.dim() - 2)).expand_as(g)
        if needs_x and to_weight is not None:
            of_x = _gradients(g, x, to_weight, geometry, (True, False, False))[0]
        if needs_weight and to_x is not None:
            of_weight = _gradients(g, to_x, weight, geometry, (False, True, False))[1]
        return of_g, of_x, of_weight, None, None


def safe_channels_last(channels: int, kernel: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether a convolution may be differentiated channels last.

    oneDNN's gradient of a strided 1×1 convolution of fewer channels than its block (16 at most) writes past the end of
    its workspace then (uxlfoundation/oneDNN issue 6035): now and then the process dies of it.
    """
    return max(kernel) > 1 or max(stride) == 1 or channels >= 16


def _gradients(
    g: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, wanted: tuple[bool, bool, bool]
) -> tuple[Maybe, Maybe, Maybe]:
    outputs = weight.shape[1] * geometry.groups if geometry.transposed else weight.shape[0]
    if not safe_channels_last(x.shape[1], weight.shape[2:], geometry.stride):
        x = x.contiguous()
    found: tuple[Maybe, Maybe, Maybe] = _aten.convolution_backward(g, x, weight, [outputs], *geometry, wanted)
    return found


class _Relu(torch.autograd.Function):
    """y = max(x, 0)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = torch.relu(x)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return _apply(_ReluBackward, g, *ctx.saved_tensors)


class _ReluBackward(torch.autograd.Function):
    """g → g where y > 0; nothing comes from x, for which PyTorch adds a tensor of zeros."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, out: Tensor) -> Tensor:
        ctx.save_for_backward(out)
        found: Tensor = _aten.threshold_backward(g, out, 0)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> Any:
        return _aten.threshold_backward(v, *ctx.saved_tensors, 0), None


class _WindowSums(torch.autograd.Function):
    """Sums over the 3×3 window around each pixel of (N, C, H, W): linear, and its own transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        for axis in (2, 3):
            before, after = x.narrow(axis, 0, x.shape[axis] - 1), x.narrow(axis, 1, x.shape[axis] - 1)
            x = x.clone()
            x.narrow(axis, 1, x.shape[axis] - 1).add_(before)
            x.narrow(axis, 0, x.shape[axis] - 1).add_(after)
        return x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return _apply(_WindowSums, g)


class _BatchNorm(torch.autograd.Function):
    """y = w x̂ + b with x̂ = (x − mean) · s, mean and s = 1/√(var + ε) of each channel over the batch."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Maybe, bias: Maybe, mean: Maybe, var: Maybe, momentum: float, eps: float
    ) -> Tensor:
        out, centre, inverse = _aten.native_batch_norm(x, weight, bias, mean, var, True, momentum, eps)
        ctx.save_for_backward(x, weight, centre, inverse)
        ctx.eps = eps
        result: Tensor = out
        return result

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight, centre, inverse = ctx.saved_tensors
        found = _apply(_BatchNormBackward, g, x, weight, centre, inverse, ctx.eps)
        wanted = ctx.needs_input_grad[:3]
        return *(value if want else None for value, want in zip(found, wanted, strict=True)), None, None, None, None


class _BatchNormBackward(torch.autograd.Function):
    """g → gradients of x, w and b; all sums are over the n values of a channel, means are sums by n.

        of x   w s (g − mean g − x̂ mean(g x̂)) = J g, J symmetric
        of w   Σ g x̂
        of b   Σ g

    Its own gradients, along v (of x), v_w and v_b, with x̂ and s as the functions of x that they are:

        of g   J v + v_w x̂ + v_b
        of w   s (Σ g v − n mean g mean v − n mean(g x̂) mean(v x̂))
        of x   −w s² (x̂ (mean(g v) − mean g mean v − 3 mean(g x̂) mean(v x̂)) + mean(v x̂) (g − mean g)
               + mean(g x̂) (v − mean v)) + v_w s (g − mean g − x̂ mean(g x̂))
    """

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, weight: Maybe, centre: Tensor, inverse: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        of_x, along, total = _norm_gradients(g, x, weight, centre, inverse, eps)
        ctx.save_for_backward(g, x, weight, centre, inverse, along, total)
        ctx.eps = eps
        ctx.set_materialize_grads(False)
        return of_x, along, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Maybe, v_w: Maybe, v_b: Maybe) -> Any:
        g, x, weight, centre, s, along, total = ctx.saved_tensors
        n = x.numel() // x.shape[1]
        mean_g, mean_gx = total / n, along / n
        of_g = of_weight = None
        by_x, by_g = torch.zeros_like(s), torch.zeros_like(s)  # x̂'s and g's coefficient in the gradient of x
        if v_w is not None:
            by_x, by_g = -v_w * s * mean_gx, v_w * s
        terms = []
        if v is not None:
            of_g, v_along, v_total = _norm_gradients(v, x, weight, centre, s, ctx.eps)
            mean_v, mean_vx = v_total / n, v_along / n
            # With mean v for a centre and 1 for a scale, the kernel's gradient of w is Σ g (v − mean v).
            mean_gv = _norm_gradients(g, v, None, mean_v, torch.ones_like(s), ctx.eps, (False, True, False))[1] / n
            of_weight = None if weight is None else s * n * (mean_gv - mean_gx * mean_vx)
            share = s * s if weight is None else weight * s * s
            by_x = by_x - share * (mean_gv - 3 * mean_gx * mean_vx)
            by_g = by_g - share * mean_vx
            terms.append((v, mean_v, -share * mean_gx))
        if v_w is not None or v_b is not None:
            slope = torch.zeros_like(s) if v_w is None else v_w * s
            of_g = _sum(of_g, _combination([(x, centre, slope)], v_b))
        of_x = _combination([(x, centre, by_x * s), (g, mean_g, by_g), *terms])
        return of_g, of_x, of_weight, None, None, None


def _combination(terms: list[tuple[Tensor, Tensor, Tensor]], constant: Maybe = None) -> Tensor:
    """Σ (x − centre) · slope + constant, everything but the x by channel: one pass a term."""
    first, _, slope = terms[0]
    shift = torch.zeros_like(slope) if constant is None else constant
    for _, centre, by in terms:
        shift = shift - centre * by
    shape = [1, -1, *[1] * (first.dim() - 2)]
    found = torch.addcmul(shift.view(shape), first, slope.view(shape))
    for x, _, slope in terms[1:]:
        found.addcmul_(x, slope.view(shape))
    return found


def _norm_gradients(
    g: Tensor, x: Tensor, weight: Maybe, centre: Tensor, inverse: Tensor, eps: float,
    wanted: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    found: tuple[Tensor, Tensor, Tensor] = _aten.native_batch_norm_backward(
        g, x, weight, None, None, centre, inverse, True, eps, wanted
    )
    return found


def _sum(so_far: Maybe, more: Tensor) -> Tensor:
    return more if so_far is None else so_far.add_(more)


def _convolution(
    input: Tensor, weight: Tensor, bias: Maybe = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,  # noqa: A002
    groups: int = 1,
) -> Tensor | None:  # fmt: skip
    n = weight.dim() - 2
    if isinstance(padding, str) or input.dim() != weight.dim():  # "same", or a sample without a batch
        return None
    geometry = Geometry(each_axis(stride, n), each_axis(padding, n), each_axis(dilation, n), False, [0] * n, groups)
    return _answer(_Convolution, input, weight, bias, geometry)


def _transposed(
    input: Tensor, weight: Tensor, bias: Maybe = None, stride: Any = 1, padding: Any = 0,  # noqa: A002
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor | None:  # fmt: skip
    n = weight.dim() - 2
    if input.dim() != weight.dim():
        return None
    geometry = Geometry(
        each_axis(stride, n), each_axis(padding, n), each_axis(dilation, n), True, each_axis(output_padding, n), groups
    )
    return _answer(_Convolution, input, weight, bias, geometry)


def _relu(input: Tensor, inplace: bool = False) -> Tensor | None:  # noqa: A002
    return None if inplace else _answer(_Relu, input)


def _average_pool(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,  # noqa: A002
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor | None:  # fmt: skip
    sizes = [each_axis(size, 2) for size in (kernel_size, stride or kernel_size, padding)]
    if sizes != [[3, 3], [1, 1], [1, 1]] or ceil_mode or divisor_override is not None or input.dim() != 4:
        return None
    found = _answer(_WindowSums, input)
    return None if found is None else found.mul_(_shares(found, count_include_pad))


def _shares(x: Tensor, padded: bool) -> Tensor:
    """One by the number of pixels in the window of each, with those outside the image or without."""
    if padded:
        return torch.full_like(x[0, 0], 1 / 9)
    rows, columns = (x.new_tensor([min(i + 1, n - 1) - max(i - 1, 0) + 1 for i in range(n)]) for n in x.shape[2:])
    return (rows[:, None] * columns).reciprocal()


def _batch_norm(
    input: Tensor, running_mean: Maybe, running_var: Maybe, weight: Maybe = None, bias: Maybe = None,  # noqa: A002
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor | None:  # fmt: skip
    if not normalises(input, training, (weight, bias, running_mean, running_var)):
        return None
    return _answer(_BatchNorm, input, weight, bias, running_mean, running_var, momentum, eps)


def _answer(function: type[torch.autograd.Function], x: Tensor, *args: Any) -> Tensor | None:
    """The function's value where all tensors are plain, dense, and of one dtype and device; else None."""
    if not _all_fit((x, *args), x):
        return None
    out: Tensor = _apply(function, x, *args)
    return out


def _all_fit(values: Iterable[Any], like: Tensor) -> bool:
    return all(_fits(value, like) for value in values if isinstance(value, Tensor))


def _fits(value: Tensor, like: Tensor) -> bool:
    return (
        type(value) in (Tensor, torch.nn.Parameter)
        and value.dtype in (torch.float32, torch.float64)
        and value.dtype == like.dtype
        and value.device == like.device
        and value.layout is torch.strided
    )


def _apply(function: type[torch.autograd.Function], *args: Any) -> Any:
    return function.apply(*args)  # type: ignore[no-untyped-call]


def each_axis(value: Any, n: int) -> list[int]:
    """A stride, padding or dilation as one number for each of n axes."""
    values = [int(v) for v in value] if isinstance(value, (tuple, list)) else [int(value)]
    return values * n if len(values) == 1 else values


def _safe_convolution(
    input: Tensor, weight: Tensor, bias: Maybe = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,  # noqa: A002
    groups: int = 1,
) -> Tensor | None:  # fmt: skip
    """Only what PyTorch's own gradient may not be asked for."""
    if input.dim() != weight.dim() or safe_channels_last(
        input.shape[1], weight.shape[2:], each_axis(stride, weight.dim() - 2)
    ):
        return None
    return _convolution(input, weight, bias, stride, 0 if padding == "valid" else padding, dilation, groups)


def _own_batch_norm(
    input: Tensor, running_mean: Maybe, running_var: Maybe, weight: Maybe = None, bias: Maybe = None,  # noqa: A002
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor | None:  # fmt: skip
    """PyTorch's own, out of sight of other modes, as `_batch_norm` is."""
    by_channel = (weight, bias, running_mean, running_var)
    if not normalises(input, training, by_channel) or not _all_fit((input, *by_channel), input):
        return None
    return F.batch_norm(input, running_mean, running_var, weight, bias, True, momentum, eps)


def normalises(x: Tensor, training: bool, by_channel: Iterable[Maybe]) -> bool:
    """Whether a batch norm takes the batch's statistics and PyTorch accepts it.

    PyTorch refuses one value a channel, and what has another number of channels: the kernel would read past its end.
    """
    wide = training and x.dim() > 1 and x.numel() > x.shape[1]
    return wide and all(value is None or value.numel() == x.shape[1] for value in by_channel)


_CONVOLUTIONS = [getattr(torch, f"conv{n}d") for n in (1, 2, 3)]
# What answers a call of which function, out of sight of modes: the value, or None where PyTorch is to do it.
TWICE: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    F.batch_norm: _batch_norm,
    F.avg_pool2d: _average_pool,
    **dict.fromkeys((F.relu, torch.relu, Tensor.relu), _relu),
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    **{getattr(torch, f"conv_transpose{n}d"): _transposed for n in (1, 2, 3)},
}
SAFE: dict[Callable[..., Any], Callable[..., Tensor | None]] = dict.fromkeys(_CONVOLUTIONS, _safe_convolution)
ONCE: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    F.batch_norm: _own_batch_norm,
    F.avg_pool2d: _average_pool,
    **SAFE,
}
