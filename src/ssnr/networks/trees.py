"""Nests: tuples, lists, mappings and dataclasses of tensors, as networks take them and give them back."""

from __future__ import annotations

import copy
import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Mapping, ValuesView
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

_SEQUENCES = (tuple, list, deque, set, frozenset, ValuesView)


def leaves(value: Any) -> Iterator[Any]:
    """What a nest holds, in order."""
    if isinstance(value, Mapping):
        items: Any = value.values()
    elif isinstance(value, _SEQUENCES):
        items = value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = [getattr(value, field.name) for field in dataclasses.fields(value)]
    else:
        yield value
        return
    for item in items:
        yield from leaves(item)


def flatten(output: Any) -> list[Tensor]:
    """Every floating tensor in a nest, or on an object that is the whole output."""
    nest = isinstance(output, (Tensor, Mapping, *_SEQUENCES)) or dataclasses.is_dataclass(output)
    if not nest and not isinstance(output, (str, type, nn.Module)):
        slots = [name for kind in type(output).__mro__ for name in getattr(kind, "__slots__", ())]
        output = [*getattr(output, "__dict__", {}).values(), *(getattr(output, name, None) for name in slots)]
    return [leaf for leaf in leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def ignored(output: Any) -> str | None:
    """What a nest of outputs holds beside floating tensors, in words."""
    if not isinstance(output, (Mapping, tuple, list)) and not dataclasses.is_dataclass(output):
        return None
    kinds = {
        f"{leaf.dtype} tensor".removeprefix("torch.") if isinstance(leaf, Tensor) else type(leaf).__name__: None
        for leaf in leaves(output)
        if leaf is not None and not (isinstance(leaf, Tensor) and leaf.is_floating_point())
    }
    return f"outputs that are no floating-point tensors are ignored: {', '.join(kinds)}" if kinds else None


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """A nest with `function` applied to its entries, of the same types; anything else as it is."""
    if isinstance(value, PackedSequence):
        return value._replace(data=function(value.data))
    if isinstance(value, Mapping):
        entries = {key: function(item) for key, item in value.items()}
        if type(value) is dict:
            return entries
        try:  # batches of libraries are mappings with attributes
            new = copy.copy(value)
            new.update(entries)  # type: ignore[attr-defined]
        except Exception:
            return entries
        return new
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(function, value))
    if isinstance(value, (tuple, list)):
        return type(value)(map(function, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        new = copy.copy(value)  # type: ignore[arg-type]
        for field in dataclasses.fields(value):
            object.__setattr__(new, field.name, function(getattr(value, field.name)))
        return new
    return value


def with_tensors(value: Any) -> Any:
    """A nest with tensors in place of numpy's arrays."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return torch.from_numpy(np.array(value))
    return value if isinstance(value, Tensor) else mapped(with_tensors, value)


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """A nest with `function` applied to all of its tensors."""
    return function(value) if isinstance(value, Tensor) else mapped(lambda item: map_tensors(function, item), value)


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """A nest with `function` applied to everything in it that is no nest itself."""
    found = mapped(lambda item: map_leaves(function, item), value)
    return function(value) if found is value else found


def to_device(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Tensors of a nest on the device, floating ones in `dtype`; other things that can move, moved."""
    if isinstance(value, Tensor):
        wanted = dtype if value.is_floating_point() else _complex(dtype) if value.is_complex() else None
        found = value.to(device, wanted)
        return found.clone() if found.is_inference() else found
    nest = isinstance(value, (Mapping, tuple, list)) or dataclasses.is_dataclass(value)
    if not nest and not isinstance(value, type) and callable(getattr(value, "to", None)):
        return value.to(device)
    return mapped(lambda item: to_device(item, device, dtype), value)


def _complex(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype is torch.float64 else torch.complex64


def perturbed(value: Any) -> Any:
    """A nest with other numbers in its floating tensors, of like size."""
    generator = torch.Generator().manual_seed(0)

    def nudge(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        return tensor + noise.to(tensor.device, tensor.dtype)

    return map_tensors(nudge, value)


def one_sample(inputs: Any) -> Iterator[Any]:
    """What the first sample of a batch can be: the first of a list, or of every tensor as long as the first one."""
    if isinstance(inputs, list) and len(inputs) > 1:
        yield inputs[:1]
    length = next((leaf.shape[0] for leaf in leaves(inputs) if isinstance(leaf, Tensor) and leaf.dim()), None)

    def cut(tensor: Tensor) -> Tensor:
        if not tensor.dim() or tensor.shape[0] != length or tensor.is_nested:
            return tensor
        return tensor[:1] if tensor.layout is torch.strided else tensor.to_dense()[:1].to_sparse()

    yield map_tensors(cut, inputs)
