"""Where a network is of no degree in what comes in: synflow takes such places as they are, and names them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ssnr.interpret import degrees as degrees
from ssnr.interpret.exponents import tensors_in
from ssnr.interpret.probing import of_degree_one
from ssnr.networks.diagnose import graph

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
# What needs no trying: named by its name, or of degree one in each of its tensors, or no function of numbers.
KNOWN = frozenset(
    _CURVED | _PRODUCTS | (degrees.PASSES | degrees.ARITHMETIC | degrees.JOINS) - {"lerp", "grid_sample", "prelu"}
    | degrees.words("elu selu celu embedding embedding_bag size dim numel zeros_like ones_like iadd isub fill zero")
)  # fmt: skip
LISTED = _CURVED | _PRODUCTS


class Places:
    """The functions of no degree that a pass meets, by the modules that call them.

    Attributes:
        found: "module (function)" of each, as an ordered set.
    """

    def __init__(self, net: nn.Module, sources: Sequence[Tensor], gates: Sequence[Tensor]) -> None:
        self.found: dict[str, None] = {}
        self._net, self._reached = net, Reached(sources, gates)
        self._names: dict[int, str] | None = None

    def look(self, name: str, args: Any, kwargs: Any) -> None:
        """Write the function down where it is applied to activations, a product where both factors are."""
        if name in degrees.CLAMPS and degrees.lower_bound(args, kwargs) is not None:
            return
        place = 0 if name.startswith("add") else degrees.BIAS_AT.get(name)
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
        if not any(t.requires_grad for t in tensors_in(out)):
            return
        needed = [a for a in tensors_in((args, kwargs)) if a.requires_grad]
        flowing = [a for a in needed if a.grad_fn is not None and self._reached(a)]
        groups = [flowing] if flowing else [[a] for a in needed]  # all that flows at once, or each weight by itself
        in_place = raw.endswith("_") and not raw.startswith("__")
        if in_place or not all(of_degree_one(func, args, kwargs, out, group) for group in groups):
            self._name(raw.strip("_"))

    def _name(self, function: str) -> None:
        if self._names is None:
            self._names = {id(module): name for name, module in self._net.named_modules()}
        self.found[f"{_caller(self._names) or 'the network'} ({function})"] = None


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
