"""The table of a pass of shapes: for each function of torch what comes out, what it multiplies, and where a line leads.

A rule takes (trace, function, arguments, keyword arguments) and gives the output. Multiply-accumulates are counted as
PyTorch's own formulas do, halved, plus one per output element where a convolution or a linear layer has a bias.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from math import ceil, floor, prod
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from ssnr.proxies.shapes import Trace

Rule = Callable[["Trace", Any, Any, Any], Any]
RULES: dict[Any, Rule] = {}


def _for(*names: str) -> Callable[[Rule], Rule]:
    """Add a rule for functions of `torch`, `torch.nn.functional` (`F.`) or methods of tensors (`.`)."""

    def add(rule: Rule) -> Rule:
        for name in names:
            owner: Any = F if name.startswith("F.") else Tensor if name.startswith(".") else torch
            function = getattr(owner, name.removeprefix("F.").removeprefix("."), None)
            if function is not None:
                RULES[function] = rule
        return rule

    return add


class Unanswered(BaseException):
    """An operation, or arguments of one, that the table does not have: the network is counted by running it.

    Raised through a forward, whose `except Exception` must not catch it.
    """


def _number(value: Any) -> float:
    """A factor or an addend that keeps what is positive positive."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise Unanswered


# --- what keeps the shape ---


@_for("F.relu", "relu", "relu_", ".relu", ".relu_", "F.relu_", "F.leaky_relu", "F.leaky_relu_", "F.elu", "F.elu_",
      "F.celu", "F.selu", "F.gelu", "F.silu", "F.mish", "F.softplus", "F.dropout", "F.dropout1d", "F.dropout2d",
      "F.dropout3d", "F.alpha_dropout", "F.feature_alpha_dropout", "F.batch_norm", "F.layer_norm", "F.group_norm",
      "F.instance_norm",
      "F.rms_norm", "F.local_response_norm", "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm",
      ".contiguous", ".clone", "clone", ".float", ".double", ".abs", "abs", "channel_shuffle",
      "F.channel_shuffle")  # fmt: skip
def _passed_on(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    """Norms and dropout are passed through; a rectifier is the identity where all is positive."""
    x = args[0] if args else kwargs["input"]
    return trace.same(x, inplace=_is_in_place(func, args, kwargs))


@_for("F.sigmoid", "sigmoid", ".sigmoid", "F.tanh", "tanh", ".tanh", "F.relu6", "F.hardtanh", "F.hardswish",
      "F.hardsigmoid", "F.softmax", "softmax", ".softmax", "F.softsign")  # fmt: skip
def _flattening(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    """What goes flat far out: whether anything comes through depends on numbers."""
    x = args[0] if args else kwargs["input"]
    return trace.same(x, sure=False, inplace=_is_in_place(func, args, kwargs))


@_for("prelu", "F.prelu")
def _prelu(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    return trace.made(args[0].shape, args[0])


@_for(".to")
def _to(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    if any(isinstance(a, torch.dtype) and not a.is_floating_point for a in (*args, *kwargs.values())):
        raise Unanswered
    return args[0]  # precision and place do not matter here


# --- products ---


@_for("conv1d", "conv2d", "conv3d", "F.conv_transpose1d", "F.conv_transpose2d", "F.conv_transpose3d")
def _conv(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    transposed = "transpose" in func.__name__
    names = ("input", "weight", "bias", "stride", "padding", *(("output_padding", "groups", "dilation") if transposed
                                                             else ("dilation", "groups")))  # fmt: skip
    given = dict(zip(names, args, strict=False)) | kwargs
    x, weight, bias = given["input"], given["weight"], given.get("bias")
    dims = weight.dim() - 2
    if x.dim() != dims + 2:
        raise Unanswered
    kernel, size, groups = weight.shape[2:], x.shape[2:], given.get("groups", 1)
    stride, dilation = (_each(given.get(name, 1), dims) for name in ("stride", "dilation"))
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    padding = given.get("padding", 0)
    if isinstance(padding, str):
        pad, most = reach if padding == "same" else [0] * dims, reach  # of both sides together
    else:
        pad, most = [2 * p for p in _each(padding, dims)], [2 * r for r in reach]
    if transposed:
        extra = _each(given.get("output_padding", 0), dims)
        out = [(n - 1) * s - p + r + 1 + e for n, s, p, r, e in zip(size, stride, pad, reach, extra, strict=True)]
        channels, places = weight.shape[1] * groups, prod(size)
    else:
        out = [(n + p - r - 1) // s + 1 for n, p, r, s in zip(size, pad, reach, stride, strict=True)]
        channels, places = weight.shape[0], prod(out)
    fits = x.shape[1] == (weight.shape[0] if transposed else weight.shape[1] * groups)
    if not fits or min(out) < 1:
        raise Unanswered
    # Where more is padded than the kernel reaches over, some outputs see nothing.
    trace.doubtful |= any(p > m or n < d for p, m, n, d in zip(pad, most, size, dilation, strict=True))
    trace.macs += x.shape[0] * places * weight.numel()
    result = trace.made((x.shape[0], channels, *out), x, weight)
    trace.macs += 0 if bias is None else result.numel()
    return result


@_for("F.linear")
def _linear(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    given = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
    x, weight, bias = given["input"], given["weight"], given.get("bias")
    if x.shape[-1] != weight.shape[1] or x.dim() < 2:
        raise Unanswered
    result = trace.made((*x.shape[:-1], weight.shape[0]), x, weight)
    trace.macs += result.numel() * (weight.shape[1] + (bias is not None))
    return result


@_for("matmul", ".matmul", ".__matmul__", "bmm", ".bmm", "mm", ".mm")
def _matmul(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    a, b = args
    if min(a.dim(), b.dim()) < 2 or a.shape[-1] != b.shape[-2]:
        raise Unanswered
    shape = (*_together(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    trace.macs += prod(shape) * a.shape[-1]
    return trace.made(shape, a, b)


@_for("F.scaled_dot_product_attention")
def _attention(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    """Softmax(q kᵀ) v: sure through v alone."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given = dict(zip(names, args, strict=False)) | kwargs
    q, k, v = given["query"], given["key"], given["value"]
    alike = q.shape[:-2] == k.shape[:-2] == v.shape[:-2] and q.shape[-1] == k.shape[-1] and k.shape[-2] == v.shape[-2]
    if given.get("attn_mask") is not None or given.get("enable_gqa") or not alike:
        raise Unanswered
    trace.macs += prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1])
    return trace.made((*q.shape[:-1], v.shape[-1]), v, unsure=(q, k))


@_for("F.multi_head_attention_forward")
def _multi_head(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    """Projections, attention, projection; (L, N, E) in and out. Its biases are part of one operation."""
    given = _signature(func).bind(*args, **kwargs).arguments
    q, k, v = given["query"], given["key"], given["value"]
    inside, outside, heads = given["in_proj_weight"], given["out_proj_weight"], given["num_heads"]
    asked = ("key_padding_mask", "attn_mask", "bias_k", "bias_v", "add_zero_attn", "use_separate_proj_weight",
             "static_k", "static_v")  # fmt: skip
    if any(given.get(name) is not None and given[name] is not False for name in asked):
        raise Unanswered
    if q.dim() != 3 or k.shape != v.shape or q.shape[1:] != k.shape[1:] or inside.shape != (3 * q.shape[2], q.shape[2]):
        raise Unanswered
    length, batch, width = q.shape
    steps = k.shape[0]
    trace.macs += batch * width * width * (2 * length + 2 * steps) + 2 * batch * length * steps * width
    out = trace.made(q.shape, v, inside, outside, unsure=(q, k))
    if not given.get("need_weights", True):
        return out, None
    shape = (length, steps) if given.get("average_attn_weights", True) else (heads, length, steps)
    return out, trace.made((batch, *shape), unsure=(q, k, inside))


# --- sums and products by element ---


@_for("add", ".add", ".add_", ".__add__", ".__radd__", ".__iadd__")
def _add(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    return _by_element(trace, func, args, kwargs, least=0.0)


@_for("mul", ".mul", ".mul_", ".__mul__", ".__rmul__", ".__imul__", "multiply")
def _mul(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    return _by_element(trace, func, args, kwargs, least=1e-30)


@_for("div", ".div", ".div_", ".__truediv__", ".__itruediv__", "true_divide")
def _div(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    if isinstance(args[1], Tensor):
        raise Unanswered
    return _by_element(trace, func, args, kwargs, least=1e-30)


def _by_element(trace: Trace, func: Any, args: Any, kwargs: Any, least: float) -> Any:
    a, b = args if len(args) == 2 else (args[0], kwargs.get("other"))
    if kwargs.keys() - {"other"}:
        raise Unanswered
    inplace = (func.__name__.endswith("_") and not func.__name__.endswith("__")) or func.__name__.startswith("__i")
    if isinstance(a, Tensor) and not a.is_floating_point():
        if isinstance(b, int) and trace.holds(a):  # a count of batches, which no output reads
            return a
        raise Unanswered
    read = [value for value in (a, b) if isinstance(value, Tensor)]
    trace.doubtful |= any(_number(value) < least for value in (a, b) if not isinstance(value, Tensor))
    if inplace:
        if len(read) == 2 and _together(a.shape, b.shape) != tuple(a.shape):
            raise Unanswered
        return trace.changed(a, *read)
    return trace.made(_together(*(value.shape for value in read)), *read)


# --- poolings, resizing, reductions ---


@_for("F.max_pool1d", "F.max_pool2d", "F.max_pool3d", "F.avg_pool1d", "F.avg_pool2d", "F.avg_pool3d", "max_pool1d",
      "max_pool2d", "max_pool3d")  # fmt: skip
def _pool(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    largest = "max" in getattr(func, "__name__", "") or func in _LARGEST
    names = ("input", "kernel_size", "stride", "padding", *(("dilation", "ceil_mode", "return_indices") if largest
                                                          else ("ceil_mode",)))  # fmt: skip
    given = dict(zip(names, args, strict=False)) | kwargs
    x = given["input"]
    dims = x.dim() - 2
    if dims < 1 or given.get("return_indices"):
        raise Unanswered
    kernel = _each(given["kernel_size"], dims)
    stride = _each(given.get("stride") or kernel, dims)
    padding, dilation = _each(given.get("padding", 0), dims), _each(given.get("dilation", 1), dims)
    rounded: Callable[[float], int] = ceil if given.get("ceil_mode") else floor
    out = []
    for n, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True):
        if 2 * p > k:
            raise Unanswered
        length = rounded((n + 2 * p - d * (k - 1) - 1) / s) + 1
        out.append(length - (given.get("ceil_mode", False) and (length - 1) * s >= n + p))
    if min(out) < 1:
        raise Unanswered
    return trace.made((*x.shape[:2], *out), x)


_LARGEST = frozenset((F.max_pool1d, F.max_pool2d, F.max_pool3d))


@_for("F.adaptive_avg_pool1d", "F.adaptive_avg_pool2d", "F.adaptive_avg_pool3d", "F.adaptive_max_pool1d",
      "F.adaptive_max_pool2d", "F.adaptive_max_pool3d")  # fmt: skip
def _adaptive(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    given = dict(zip(("input", "output_size", "return_indices"), args, strict=False)) | kwargs
    x = given["input"]
    if x.dim() < 3 or given.get("return_indices"):
        raise Unanswered
    size = _each(given["output_size"], x.dim() - 2)
    out = [n if wanted is None else wanted for n, wanted in zip(x.shape[2:], size, strict=True)]
    return trace.made((*x.shape[:2], *out), x)


@_for("F.interpolate")
def _interpolate(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    given = _signature(func).bind(*args, **kwargs).arguments
    x, size, scale = given["input"], given.get("size"), given.get("scale_factor")
    if given.get("mode", "nearest") not in ("nearest", "linear", "bilinear", "trilinear", "nearest-exact"):
        raise Unanswered
    dims = x.dim() - 2
    if size is None:
        size = [floor(n * s) for n, s in zip(x.shape[2:], _each(scale, dims), strict=True)]
    return trace.made((*x.shape[:2], *_each(size, dims)), x)


@_for("F.pixel_shuffle", "pixel_shuffle")
def _pixel_shuffle(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    x, factor = args
    channels, height, width = x.shape[-3:]
    if channels % factor**2:
        raise Unanswered
    return trace.made((*x.shape[:-3], channels // factor**2, height * factor, width * factor), x)


@_for("F.pad")
def _pad(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    """Zeros at the ends: a part that is taken of them is no part of the tensor."""
    given = _signature(func).bind(*args, **kwargs).arguments
    x, pad = given["input"], list(given["pad"])
    if given.get("mode", "constant") == "constant" and (given.get("value") or 0) < 0:
        raise Unanswered
    trace.joined = True
    shape = list(x.shape)
    for k in range(len(pad) // 2):
        shape[-1 - k] += pad[2 * k] + pad[2 * k + 1]
    if min(pad) < 0:
        raise Unanswered
    return trace.made(shape, x)


@_for("mean", ".mean", "sum", ".sum", "amax", ".amax")
def _reduced(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    given = dict(zip(("input", "dim", "keepdim"), args, strict=False)) | kwargs
    if set(given) - {"input", "dim", "keepdim", "dtype"}:
        raise Unanswered
    x, dim = given["input"], given.get("dim")
    over = range(x.dim()) if dim is None or dim == () else [dim] if isinstance(dim, int) else dim
    places = {d % x.dim() for d in over}
    kept = [1 if k in places else n for k, n in enumerate(x.shape) if k not in places or given.get("keepdim", False)]
    return trace.made(kept, x)


# --- views, parts and joins ---


@_for(".view", ".reshape", "reshape", ".flatten", "flatten", ".unflatten", "unflatten", ".permute", "permute",
      ".transpose", "transpose", ".swapaxes", ".squeeze", "squeeze", ".unsqueeze", "unsqueeze", ".expand", ".expand_as",
      ".t", "t", ".movedim", "movedim")  # fmt: skip
def _view(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    """Run for real: nothing is computed. A copy that reshape makes stands for its original."""
    if isinstance(args[0], Tensor) and any(isinstance(arg, torch.dtype) for arg in args[1:]):
        raise Unanswered
    trace.node(args[0])
    return trace.viewed(func(*args, **kwargs), args[0])


@_for(".__getitem__", ".chunk", "chunk", ".split", "split", ".narrow", "narrow", ".select", "select", ".unbind",
      "unbind", ".tensor_split")  # fmt: skip
def _part(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    if func is Tensor.__getitem__ and not _slices(args[1]):
        raise Unanswered
    trace.node(args[0])
    trace.parts = True
    found = func(*args, **kwargs)
    if isinstance(found, Tensor):
        return trace.viewed(found, args[0])
    return tuple(trace.viewed(part, args[0]) for part in found)


def _slices(index: Any) -> bool:
    plain = (int, slice, type(None), type(...))
    return isinstance(index, plain) or (isinstance(index, tuple) and all(isinstance(i, plain) for i in index))


@_for("cat", "concat", "concatenate", "stack")
def _join(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    given = dict(zip(("tensors", "dim"), args, strict=False)) | kwargs
    parts, dim = list(given["tensors"]), given.get("dim", 0)
    trace.joined = True
    shape = list(parts[0].shape)
    if func is torch.stack:
        if any(part.shape != parts[0].shape for part in parts):
            raise Unanswered
        shape.insert(dim % (len(shape) + 1), len(parts))
        return trace.made(shape, *parts)
    dim %= len(shape)
    for part in parts[1:]:
        if part.dim() != len(shape) or any(
            n != m for k, (n, m) in enumerate(zip(part.shape, shape, strict=True)) if k != dim
        ):
            raise Unanswered
    shape[dim] = sum(part.shape[dim] for part in parts)
    return trace.made(shape, *parts)


# --- what is asked of a tensor ---


@_for(".size", ".dim", ".numel", ".stride", ".is_contiguous", ".is_floating_point", ".ndimension", ".nelement",
      ".__len__", "is_floating_point", "numel", "is_grad_enabled")  # fmt: skip
def _question(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    return func(*args, **kwargs)


def _each(value: Any, dims: int) -> Sequence[Any]:
    """A number for each dimension."""
    if isinstance(value, (tuple, list)):
        if len(value) not in (1, dims):
            raise Unanswered
        return list(value) if len(value) == dims else list(value) * dims
    return [value] * dims


def _together(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that broadcasting gives."""
    first = tuple(shapes[0])
    return first if all(tuple(shape) == first for shape in shapes) else tuple(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]


@cache
def _signature(func: Any) -> inspect.Signature:
    return inspect.signature(func)


def _is_in_place(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a function of one tensor writes to it: by its name, or by an argument wherever that stands."""
    place = _place(func)
    return place is True or bool(kwargs.get("inplace", place is not None and place < len(args) and args[place]))


@cache
def _place(func: Any) -> int | bool | None:
    """Where a function takes `inplace`; True of one that always is, None of one that never is."""
    if func.__name__.endswith("_"):
        return True
    try:
        names = list(_signature(func).parameters)
    except ValueError:  # a function of C
        return None
    return names.index("inplace") if "inplace" in names else None
