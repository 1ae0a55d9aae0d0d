"""Leave no trace: what a network and the process hold before it is scored, put back afterwards."""

from __future__ import annotations

import random
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import MemberDescriptorType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from ssnr.networks.settings import TURNS, kept_random_states, kept_settings
from ssnr.networks.weights import ATOMS, is_plain, unregistered

_CONTAINERS = frozenset((list, dict, set, OrderedDict, defaultdict, deque))
_TABLES = frozenset((dict, OrderedDict))
_SEQUENCES = (list, deque)
_OWN = ("torch.nn.modules.", "ssnr.")
_KNOWN: dict[type, bool] = {}
_DEPTH, _MANY = 4, 4096  # how deep to look, and into containers of how many entries


@contextmanager
def preserved(net: nn.Module, *, exposed: bool = True) -> Iterator[None]:
    """Leave `net` bit-identical: parameters, buffers, gradients, modes, hooks, attributes; random states and settings.

    Each module's attributes are put back as they were bound, and lists and dictionaries among them with what they
    held. Tensors are the same objects with the same bits, lazy ones lazy again. Random states are those of torch
    (CPU and CUDA), numpy, Python, and of generators that modules own; settings are torch's own (default precision,
    determinism, threads, which kernels). Also when the body raises. Other threads that score wait (`settings.TURNS`).

    Args:
        net: the network.
        exposed: whether the body may write to the network's own parameters. Scoring hands a network other tensors in
            their place (`Model.call`), and copies of all parameters would then be for nothing.
    """
    with TURNS:
        restores = _restores(net, exposed)
        try:
            yield
        finally:
            for restore in reversed(restores):
                restore()


def _restores(net: nn.Module, exposed: bool) -> list[Callable[[], Any]]:
    modules = list(net.modules())
    if not exposed and not has_own_code(modules):
        restores: list[Callable[[], Any]] = [_kept_plain(modules), kept_random_states()]
    else:
        modules += [module for _, module in unregistered([("", module) for module in modules])]
        held = _Held(modules)
        restores = [
            *map(_kept, (*modules, *held.objects)),
            held.refill,
            *(_kept_tensor(tensor, exposed) for tensor in held.tensors),
            *held.others,
            kept_random_states(),
        ]
    restores.append(kept_settings())
    return restores


@contextmanager
def preserved_attributes(modules: list[nn.Module]) -> Iterator[None]:
    """Leave what a forward may change where no operation writes to a tensor: attributes, what they hold, random states.

    Much cheaper than `preserved`: torch's own modules change nothing but their mode then.
    """
    with TURNS:
        modes = [module.training for module in modules]
        restores: list[Callable[[], Any]] = []
        own = [module for module in modules if has_own_code((module,))]
        if own:
            restores.append(_kept_bound(modules))
            own += [module for _, module in unregistered([("", module) for module in own])]
            held = _Held(own)
            restores += [*map(_kept, (*own, *held.objects)), held.refill, *held.others, kept_random_states()]
        restores.append(kept_settings())
        try:
            yield
        finally:
            for restore in reversed(restores):
                restore()
            for module, mode in zip(modules, modes, strict=True):
                module.__dict__["training"] = mode


def has_own_code(modules: Iterable[nn.Module]) -> bool:
    """Whether any code of a network is its user's: torch's own modules change their buffers and nothing else."""
    for module in modules:
        kind = type(module)
        known = _KNOWN.get(kind)
        if known is None:
            known = _KNOWN[kind] = kind.__module__.startswith(_OWN) and not issubclass(kind, LazyModuleMixin)
        if not known or module._forward_pre_hooks or module._forward_hooks or "forward" in module.__dict__:
            return True
    return False


def _kept_plain(modules: list[nn.Module]) -> Callable[[], None]:
    """Modes, flags, gradients and buffers, of modules that change nothing else."""
    modes = [module.training for module in modules]
    flags = [(p, p.requires_grad, p.grad) for m in modules for p in m._parameters.values() if p is not None]
    buffers = [b for m in modules for b in m._buffers.values() if b is not None and not b.is_inference()]
    with torch.no_grad():
        saved = [(b, b._version, b.detach().clone()) for b in buffers]

    def restore() -> None:
        for module, training in zip(modules, modes, strict=True):
            if module.training is not training:
                module.training = training
        for parameter, needed, gradient in flags:
            if parameter.requires_grad != needed:
                parameter.requires_grad_(needed)
            if parameter.grad is not gradient:
                parameter.grad = gradient
        with torch.no_grad():
            for buffer, version, value in saved:
                if buffer._version != version:
                    buffer.copy_(value)

    return restore


def _kept_bound(modules: list[nn.Module]) -> Callable[[], None]:
    """What modules have under their names, and what their tables hold: parameters, buffers, modules, hooks."""
    bound = [(module.__dict__, tuple(module.__dict__.items())) for module in modules]
    tables = [(v, tuple(v.items())) for _, items in bound for _, v in items if type(v) in _TABLES]

    def restore() -> None:
        for table, content in (*bound, *tables):
            if len(table) != len(content) or not all(map(_same_entry, table.items(), content)):
                table.clear()
                table.update(content)

    return restore


def _same_entry(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    return one[0] is other[0] and one[1] is other[1]


def _kept(module: Any) -> Callable[[], None]:
    """The class of a module, or of a plain object, and its attributes."""
    kind, own = type(module), module.__dict__
    bound = tuple(own.items())
    slotted = [(name, getattr(module, name)) for name in _slotted(kind) if hasattr(module, name)]

    def restore() -> None:
        if type(module) is not kind:
            module.__class__ = kind
        if not _holds(module.__dict__, bound):
            module.__dict__.clear()
            module.__dict__.update(bound)
        for name, value in slotted:
            object.__setattr__(module, name, value)

    return restore


def _slotted(kind: type) -> tuple[str, ...]:
    """Attributes that a class keeps outside of `__dict__`."""
    known = _SLOTTED.get(kind)
    if known is None:
        own = ((name, type(value)) for base in kind.__mro__ for name, value in vars(base).items())
        known = _SLOTTED[kind] = tuple(name for name, what in own if what is MemberDescriptorType)
    return known


_SLOTTED: dict[type, tuple[str, ...]] = {}


def _content(container: Any) -> tuple[Any, ...]:
    """The entries of a container, in order."""
    if not container:
        return ()
    return tuple(container.items()) if isinstance(container, dict) else tuple(container)


def _holds(container: Any, content: tuple[Any, ...]) -> bool:
    """Whether a container has the very entries that it had, in their order."""
    if len(container) != len(content):
        return False
    if isinstance(container, dict):
        return all(k is m and v is w for (k, v), (m, w) in zip(container.items(), content, strict=True))
    return all(a is b for a, b in zip(container, content, strict=True))


class _Held:
    """What modules keep beside other modules: each thing once, however deep in lists and dictionaries it stands."""

    def __init__(self, modules: list[nn.Module]) -> None:
        self._containers: list[tuple[Any, tuple[Any, ...]]] = []
        self._empty: list[Any] = []  # most are: of hooks
        self.objects: list[Any] = []
        self.tensors: list[Tensor] = []
        self.others: list[Callable[[], Any]] = []  # arrays and generators, as what puts them back
        seen: set[int] = set()
        todo = []
        for module in modules:
            for value in module.__dict__.values():
                kind = type(value)
                if kind in _CONTAINERS and not value:
                    self._empty.append(value)
                elif kind not in ATOMS:
                    todo.append((value, 0, False))
        while todo:
            value, depth, inside = todo.pop()
            if id(value) not in seen and not isinstance(value, nn.Module):
                seen.add(id(value))
                deeper, within = self._look(value, inside)
                if depth < _DEPTH:
                    todo += [(item, depth + 1, within) for item in deeper if type(item) not in ATOMS]

    def _look(self, value: Any, inside: bool) -> tuple[Iterable[Any], bool]:
        """Note one thing; what it holds, and whether that is inside of a plain object."""
        kind = type(value)
        if isinstance(value, Tensor):
            self.tensors.append(value)
        elif kind in _CONTAINERS or kind is tuple:
            if kind is not tuple:
                self._containers.append((value, _content(value)))
            if 0 < len(value) <= _MANY:
                return (value.values() if isinstance(value, dict) else value), inside
        elif kind is np.ndarray:
            if value.dtype != object and value.flags.writeable:
                self.others.append(_later(np.copyto, value, value.copy()))
        elif state := _generator_state(value):
            self.others.append(_later(*state))
        elif not inside and is_plain(value):
            self.objects.append(value)
            return value.__dict__.values(), True
        return (), inside

    def refill(self) -> None:
        """Put back what lists and dictionaries held."""
        for container in self._empty:
            if container:
                container.clear()
        for container, content in self._containers:
            if not _holds(container, content):
                container.clear()
                (container.extend if isinstance(container, _SEQUENCES) else container.update)(content)


def _kept_tensor(tensor: Tensor, exposed: bool) -> Callable[[], None]:
    if is_lazy(tensor):
        return _kept_lazy(tensor)
    needs, gradient = tensor.requires_grad, tensor.grad if tensor.is_leaf else None
    copied = exposed or not isinstance(tensor, nn.Parameter)
    with torch.no_grad():
        value = tensor.detach().clone() if copied else None
        slope = gradient.clone() if exposed and gradient is not None else None
    version = None if tensor.is_inference() else tensor._version

    def restore() -> None:
        if tensor.is_leaf and not tensor.is_inference():
            tensor.requires_grad_(needs)
            tensor.grad = gradient
        if value is not None:
            changed = version is None or tensor._version != version
            if changed or (exposed and not same_bits(tensor, value)):
                with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                    if tensor.shape != value.shape:
                        tensor.resize_(value.shape)
                    tensor.copy_(value)
        if slope is not None and gradient is not None and not same_bits(gradient, slope):
            with torch.no_grad():
                gradient.copy_(slope)

    return restore


def _kept_lazy(tensor: Tensor) -> Callable[[], None]:
    """A parameter or buffer without a shape as yet, which the first forward pass would give it."""
    kind, needs, attributes = type(tensor), tensor.requires_grad, dict(tensor.__dict__)

    def restore() -> None:
        if not is_lazy(tensor):
            tensor.requires_grad_(needs)
            with torch.no_grad():
                tensor.data = tensor.data.new_empty(0)
            tensor.__class__ = kind
            tensor.__dict__.clear()
            tensor.__dict__.update(attributes)

    return restore


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal, NaN to NaN."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.layout is not torch.strided or one.device.type == "meta" or one.is_quantized:
        return one.layout is other.layout
    equal = (one == other) | ((one != one) & (other != other))
    return bool(equal.all())


def _generator_state(value: Any) -> tuple[Any, ...] | None:
    """How to put a random generator that a module owns back to where it is: a function and its arguments."""
    kind = type(value)
    if kind is torch.Generator:
        return value.set_state, value.get_state()
    if kind is np.random.Generator:
        return setattr, value.bit_generator, "state", value.bit_generator.state
    if kind is np.random.RandomState:
        return value.set_state, value.get_state(legacy=False)
    if kind is random.Random:
        return value.setstate, value.getstate()
    return None


def _later(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    return lambda: function(*args)
