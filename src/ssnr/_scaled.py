"""Tensors that carry a power of two, so that no network is too deep or too wide for floating point.

A tensor t that the mode has seen stands for t·2^e. Products add exponents, sums bring their terms to the largest one,
and whatever is of degree one passes it on. Where values leave the middle of the range, a multiplication by a power of
two, which autograd sees as a constant, brings them back: exact, and gradients stay in range as well, because
t ⊙ ∂R/∂t sums to R in every cut through a network of degree one.

A function of no degree (sigmoid, softmax, a norm that is kept) is given the real values, as far as the format holds
them: where they are larger it has long saturated. Terms of a sum that are 2^1000 times smaller than another vanish.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ssnr import _degrees as degrees
from ssnr._errors import ScoringError

_FARTHEST = 2**62  # exponents are kept as 64-bit integers


class Scaled(TorchFunctionMode):
    """The mode; see the module's docstring.

    Args:
        dtype: of the pass.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = str(dtype).removeprefix("torch.")
        largest = math.frexp(torch.finfo(dtype).max)[1]
        self.limit = largest - 3  # 2^±limit are normal numbers
        self.middle = largest // 8  # values stay within 2^±middle
        self.digits = 1 - round(math.log2(torch.finfo(dtype).eps))  # of the format's significand

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, in_place = _plain_name(getattr(func, "__name__", ""))
        tensors = _floating((args, kwargs))
        if not tensors or name in ("set", "delete", "backward", "register_hook", "retain_grad"):
            return func(*args, **kwargs)
        if name == "get":
            out = func(*args, **kwargs)
            return _marked(out, exponent_of(args[0])) if isinstance(out, Tensor) and out is not args[0] else out
        if in_place:
            return self._in_place(func, name, args, kwargs)
        return self._rule(func, name, tensors, args, kwargs)

    def total(self, outputs: list[Tensor]) -> tuple[Tensor, int]:
        """Σ of all outputs: t and e of t·2^e."""
        sums = [self._centred(_marked(out.sum(), exponent_of(out))) for out in outputs]
        # Of nothing but zeros any exponent will do, but gradients keep to the middle with one of their own.
        most = max((exponent_of(s) for s in sums if bool(s != 0)), default=max(map(exponent_of, sums)))
        if abs(most) >= _FARTHEST:
            raise ScoringError("the sum of the outputs at |θ| is beyond 2^(2^62)")
        return torch.stack([self._to(s, most) for s in sums]).sum(), most

    # --- rules ----------------------------------------------------------------------------------------------------

    def _rule(self, func: Any, name: str, tensors: list[Tensor], args: Any, kwargs: Any) -> Any:
        if name in degrees.PRODUCTS:
            return self._product(func, name, args, kwargs)
        if name in degrees.WITH_SUM and not kwargs:
            product = self._product(degrees.WITH_SUM[name], "mm", args[1:3], {})
            return self._sum(torch.add, "add", (args[0], product), {})
        if name in degrees.QUOTIENTS:
            out = func(*args, **kwargs)
            return self._centred(_marked(out, _exponent(args[0]) - _exponent(args[1])))
        if name in ("rtruediv", "reciprocal"):
            return self._centred(_marked(func(*args, **kwargs), -exponent_of(args[0])))
        if name in ("square", "pow") and (name == "square" or isinstance(args[1], int)):
            times = 2 if name == "square" else args[1]
            return self._centred(_marked(func(*args, **kwargs), times * exponent_of(args[0])))
        if name in ("sqrt", "rsqrt"):
            odd = exponent_of(args[0]) % 2
            half = (exponent_of(args[0]) - odd) // 2 * (1 if name == "sqrt" else -1)
            return self._centred(_marked(func(args[0] * 2.0 if odd else args[0]), half))
        if name in ("addcmul", "addcdiv") and len(args) == 3:
            product = torch.mul if name == "addcmul" else torch.div
            term = self._rule(product, product.__name__, tensors[1:], args[1:], {})
            return self._sum(torch.add, "add", (args[0], term), {"alpha": kwargs.get("value", 1)})
        if name in degrees.CLAMPS and (low := _least(args, kwargs)) is not None:
            floor = low * self._power(-exponent_of(args[0]))
            return self._centred(_marked(args[0].clamp(min=floor), exponent_of(args[0])))
        if name in degrees.LINES and exponent_of(tensors[0]) < -self.middle:
            return self._line(func, args, kwargs)
        if name in degrees.ARITHMETIC or name in degrees.JOINS or (name in ("max", "min") and len(tensors) > 1):
            return self._sum(func, name, args, kwargs)
        if name in degrees.PASSES:
            return self._centred(_marked(func(*args, **kwargs), exponent_of(tensors[0])))
        if name == "scaled_dot_product_attention":
            return self._attention(*args, **kwargs)[0]
        if name == "multi_head_attention_forward" and (found := self._heads(func, args, kwargs)) is not None:
            return found
        if name in degrees.GROWING and exponent_of(tensors[0]) > self.middle:
            grown = tensors[0] * degrees.SELU if name == "selu" else tensors[0]
            return _marked(grown, exponent_of(tensors[0]))
        if name == "softmax" and exponent_of(args[0]) > 0:
            return self._softmax(args[0], args[1] if len(args) > 1 else kwargs["dim"])
        if name in degrees.INVARIANT and exponent_of(tensors[0]) > self.middle:
            return func(*args, **kwargs)
        read = self._levelled if name in degrees.LEVEL else self._real
        out = func(*read(args), **{key: read(value) for key, value in kwargs.items()})
        lost = name not in degrees.LEVEL and name not in degrees.SOUND and max(map(exponent_of, tensors)) > self.limit
        if lost and any(t.requires_grad for t in _floating(out)):
            raise ScoringError(f"{name} of numbers beyond {self.dtype}: it is not of degree one")
        return out

    def _line(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        """A function that goes through 0 in a straight line, at numbers too small for the format: x · f(c)/c."""
        x, c = args[0], 2.0**-60
        slope = func(torch.full_like(x, c).detach(), *args[1:], **kwargs) / c
        return self._centred(_marked(x * slope, exponent_of(x)))  # type: ignore[no-any-return]

    def _levelled(self, value: Any) -> Any:
        """Real values, but none so large that a product overflows where the function has long become flat."""
        if isinstance(value, Tensor) and exponent_of(value) > self.limit - 2 * self.middle:
            return value * self._power(self.limit // 2)
        return type(value)(map(self._levelled, value)) if isinstance(value, (tuple, list)) else self._real(value)

    def _product(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        place = degrees.BIAS_AT.get(name)
        bias = None if place is None else args[place] if len(args) > place else kwargs.get("bias")
        args = tuple(a if a is bias else self._factor(a) for a in args)
        exponent = sum(exponent_of(t) for t in _floating((args, kwargs)) if t is not bias)
        if bias is not None and place is not None:
            bias = self._to(bias, exponent)
            kwargs = kwargs if len(args) > place else {**kwargs, "bias": bias}
            args = (*args[:place], bias, *args[place + 1 :]) if len(args) > place else args
        return self._centred(_marked(func(*args, **kwargs), exponent))

    def _factor(self, value: Any) -> Any:
        """A factor in the middle of the range: weights come as they are."""
        if isinstance(value, (tuple, list)):
            return type(value)(map(self._factor, value))
        return self._centred(value) if isinstance(value, Tensor) else value

    def _sum(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        terms = [exponent_of(t) for t in _floating((args, kwargs)) if bool((t != 0).any())]
        numbers = name in degrees.ARITHMETIC
        if numbers and any(_number(a) and a != 0 for a in args):
            terms.append(0)
        most = max(terms, default=0)
        kwargs = {key: value if key == "alpha" else self._to(value, most, numbers) for key, value in kwargs.items()}
        return self._centred(_marked(func(*self._to(args, most, numbers), **kwargs), most))

    def _in_place(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Change the target, and its exponent with it; a view keeps the exponent of what it is a view of."""
        target, rest = args[0], args[1:]
        own, view = exponent_of(target), bool(args[0]._is_view())
        others = _floating((rest, kwargs))
        if name in degrees.PRODUCTS or name in degrees.QUOTIENTS:
            func(target, *rest, **kwargs)
            added = sum(map(exponent_of, others)) * (1 if name in degrees.PRODUCTS else -1)
            if view:
                return target.mul_(self._power(added))
            return self._centred(_marked(target, own + added), in_place=True)
        if name in degrees.ARITHMETIC or name in degrees.JOINS:
            most = max((exponent_of(t) for t in others if bool((t != 0).any())), default=own)
            empty = not bool((target != 0).any())
            if not view and (empty or most > own):
                _marked(target if empty else target.mul_(self._power(own - most)), most)
                own = most
            numbers = name in degrees.ARITHMETIC and name != "setitem"
            kwargs = {key: value if key == "alpha" else self._to(value, own, numbers) for key, value in kwargs.items()}
            if name == "setitem":  # the place, then the value
                func(target, rest[0], self._to(rest[1], own, True))
                return None
            func(target, *self._to(rest, own, numbers), **kwargs)
            return target if view else self._centred(target, in_place=True)
        if name in degrees.PASSES or name in ("zero", "detach", "requires_grad", "set", "resize"):
            return func(target, *rest, **kwargs)
        _marked(target.mul_(self._power(own)), 0)
        return func(target, *self._real(rest), **kwargs)

    # --- attention ------------------------------------------------------------------------------------------------

    def _attention(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Attention by its formula, and its weights: they sum to one, so that values pass their exponent on."""
        if enable_gqa:
            times = query.shape[-3] // key.shape[-3]
            key, value = (_marked(t.repeat_interleave(times, -3), exponent_of(t)) for t in (key, value))
        turned = _marked(key.transpose(-2, -1), exponent_of(key))
        scores = self._product(torch.matmul, "matmul", (query, turned), {})
        scores = _marked(scores * (scale or query.shape[-1] ** -0.5), exponent_of(scores))
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if attn_mask is not None and attn_mask.dtype is torch.bool:
            scores = _marked(scores.masked_fill(~attn_mask, -math.inf), exponent_of(scores))
        elif attn_mask is not None:
            scores = self._sum(torch.add, "add", (scores, attn_mask), {})
        weights = self._softmax(scores, -1)
        return self._product(torch.matmul, "matmul", (weights, value), {}), weights

    def _softmax(self, scores: Tensor, dim: int) -> Tensor:
        """Softmax of x − max x, which is that of x.

        Where neighbouring numbers of the format are far apart, it is a maximum: its gradient is zero, and what rounding
        leaves of it would be multiplied by the size of x.
        """
        finite = scores.detach()[torch.isfinite(scores)]
        peak = float(finite.abs().amax()) if finite.numel() else 0.0
        size = exponent_of(scores) + (math.frexp(peak)[1] if peak else 0)
        shifted = _marked(scores - scores.amax(dim, keepdim=True), exponent_of(scores))
        found = torch.softmax(self._real(shifted), dim)
        return found.detach() if size > self.digits + 8 else found

    def _heads(self, func: Any, args: Any, kwargs: Any) -> tuple[Tensor, Tensor | None] | None:
        """Attention of several heads with packed weights; None for the rarer kinds."""
        given = inspect.signature(func).bind(*args, **kwargs)
        given.apply_defaults()
        a = given.arguments
        rarer = ("bias_k", "bias_v", "add_zero_attn", "use_separate_proj_weight", "static_k", "static_v")
        if any(a[name] is not None and a[name] is not False for name in rarer) or a["query"].dim() != 3:
            return None
        inputs, width, heads = (a["query"], a["key"], a["value"]), a["embed_dim_to_check"], a["num_heads"]
        weights = a["in_proj_weight"].split(width)
        biases = (None,) * 3 if a["in_proj_bias"] is None else a["in_proj_bias"].split(width)
        parts = []
        for x, weight, bias in zip(inputs, weights, biases, strict=True):
            made = self._product(F.linear, "linear", (x, weight, bias), {})
            split = made.reshape(x.shape[0], x.shape[1] * heads, width // heads).transpose(0, 1)
            parts.append(_marked(split, exponent_of(made)))
        batch = inputs[0].shape[1]
        mixed, shares = self._attention(parts[0], parts[1], parts[2], _left_out(a, batch, heads, parts[0].dtype))
        joined = _marked(mixed.transpose(0, 1).reshape(*inputs[0].shape[:2], width), exponent_of(mixed))
        out = self._product(F.linear, "linear", (joined, a["out_proj_weight"], a["out_proj_bias"]), {})
        if not a["need_weights"]:
            return out, None
        shares = shares.reshape(batch, heads, *shares.shape[1:])
        return out, shares.mean(1) if a["average_attn_weights"] else shares

    # --- scales ---------------------------------------------------------------------------------------------------

    def _to(self, value: Any, exponent: int, numbers: bool = False) -> Any:
        """A value as it stands beside tensors of an exponent."""
        if isinstance(value, Tensor):
            if not value.is_floating_point() or exponent_of(value) == exponent:
                return value
            return value * self._power(exponent_of(value) - exponent)
        if _number(value):
            return value * self._power(-exponent) if numbers and exponent else value
        if isinstance(value, (tuple, list)):
            return type(value)(self._to(item, exponent, numbers) for item in value)
        return value

    def _real(self, value: Any) -> Any:
        if isinstance(value, Tensor) and exponent_of(value):
            return value * self._power(exponent_of(value))
        return type(value)(map(self._real, value)) if isinstance(value, (tuple, list)) else value

    def _power(self, exponent: int) -> float:
        """2^exponent, or the largest or smallest that the format has."""
        return 2.0 ** max(-self.limit, min(self.limit, exponent))

    def _centred(self, value: Any, *, in_place: bool = False) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point() or not value.numel():
            return value  # members of a tuple are brought back where they are used
        peak = float(value.detach().abs().amax())
        if peak == 0 or not math.isfinite(peak):
            return value
        shift = max(-self.limit, min(self.limit, math.frexp(peak)[1]))
        if abs(shift) <= self.middle:
            return value
        exponent = exponent_of(value) + shift
        return _marked(value.mul_(2.0**-shift) if in_place else value * 2.0**-shift, exponent)


# --- helpers ------------------------------------------------------------------------------------------------------


def exponent_of(tensor: Tensor) -> int:
    """E of a tensor that stands for t·2^e."""
    exponent: int = tensor.__dict__.get("_ssnr_exponent", 0)
    return exponent


def _exponent(value: Any) -> int:
    return exponent_of(value) if isinstance(value, Tensor) else 0


def _left_out(a: dict[str, Any], batch: int, heads: int, dtype: torch.dtype) -> Tensor | None:
    """The masks of attention, where True is what is left out, as one that is added to the scores."""
    masks = [a["attn_mask"], a["key_padding_mask"]]
    if masks[1] is not None:
        masks[1] = masks[1][:, None, None].expand(-1, heads, -1, -1).reshape(batch * heads, 1, -1)
    floats = [
        torch.zeros(m.shape, dtype=dtype, device=m.device).masked_fill(m, -math.inf) if m.dtype is torch.bool else m
        for m in masks
        if m is not None
    ]
    return sum(floats[1:], floats[0]) if floats else None


def _least(args: Any, kwargs: Any) -> float | None:
    """The bound of a clamp that has a lower one alone, of 0 or less."""
    low = kwargs.get("min", args[1] if len(args) > 1 else None)
    only = kwargs.get("max") is None and all(bound is None for bound in args[2:])
    return float(low) if only and _number(low) and low <= 0 else None


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _marked(value: Any, exponent: int) -> Any:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            value.__dict__["_ssnr_exponent"] = exponent
    elif isinstance(value, (tuple, list)):
        for item in value:
            _marked(item, exponent)
    return value


_AUGMENTED = {"iadd": "add", "isub": "sub", "imul": "mul", "itruediv": "div", "idiv": "div"}


def _plain_name(raw: str) -> tuple[str, bool]:
    """The name of an operation, and whether it changes its first argument: `add_`, `__iadd__` → ("add", True)."""
    if raw.startswith("__") and raw.endswith("__"):
        name = raw[2:-2]
        if name in _AUGMENTED or name == "setitem":
            return _AUGMENTED.get(name, name), True
        return {"truediv": "div"}.get(name, name), False
    return raw.strip("_"), raw.endswith("_")


def _floating(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        return [t for item in value.values() for t in _floating(item)]
    if isinstance(value, (tuple, list)):
        return [t for item in value for t in _floating(item)]
    return []
