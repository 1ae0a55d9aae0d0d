"""Softmax of large scores is a maximum and has no gradient: what rounding leaves of one would be taken for a saliency.

Sizes are compared as tensors, so that all of this also holds for numbers beyond every format (`scaled.py`).
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def largest_score(dtype: torch.dtype) -> float:
    """Beyond, what rounding leaves of a softmax's gradient, 2^-digits times x, is more than the half of the digits."""
    return float(torch.finfo(dtype).eps ** -0.5)


def is_maximum(x: Tensor, dim: int) -> bool:
    """Whether softmax of x is no more than a maximum.

    The largest number of every row counts, because those that are masked may be anything. Of what a transform
    (`torch.vmap`) hides, False.
    """
    if is_wrapped(x) or not x.numel() or not x.is_floating_point():
        return False
    with torch.no_grad(), torch._C.DisableTorchFunction():
        rows = x.amax(dim)
        return bool(_peak(rows.masked_fill(rows == -math.inf, 0.0)) > largest_score(x.dtype))


def attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor | None:  # fmt: skip
    """Attention by its formula where its softmax may be a maximum; None where its scores are too small for that."""
    if is_wrapped(query) or not (query.numel() and key.numel()):
        return None
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    with torch.no_grad(), torch._C.DisableTorchFunction():
        if not bool(_peak(query) * _peak(key) > largest_score(query.dtype) / (query.shape[-1] * scale)):
            return None
    with torch._C.DisableTorchFunction():
        if is_causal:
            attn_mask = query.new_ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
        if enable_gqa:
            times = query.shape[-3] // key.shape[-3]
            key, value = key.repeat_interleave(times, -3), value.repeat_interleave(times, -3)
        return _weights(query @ key.transpose(-2, -1) * scale, attn_mask) @ value


def attention_of_heads(func: Any, args: Any, kwargs: Any) -> tuple[Tensor, Tensor | None] | bool:
    """`attention` for `F.multi_head_attention_forward`, its weights with it.

    Returns:
        False where its softmax is more than a maximum; True where it may be one and the kind of attention is a rarer
        one, which has no formula here.
    """
    given = inspect.signature(func).bind(*args, **kwargs)
    given.apply_defaults()
    a = given.arguments
    query, key, value = a["query"], a["key"], a["value"]
    if is_wrapped(query) or not (query.numel() and key.numel()):
        return False
    width, count = a["embed_dim_to_check"], a["num_heads"]
    with torch.no_grad(), torch._C.DisableTorchFunction():
        own = [a[f"{part}_proj_weight"] for part in ("in", "q", "k")]
        largest = torch.stack([_peak(weight) for weight in own if weight is not None]).amax()
        added = 0.0 if a["in_proj_bias"] is None else _peak(a["in_proj_bias"])
        one, other = (_peak(x) * largest * x.shape[-1] + added for x in (query, key))
        if not bool(one * other > largest_score(query.dtype) / math.sqrt(width // count)):
            return False
    rarer = ("bias_k", "bias_v", "add_zero_attn", "static_k", "static_v")
    if any(a[name] is not None and a[name] is not False for name in rarer) or query.dim() != 3:
        return True
    with torch._C.DisableTorchFunction():
        separate = a["use_separate_proj_weight"]
        weights = [a[f"{part}_proj_weight"] for part in "qkv"] if separate else a["in_proj_weight"].split(width)
        biases = (None,) * 3 if a["in_proj_bias"] is None else a["in_proj_bias"].split(width)
        batch = query.shape[1]
        parts = [
            F.linear(x, w, b).reshape(x.shape[0], batch * count, width // count).transpose(0, 1)
            for x, w, b in zip((query, key, value), weights, biases, strict=True)
        ]
        mask = _left_out(a, batch, count, parts[0].dtype)
        shares = _weights(parts[0] @ parts[1].transpose(-2, -1) * (width // count) ** -0.5, mask)
        joined = (shares @ parts[2]).transpose(0, 1).reshape(*query.shape[:2], width)
        out = F.linear(joined, a["out_proj_weight"], a["out_proj_bias"])
        if not a["need_weights"]:
            return out, None
        shares = shares.reshape(batch, count, *shares.shape[1:])
        return out, shares.mean(1) if a["average_attn_weights"] else shares


def _weights(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax of scores, where a mask of True and False says what takes part, and any other one is added."""
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype is torch.bool else scores + mask
    found = torch.softmax(scores, -1)
    return found.detach() if is_maximum(scores, -1) else found


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


def is_wrapped(tensor: Tensor) -> bool:
    """Whether a transform (`torch.vmap`, `torch.func.grad`) stands between a tensor and its numbers."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))


def _peak(x: Tensor) -> Tensor:
    return x.abs().amax()
