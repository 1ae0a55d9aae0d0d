"""Leave no trace: what a network and the process hold before it is scored, put back afterwards."""

from __future__ import annotations

import functools
import random
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import MemberDescriptorType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from ssnr._slots import unregistered

_CONTAINERS = frozenset((list, dict, set, OrderedDict, defaultdict, deque))
_SEQUENCES = (list, deque)
_OWN = ("torch.nn.modules.", "ssnr.")
_KNOWN: dict[type, bool] = {}
_ATOMS = frozenset((bool, int, float, str, tuple, type(None)))


@contextmanager
def preserved(net: nn.Module, *, exposed: bool = True) -> Iterator[None]:
    """Leave `net` bit-identical: parameters, buffers, gradients, modes, hooks, attributes; random states and settings.

    Each module's attributes are put back as they were bound, and lists and dictionaries among them with what they
    held. Tensors are the same objects with the same bits, lazy ones lazy again. Random states are those of torch
    (CPU and CUDA), numpy, Python, and of generators that modules own; settings are torch's own (default precision,
    determinism, threads, which kernels). Also when the body raises.

    Args:
        net: the network.
        exposed: whether the body may write to the network's own parameters. Scoring hands a network other tensors in
            their place (`Model.call`), and copies of all parameters would then be for nothing.
    """
    modules = list(net.modules())
    if not exposed and not has_own_code(modules):
        restores = [_kept_plain(modules), _random_states([])]
    else:
        modules += [module for _, module in unregistered([("", module) for module in modules])]
        tensors = {id(t): t for t in _tensors(modules)}.values()
        restores = [*map(_kept, modules), *(_kept_tensor(t, exposed) for t in tensors), _random_states(modules)]
    before = [read() for read, _ in _SETTINGS]
    try:
        yield
    finally:
        for (read, write), value in zip(_SETTINGS, before, strict=True):
            if read() != value:
                write(value)
        for restore in restores:
            restore()


def _set_default_device(device: torch.device | None) -> None:
    torch.set_default_device(device)


def _set_determinism(modes: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(modes[0], warn_only=modes[1])


def _set_anomalies(modes: tuple[bool, bool]) -> None:
    torch.autograd.set_detect_anomaly(*modes)


def _flag(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


# What a forward may set for the whole process: how to read it, and how to put it back.
_SETTINGS: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_default_dtype, torch.set_default_dtype),
    (lambda: getattr(sys.modules.get("torch.utils._device"), "CURRENT_DEVICE", None), _set_default_device),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        _set_determinism,
    ),
    (lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()), _set_anomalies),
    (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
    (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
    (torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled),
    *(_flag(torch.backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")),
]


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


def _kept(module: nn.Module) -> Callable[[], None]:
    """A module's class, its attributes, and what its lists and dictionaries hold."""
    kind, own = type(module), module.__dict__
    bound = tuple(own.items())
    slotted = [(name, getattr(module, name)) for name in _slotted(kind) if hasattr(module, name)]
    held = [(value, _content(value)) for value in own.values() if type(value) in _CONTAINERS]

    def restore() -> None:
        if type(module) is not kind:
            module.__class__ = kind
        if not _holds(module.__dict__, bound):
            module.__dict__.clear()
            module.__dict__.update(bound)
        for name, value in slotted:
            object.__setattr__(module, name, value)
        for container, content in held:
            if (container or content) and not _holds(container, content):
                container.clear()
                (container.extend if isinstance(container, _SEQUENCES) else container.update)(content)

    return restore


@functools.cache
def _slotted(kind: type) -> tuple[str, ...]:
    """Attributes that a class keeps outside of `__dict__`."""
    own = [name for base in kind.__mro__ for name, value in vars(base).items() if type(value) is MemberDescriptorType]
    return tuple(name for name in own if not name.startswith("__"))


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


def _tensors(modules: list[nn.Module]) -> Iterator[Tensor]:
    """Parameters, buffers, and tensors that are plain attributes or stand in lists and dictionaries of a module."""
    for module in modules:
        own = module.__dict__
        for value in own.values():
            kind = type(value)
            if kind in _CONTAINERS:
                if value:
                    for tensor in value.values() if isinstance(value, dict) else value:
                        if isinstance(tensor, Tensor):
                            yield tensor
            elif kind not in _ATOMS and isinstance(value, Tensor):
                yield value


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


def _random_states(modules: list[nn.Module]) -> Callable[[], None]:
    cpu, python = torch.get_rng_state(), random.getstate()
    legacy = np.random.get_state(legacy=False)
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    own = [_later(*state) for module in modules for v in module.__dict__.values() if (state := _generator_state(v))]

    def restore() -> None:
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        random.setstate(python)
        np.random.set_state(legacy)
        for put in own:
            put()

    return restore


def _generator_state(value: Any) -> tuple[Any, ...] | None:
    """How to put a random generator that a module owns back to where it is: a function and its arguments."""
    kind = type(value)
    if kind in _ATOMS or kind in _CONTAINERS:
        return None
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


def seed_everything(seed: int) -> None:
    """Seed what a forward pass may draw from: torch, numpy's global generator, Python's."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def drawn() -> dict[str, Any]:
    """The random states, to compare: a pass that changes one of them draws random numbers."""
    found: dict[str, Any] = {"torch": torch.get_rng_state().numpy().tobytes(), "random": random.getstate()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found["torch.cuda"] = b"".join(s.numpy().tobytes() for s in torch.cuda.get_rng_state_all())
    state = np.random.get_state(legacy=False)
    found["numpy"] = (state["state"]["key"].tobytes(), state["state"]["pos"])
    return found


@contextmanager
def undisturbed() -> Iterator[None]:
    """The caller's inference mode and autocast do not reach in here: both would change or forbid gradients."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
