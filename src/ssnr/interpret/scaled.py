"""Tensors that carry a power of two, so that no network is too deep or too wide for floating point.

A tensor t that the mode has seen stands for t·2^e. Products add exponents, sums bring their terms to the largest one,
and whatever is of degree one passes it on. Where values leave the middle of the range, a multiplication by a power of
two, which autograd sees as a constant, brings them back: exact, and gradients stay in range as well, because
t ⊙ ∂R/∂t sums to R in every cut through a network of degree one.

A function of no degree (sigmoid, softmax, a norm that is kept) is given the real values, as far as the format holds
them: where they are larger it has long saturated. One that no table lists is called at two sizes, which shows its
degree out there, or that it has none: then the network is refused. Terms of a sum that are 2^1000 times smaller than
another vanish.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ssnr.core.errors import ScoringError
from ssnr.interpret import degrees as degrees
from ssnr.interpret.exponents import carriers, carries, exponent_of, is_number, is_wrapped, mapped, marked, peak_of
from ssnr.interpret.probing import degrees_between, follows
from ssnr.interpret.scaled_attention import attention, heads, softmax

_FARTHEST = 2**62  # exponents are kept as 64-bit integers


class Scaled(TorchFunctionMode):
    """The mode; see the module's docstring.

    Args:
        dtype: of the pass.

    Attributes:
        lost: whether anything was so small beside something else that its gradient is beyond the format, and zero.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = str(dtype).removeprefix("torch.")
        largest = math.frexp(torch.finfo(dtype).max)[1]
        self.limit = largest - 3  # 2^±limit are normal numbers
        self.middle = largest // 8  # values stay within 2^±middle
        self.digits = 1 - round(math.log2(torch.finfo(dtype).eps))  # of the format's significand
        self.lost = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, in_place = _plain_name(getattr(func, "__name__", ""))
        if name in degrees.UNFILLED:  # what memory happens to hold would count
            out = func(*args, **kwargs)
            return out.zero_() if carries(out) else out
        tensors = carriers((args, kwargs))
        if not tensors or name in degrees.NO_NUMBERS:
            return func(*args, **kwargs)
        if any(map(is_wrapped, tensors)):
            raise ScoringError(f"numbers beyond {self.dtype} inside of torch.vmap or torch.func")
        if name == "get":
            out = func(*args, **kwargs)
            new = isinstance(out, Tensor) and out is not args[0] and out is not args[0]._base
            return marked(out, exponent_of(args[0])) if new else out
        if name.startswith("new_") or name.endswith("_like"):  # only of the same shape
            return func(*args, **kwargs)
        if kwargs.get("out") is not None:
            kwargs = {**kwargs}
            target = kwargs.pop("out")
            return self._write(target, self._rule(func, name, carriers((args, kwargs)), args, kwargs))
        if degrees.asks_in_place(name, args, kwargs):
            args, kwargs = degrees.out_of_place(name, args, kwargs)
            before = marked(args[0].clone(), exponent_of(args[0]))
            return self._write(args[0], self._rule(func, name, tensors, (before, *args[1:]), kwargs))
        if in_place:
            return self._in_place(func, name, args, kwargs)
        return self._rule(func, name, tensors, args, kwargs)

    def total(self, outputs: list[Tensor]) -> tuple[Tensor, int]:
        """Σ of all outputs: t and e of t·2^e."""
        with torch._C.DisableTorchFunction():
            sums = [self._centred(marked(out.sum(), exponent_of(out))) for out in outputs]
            # Of nothing but zeros any exponent will do, but gradients keep to the middle with one of their own.
            most = max((exponent_of(s) for s in sums if bool(s != 0)), default=max(map(exponent_of, sums)))
            if abs(most) >= _FARTHEST:
                raise ScoringError("the sum of the outputs at |θ| is beyond 2^(2^62)")
            return torch.stack([self._to(s, most) for s in sums]).sum(), most

    def own_function(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """A function of the network's own, whose backward knows of no exponents."""
        with torch._C.DisableTorchFunction():
            tensors = carriers((args, kwargs))
            if not any(map(exponent_of, tensors)):
                return func(*args, **kwargs)
            return self._unlisted(func, name, tensors, args, kwargs)

    # --- rules ----------------------------------------------------------------------------------------------------

    def _rule(self, func: Any, name: str, tensors: list[Tensor], args: Any, kwargs: Any) -> Any:
        if name in degrees.PRODUCTS:
            return self.product(func, name, args, kwargs)
        if name in degrees.WITH_SUM and len(args) == 3:
            product = self.product(degrees.WITH_SUM[name], "mm", args[1:], {})
            weighted = [
                t if kwargs.get(key, 1) == 1 else marked(t * kwargs[key], exponent_of(t))
                for t, key in ((args[0], "beta"), (product, "alpha"))
            ]
            return self.sum(torch.add, "add", tuple(weighted), {})
        if name in degrees.QUOTIENTS:
            out = func(*args, **kwargs)
            return self._centred(marked(out, _exponent(args[0]) - _exponent(args[1])))
        if name in ("rtruediv", "rdiv", "reciprocal"):
            return self._centred(marked(func(*args, **kwargs), -exponent_of(args[0])))
        if name == "square" or (name in ("pow", "float_power") and isinstance(args[0], Tensor) and len(args) == 2):
            return self._to_the(args[0], 2 if name == "square" else args[1])
        if name in ("sqrt", "rsqrt"):
            odd = exponent_of(args[0]) % 2
            half = (exponent_of(args[0]) - odd) // 2 * (1 if name == "sqrt" else -1)
            return self._centred(marked(func(args[0] * 2.0 if odd else args[0]), half))
        if name in ("addcmul", "addcdiv") and len(args) == 3:
            product = torch.mul if name == "addcmul" else torch.div
            term = self._rule(product, product.__name__, tensors[1:], args[1:], {})
            return self.sum(torch.add, "add", (args[0], term), {"alpha": kwargs.get("value", 1)})
        if name in degrees.CLAMPS and (low := degrees.lower_bound(args, kwargs)) is not None:
            floor = low * self._power(-exponent_of(args[0]))
            return self._centred(marked(args[0].clamp(min=floor), exponent_of(args[0])))
        if name in degrees.LINES and exponent_of(tensors[0]) < -self.middle:
            return self._line(func, args, kwargs)
        if name in degrees.ARITHMETIC or name in degrees.JOINS or (name in ("max", "min") and len(tensors) > 1):
            return self.sum(func, name, args, kwargs)
        if name in degrees.PASSES and not any(map(exponent_of, tensors[1:])):
            out = marked(func(*args, **kwargs), exponent_of(tensors[0]))
            # A view stays one: what is written to it is written to the whole.
            return out if isinstance(out, Tensor) and out._is_view() else self._centred(out)
        if name == "scaled_dot_product_attention":
            return attention(self, *args, **kwargs)[0]
        if name == "multi_head_attention_forward" and (found := heads(self, func, args, kwargs)) is not None:
            return found
        if name in degrees.GROWING and exponent_of(tensors[0]) > self.middle:
            grown = tensors[0] * degrees.SELU if name == "selu" else tensors[0]
            return marked(grown, exponent_of(tensors[0]))
        if name == "softmax" and (dim := args[1] if len(args) > 1 else kwargs.get("dim")) is not None:
            return softmax(self, args[0] if args else kwargs["input"], dim)
        if name in degrees.INVARIANT and exponent_of(tensors[0]) > self.middle:
            return func(*args, **kwargs)
        if name in degrees.LEVEL:
            return func(*self._levelled(args), **{key: self._levelled(value) for key, value in kwargs.items()})
        return self._unlisted(func, name, tensors, args, kwargs)

    def _unlisted(self, func: Any, name: str, tensors: list[Tensor], args: Any, kwargs: Any) -> Any:
        """A function of no table, on the real values where the format holds them."""
        if all(abs(exponent_of(t)) <= self.limit - self.middle for t in tensors):
            return func(*self.real(args), **{key: self.real(value) for key, value in kwargs.items()})
        return self._probed(func, name, tensors, args, kwargs)

    def _line(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        """A function that goes through 0 in a straight line, at numbers too small for the format: x · f(c)/c."""
        x, c = args[0], 2.0**-60
        slope = func(torch.full_like(x, c).detach(), *args[1:], **kwargs) / c
        return self._centred(marked(x * slope, exponent_of(x)))  # type: ignore[no-any-return]

    def _levelled(self, value: Any) -> Any:
        """Real values, but none so large that a product overflows where the function has long become flat."""
        if isinstance(value, Tensor) and exponent_of(value) > self.limit - 2 * self.middle:
            return value * self._power(self.limit // 2)
        return type(value)(map(self._levelled, value)) if isinstance(value, (tuple, list)) else self.real(value)

    def _to_the(self, x: Tensor, power: Any) -> Tensor:
        """x^p of any p, a number or a tensor: (t·2^e)^p = t^p · 2^(e·p − k) · 2^k, where t is at most 1."""
        shift = math.frexp(peak)[1] if 0 < (peak := peak_of(x)) < math.inf else 0
        x = marked(x * 2.0**-shift, exponent_of(x) + shift)
        power = self.real(power)
        rest = exponent_of(x) * power
        largest = float(rest.detach().amax()) if isinstance(rest, Tensor) else rest
        whole = round(largest)
        if isinstance(rest, Tensor):
            found = torch.pow(x, power) * torch.exp2(rest - whole)
        else:
            found = torch.pow(x, power) if rest == whole else torch.pow(x, power) * 2.0 ** (rest - whole)
        return self._centred(marked(found, whole))  # type: ignore[no-any-return]

    def product(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """A function that is linear in each of its tensors, but for a bias."""
        place = degrees.BIAS_AT.get(name)
        bias = None if place is None else args[place] if len(args) > place else kwargs.get("bias")
        args = tuple(a if a is bias else self._factor(a) for a in args)
        exponent = sum(exponent_of(t) for t in carriers((args, kwargs)) if t is not bias)
        if bias is not None and place is not None:
            bias = self._to(bias, exponent)
            kwargs = kwargs if len(args) > place else {**kwargs, "bias": bias}
            args = (*args[:place], bias, *args[place + 1 :]) if len(args) > place else args
        return self._centred(marked(func(*args, **kwargs), exponent))

    def _factor(self, value: Any) -> Any:
        """A factor in the middle of the range: weights come as they are."""
        if isinstance(value, (tuple, list)):
            return type(value)(map(self._factor, value))
        return self._centred(value) if isinstance(value, Tensor) else value

    def sum(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """A function of terms, which are brought to the largest exponent."""
        terms = [exponent_of(t) for t in carriers((args, kwargs)) if bool((t != 0).any())]
        numbers = name in degrees.ARITHMETIC
        if numbers and any(is_number(a) and a != 0 for a in args):
            terms.append(0)
        most = max(terms, default=0)
        kwargs = {key: value if key == "alpha" else self._to(value, most, numbers) for key, value in kwargs.items()}
        return self._centred(marked(func(*self._to(args, most, numbers), **kwargs), most))

    def _probed(self, func: Any, name: str, tensors: list[Tensor], args: Any, kwargs: Any) -> Any:
        """A function of no table, of numbers that no format holds: its degree, as two calls at large numbers tell it.

        What is in range enters as it is. The gradient is that of the larger call.
        """
        far = [t for t in tensors if abs(exponent_of(t)) > self.limit - self.middle]
        tops = [exponent_of(t) + math.frexp(peak)[1] for t in far if 0 < (peak := peak_of(t)) < math.inf]
        top = max(tops, default=0)
        power = self.limit * 2 // 5 * (1 if top > 0 else -1)
        chosen = {id(t) for t in far}

        def at(size: int, value: Any) -> Any:
            if id(value) in chosen:
                return value * self._power(exponent_of(value) - top + size)
            return self.real(value) if isinstance(value, Tensor) else value

        def called(size: int) -> Any:
            return func(*mapped(args, lambda v: at(size, v)), **mapped(kwargs, lambda v: at(size, v)))

        found: list[int] | None = None
        if max(tops, default=0) - min(tops, default=0) <= self.limit // 2:
            out = called(power)
            with torch.no_grad():
                again = called(power // 2)
            found = degrees_between(out, again, power, power // 2, alone=len(tensors) == 1)
            if found is not None and any(t.requires_grad for t in carriers(out)):
                leaves = {id(t): at(power, t).detach().requires_grad_() for t in far}
                given = [mapped(value, lambda v: leaves.get(id(v), self.real(v))) for value in (args, kwargs)]
                found = found if follows(func(*given[0], **given[1]), list(leaves.values()), found) else None
        if found is None:
            raise ScoringError(f"{name} of numbers beyond {self.dtype}: it is not of degree one")
        left = iter(found)

        def brought_back(value: Any) -> Any:
            if not carries(value):
                return value
            degree = next(left)
            if degree == 0 and power < 0:  # a constant, and too little of anything else
                return self._let_go(value * 1.0)
            return self._centred(marked(value * 2.0 ** (-degree * power), degree * top))

        return mapped(out, brought_back)

    # --- in place -------------------------------------------------------------------------------------------------

    def _in_place(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """What the function gives out of place, written to the target, and its exponent with it."""
        target, rest = args[0], args[1:]
        if name in degrees.LAYOUT:
            return func(target, *rest, **kwargs)
        if name == "setitem":
            place, value = rest
            if carries(value) or is_number(value):
                value = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=target.dtype)
                self._make_room(target, value, whole=_is_everything(place))
                value = self._to(value, exponent_of(target))
            func(target, place, value)
            return None
        if name == "copy":
            value = rest[0] if carries(rest[0]) else rest[0].to(target.dtype)
            return self._write(target, marked(value.expand_as(target), exponent_of(value)))
        plain = getattr(Tensor, name, None) or getattr(F, name, None) or getattr(torch, name, None)
        if name == "fill" or plain is None or name in degrees.DRAWS:  # plain numbers, whatever was there
            fresh = torch.empty_like(target, requires_grad=False)
            return self._write(target, func(fresh, *rest, **kwargs))
        before = marked(target.clone(), exponent_of(target))
        return self._write(target, self._rule(plain, name, carriers((before, rest, kwargs)), (before, *rest), kwargs))

    def _write(self, target: Tensor, value: Tensor) -> Tensor:
        """Write over all of a target, which may be a view, and so a part of what has another exponent."""
        self._make_room(target, value, whole=True)
        target.copy_(self._to(value, exponent_of(target)))
        return target

    def _make_room(self, target: Tensor, value: Tensor, *, whole: bool) -> None:
        """Give the target, and all that it is a view of, an exponent at which the value can be written to it."""
        exponent = exponent_of(value)
        if exponent == exponent_of(target):
            return
        base = target if target._base is None else target._base
        step = exponent - exponent_of(target)
        if (whole and base is target) or not bool((base != 0).any()):
            marked(base, exponent_of(base) + step)
        elif step > 0 and bool((value != 0).any()):
            with_room = exponent_of(base) + step
            base.mul_(self._power(-step))
            marked(base, with_room)

    # --- scales ---------------------------------------------------------------------------------------------------

    def _to(self, value: Any, exponent: int, numbers: bool = False) -> Any:
        """A value as it stands beside tensors of an exponent."""
        if isinstance(value, Tensor):
            if not carries(value) or exponent_of(value) == exponent:
                return value
            return self._times(value, exponent_of(value) - exponent)
        if is_number(value):
            return value * self._power(-exponent) if numbers and exponent else value
        if isinstance(value, (tuple, list)):
            return type(value)(self._to(item, exponent, numbers) for item in value)
        return value

    def real(self, value: Any) -> Any:
        """Real values, as far as the format holds them."""
        if isinstance(value, Tensor) and exponent_of(value):
            return self._times(value, exponent_of(value))
        return type(value)(map(self.real, value)) if isinstance(value, (tuple, list)) else value

    def _times(self, value: Tensor, exponent: int) -> Tensor:
        """t·2^e as far as the format holds it; what is too small is zero, and has no gradient: lost, not wrong."""
        if exponent >= -self.limit:
            return value * self._power(exponent)
        lost = exponent + math.frexp(peak_of(value))[1] < -self.limit
        # In two steps, because what is infinite stays so.
        out = value * self._power(-self.limit) * self._power(-self.limit if lost else exponent + self.limit)
        return self._let_go(out) if lost else out

    def _let_go(self, value: Tensor) -> Tensor:
        """The value, its gradient zero."""
        if value.requires_grad:
            self.lost = True
            value.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]
        return value

    def _power(self, exponent: int) -> float:
        """2^exponent, or the largest or smallest that the format has."""
        return 2.0 ** max(-self.limit, min(self.limit, exponent))

    def _centred(self, value: Any) -> Any:
        if not carries(value) or value.layout is not torch.strided or not value.numel():
            return value  # members of a tuple are brought back where they are used
        peak = peak_of(value)
        if peak == 0 or not math.isfinite(peak):
            return value
        shift = max(-self.limit, min(self.limit, math.frexp(peak)[1]))
        if abs(shift) <= self.middle:
            return value
        return marked(value * 2.0**-shift, exponent_of(value) + shift)


# --- helpers ------------------------------------------------------------------------------------------------------


def _exponent(value: Any) -> int:
    return exponent_of(value) if isinstance(value, Tensor) else 0


def _is_everything(place: Any) -> bool:
    """Whether an index is `[:]` or `[...]`."""
    places = place if isinstance(place, tuple) else (place,)
    return all(p is Ellipsis or (isinstance(p, slice) and p == slice(None)) for p in places)


_AUGMENTED = {"iadd": "add", "isub": "sub", "imul": "mul", "itruediv": "div", "idiv": "div", "ipow": "pow",
              "ifloordiv": "floor_divide", "imod": "remainder"}  # fmt: skip


def _plain_name(raw: str) -> tuple[str, bool]:
    """The name of an operation, and whether it changes its first argument: `add_`, `__iadd__` → ("add", True)."""
    if raw.startswith("__") and raw.endswith("__"):
        name = raw[2:-2]
        if name in _AUGMENTED or name == "setitem":
            return _AUGMENTED.get(name, name), True
        return {"truediv": "div", "float": "item", "int": "item", "index": "item"}.get(name, name), False
    return raw.strip("_"), raw.endswith("_")
