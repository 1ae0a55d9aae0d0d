"""Where a network is of no degree in what comes in: synflow takes such places as they are, and names them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ssnr.networks.diagnose import graph
from ssnr.networks.trees import leaves, map_leaves

_QUOTIENTS = frozenset(("div", "true_divide", "divide", "truediv", "itruediv"))
_PRODUCTS = frozenset(("mul", "multiply", "imul", "rmul", "matmul", "rmatmul", "bmm", "mm", "einsum", "bilinear",
                       "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
                       "conv_transpose3d", "mv", "dot", "inner", "outer", "tensordot", "kron", "addmm", "addmv",
                       "addbmm", "baddbmm", "addr", "addcmul", *_QUOTIENTS))  # fmt: skip
_CURVES = """
    sigmoid tanh gelu silu mish softplus softsign logsigmoid log_sigmoid hardtanh relu6 hardsigmoid hardswish
    tanhshrink softshrink hardshrink threshold glu softmax log_softmax softmin gumbel_softmax exp exp2 expm1 log
    log2 log10 log1p logsumexp sqrt rsqrt square pow reciprocal rtruediv sin cos tan asin acos atan arctan sinh cosh erf
    erfc expit clamp clamp_min clamp_max clip prod cumprod var normalize cosine_similarity cdist
    pdist pairwise_distance scaled_dot_product_attention multi_head_attention_forward lstm gru rnn_tanh rnn_relu
    lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell round sign sgn floor ceil trunc frac
"""
_CURVED = frozenset(_CURVES.split())
# Functions that bring terms together.
_SUMS = """
    add sub subtract rsub radd iadd isub where maximum minimum fmax fmin eq ne lt le gt ge greater less equal fill
    masked_fill setitem cat concat concatenate stack hstack vstack dstack column_stack row_stack index_add scatter_add
    index_copy copy index_put scatter scatter_reduce index_reduce slice_scatter select_scatter diagonal_scatter
    masked_scatter block_diag hypot complex
"""
# Of degree one in their first tensor.
_FIRST = """
    relu leaky_relu rrelu abs neg negative positive sum mean nansum nanmean amax amin max min median
    linalg_vector_norm linalg_norm
    topk sort kthvalue view view_as reshape reshape_as flatten unflatten permute transpose swapaxes swapdims
    movedim moveaxis t getitem select narrow expand expand_as repeat repeat_interleave tile contiguous clone
    detach to float double half bfloat16 type type_as squeeze unsqueeze pad constant_pad_nd interpolate
    upsample pixel_shuffle pixel_unshuffle channel_shuffle roll flip fliplr flipud rot90 unfold fold im2col
    col2im chunk split tensor_split split_with_sizes unbind gather take take_along_dim index_select cumsum
    diagonal diag tril triu requires_grad real broadcast_to as_strided dropout dropout1d dropout2d dropout3d
    alpha_dropout feature_dropout feature_alpha_dropout avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d
    max_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool2d adaptive_max_pool3d max_pool1d_with_indices max_pool2d_with_indices
    max_pool3d_with_indices adaptive_max_pool1d_with_indices lp_pool1d lp_pool2d
    adaptive_max_pool2d_with_indices max_unpool1d max_unpool2d max_unpool3d norm vector_norm std
    embedding embedding_bag elu selu celu zero size dim numel zeros_like ones_like
"""
# What needs no trying: named by its name, or of degree one in each of its tensors, or no function of numbers.
KNOWN = _CURVED | _PRODUCTS | frozenset(_SUMS.split()) | frozenset(_FIRST.split())
LISTED = _CURVED | _PRODUCTS
_CLAMPS = frozenset(("clamp", "clamp_min", "clip"))
_BIAS_AT = {"linear": 2, "conv1d": 2, "conv2d": 2, "conv3d": 2, "conv_transpose1d": 2, "conv_transpose2d": 2,
            "conv_transpose3d": 2, "bilinear": 3}  # fmt: skip
_ROUNDINGS = 64


class Places:
    """The functions of no degree that a pass meets, by the modules that call them.

    Attributes:
        found: "module (function)" of each, as an ordered set.
    """

    def __init__(self, net: nn.Module, sources: Sequence[Tensor], gates: Sequence[Tensor]) -> None:
        self.found: dict[str, None] = {}
        self._net, self._reached = net, Reached(sources, gates)
        self._names: dict[int, str] | None = None
        self._running: Any = None

    def look(self, name: str, args: Any, kwargs: Any) -> None:
        """Write the function down where it is applied to activations, a product where both factors are."""
        if name in _CLAMPS and _keeps_what_is_positive(args, kwargs):
            return
        place = 0 if name.startswith("add") else _BIAS_AT.get(name)
        if place is not None:  # a bias is a term, and no factor
            args = (*args[:place], *args[place + 1 :])
            kwargs = {key: value for key, value in kwargs.items() if key != "bias"} if kwargs else kwargs
        given = tensors_in(args) if name == "einsum" else (*args, *kwargs.values())
        needed = [a for a in given if isinstance(a, Tensor) and a.requires_grad]
        if name in _PRODUCTS and not (name in _QUOTIENTS and needed and needed[-1] is not args[0]):
            live = [a for a in needed if a.grad_fn is not None]  # weights are leaves, nearly always
            if len(live) < 2 or sum(map(self._reached, live)) < 2:
                return
        elif not needed:
            return
        self._name(name)

    def tried(self, func: Any, raw: str, args: Any, kwargs: Any, out: Any) -> None:
        """Write a function down that no table lists, unless twice its arguments gave twice as much."""
        if any(t.requires_grad for t in tensors_in(out)):
            self._try(func, raw, args, kwargs, out)

    def own_function(self) -> None:
        """Try the network's own autograd function that is running, if any: no mode sees the call of one."""
        frame = sys._getframe(1)
        while frame is not None and frame.f_code is not _APPLY:
            frame = frame.f_back  # type: ignore[assignment]
        if frame is None or frame is self._running:
            return
        self._running = frame
        kind, args, kwargs = (frame.f_locals[name] for name in ("cls", "args", "kwargs"))
        with torch.no_grad():
            given = [map_leaves(lambda v: v.clone() if _is_floating(v) else v, value) for value in (args, kwargs)]
            out = kind.apply(*given[0], **given[1])
        self._try(kind.apply, kind.__name__, args, kwargs, out)

    def _try(self, func: Any, raw: str, args: Any, kwargs: Any, out: Any) -> None:
        needed = [a for a in tensors_in((args, kwargs)) if a.requires_grad]
        flowing = [a for a in needed if a.grad_fn is not None and self._reached(a)]
        groups = [flowing] if flowing else [[a] for a in needed]  # all that flows at once, or each weight by itself
        in_place = raw.endswith("_") and not raw.startswith("__")
        if in_place or not all(_of_degree_one(func, args, kwargs, out, group) for group in groups):
            self._name(raw.strip("_"))

    def _name(self, function: str) -> None:
        if self._names is None:
            self._names = {id(module): name for name, module in self._net.named_modules()}
        self.found[f"{_caller(self._names) or 'the network'} ({function})"] = None


_APPLY = torch.autograd.Function.apply.__func__.__code__  # type: ignore[attr-defined]


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors of a nest of arguments."""
    return [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]


def _keeps_what_is_positive(args: Any, kwargs: Any) -> bool:
    """Whether a clamp has a lower bound alone, of 0 or less."""
    low = kwargs.get("min", args[1] if len(args) > 1 else None)
    only = kwargs.get("max") is None and all(bound is None for bound in args[2:])
    return only and isinstance(low, (int, float)) and low <= 0


def _of_degree_one(func: Callable[..., Any], args: Any, kwargs: Any, out: Any, inputs: list[Tensor]) -> bool:
    """Whether func gives twice as much where each of `inputs` is twice as large; `out` is what it gave."""
    chosen = {id(t) for t in inputs}

    def doubled(value: Any) -> Any:
        return value.detach() * 2 if id(value) in chosen else value

    try:
        with torch.no_grad():
            more = func(*map_leaves(doubled, args), **map_leaves(doubled, kwargs))
    except Exception:  # whatever it is, it was not made to be called like this
        return False
    ones, others = (list(filter(_is_floating, leaves(value))) for value in (out, more))
    if len(ones) != len(others):
        return False
    with torch.no_grad():
        return all(_is_half(one.detach(), other) for one, other in zip(ones, others, strict=True))


def _is_half(one: Tensor, other: Tensor) -> bool:
    """Whether entries differ by roundings of the largest."""
    if one.shape != other.shape:
        return False
    half = other * 0.5
    if not other.numel() or not bool(torch.isfinite(half).all()):  # nothing can be told: such a pass counts for nothing
        return True
    bound = _ROUNDINGS * torch.finfo(other.dtype).eps
    return bool((one - half).abs().amax() <= bound * half.abs().amax())


def _is_floating(value: Any) -> bool:
    numbers = isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())
    return numbers and value.layout is torch.strided


def _caller(names: Mapping[int, str]) -> str | None:
    """The name of the module whose forward is running, innermost first, from the frames of the call."""
    frame = sys._getframe(1)
    while frame is not None:
        own = frame.f_locals.get("self")
        if isinstance(own, nn.Module) and id(own) in names:
            return names[id(own)] or type(own).__name__
        frame = frame.f_back  # type: ignore[assignment]
    return None


class Reached:
    """Whether values depend on some sources, asked again and again while a graph grows.

    What is known of a node stays known, so that each node is looked at once however many values are asked for.
    """

    def __init__(self, *sources: Sequence[Tensor]) -> None:
        self._sources = sources  # lists that may grow, before their tensors are used
        self._known: dict[Any, bool] = {}  # holds the nodes: another one cannot take the place of one that is gone

    @property
    def visited(self) -> int:
        """How many nodes have been looked at."""
        return len(self._known)

    def __call__(self, value: Tensor) -> bool:
        """Whether any source is in the graph before a value."""
        if value.grad_fn is None:
            return False
        todo = [value.grad_fn]
        while todo:
            node = todo[-1]
            if node in self._known:
                todo.pop()
                continue
            before = [other for other, _ in node.next_functions if other is not None]
            unknown = [other for other in before if other not in self._known]
            if unknown:
                todo += unknown
                continue
            leaf = getattr(node, "variable", None)
            own = leaf is not None and any(leaf is source for group in self._sources for source in group)
            self._known[node] = own or any(self._known[other] for other in before)
            todo.pop()
        return self._known[value.grad_fn]


def reaches(value: Tensor, sources: Sequence[Tensor]) -> bool:
    """Whether any source is in the graph before a value, whatever its gradient."""
    wanted = {id(source) for source in sources}
    return any(id(getattr(node, "variable", None)) in wanted for node in graph([value]))
