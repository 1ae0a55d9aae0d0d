"""The way data-driven passes go through a network: the operations that can be differentiated as often as needed.

What has a second derivative in PyTorch stays as it is. Instead of the rest, where the same function has another form:

    dropout, also inside attention and recurrence passed through, unless the recipe keeps it
    attention by a fused kernel                  its formula (`SDPBackend.MATH`)
    recurrent layers by cuDNN                    PyTorch's own
    embedding with sparse gradients              dense ones
    embedding_bag, cdist, pdist, hardsigmoid     written with operations that have second derivatives
    hooks on gradients                           left out, by `Model.swapped`
    checkpointed blocks                          run once and kept, by `Model.swapped`
    convolution, batch norm on batch statistics  `double_backward.py`, which is faster
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ssnr.core.errors import ScoringError
from ssnr.interpret.batch_norms import normed
from ssnr.interpret.double_backward import ONCE, SAFE, TWICE, normalises
from ssnr.interpret.reading import without_dropout
from ssnr.networks.trees import mapped

Answer = Callable[..., Tensor | None]
T = TypeVar("T")


class LayoutError(ScoringError):
    """The network reads the memory of a tensor, which has to be as its author expects it."""


@contextmanager
def differentiable(*, second: bool, dropout: bool, trains: bool, channels_last: bool) -> Iterator[None]:
    """Run the network's forward pass in here, with gradients.

    Args:
        second: whether it is differentiated twice.
        dropout: whether dropout stays.
        trains: whether the network is in train mode; cuDNN differentiates recurrent layers in no other.
        channels_last: whether images were given in that order.

    Raises:
        LayoutError: with `channels_last`, for a network that depends on the order of memory.
    """
    paths = Paths(second, dropout, recurrent=second or not trains, channels_last=channels_last)
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        if second:
            stack.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
        if not dropout:
            stack.enter_context(without_dropout())
        stack.enter_context(paths)
        yield
        paths.close()


@contextmanager
def in_order() -> Iterator[None]:
    """Run a forward pass on images that are `in_channels_last` in here: PyTorch's operations, differentiable once.

    Raises:
        LayoutError: the network depends on the order of memory.
    """
    order = Order()
    with order:
        yield
        order.close()


class Order(TorchFunctionMode):
    """Lets a network run on tensors whose channels are last in memory, or refuses to."""

    def __init__(self) -> None:
        super().__init__()
        self._copies: list[tuple[Tensor, int, Tensor, int]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _MEMORY and not args[0].is_contiguous():
            return self._viewed(func, args, kwargs)
        if (answer := _ORDERED.get(func)) is not None:
            with torch._C.DisableTorchFunction():  # a mode sees every attribute that is read, at ten times the price
                found = answer(*args, **kwargs)
            if found is not None:
                return found
        return func(*args, **kwargs)

    def _viewed(self, func: Any, args: Any, kwargs: Any) -> Any:
        """A view that another order of memory does not allow, of a copy."""
        if func not in _VIEWS:
            raise LayoutError(f"{func.__name__} reads memory in its order")
        try:
            return func(*args, **kwargs)
        except RuntimeError:
            copy = args[0].contiguous()
            self._copies.append((args[0], args[0]._version, copy, copy._version))
            return func(copy, *args[1:], **kwargs)

    def close(self) -> None:
        """Refuse what a view would have carried over and a copy did not: a later change in place of either."""
        for tensor, version, copy, version_of_copy in self._copies:
            if (tensor._version, copy._version) != (version, version_of_copy):
                raise LayoutError("a view, and what it is a view of, are changed in place")


class Paths(Order):
    """Answers functions by other forms of them."""

    def __init__(self, second: bool, dropout: bool, recurrent: bool, channels_last: bool) -> None:
        super().__init__()
        self._kernels: Mapping[Any, Answer] = TWICE if second else ONCE
        self._answers = {**_SPARSE, **(_TWICE if second else {})}
        self._dropout, self._recurrent, self._channels_last = dropout, recurrent, channels_last

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (kernel := self._kernels.get(func)) is not None:
            with torch._C.DisableTorchFunction():  # a mode sees every attribute that is read, at ten times the price
                found = kernel(*args, **kwargs)
            if found is not None:
                return found
        if (answer := self._answers.get(func)) is not None and (found := answer(*args, **kwargs)) is not None:
            return found
        if self._channels_last and func in _MEMORY and not args[0].is_contiguous():
            return self._viewed(func, args, kwargs)
        if func in _RECURRENT:
            return self._recurrence(func, args, kwargs)
        if func in _DROPPING and not self._dropout:
            args, kwargs = _without_dropout_p(_DROPPING[func], args, kwargs)
        return func(*args, **kwargs)

    def _recurrence(self, func: Any, args: Any, kwargs: Any) -> Any:
        """A recurrent layer, whose one floating-point argument is the share that it drops."""
        if not self._dropout:
            args = tuple(0.0 if isinstance(value, float) else value for value in args)
        with torch.backends.cudnn.flags(enabled=False) if self._recurrent else nullcontext():
            return func(*args, **kwargs)


def in_the_faster_layout(run: Callable[..., T], *, faster: bool) -> T:
    """`run(channels_last=True)` where that is the faster layout and the network allows it, else `channels_last=False`.

    Random states are those of one run, whichever it is that comes to its end.
    """
    if faster:
        drawn = torch.get_rng_state()
        try:
            return run(channels_last=True)
        except ScoringError:
            torch.set_rng_state(drawn)
    return run(channels_last=False)


def channels_last_is_faster(dtype: str, device: torch.device) -> bool:
    """Whether images are convolved faster with their channels last: a processor's in float32."""
    return dtype == "float32" and device.type == "cpu"


def in_channels_last(value: Any) -> Any:
    """Floating four-dimensional tensors of a nest with their channels last in memory."""
    if isinstance(value, Tensor):
        fits = value.dim() == 4 and value.is_floating_point() and value.layout is torch.strided
        return value.contiguous(memory_format=torch.channels_last) if fits else value
    return mapped(in_channels_last, value)


def _without_dropout_p(place: int, args: tuple[Any, ...], kwargs: Any) -> tuple[tuple[Any, ...], Any]:
    """The arguments of an attention that drops nothing; `place` is where its `dropout_p` stands."""
    if len(args) > place:
        return (*args[:place], 0.0, *args[place + 1 :]), kwargs
    return args, {**kwargs, "dropout_p": 0.0}


def _batch_norm(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,  # noqa: A002
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor | None:  # fmt: skip
    """On the batch's statistics, of images that do not lie in the usual order."""
    if not normalises(input, training, (weight, bias)) or input.dim() != 4 or input.is_contiguous():
        return None
    return normed(input, weight, bias, eps)


def _embedding(
    input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,  # noqa: A002
    norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Tensor | None:  # fmt: skip
    if not sparse:
        return None
    return F.embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq)


def _sparse_bag(*args: Any, **kwargs: Any) -> Tensor | None:
    if not kwargs.get("sparse", args[7] if len(args) > 7 else False):
        return None
    if len(args) > 7:
        args = (*args[:7], False, *args[8:])
    else:
        kwargs["sparse"] = False
    return F.embedding_bag(*args, **kwargs)


def _embedding_bag(
    input: Tensor, weight: Tensor, offsets: Tensor | None = None, max_norm: float | None = None,  # noqa: A002
    norm_type: float = 2.0, scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False,
    per_sample_weights: Tensor | None = None, include_last_offset: bool = False, padding_idx: int | None = None,
) -> Tensor | None:  # fmt: skip
    """Rows looked up, then summed by bag; an empty bag is zero."""
    if mode == "max" or scale_grad_by_freq:
        return None
    tokens = input.reshape(-1)
    if input.dim() == 2:
        count = input.shape[0]
        bags = torch.arange(count, device=tokens.device).repeat_interleave(input.shape[1])
    else:
        assert offsets is not None
        starts = offsets[:-1] if include_last_offset else offsets
        count = len(starts)
        bags = torch.searchsorted(starts.contiguous(), torch.arange(len(tokens), device=starts.device), right=True) - 1
    rows = F.embedding(tokens, weight, padding_idx, max_norm, norm_type)
    share = torch.ones_like(tokens, dtype=weight.dtype)
    if padding_idx is not None:
        share = (tokens != padding_idx % len(weight)).to(weight.dtype)
    sizes = share.new_zeros(count).index_add(0, bags, share)
    if per_sample_weights is not None:
        share = share * per_sample_weights.reshape(-1)
    total = weight.new_zeros(count, weight.shape[1]).index_add(0, bags, rows * share[:, None])
    return total / sizes.clamp(min=1)[:, None] if mode == "mean" else total


def _cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: Any = None) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p, dim=-1)
    return found


def _pdist(input: Tensor, p: float = 2.0) -> Tensor:  # noqa: A002
    first, second = torch.triu_indices(len(input), len(input), 1, device=input.device)
    found: Tensor = torch.linalg.vector_norm(input[first] - input[second], p, dim=-1)
    return found


def _hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:  # noqa: A002
    found = F.relu6(input + 3) / 6
    return input.copy_(found) if inplace else found


_SPARSE: dict[Any, Answer] = {F.embedding: _embedding, F.embedding_bag: _sparse_bag}
_TWICE: dict[Any, Answer] = {
    F.embedding_bag: _embedding_bag,
    torch.cdist: _cdist,
    F.pdist: _pdist,
    torch.pdist: _pdist,
    F.hardsigmoid: _hardsigmoid,
}
_ORDERED: dict[Any, Answer] = {**SAFE, F.batch_norm: _batch_norm}
_RECURRENT = frozenset(getattr(torch, name) for name in ("lstm", "gru", "rnn_tanh", "rnn_relu"))
_DROPPING: dict[Any, int] = {F.scaled_dot_product_attention: 4, F.multi_head_attention_forward: 10}
_VIEWS = frozenset((Tensor.view, Tensor.view_as))
_MEMORY = _VIEWS | {Tensor.as_strided, torch.as_strided, Tensor.data_ptr, Tensor.untyped_storage, Tensor.storage}
