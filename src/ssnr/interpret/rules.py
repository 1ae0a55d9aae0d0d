"""What PyTorch's operations do to numbers t·2^e, by the names that they have below autograd (ATen).

A rule is given the operation and its arguments, every tensor in the middle of the range, and returns its result, or
`NotImplemented` where it does not hold: then, as for what has no rule, the operation is taken apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ssnr.interpret.exponents import Exponents, carriers, carries, changed, format_of, peak_of
from ssnr.interpret.saturation import largest_score

Rule = Callable[[Exponents, Any, Any, Any], Any]
RULES: dict[str, Rule] = {}


def rule(names: str) -> Callable[[Rule], Rule]:
    """Enter a function as the rule of these operations."""

    def entered(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names.split(), function))
        return function

    return entered


# --- products and quotients ---------------------------------------------------------------------------------------


@rule("""mul mm bmm mv dot vdot _trilinear _sparse_sparse_matmul _embedding_bag _embedding_bag_forward_only
      _embedding_bag_backward _embedding_bag_dense_backward _embedding_bag_per_sample_weights_backward""")
def product(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """Linear in each of its tensors."""
    e, factors = 0, []
    for factor in args:
        if isinstance(factor, float):
            factor, more = exponents.number(factor)
            e += more
        elif carries(factor):
            e += exponents.of(factor)
        factors.append(factor)
    return exponents.result(func(*factors, **kwargs), e + sum(map(exponents.of, carriers((), kwargs))))


# Where the factors and the bias are.
_BIASED = {"convolution": (0, 1, 2), "addmm": (1, 2, 0), "addmv": (1, 2, 0), "baddbmm": (1, 2, 0)}


@rule(" ".join(_BIASED))
def biased(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """A product, and a bias that is near enough to it to be added in one."""
    one, other, place = _BIASED[func.overloadpacket.__name__]
    e, bias = exponents.of(args[one]) + exponents.of(args[other]), args[place]
    if bias is not None:
        limit, middle, _ = format_of(bias.dtype)
        if not 2 * middle - limit < exponents.of(bias) - e < middle:
            return NotImplemented
        args = (*args[:place], exponents.to(bias, e), *args[place + 1 :])
    return exponents.result(func(*args, **kwargs), e)


@rule("convolution_backward grid_sampler_2d_backward grid_sampler_3d_backward")
def gradients(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """Of the incoming gradient, with or without another factor, from one output to the next."""
    g, x, w = map(exponents.of, args[:3])
    degrees: tuple[int, ...] = (g + w, g + x, g)
    if not func.overloadpacket.__name__.startswith("conv"):  # the third tensor of a grid says where
        if not exponents.is_in_range(args[2]):
            return NotImplemented
        args, degrees = (*args[:2], exponents.to(args[2], 0), *args[3:]), (g, g + x)
    return tuple(map(exponents.result, func(*args, **kwargs), degrees))


@rule("div")
def quotient(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """The second exponent counts negative; of a rounded quotient there is nothing to say."""
    if kwargs.get("rounding_mode") is not None:
        return NotImplemented
    over, under = (exponents.of(a) if carries(a) else 0 for a in args)
    if isinstance(args[1], float):
        divisor, under = exponents.number(args[1])
        args = (args[0], divisor)
    return exponents.result(func(*args), over - under)


# --- powers -------------------------------------------------------------------------------------------------------

_DEGREES = {
    "var": (2,),
    "var_mean": (2, 1),
    "reciprocal": (-1,),
    "square": (2,),
    "linalg_inv_ex": (-1, 0),
    "linalg_qr": (0, 1),
    "_linalg_eigh": (1, 0),
    "_linalg_svd": (0, 1, 0),
}


@rule(" ".join(_DEGREES))
def of_degree(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """Of some degree in the one tensor, each output of its own."""
    degrees = _DEGREES[func.overloadpacket.__name__]
    out, e = func(*args, **kwargs), exponents.of(args[0])
    if isinstance(out, Tensor):
        return exponents.result(out, degrees[0] * e)
    return tuple(exponents.result(part, degree * e) for part, degree in zip(out, degrees, strict=True))


@rule("_linalg_solve_ex linalg_lu_solve")
def solved(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """Of degree one in the right-hand side; a factorised matrix is of two degrees in one."""
    matrix, right = carriers(args)
    if not exponents.is_in_range(matrix):
        return NotImplemented
    out = func(*changed(args, lambda t: exponents.to(t, 0) if t is matrix else t), **kwargs)
    if isinstance(out, Tensor):
        return exponents.result(out, exponents.of(right))
    return (exponents.result(out[0], exponents.of(right)), *(exponents.result(part, 0) for part in out[1:]))


@rule("sqrt rsqrt")
def root(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """Half of an even exponent."""
    e = exponents.of(args[0])
    half = (e - e % 2) // 2
    return exponents.result(
        func(args[0] * 2.0 if e % 2 else args[0]), half if func.overloadpacket.__name__ == "sqrt" else -half
    )


@rule("pow")
def power(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """(t·2^e)^p = t^p · 2^(e·p − k) · 2^k, where t is at most 1 and p a number or a tensor."""
    x, p = args
    if not carries(x):
        return NotImplemented
    if carries(p):
        if not exponents.is_in_range(p):
            return NotImplemented
        p = exponents.to(p, 0)
    elif isinstance(p, Tensor):
        p = p.to(x.dtype)
    x = exponents.near(x, 0)
    if isinstance(p, Tensor):
        rest = exponents.of(x) * p
        whole = round(float(rest.amax()))
        return exponents.result(torch.pow(x, p) * torch.exp2(rest - whole), whole)
    exact = exponents.exactly(p) * exponents.of(x)
    whole = round(exact)
    return exponents.result(torch.pow(x, p) * 2.0 ** float(exact - whole), whole)


_LOGARITHMS = {"log": 1.0, "log2": math.log(2), "log10": math.log(10)}


@rule(" ".join(_LOGARITHMS))
def logarithm(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """Log(t·2^e) = log t + e log 2, an ordinary number."""
    base = _LOGARITHMS[func.overloadpacket.__name__]
    return exponents.result(func(*args) + exponents.of(args[0]) * (math.log(2) / base), 0)


# --- terms --------------------------------------------------------------------------------------------------------

_ENTRY_BY_ENTRY = frozenset(("add", "sub", "rsub", "hypot", "complex"))
_WITH_WHOLE_NUMBERS = _ENTRY_BY_ENTRY | {"cat", "stack"}


@rule("""add sub rsub hypot complex cat stack index_put _index_put_impl _unsafe_index_put scatter
      scatter_add scatter_reduce index_add index_copy index_reduce slice_scatter select_scatter diagonal_scatter
      as_strided_scatter masked_scatter _cdist_forward""")
def terms(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """A function of terms, which are brought to the largest exponent."""
    if func.overloadpacket.__name__ in _WITH_WHOLE_NUMBERS:
        args = _in_one_type(args)
    numbers = _numbers(func, args) if exponents.any(args, kwargs) else []
    most = exponents.largest(carriers(args, kwargs), beside_one=any(args[place] != 0 for place in numbers))
    gone: list[Tensor] = []

    def brought(t: Tensor) -> Tensor:
        if exponents.of(t) >= most:
            return exponents.to(t, most)
        found = exponents.to(t, most)
        if t.layout is torch.strided:
            gone.append((t != 0) & (found.abs() < format_of(t.dtype).smallest))
        return found

    given = [_scaled(a, -most) if place in numbers else a for place, a in enumerate(args)]
    out = func(*changed(given, brought), **changed(kwargs, brought))
    numbers_gone = any(args[place] != 0 and _scaled(args[place], -most) == 0 for place in numbers)
    if (gone or numbers_gone) and not exponents.lost:
        if func.overloadpacket.__name__ in _ENTRY_BY_ENTRY:  # harmless beside a larger number in the same place
            small = out.abs() < format_of(out.dtype).smallest
            numbers_gone = numbers_gone and bool(small.any())
            gone = [vanished & small for vanished in gone] if bool(small.any()) else []
        exponents.lost = numbers_gone or any(bool(vanished.any()) for vanished in gone)
    return exponents.result(out, most)


@rule("_cdist_backward _pdist_backward")
def gradient_of_distance(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """Of degree one in what comes in, and of none in points and distances together."""
    most = exponents.largest(carriers(args[1:]))
    return exponents.result(func(args[0], *changed(args[1:], lambda t: exponents.to(t, most))), exponents.of(args[0]))


@rule("gt ge lt le eq ne equal atan2")
def compared(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """A comparison of terms, of which the smaller one keeps its sign."""
    if not exponents.any(args):
        return func(*args, **kwargs)
    args = _in_one_type(args)
    most = exponents.largest(carriers(args), beside_one=any(_is_number(a) and a != 0 for a in args))

    def brought(t: Tensor) -> Tensor:
        found = exponents.to(t, most)
        if exponents.of(t) < most:
            least = torch.full_like(found, format_of(t.dtype).smallest)
            found = torch.where((found == 0) & (t != 0), torch.copysign(least, t), found)
        return found

    return func(*changed([_scaled(a, -most) if _is_number(a) else a for a in args], brought), **kwargs)


@rule("clamp hardtanh")
def between(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """Between two bounds, all that is far larger is one of them."""
    bounds = [*args[1:], *kwargs.values()]
    numbers = len(bounds) == 2 and all(map(_is_number, bounds))
    if not numbers or exponents.of(args[0]) <= 0:
        return NotImplemented
    return exponents.result(func(exponents.to(args[0], 0), *args[1:], **kwargs), 0)


@rule("maximum minimum fmax fmin")
def extreme(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """Of two of one exponent."""
    e = exponents.of(args[0])
    return exponents.result(func(*args), e) if exponents.of(args[1]) == e else NotImplemented


@rule("where")
def chosen(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """One of two: only what is chosen counts."""
    if len(args) < 3:
        return NotImplemented
    if not exponents.any(args):
        return exponents.result(func(*args), 0)
    args = (args[0], *_in_one_type(args[1:]))
    taken = [args[0], ~args[0]]
    present = [
        exponents.of(term) if carries(term) else 0
        for term, here in zip(args[1:], taken, strict=True)
        if bool(((term != 0) & here).any())
    ]
    most = max(present, default=0)
    given = [exponents.to(term, most) if carries(term) else _scaled(term, -most) for term in args[1:]]
    for term, found, here in zip(args[1:], given, taken, strict=True):
        if _is_number(term):
            exponents.lost |= bool(term != 0 and found == 0 and here.any())
        elif exponents.of(term) < most:
            exponents.lost |= bool(((term != 0) & here & (found.abs() < format_of(term.dtype).smallest)).any())
    return exponents.result(func(args[0], *given), most)


# --- of degree one, or of none ------------------------------------------------------------------------------------


@rule("""relu leaky_relu sum mean nansum amax amin aminmax max min median nanmedian mode sort topk kthvalue cumsum
      cummax cummin roll repeat index gather index_select take masked_select _unsafe_index _unique2 tril triu trace
      im2col col2im embedding embedding_dense_backward grid_sampler_2d grid_sampler_3d _pdist_forward
      masked_scatter_backward select_backward slice_backward diagonal_backward _conj_physical _to_dense _to_sparse
      _coalesce _sparse_coo_tensor_with_dims_and_tensors""")
def first(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """Of degree one in the first tensor; others say where, or how much as ordinary numbers."""
    one, *others = carriers(args, kwargs)
    if others:
        if not all(map(exponents.is_in_range, others)):
            return NotImplemented
        args, kwargs = (changed(value, lambda t: t if t is one else exponents.to(t, 0)) for value in (args, kwargs))
    return exponents.result(func(*args, **kwargs), exponents.of(one))


@rule("clone neg abs flip")
def as_large(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """Of the magnitude of the one tensor."""
    return exponents.mark(func(*args, **kwargs), exponents.of(args[0]))


# Pooling, padding, resizing, and the gradients of these: a gradient of degree one in what comes in.
FAMILIES = ("avg_pool", "adaptive_", "_adaptive_", "max_pool", "fractional_max_pool", "max_unpool", "upsample_",
            "_upsample_", "reflection_pad", "replication_pad", "_fft_", "value_selecting_reduction")  # fmt: skip


def family(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """Of degree one in the first tensor; others say where."""
    return exponents.result(func(*args, **kwargs), exponents.of(args[0]))


@rule("threshold_backward leaky_relu_backward")
def gate(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """By the sign of the second tensor."""
    if func.overloadpacket.__name__.startswith("threshold") and args[2] != 0:
        return NotImplemented
    return exponents.result(func(*args, **kwargs), exponents.of(args[0]))


@rule("unsafe_split unsafe_split_with_sizes")
def parted(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """Parts that are changed in place, each of which comes to an exponent of its own."""
    parts = func(*args, **kwargs)
    return exponents.result([part.clone() for part in parts], exponents.of(args[0]))


@rule("linalg_vector_norm")
def norm(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """The powers inside are those of numbers up to 1."""
    if len(args) > 1 and args[1] == 0:
        return func(*args, **kwargs)
    x = exponents.near(args[0], 0)
    return exponents.result(func(x, *args[1:], **kwargs), exponents.of(x))


@rule("constant_pad_nd")
def padded(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """With zeros of degree one; anything else is a term."""
    return NotImplemented if len(args) > 2 and args[2] else first(exponents, func, args, kwargs)


@rule("""sign sgn signbit angle isnan isinf isfinite isposinf isneginf argmax argmin argsort nonzero any all logical_not
      logical_and logical_or logical_xor count_nonzero""")
def scale_free(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """The same for all multiples."""
    return func(*args, **kwargs)


@rule("_to_copy")
def converted(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """Another type may hold less."""
    dtype = kwargs.get("dtype")
    if dtype is torch.bool:
        return func(*args, **kwargs)
    if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
        return NotImplemented
    x = args[0] if dtype in (None, args[0].dtype) else exponents.near(args[0], 0)
    return exponents.result(func(x, **kwargs), exponents.of(x))


# --- curves -------------------------------------------------------------------------------------------------------

_SLOPES = {"tanh": 1.0, "erf": 2 / math.sqrt(math.pi), "expm1": 1.0, "log1p": 1.0, "sin": 1.0, "asin": 1.0,
           "tan": 1.0, "atan": 1.0, "sinh": 1.0, "asinh": 1.0, "atanh": 1.0}  # fmt: skip
_AT_ZERO = frozenset(("cos", "cosh", "i0"))
_LEVEL = frozenset(["sigmoid", "tanh", "erf", "erfc", "atan", "exp", "exp2", "expm1"])


@rule(" ".join(_LEVEL | _AT_ZERO | set(_SLOPES)))
def curve(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """Near zero a straight line through it, far out a constant; a value that is infinite is so."""
    name, x = func.overloadpacket.__name__, args[0]
    top = exponents.top(x)
    if name in _SLOPES and top is not None and top < math.log2(torch.finfo(x.dtype).eps):
        return exponents.result(x * _SLOPES[name], exponents.of(x))
    if name in _AT_ZERO and top is not None and top < math.log2(torch.finfo(x.dtype).eps):
        return func(torch.zeros_like(x))
    if name == "log1p":  # of large entries their logarithm
        large = torch.log(x) + exponents.of(x) * math.log(2)
        found = func(exponents.to(x, 0))
        return exponents.result(torch.where(x > _scaled(2.0**64, -exponents.of(x)), large, found), 0)
    if name not in _LEVEL and not exponents.is_in_range(x):
        return NotImplemented
    return exponents.result(func(exponents.to(x, 0)), 0)


@rule("round floor ceil trunc")
def whole(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """Whole numbers: large ones are, and of what is near zero the sign counts."""
    x, e = args[0], exponents.of(args[0])
    if kwargs or len(args) > 1:
        return NotImplemented
    if bool((x.abs() >= _scaled(2.0**64, -e)).all()):
        return exponents.mark(x.clone(), e)
    if not bool((x.abs() > _scaled(0.25, -e)).any()):
        return func(torch.copysign((x != 0) * 0.25, x).to(x.dtype))
    return NotImplemented


@rule("_softmax _safe_softmax")
def softmax(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """Softmax of x − max x, which is that of x; of large x (`largest_score`) it is a maximum, its gradient zero."""
    x, dim = args[0], args[1]
    top = torch.nan_to_num(x.amax(dim, keepdim=True), neginf=0.0)
    peak = peak_of(top)
    size = exponents.of(x) + math.frexp(peak)[1] if peak else 0
    shifted = exponents.mark(x - top, exponents.of(x))
    out = exponents.mark(func(exponents.to(shifted, 0), *args[1:], **kwargs), 0)
    return exponents.flatten(out) if size > math.log2(largest_score(x.dtype)) else out


@rule("_softmax_backward_data")
def gradient_of_softmax(exponents: Exponents, func: Any, args: Any, kwargs: Any) -> Any:
    """Of degree one in what comes in; zero where it is a maximum."""
    if exponents.is_flat(args[1]):
        return torch.zeros_like(args[0])
    return NotImplemented if exponents.of(args[1]) else exponents.result(func(*args, **kwargs), exponents.of(args[0]))


# --- plain numbers ------------------------------------------------------------------------------------------------


def _in_one_type(args: Any) -> Any:
    """Arguments with whole numbers in the type of the others: as terms, they are in want of an exponent as well."""
    dtype = carriers(args)[0].dtype

    def floating(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return type(value)(map(floating, value))
        return value.to(dtype) if isinstance(value, Tensor) and not carries(value) else value

    return tuple(map(floating, args))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numbers(func: Any, args: Any) -> set[int]:
    """The places of plain numbers that are terms: neither dimensions nor factors of terms."""
    kinds = [(str(a.type), a.name) for a in func._schema.arguments]
    return {
        place
        for place, value in enumerate(args)
        if _is_number(value) and kinds[place][0] in ("number", "Tensor") and kinds[place][1] not in ("alpha", "beta")
    }


def _scaled(value: Any, e: int) -> Any:
    """A plain number times 2^e, as far as float64 holds it."""
    if e == 0 or isinstance(value, (bool, Tensor)):
        return value
    try:
        return math.ldexp(value, e)
    except OverflowError:
        return math.copysign(math.inf, value)
