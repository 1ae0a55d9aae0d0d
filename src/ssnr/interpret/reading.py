"""Synflow's reading of a network: weights by magnitude, norms and dropout passed through, tokens as one-hot vectors.

The network itself is not changed and not copied. While it runs, a `TorchFunctionMode` sees every function that it
calls, whether from a module or from its own code. It answers for norms and dropout with their input, for the embedding
of a token with the sum of all rows, and writes down which modules are of no degree in what comes in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ssnr.interpret.approximated import KNOWN, LISTED, Places, tensors_in
from ssnr.interpret.saturation import attention, attention_of_heads, is_maximum, is_wrapped

_NORMS: frozenset[Callable[..., Any]] = frozenset(
    getattr(module, name)
    for module, names in (
        (F, ("batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm", "local_response_norm")),
        (torch, ("batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm")),
        (torch, ("native_batch_norm", "native_layer_norm", "native_group_norm")),
    )
    for name in names
    if hasattr(module, name)
)
# These put out statistics as well.
_NATIVE = frozenset(function for function in _NORMS if function.__name__.startswith("native_"))
_DROPOUT: frozenset[Callable[..., Any]] = frozenset(
    getattr(module, name)
    for module, names in (
        (F, ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")),
        (torch, ("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout")),
    )
    for name in names
    if hasattr(module, name)
)


# A sum of some thousand terms is off by fewer roundings than this.
_ROUNDING = 64


# Attention and recurrent layers take dropout as a number: its name, and its place where they take no names.
_INNER_DROPOUT: dict[Callable[..., Any], int] = {
    F.scaled_dot_product_attention: 4,
    F.multi_head_attention_forward: 10,
}


class Bypass(TorchFunctionMode):
    """Answers calls of the given functions with their input.

    A random mask of zeros and ones, which is what stochastic depth multiplies by, is answered with its expectation:
    what the network divides it by. Dropout inside of attention is off.

    A batch norm that is kept and uses batch statistics turns a constant channel into its bias; what rounding leaves of
    x − mean there is dust, which any scale-free score would take for a signal. Such channels are made exactly constant.
    """

    def __init__(self, functions: frozenset[Callable[..., Any]]) -> None:
        super().__init__()
        self.functions = functions

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.functions:
            return args[0] if args else kwargs["input"]
        if func in _BERNOULLI:
            return _expected(func, *args, **(kwargs or {}))
        if func in _INNER_DROPOUT:
            place = _INNER_DROPOUT[func]
            args = (*args[:place], 0.0, *args[place + 1 :]) if len(args) > place else args
            kwargs = {key: 0.0 if key == "dropout_p" else value for key, value in (kwargs or {}).items()}
        if func is F.batch_norm and _uses_batch_statistics(args, kwargs or {}) and args:
            args = (_without_dust(args[0]), *args[1:])
        return func(*args, **kwargs) if kwargs else func(*args)


_BERNOULLI = frozenset((torch.bernoulli, Tensor.bernoulli, Tensor.bernoulli_))


def _expected(func: Any, input: Tensor, p: Any = None, *, generator: Any = None) -> Tensor:  # noqa: A002 - torch's name
    """Bernoulli's mean: p, or the probabilities that are the input."""
    if func is Tensor.bernoulli_:
        p = 0.5 if p is None else p
        return input.copy_(p) if isinstance(p, Tensor) else input.fill_(p)
    return input.clone() if p is None else torch.full_like(input, p)


def _uses_batch_statistics(args: Any, kwargs: Any) -> bool:
    return bool(args[5] if len(args) > 5 else kwargs.get("training", False))


def _without_dust(x: Tensor) -> Tensor:
    """Channels whose spread is rounding, replaced by their mean, which has no gradient."""
    over = [d for d in range(x.dim()) if d != 1]
    with torch.no_grad():
        mean = x.mean(over, keepdim=True)
        spread = (x - mean).abs().amax(over, keepdim=True)
        dust = spread <= _ROUNDING * torch.finfo(x.dtype).eps * x.abs().amax(over, keepdim=True)
    return torch.where(dust, mean, x) if bool(dust.any()) else x


def passed(x: Tensor) -> Tensor:
    """What a bypassed norm returns: a copy, for the network may change it in place and still need what went in."""
    return x.clone()


class Reading(Bypass):
    """`Bypass` that also reads tokens, and keeps a list of what it could only approximate.

    Synflow is exact where the network is of degree one in each layer at |θ|. A sigmoid, a softmax, a product of two
    activations is not; there the saliency is that of the real function.

    Attributes:
        gates: a one for every embedding of tokens, by which it is multiplied: their gradients say whether the output
            depends on the tokens.
        peaks: the least and largest numbers after products with a weight: in float32 of each, in float64 of every
            third, which is enough because two weights in float32 shrink nothing by more than 2**300.
        saturated: whether some attention may be no more than a maximum, and has a gradient all the same.
    """

    def __init__(
        self, functions: frozenset[Callable[..., Any]], net: nn.Module, sources: Sequence[Tensor], sizes: bool
    ) -> None:
        super().__init__(functions)
        self._sizes = sizes
        self.gates: list[Tensor] = []
        self.peaks: list[Tensor] = []
        self.saturated = False
        self._products = 0
        self._places = Places(net, sources, self.gates)

    @property
    def approximated(self) -> tuple[str, ...]:
        """Each place where the network is not of degree one, as "module (function)"."""
        return tuple(self._places.found)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.functions:
            out = passed(args[0] if args else kwargs["input"])
            return (out, *func(*args, **(kwargs or {}))[1:]) if func in _NATIVE else out
        raw = getattr(func, "__name__", "")
        name = raw.strip("_")
        if not torch.is_grad_enabled():
            self._places.own_function()
        if name in LISTED:
            self._places.look(name, args, kwargs or {})
            if name in _BY_SOFTMAX and (found := self._by_softmax(func, name, args, kwargs or {})) is not None:
                return found
        if func in _LOOKUPS and _is_token(args[0] if args else (kwargs or {}).get("input"), name):
            return self._rows(name, *args, **(kwargs or {}))
        if name in _CHOICES and (chosen := _chosen_rows(name, args, kwargs or {})) is not None:
            return self._rows("embedding", chosen[1], chosen[0])
        out = super().__torch_function__(func, types, args, kwargs)
        if name not in KNOWN and raw not in _ATTRIBUTES:
            self._places.tried(func, raw, args, kwargs or {}, out)
        if func is F.one_hot and _is_token(args[0]):
            return torch.ones_like(out)
        if self._sizes and name in _WEIGHTED and isinstance(out, Tensor) and out.numel():
            self._products += 1
            if (self._products % 3 == 1 or out.dtype is not torch.float64) and not is_wrapped(out):
                self.peaks += torch.aminmax(out.detach())  # many times as fast as a norm
        if isinstance(out, Tensor):
            if not out.is_floating_point() and not _is_fresh(name) and any(map(_is_token, tensors_in(args))):
                mark_tokens(out)
        elif name in _PARTS and _is_token(args[0]):
            parts = tuple(out)
            mark_tokens(parts)
            return iter(parts) if name == "iter" else parts
        return out

    def _by_softmax(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Softmax and attention where they are a maximum, None elsewhere."""
        if name == "scaled_dot_product_attention":
            return attention(*args, **kwargs)
        if name == "multi_head_attention_forward":
            found = attention_of_heads(func, args, kwargs)
            self.saturated |= found is True
            return None if isinstance(found, bool) else found
        x, dim = args[0] if args else kwargs["input"], args[1] if len(args) > 1 else kwargs.get("dim")
        if dim is None or not is_maximum(x, dim):
            return None
        out = func(*args, **kwargs)
        if out.requires_grad:
            out.register_hook(torch.zeros_like)
        return out

    def _rows(self, name: str, ids: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """What an all-ones vector over the vocabulary looks up in every position: the sum of all rows."""
        gate = torch.ones((), dtype=weight.dtype, device=weight.device, requires_grad=True)
        self.gates.append(gate)
        row = weight.sum(0) * gate
        if name == "embedding":
            return row.expand(*ids.shape, -1)
        # The bags, their sizes and weights as they are, over a vocabulary of one.
        given = {**dict(zip(_OF_BAGS, args, strict=False)), **kwargs}
        kept = {key: value for key, value in given.items() if key not in _OF_ROWS}
        return F.embedding_bag(torch.zeros_like(ids, dtype=torch.long), row[None], **kept)


# What `embedding_bag` takes after tokens and weight, and what of it is about single rows.
_OF_BAGS = ("offsets", "max_norm", "norm_type", "scale_grad_by_freq", "mode", "sparse", "per_sample_weights",
            "include_last_offset", "padding_idx")  # fmt: skip
_OF_ROWS = ("max_norm", "norm_type", "scale_grad_by_freq", "sparse", "padding_idx")
_BY_SOFTMAX = frozenset(("softmax", "scaled_dot_product_attention", "multi_head_attention_forward"))
_ATTRIBUTES = frozenset(("__get__", "__set__", "__delete__"))
_LOOKUPS = frozenset((F.embedding, F.embedding_bag))
_WEIGHTED = frozenset(("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
                       "conv_transpose3d", "matmul", "mm", "bmm", "einsum", "bilinear", "addmm"))  # fmt: skip


_CHOICES = frozenset(("getitem", "index_select"))


# Tuples of parts of their first argument.
_PARTS = frozenset(("unbind", "chunk", "split", "split_with_sizes", "tensor_split", "hsplit", "vsplit", "iter"))


def _is_fresh(name: str) -> bool:
    """Whether a function of tokens gives none: it takes no more than their shape, or counts them."""
    return name.endswith("_like") or name.startswith("new_") or name == "cumsum"


def _chosen_rows(name: str, args: Any, kwargs: Any) -> tuple[Tensor, Tensor] | None:
    """The matrix and the tokens, where tokens choose rows of a weight without being called an embedding."""
    given = [*args, *kwargs.values()]
    weight, ids = given[0], given[-1]
    if not (isinstance(weight, Tensor) and weight.dim() == 2 and weight.is_leaf and weight.requires_grad):
        return None
    if not _is_token(ids) or (name == "index_select" and given[1] != 0):
        return None
    return weight, ids


def mark_tokens(value: Any) -> None:
    """Say of the integer tensors of a nest that they are tokens: what is looked up with them is one-hot."""
    if isinstance(value, Tensor):
        if not value.is_floating_point() and not value.is_complex() and value.dtype is not torch.bool:
            value.__dict__["_ssnr_token"] = True
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if "mask" not in str(key):  # zeros and ones, of which places are computed
                mark_tokens(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            mark_tokens(item)


def _is_token(value: Any, lookup: str = "") -> bool:
    """Whether these are the caller's integers; a lookup by ones is one without a batch, and means tokens as well."""
    return isinstance(value, Tensor) and (
        "_ssnr_token" in value.__dict__ or (lookup.startswith("embedding") and value.is_floating_point())
    )


@contextmanager
def linear(net: nn.Module, norms: str, sources: Sequence[Tensor] = (), *, sizes: bool = True) -> Iterator[Reading]:
    """Run `net` in here with its norms bypassed.

    A norm is a function of torch that normalises, or a module whose class is called a norm (`LlamaRMSNorm`,
    `FrozenBatchNorm2d`, `L2Norm`) and has no matrix of weights. Where a class does more than that (batch norm and
    activation in one), its functions are seen one by one.

    Args:
        net: the network.
        norms: "all" bypasses norms of every kind, module or functional; "batch" exactly `BatchNorm1d` and
            `BatchNorm2d` modules, as the field's published code does; "none" keeps them.
        sources: leaves that the network reads, to tell activations from weights.
        sizes: whether `peaks` are wanted.
    """
    if norms == "batch":
        bypassed = [m for m in net.modules() if type(m) in (nn.BatchNorm1d, nn.BatchNorm2d)]
    else:
        bypassed = [m for m in net.modules() if norms == "all" and _is_own_norm(m)]
    own = [module.__dict__.get("forward") for module in bypassed]
    reading = Reading(_NORMS | _DROPOUT if norms == "all" else _DROPOUT, net, sources, sizes)
    for module in bypassed:
        module.__dict__["forward"] = _passing(module.forward)
    try:
        with reading:
            yield reading
    finally:
        for module, forward in zip(bypassed, own, strict=True):
            del module.__dict__["forward"]
            if forward is not None:
                module.__dict__["forward"] = forward


def _is_own_norm(module: nn.Module) -> bool:
    """Whether a module of nobody's but the user's is a norm by its name, and by having nothing but vectors."""
    kind = type(module)
    if isinstance(module, nn.CrossMapLRN2d):  # torch's only norm that calls no function for it
        return True
    if kind.__module__.startswith("torch.") or not _NORM_NAME.search(kind.__name__):
        return False
    return not module._modules and all(p is None or p.dim() < 2 or _is_vector(p) for p in module._parameters.values())


def _is_vector(parameter: Tensor) -> bool:
    """(1, C, 1, 1) and the like: one number a channel."""
    return sum(size > 1 for size in parameter.shape) <= 1


_NORM_NAME = re.compile(r"(?i)norm(ali[sz]ation|ali[sz]er)?([123n]d)?$")


def without_dropout() -> TorchFunctionMode:
    """Pass dropout of every kind through, for data-driven passes in train mode."""
    return Bypass(_DROPOUT)


def _passing(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The input of a norm, unless it is given more than one tensor: a residual to be added, or a gate."""

    def bypassed(*args: Any, **kwargs: Any) -> Any:
        floating = [t for t in (*args, *kwargs.values()) if isinstance(t, Tensor) and t.is_floating_point()]
        return passed(floating[0]) if len(floating) == 1 else forward(*args, **kwargs)

    return bypassed
