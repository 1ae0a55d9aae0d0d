"""Attention by its formula, of tensors that carry a power of two; see `ssnr._scaled`."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssnr.interpret.exponents import exponent_of, is_wrapped, marked, peak_of

if TYPE_CHECKING:
    from ssnr.interpret.scaled import Scaled


def attention(
    scaled: Scaled, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Attention, and its weights: they sum to one, so that values pass their exponent on."""
    if enable_gqa:
        times = query.shape[-3] // key.shape[-3]
        key, value = (marked(t.repeat_interleave(times, -3), exponent_of(t)) for t in (key, value))
    turned = marked(key.transpose(-2, -1), exponent_of(key))
    scores = scaled.product(torch.matmul, "matmul", (query, turned), {})
    scores = marked(scores * (scale or query.shape[-1] ** -0.5), exponent_of(scores))
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        scores = marked(scores.masked_fill(~attn_mask, -math.inf), exponent_of(scores))
    elif attn_mask is not None:
        scores = scaled.sum(torch.add, "add", (scores, attn_mask), {})
    weights = softmax(scaled, scores, -1)
    return scaled.product(torch.matmul, "matmul", (weights, value), {}), weights


def softmax(scaled: Scaled, scores: Tensor, dim: int) -> Tensor:
    """Softmax of x − max x, which is that of x; of large x (`largest_score`) it is a maximum, its gradient zero."""
    top = scores.detach().amax(dim, keepdim=True)
    peak = peak_of(torch.nan_to_num(top, neginf=0.0))
    size = exponent_of(scores) + (math.frexp(peak)[1] if peak else 0)
    shifted = marked(scores - top, exponent_of(scores))
    found = torch.softmax(scaled.real(shifted), dim)
    return found.detach() if size > math.log2(largest_score(scores.dtype)) else found


def largest_score(dtype: torch.dtype) -> float:
    """Beyond, what rounding leaves of a softmax's gradient, 2^-digits times x, is more than the half of the digits."""
    return float(torch.finfo(dtype).eps ** -0.5)


def score_bound(func: Any, name: str, args: Any, kwargs: Any) -> Tensor | None:
    """No score that counts in a call of softmax or attention is larger; None where no number can be seen."""
    with torch.no_grad(), torch._C.DisableTorchFunction():
        if name == "softmax":
            x = args[0] if args else kwargs["input"]
            dim = args[1] if len(args) > 1 else kwargs.get("dim")
            if is_wrapped(x) or not x.numel():
                return None
            # Of every row the largest, because masked entries are anything.
            return _peak(torch.nan_to_num(x if dim is None else x.amax(dim), neginf=0.0))
        if name == "scaled_dot_product_attention":
            query, key = (args[n] if len(args) > n else kwargs[word] for n, word in enumerate(("query", "key")))
            if is_wrapped(query) or not (query.numel() and key.numel()):
                return None
            scale = kwargs.get("scale") or query.shape[-1] ** -0.5
            return torch.mul(_peak(query) * _peak(key), query.shape[-1] * scale)
        a = _arguments(func, args, kwargs)
        width = a["embed_dim_to_check"] // a["num_heads"]
        if is_wrapped(a["query"]) or not (a["query"].numel() and a["key"].numel()):
            return None
        weights = [a[f"{part}_proj_weight"] for part in ("in", "q", "k")]
        largest = torch.stack([_peak(weight) for weight in weights if weight is not None]).max()
        added = 0.0 if a["in_proj_bias"] is None else _peak(a["in_proj_bias"])
        one, other = (_peak(x) * largest * x.shape[-1] + added for x in (a["query"], a["key"]))
        return torch.mul(one * other, width**0.5)


def heads(scaled: Scaled, func: Any, args: Any, kwargs: Any) -> tuple[Tensor, Tensor | None] | None:
    """Attention of several heads with packed weights or one each; None for the rarer kinds."""
    a = _arguments(func, args, kwargs)
    rarer = ("bias_k", "bias_v", "add_zero_attn", "static_k", "static_v")
    if any(a[name] is not None and a[name] is not False for name in rarer) or a["query"].dim() != 3:
        return None
    inputs, width, count = (a["query"], a["key"], a["value"]), a["embed_dim_to_check"], a["num_heads"]
    if a["use_separate_proj_weight"]:
        weights = [a[f"{part}_proj_weight"] for part in "qkv"]
    else:
        weights = a["in_proj_weight"].split(width)
    biases = (None,) * 3 if a["in_proj_bias"] is None else a["in_proj_bias"].split(width)
    parts = []
    for x, weight, bias in zip(inputs, weights, biases, strict=True):
        made = scaled.product(F.linear, "linear", (x, weight, bias), {})
        split = made.reshape(x.shape[0], x.shape[1] * count, width // count).transpose(0, 1)
        parts.append(marked(split, exponent_of(made)))
    batch = inputs[0].shape[1]
    mixed, shares = attention(scaled, parts[0], parts[1], parts[2], _left_out(a, batch, count, parts[0].dtype))
    joined = marked(mixed.transpose(0, 1).reshape(*inputs[0].shape[:2], width), exponent_of(mixed))
    out = scaled.product(F.linear, "linear", (joined, a["out_proj_weight"], a["out_proj_bias"]), {})
    if not a["need_weights"]:
        return out, None
    shares = shares.reshape(batch, count, *shares.shape[1:])
    return out, shares.mean(1) if a["average_attn_weights"] else shares


def _left_out(a: dict[str, Any], batch: int, count: int, dtype: torch.dtype) -> Tensor | None:
    """The masks of attention, where True is what is left out, as one that is added to the scores."""
    masks = [a["attn_mask"], a["key_padding_mask"]]
    if masks[1] is not None:
        masks[1] = masks[1][:, None, None].expand(-1, count, -1, -1).reshape(batch * count, 1, -1)
    floats = [
        torch.zeros(m.shape, dtype=dtype, device=m.device).masked_fill(m, -math.inf) if m.dtype is torch.bool else m
        for m in masks
        if m is not None
    ]
    return sum(floats[1:], floats[0]) if floats else None


def _peak(x: Tensor) -> Tensor:
    return x.abs().amax().double()


def _arguments(func: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    given = inspect.signature(func).bind(*args, **kwargs)
    given.apply_defaults()
    return given.arguments
