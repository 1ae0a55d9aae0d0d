"""One precision from end to end, also where a network's own code asks for another."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_COMPLEX = {torch.float64: torch.complex128, torch.float32: torch.complex64, torch.float16: torch.complex32}
_CASTS = frozenset(("float", "half", "bfloat16", "double"))


class OnePrecision(TorchFunctionMode):
    """Every floating dtype that code names becomes the pass's own, and tensors of another one are cast where they meet.

    Networks cast for the hardware they train on: `.float()` around a softmax, `.half()` inputs, a float32 constant. In
    a float64 pass that either raises or quietly rounds, and a range of 1e38 overflows long before 1e308.
    """

    def __init__(self, dtype: torch.dtype, *, dropout: bool = True) -> None:
        super().__init__()
        self.dtype, self.dropout = dtype, dropout
        self._complex = _COMPLEX.get(dtype, torch.complex64)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "__get__":
            return func(*args, **(kwargs or {}))
        if name in ("__set__", "requires_grad_") and not args[0].is_leaf and _asks_for_gradients(func, args):
            return args[0]  # it has them; torch would only take the request from a leaf
        if name in ("__set__", "requires_grad_") and _freezes(func, args):
            return args[0]  # a frozen weight is scored like any other
        if name in _CASTS and len(args) == 1 and func in _TENSOR_CASTS:
            return args[0].to(self.dtype)
        if name == "type" and len(args) == 2 and str(args[1]).endswith(_FLOATING):
            return args[0].to(self.dtype)
        if func is F.scaled_dot_product_attention and not self.dropout:
            args, kwargs = (*args[:4], 0.0, *args[5:]) if len(args) > 4 else args, {**(kwargs or {})}
            kwargs.pop("dropout_p", None)
        # What is written to keeps its own dtype; torch casts what is written into it.
        inplace = name.endswith("_") or (kwargs is not None and "out" in kwargs)
        if not inplace:
            args = tuple([self._cast(a) for a in args])
            if kwargs:
                kwargs = {key: self._cast(value) for key, value in kwargs.items()}
        return func(*args, **kwargs) if kwargs else func(*args)

    def _cast(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            dtype = value.dtype
            if dtype is self.dtype or not dtype.is_floating_point or value.is_sparse:
                return value
            return value.to(self.dtype)
        if isinstance(value, torch.dtype):
            return self.dtype if value.is_floating_point else self._complex if value.is_complex else value
        kind = type(value)
        if kind is list or kind is tuple:
            return kind(map(self._cast, value))
        return value


def _asks_for_gradients(func: Any, args: Any) -> bool:
    if func is Tensor.requires_grad_:
        return len(args) == 1 or bool(args[1])
    return getattr(func, "__self__", None) is Tensor.requires_grad and bool(args[1])


def _freezes(func: Any, args: Any) -> bool:
    known = func is Tensor.requires_grad_ or getattr(func, "__self__", None) is Tensor.requires_grad
    return known and args[0].requires_grad and not _asks_for_gradients(func, args)


_TENSOR_CASTS = frozenset((Tensor.float, Tensor.half, Tensor.bfloat16, Tensor.double))
_FLOATING = tuple(f"{kind}Tensor{end}" for kind in ("Float", "Double", "Half", "BFloat16") for end in ("", "'>"))
