"""Where a network keeps its tensors, by the names its user knows, and which of them are its weights."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ssnr.core.errors import ScoringError
from ssnr.networks.masks import masked_in

# What wrappers call the network inside them; these names are no part of a layer's name.
_WRAPPED = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


class Slot(NamedTuple):
    """Where a module keeps one tensor: `table[key]`, known to users as `name`.

    For a pruned parameter `tensor` is the parameter behind what the module computes with. `identity` is equal for the
    places of one tied tensor; a pruned one has a mask of its own at each place.
    """

    name: str
    table: MutableMapping[str, Any]
    key: str
    tensor: Tensor
    scorable: bool
    identity: object


class Override(NamedTuple):
    """An attribute that a module has to have while other tensors stand in its slots."""

    table: dict[str, Any]
    key: str
    value: Any


def unwrapped(net: nn.Module) -> nn.Module:
    """The network inside DataParallel, DistributedDataParallel, `torch.compile` and averaging wrappers."""
    while (name := wraps(net)) is not None:
        inner = net._modules[name]
        assert inner is not None
        net = inner
    return net


def wraps(module: nn.Module) -> str | None:
    """The attribute under which a wrapper keeps its network, None for anything else."""
    for name in _WRAPPED:
        if name in module._modules:
            return name
    parallel = isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel))
    averaged = "module" in module._modules and type(module).__module__ == "torch.optim.swa_utils"
    return "module" if parallel or averaged else None


def named_modules(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module once, under its first name, wrappers adding nothing to names."""
    seen: set[int] = set()

    def walk(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        if id(module) in seen:
            return
        seen.add(id(module))
        yield name, module
        wrapper = wraps(module)
        for key, child in module._modules.items():
            if child is not None:
                yield from walk(name if key == wrapper else f"{name}.{key}" if name else key, child)

    return walk("", net)


def unregistered(modules: list[tuple[str, nn.Module]]) -> Iterator[tuple[str, nn.Module]]:
    """Modules in plain lists, tuples, dictionaries and objects, which `named_parameters()` does not know of."""
    known = {id(module) for _, module in modules}

    def walk(name: str, value: Any, depth: int, inside: bool) -> Iterator[tuple[str, nn.Module]]:
        if isinstance(value, nn.Module):
            for inner, module in named_modules(value):
                if id(module) not in known:
                    known.add(id(module))
                    yield _name(name, inner) if inner else name, module
                    yield from look(_name(name, inner) if inner else name, module)
        elif depth and id(value) not in known:
            known.add(id(value))
            kind: type = type(value)
            items: Iterable[tuple[Any, Any]] = ()
            if kind in (list, tuple):
                items = enumerate(value)
            elif kind is dict:
                items = list(value.items())
            elif not inside and is_plain(value):
                items, inside = list(value.__dict__.items()), True
            for key, item in items:
                if type(item) not in ATOMS:
                    yield from walk(_name(name, str(key)), item, depth - 1, inside)

    def look(prefix: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        for key, value in list(module.__dict__.items()):
            if type(value) not in ATOMS and key not in _TABLES:
                yield from walk(_name(prefix, key), value, _DEPTH, False)

    for prefix, module in modules:
        if not isinstance(module, torch.jit.ScriptModule):
            yield from look(prefix, module)


# What holds no modules: a weak reference is to what is somewhere else, and a proxy of one answers for it.
ATOMS = frozenset((bool, int, float, str, bytes, type(None), weakref.ref, *weakref.ProxyTypes))
_TABLES = frozenset(vars(nn.Module()))  # what every module has
_DEPTH = 5  # of lists in lists
_LIBRARIES = frozenset(("torch", "numpy", *sys.stdlib_module_names)) - {"__main__"}


def is_plain(value: Any) -> bool:
    """Whether a value is an object of a class of the user's own: no library's, no class, no module."""
    known = _PLAIN.get(kind := type(value))
    if known is None:
        ours = kind.__module__.split(".")[0] not in _LIBRARIES and not issubclass(kind, (type, Tensor, nn.Module))
        known = _PLAIN[kind] = ours and type(getattr(value, "__dict__", None)) is dict
    return known


_PLAIN: dict[type, bool] = {}


def has_lazy(net: nn.Module) -> bool:
    """Whether any parameter or buffer has no shape yet."""
    return any(isinstance(m, LazyModuleMixin) and m.has_uninitialized_params() for m in net.modules())


def slots(modules: list[tuple[str, nn.Module]], own_code: bool) -> tuple[list[Slot], list[Override]]:
    """Every parameter, buffer and tensor attribute of every module, tied ones at each place.

    A weight that a module computes from parameters (`weight_norm`, `spectral_norm`, any parametrisation) is one slot,
    under the user's name for it and with its present value; the parameters it is computed from are not scored. Without
    code of the user's own, only parameters and buffers are looked at.
    """
    if not own_code:
        return [
            Slot(_name(prefix, key), table, key, tensor, table is module._parameters, id(tensor))
            for prefix, module in modules
            for table in (module._parameters, module._buffers)
            for key, tensor in table.items()
            if tensor is not None
        ], []
    found: list[Slot] = []
    overrides: list[Override] = []
    parts: set[int] = set()
    inside = {id(part) for _, module in modules for part in _parametrisations(module)}
    for prefix, module in modules:
        derived, tables, muted = _derived(module)
        overrides += muted
        for key, (tensor, sources) in derived.items():
            parts |= {id(source) for source in sources}
            scorable = bool(sources) and id(module) not in inside
            found.append(Slot(_name(prefix, key), tables[key], key, tensor, scorable, id(tensor)))
        pruned = {entry.key: entry for entry in masked_in([(prefix, module)])}
        for key, entry in pruned.items():
            own = module.__dict__
            found.append(Slot(entry.name, own, key, entry.original, True, (id(own), key)))
        hidden = {key + end for key in pruned for end in ("", "_orig", "_mask")}
        for table, scorable in ((_parameters(module), True), (_buffers(module), False), (module.__dict__, False)):
            for key in list(table):
                tensor = table[key]
                if (
                    isinstance(tensor, Tensor)
                    and key not in hidden
                    and not (table is module.__dict__ and key in derived)
                ):
                    found.append(Slot(_name(prefix, key), table, key, tensor, scorable, id(tensor)))
    whole = {id(slot.tensor) for slot in found if not slot.tensor._is_view()}
    return [
        slot._replace(scorable=slot.scorable and id(slot.tensor) not in parts)
        for slot in found
        # A view that is a plain attribute follows its tensor.
        if not ("_modules" in slot.table and slot.tensor._is_view() and id(slot.tensor._base) in whole)
    ], overrides


def _name(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key


def _parametrisations(module: nn.Module) -> Iterable[nn.Module]:
    """The modules that compute a module's weights."""
    return module.parametrizations.modules() if parametrize.is_parametrized(module) else ()  # type: ignore[union-attr]


Derived = dict[str, tuple[Tensor, list[Tensor]]]


def _derived(module: nn.Module) -> tuple[Derived, dict[str, MutableMapping[str, Any]], list[Override]]:
    """Weights computed from parameters: value and sources, the table to write to, and what to mute while that holds."""
    found: Derived = {}
    tables: dict[str, MutableMapping[str, Any]] = {}
    muted: list[Override] = []
    if parametrize.is_parametrized(module):
        given = _Given()
        for key, parametrization in module.parametrizations.items():  # type: ignore[union-attr,operator]
            # A buffer is none of the network's parameters, whatever computes it.
            sources = list(parametrization.parameters()) if parametrization._parameters else []
            found[key] = (_evaluated(module, key), sources)
            tables[key] = given.values
        muted.append(Override(module.__dict__, "parametrizations", given))
    computing = {k: h for k, h in module._forward_pre_hooks.items() if isinstance(h, (WeightNorm, SpectralNorm))}
    for hook in computing.values():
        key = hook.name
        sources = [module._parameters.get(key + end) for end in ("_g", "_v", "_orig", "_v_orig")]
        with torch.no_grad():
            arguments = {"do_power_iteration": False} if isinstance(hook, SpectralNorm) else {}
            found[key] = (hook.compute_weight(module, **arguments), [s for s in sources if s is not None])
        tables[key] = module.__dict__
    if computing:
        others = type(module._forward_pre_hooks)(
            (k, h) for k, h in module._forward_pre_hooks.items() if k not in computing
        )
        muted.append(Override(module.__dict__, "_forward_pre_hooks", others))
    return found, tables, muted


def _evaluated(module: nn.Module, key: str) -> Tensor:
    """A parametrised weight as it stands; in eval mode, where nothing (a power iteration) is updated."""
    inside = list(module.parametrizations.modules())  # type: ignore[union-attr]
    modes = [m.training for m in inside]
    try:
        for m in inside:
            m.training = False
        with torch.no_grad():
            return getattr(module, key).detach()  # type: ignore[no-any-return]
    finally:
        for m, training in zip(inside, modes, strict=True):
            m.training = training


class _Given:
    """Stands where a module keeps its parametrisations, and answers with given weights."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}

    def __getitem__(self, key: str) -> Any:
        return lambda: self.values[key]

    def __contains__(self, key: str) -> bool:
        return key in self.values


class _Scripted(MutableMapping[str, Any]):
    """Parameters or buffers of a TorchScript module, which keeps them outside Python."""

    def __init__(self, module: Any, names: list[str]) -> None:
        self._module, self._names = module, names

    def __getitem__(self, key: str) -> Any:
        return getattr(self._module, key)

    def __setitem__(self, key: str, value: Any) -> None:
        self._module._c.setattr(key, value)

    def __delitem__(self, key: str) -> None:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _parameters(module: nn.Module) -> MutableMapping[str, Any]:
    if isinstance(module, torch.jit.ScriptModule):
        return _Scripted(module, [name for name, _ in module.named_parameters(recurse=False)])
    return module._parameters


def _buffers(module: nn.Module) -> MutableMapping[str, Any]:
    if isinstance(module, torch.jit.ScriptModule):
        return _Scripted(module, [name for name, _ in module.named_buffers(recurse=False)])
    return module._buffers


def refuse(modules: list[tuple[str, nn.Module]], found: list[Slot]) -> None:
    """Refuse what has no real weights to score.

    Raises:
        ScoringError: quantised, sharded, sparse, complex, meta or lazy tensors; names the first.
    """
    for name, module in modules:
        where = type(module).__module__
        if ".quantized" in where and where.startswith("torch."):
            raise ScoringError(
                f"layer {name!r} ({type(module).__name__}): quantised modules have no float weights: "
                "score the network before it is quantised"
            )
        if "_fsdp_wrapped_module" in module._modules:
            raise ScoringError("its parameters are sharded (FSDP): score the network before it is wrapped")
    for slot in found:
        tensor = slot.tensor
        if is_lazy(tensor):
            raise ScoringError(f"{slot.name!r} has no shape yet (lazy module): call the model once, then score it")
        if not slot.scorable:
            continue
        if type(tensor).__name__ == "DTensor":
            raise ScoringError(f"{slot.name!r} is sharded (DTensor): score the network before it is sharded")
        if tensor.is_meta:
            raise ScoringError(f"{slot.name!r} has no data on the meta device: initialise the network on a real one")
        if tensor.layout is not torch.strided:
            raise ScoringError(f"{slot.name!r} is sparse ({tensor.layout}): make it dense".replace("torch.", ""))
        if tensor.dim() < 2 or tensor.is_floating_point():
            continue
        dtype = str(tensor.dtype).removeprefix("torch.")
        if tensor.is_complex():
            raise ScoringError(f"{slot.name!r} is complex ({dtype}): saliencies are of real weights")
        raise ScoringError(f"{slot.name!r} holds {dtype}, not floats: quantised modules have no float weights")
