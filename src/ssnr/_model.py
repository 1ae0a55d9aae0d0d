"""Any `nn.Module` in, tensors out, and nothing left behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ssnr import _masks
from ssnr._errors import ScoringError, UsageError
from ssnr.recipes import Recipe

_STATISTICS = frozenset(("running_mean", "running_var", "num_batches_tracked"))
Forward = Callable[[nn.Module, Any], Any]

_WEIGHT_OF = {
    "conv2d+linear": (nn.Conv2d, nn.Linear),
    "conv1d+conv2d+linear": (nn.Conv1d, nn.Conv2d, nn.Linear),
}


@contextmanager
def preserved(net: nn.Module) -> Iterator[None]:
    """Leave `net` bit-identical: parameters, buffers, gradients, modes, `requires_grad`, and the global RNG states.

    Also when the body raises. Hooks are removed by whoever adds them; nothing here adds any that stays.
    """
    modules = list(net.modules())
    modes = [module.training for module in modules]
    parameters = [p for module in modules for p in module._parameters.values() if p is not None]
    flags = [(p, p.requires_grad, p.grad) for p in parameters]
    buffers = [b for module in modules for b in module._buffers.values() if b is not None]
    saved = [(b, b._version, b.detach().clone()) for b in buffers]
    # Hooks before a forward set plain attributes: the effective weights of pruned modules.
    attributes = [(m.__dict__, dict(m.__dict__)) for m in modules if m._forward_pre_hooks]
    cpu = torch.get_rng_state()
    cuda = [(d, torch.cuda.get_rng_state(d)) for d in {t.device for t in (*parameters, *buffers) if t.is_cuda}]
    try:
        yield
    finally:
        for module, training in zip(modules, modes, strict=True):
            module.training = training
        for table, values in attributes:
            table.update((key, value) for key, value in values.items() if isinstance(value, Tensor))
        for parameter, needed, gradient in flags:
            parameter.requires_grad_(needed)
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, version, value in saved:
                if buffer._version != version:
                    buffer.copy_(value)
        torch.set_rng_state(cpu)
        for device, state in cuda:
            torch.cuda.set_rng_state(state, device)


class Slot(NamedTuple):
    """Where a module keeps one parameter or buffer: `table[key]`, known to users as `name`.

    For a pruned parameter, `table[key]` is what the module computes with, `original` the parameter behind it.
    """

    name: str
    table: dict[str, Any]
    key: str
    original: nn.Parameter | None = None

    @property
    def tensor(self) -> Tensor:
        """The parameter or buffer."""
        tensor: Tensor = self.table[self.key] if self.original is None else self.original
        return tensor

    @property
    def identity(self) -> object:
        """Equal for the places of one tied tensor; a pruned one has a mask of its own at each place."""
        return id(self.tensor) if self.original is None else (id(self.table), self.key)


class Model:
    """A network as scoring sees it: named weights, and a forward pass that takes other weights in their place.

    Attributes:
        net: the user's module.
        recipe: the choices that change numbers.
        scored: the parameters that count as layers, by the names of `named_parameters()`.
        masks: which weights are there at all (True), for the names where some are not.
    """

    def __init__(self, net: nn.Module, recipe: Recipe, forward: Forward | None = None) -> None:
        if not isinstance(net, nn.Module):
            raise UsageError(f"expected a torch.nn.Module, got {type(net).__name__}: {net!r:.60}")
        self.net = net
        self.recipe = recipe
        self._forward = forward
        modules = list(net.named_modules())
        self._pruned = {entry.name: entry for entry in _masks.masked_in(modules)}
        self.masks: dict[str, Tensor] = {name: entry.mask != 0 for name, entry in self._pruned.items()}
        self._slots = list(_slots(modules, self._pruned))
        self.scored = _scored(net, recipe, self._slots)

    def places(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter and buffer with its name, a tied one in each of its places."""
        return ((slot.name, slot.tensor) for slot in self._slots)

    def weights(
        self, dtype: torch.dtype, change: Callable[[Tensor], Tensor] | None = None, *, statistics: bool = True
    ) -> dict[str, Tensor]:
        """Copies of all parameters and buffers in `dtype` (integers as they are), `change`d, for `call`.

        A tied tensor appears once, under its first name. Without `statistics`, the running statistics of norms are left
        out: a pass that bypasses norms has no use for them, and they are most of a network's tensors.
        """
        copies: dict[object, tuple[str, Tensor]] = {}
        with torch.no_grad():
            for slot in self._slots:
                if not statistics and slot.key in _STATISTICS:
                    continue
                tensor = slot.tensor
                if slot.identity in copies:
                    continue
                floating = tensor.is_floating_point()
                value = tensor.to(dtype, copy=True) if floating else tensor.clone()
                if slot.name in self.masks:
                    value = _masks.surviving(slot.name, value, self.masks)
                copies[slot.identity] = (slot.name, change(value) if floating and change else value)
        return dict(copies.values())

    def call(self, weights: Mapping[str, Tensor], inputs: Any) -> Any:
        """The network's output with `weights` in place of its own.

        Raises:
            ScoringError: the forward pass raised; names the innermost layer and the shapes.
        """
        with self._swapped(weights), _masks.unhooked(self.net) if self._pruned else nullcontext():
            try:
                return self._run(inputs)
            except ScoringError:
                raise
            except Exception as error:
                raise ScoringError(self._explain(inputs, error)) from error

    def _run(self, inputs: Any) -> Any:
        if self._forward is not None:
            return self._forward(self.net, inputs)
        return self.net(*inputs) if isinstance(inputs, tuple) else self.net(inputs)

    @contextmanager
    def _swapped(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """`weights` where the modules keep theirs; what `torch.func.functional_call` does, with the slots known."""
        own = [slot.table[slot.key] for slot in self._slots]
        first: dict[object, str] = {}
        names = [first.setdefault(slot.identity, slot.name) for slot in self._slots]
        for name, slot, tensor in zip(names, self._slots, own, strict=True):
            slot.table[slot.key] = weights.get(name, tensor)
        try:
            yield
        finally:
            for slot, tensor in zip(self._slots, own, strict=True):
                slot.table[slot.key] = tensor

    def _explain(self, inputs: Any, error: Exception) -> str:
        """Run the failing pass again with hooks, to name the layer it failed in."""
        stack: list[tuple[str, nn.Module, Any]] = []
        handles = []
        for name, module in self.net.named_modules():
            before = partial(_push, stack, name)
            handles += [module.register_forward_pre_hook(before), module.register_forward_hook(partial(_pop, stack))]
        try:
            self._run(inputs)
        except Exception as again:
            error = again
        finally:
            for handle in handles:
                handle.remove()
        reason = " ".join(str(error).split()) or type(error).__name__
        if not stack:
            return f"the forward pass raised {type(error).__name__}: {reason}"
        name, module, args = stack[-1]
        got = ", ".join(str(tuple(t.shape)) for t in flatten(args)) or "no tensor"
        weight = getattr(module, "weight", None)
        own = f", weight {tuple(weight.shape)}" if isinstance(weight, Tensor) else ""
        where = f"layer {name!r} ({type(module).__name__})" if name else f"the network ({type(module).__name__})"
        return f"{where} raised {type(error).__name__} on input {got}{own}: {reason}"


def _push(stack: list[Any], name: str, module: nn.Module, args: Any) -> None:
    stack.append((name, module, args))


def _pop(stack: list[Any], module: nn.Module, args: Any, output: Any) -> None:
    stack.pop()


def _slots(modules: Iterable[tuple[str, nn.Module]], pruned: Mapping[str, _masks.Masked]) -> Iterator[Slot]:
    """Every parameter and buffer of every module, tied ones at each place; pruned ones under their own name."""
    for prefix, module in modules:
        for table in (module._parameters, module._buffers):
            for key, tensor in table.items():
                name = f"{prefix}.{key}" if prefix else key
                if pruned and name.removesuffix("_orig") in pruned:
                    entry = pruned[name.removesuffix("_orig")]
                    yield Slot(entry.name, module.__dict__, entry.key, entry.original)
                elif tensor is not None and not (pruned and name.removesuffix("_mask") in pruned):
                    yield Slot(name, table, key)


def _scored(net: nn.Module, recipe: Recipe, slots: list[Slot]) -> dict[str, nn.Parameter]:
    """Every floating parameter with two or more dimensions, or the recipe's narrower choice."""
    chosen: dict[str, nn.Parameter] = {}
    seen: set[object] = set()
    allowed: set[str] | None = None
    if recipe.scored != "matrices":
        kinds = _WEIGHT_OF[recipe.scored]
        allowed = {f"{name}.weight" if name else "weight" for name, m in net.named_modules() if isinstance(m, kinds)}
    for slot in slots:
        tensor = slot.tensor
        if not isinstance(tensor, nn.Parameter) or tensor.dim() < 2 or not tensor.is_floating_point():
            continue
        if (allowed is not None and slot.name not in allowed) or (recipe.ties == "once" and slot.identity in seen):
            continue
        seen.add(slot.identity)
        chosen[slot.name] = tensor
    if not chosen:
        raise ScoringError("no scored weights: the network has no parameter with two or more dimensions")
    return chosen


def flatten(output: Any) -> list[Tensor]:
    """Every floating tensor in a nest of tuples, lists, mappings and dataclasses."""
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    if isinstance(output, Mapping):
        return [t for value in output.values() for t in flatten(value)]
    if isinstance(output, (tuple, list)):
        return [t for value in output for t in flatten(value)]
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return [t for field in dataclasses.fields(output) for t in flatten(getattr(output, field.name))]
    return []


def outputs_of(output: Any) -> list[Tensor]:
    """`flatten`, refusing an output that has nothing to differentiate.

    Raises:
        ScoringError: no floating tensor in the output.
    """
    tensors = flatten(output)
    if not tensors:
        raise ScoringError(
            f"the output holds no floating-point tensor ({type(output).__name__}): nothing to differentiate"
        )
    return tensors
