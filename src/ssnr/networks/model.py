"""Any `nn.Module` in, tensors out, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ssnr.core.errors import ScoringError, UsageError, kind_of
from ssnr.core.recipes import Recipe
from ssnr.networks import masks as _masks
from ssnr.networks.calling import Forward as Forward
from ssnr.networks.calling import call
from ssnr.networks.calling import outputs_of as outputs_of
from ssnr.networks.diagnose import describe_failure, first_not_finite, foreign_parameters
from ssnr.networks.precision import OnePrecision
from ssnr.networks.preserve import has_own_code, same_bits
from ssnr.networks.preserve import preserved as preserved
from ssnr.networks.settings import seed_everything
from ssnr.networks.surroundings import (
    GRADIENT_HOOKS,
    dense_gradients,
    eager,
    without_checkpointing,
    without_gradient_hooks,
)
from ssnr.networks.trees import flatten as flatten
from ssnr.networks.trees import ignored, map_tensors, perturbed
from ssnr.networks.weights import ATOMS, Slot, has_lazy, named_modules, refuse, slots, unregistered, unwrapped

_STATISTICS = frozenset(("running_mean", "running_var", "num_batches_tracked"))

_WEIGHT_OF = {
    "conv2d+linear": (nn.Conv2d, nn.Linear),
    "conv1d+conv2d+linear": (nn.Conv1d, nn.Conv2d, nn.Linear),
}


class Model:
    """A network as scoring sees it: named weights, and a forward pass that takes other weights in their place.

    Attributes:
        net: the user's module, out of any wrapper.
        recipe: the choices that change numbers.
        modules: all of them, also those that it keeps in lists, dictionaries and objects.
        scripted: whether any of it is TorchScript, which runs as it is.
        scored: the weights that count as layers, by the names of `named_parameters()`; a weight that is computed from
            parameters (`weight_norm`, a parametrisation) by its own name and with its present value.
        embeddings: the modules that look tokens up.
        masks: which weights are there at all (True), for the names where some are not.
        notes: what a reader of the score should know, as an ordered set.
    """

    def __init__(
        self,
        net: nn.Module,
        recipe: Recipe,
        forward: Forward | None = None,
        example: Callable[[], Any] | None = None,
        *,
        valued: bool = True,
    ) -> None:
        if not isinstance(net, nn.Module):
            raise UsageError(f"expected a torch.nn.Module, got {type(net).__name__}: {net!r:.60}")
        self._given, self.net = net, unwrapped(net)
        self.recipe = recipe
        self.notes: dict[str, None] = {}
        self._forward = forward
        modules = list(named_modules(self.net))
        own_code = forward is not None or has_own_code(module for _, module in modules)
        if example is not None and own_code and has_lazy(self.net):
            self._materialise(example())
            modules = list(named_modules(self.net))
        self.scripted = own_code and any(isinstance(module, torch.jit.ScriptModule) for _, module in modules)
        self.masks = {entry.name: entry.mask != 0 for entry in _masks.masked_in(modules)}
        self._one_precision = own_code
        hidden = list(unregistered(modules)) if own_code else []
        self.modules = [module for _, module in (*modules, *hidden)]
        self._hooked = [m for m in self.modules if any(map(m.__dict__.get, GRADIENT_HOOKS))]
        self._slots, self._overrides = slots(modules, own_code)
        if hidden:
            listed = ", ".join(name for name, _ in hidden)
            self.notes[f"modules in a plain list, dict or object are not scored: {listed}"] = None
            more, overrides = slots(hidden, own_code)
            self._slots += [slot._replace(scorable=False) for slot in more]
            self._overrides += overrides
            modules += hidden
        if valued:
            refuse(modules, self._slots)
        self._aliases = list(_aliases(modules, self._slots)) if own_code else []
        self._flat = [m for _, m in modules if isinstance(m, nn.RNNBase)]
        self.embeddings = [m for _, m in modules if isinstance(m, (nn.Embedding, nn.EmbeddingBag))]
        self.scored = _scored(modules, recipe, self._slots)
        if valued and not self.scored:
            raise ScoringError("no scored weights: the network has no parameter with two or more dimensions")

    def places(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter and buffer with its name, a tied one in each of its places."""
        return ((slot.name, slot.tensor) for slot in self._slots)

    def parameters(self) -> list[str]:
        """The names of all parameters, biases and scales of norms among them, a tied one once."""
        first: dict[object, str] = {}
        for slot in self._slots:
            if isinstance(slot.tensor, nn.Parameter) or slot.name in self.scored:
                first.setdefault(slot.identity, slot.name)
        return list(first.values())

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
                tensor = slot.tensor
                if slot.identity in copies or (not statistics and slot.key in _STATISTICS):
                    continue
                floating = tensor.is_floating_point()
                value = tensor.detach().to(dtype, copy=True) if floating else tensor.detach().clone()
                if slot.name in self.masks:
                    value = _masks.with_pruned_zero(slot.name, value, self.masks)
                value = change(value) if floating and change else value
                if self._one_precision and isinstance(tensor, nn.Parameter):
                    value.__dict__.update(tensor.__dict__)  # what users write on them
                    value._is_param = True  # for `isinstance(…, nn.Parameter)`: a forward may ask, or tie weights
                copies[slot.identity] = (slot.name, value)
        return dict(copies.values())

    def call(self, weights: Mapping[str, Tensor], inputs: Any) -> Any:
        """The network's output with `weights` in place of its own.

        Raises:
            ScoringError: the forward pass raised; names the innermost layer and the shapes.
        """
        with self.swapped(weights), torch.set_grad_enabled(torch.is_grad_enabled()):  # which a forward may switch
            try:
                output = self._run(inputs)
                # A generator has not run yet, and the weights are in place only here.
                output = tuple(output) if isinstance(output, Iterator) else output
            except ScoringError:
                raise
            except (Exception, SystemExit) as error:
                said = describe_failure(self.net, lambda: self._run(inputs), error)
                raise ScoringError(said, kind_of(error)) from error
        if not isinstance(output, Tensor) and (note := ignored(output)):
            self.notes[note] = None
        if self._one_precision and torch.is_grad_enabled() and (shapes := foreign_parameters(output, weights)):
            note = f"parameters from outside of the network, or made in its forward, are not scored: {shapes}"
            self.notes[note] = None
        return output

    def first_non_finite(self, inputs: Any) -> str | None:
        """The first weight that is not finite, or else the first module that outputs what is not."""
        weights = self.weights(torch.float64)
        for name in self.scored:
            if name in weights and not bool(torch.isfinite(weights[name]).all()):
                return f"the weight {name!r} holds NaN or infinity"
        with torch.enable_grad(), self.swapped(weights):
            return first_not_finite(self.net, lambda: self._run(self._here(inputs)))

    def is_deterministic(self, inputs: Any, seed: int) -> bool:
        """Whether two forward passes with one seed give the same bits."""
        return self._same(inputs, inputs, seed)

    def depends_on_weights(self, inputs: Any) -> bool:
        """Whether the output changes with the weights, whatever autograd knows of it."""
        return not self._same(inputs, inputs, 0, self.weights(torch.float64, perturbed))

    def depends_on_inputs(self, inputs: Any) -> bool:
        """Whether the output changes with the floating-point inputs, whatever autograd knows of it."""
        return not self._same(inputs, perturbed(inputs), 0)

    def _same(self, one: Any, other: Any, seed: int, changed: Mapping[str, Tensor] | None = None) -> bool:
        found = []
        for inputs, weights in ((one, None), (other, changed)):
            seed_everything(seed)
            with torch.enable_grad():  # a network may need gradients to compute what it outputs
                found.append(flatten(self.call(weights or self.weights(torch.float64), self._here(inputs))))
        return len(found[0]) == len(found[1]) and all(map(same_bits, *found))

    def _here(self, inputs: Any) -> Any:
        """A copy of the inputs on the network's device, in float64."""
        return map_tensors(
            lambda t: t.to(self.device, torch.float64 if t.is_floating_point() else None, copy=True), inputs
        )

    @property
    def device(self) -> torch.device:
        """Where inputs go: to the first weight."""
        tensors = [*self.scored.values(), *(slot.tensor for slot in self._slots)]
        return tensors[0].device if tensors else torch.device("cpu")

    def _materialise(self, inputs: Any) -> None:
        """Give lazy modules their shapes, by a forward pass on the inputs; `preserved` makes them lazy again."""
        self.net.eval()
        try:
            with torch.enable_grad(), eager():
                self._run(inputs)
        except Exception as error:
            said = describe_failure(self.net, lambda: self._run(inputs), error)
            raise ScoringError(said, kind_of(error)) from error
        self.notes["lazy modules took their shapes from the input, and weights from the seed"] = None

    def _run(self, inputs: Any) -> Any:
        return self._forward(self._given, inputs) if self._forward is not None else call(self.net, inputs)

    @contextmanager
    def swapped(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """`weights` where the modules keep theirs; what `torch.func.functional_call` does, with the slots known."""
        with ExitStack() as stack:
            stack.enter_context(eager())
            stack.enter_context(without_checkpointing())
            stack.enter_context(dense_gradients(self.embeddings))
            stack.enter_context(without_gradient_hooks(self._hooked))
            if self._flat:  # cuDNN's recurrent layers have no second derivative, and no first one in eval
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            if self.masks:
                stack.enter_context(_masks.unhooked(self.net))
            stack.enter_context(self._in_place(weights))
            if self._one_precision:
                floating = (w.dtype for w in weights.values() if w.is_floating_point())
                dtype = next(floating, torch.get_default_dtype())
                stack.enter_context(OnePrecision(dtype, dropout=self.recipe.dropout == "on"))
                stack.enter_context(_default_dtype(dtype))
            yield

    @contextmanager
    def _in_place(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        missing = object()
        own: list[tuple[MutableMapping[str, Any], str, Any]] = [
            (s.table, s.key, s.table.get(s.key, missing)) for s in self._slots
        ]
        own += [(o.table, o.key, o.table.get(o.key, missing)) for o in self._overrides]
        own += [(a.table, a.key, a.table[a.key]) for a in self._aliases]
        own += [(m.__dict__, "_flat_weights", m.__dict__["_flat_weights"]) for m in self._flat]
        first: dict[object, str] = {}
        new: dict[int, Tensor] = {}
        try:
            for slot in self._slots:
                name = first.setdefault(slot.identity, slot.name)
                slot.table[slot.key] = new[id(slot.tensor)] = weights.get(name, slot.tensor)
            for override in self._overrides:
                override.table[override.key] = override.value
            for alias in self._aliases:
                alias.table[alias.key] = alias.renewed(new)
            for module in self._flat:
                names = module._flat_weights_names
                module.__dict__["_flat_weights"] = [getattr(module, n, None) for n in names]
            yield
        finally:
            for table, key, value in own:
                if value is not missing:
                    table[key] = value
                elif key in table:
                    del table[key]


class _Alias:
    """A list, tuple or dictionary of a module that holds some of the network's tensors a second time, or a view."""

    def __init__(self, table: dict[str, Any], key: str) -> None:
        self.table, self.key, self.value = table, key, table[key]

    def renewed(self, new: Mapping[int, Tensor]) -> Any:
        return _renewed(self.value, new)


def _renewed(value: Any, new: Mapping[int, Tensor]) -> Any:
    if isinstance(value, Tensor):
        if id(value) in new:
            return new[id(value)]
        base = value._base
        if base is not None and id(base) in new and base.stride() == new[id(base)].stride():
            return new[id(base)].as_strided(value.shape, value.stride(), value.storage_offset())
        return value
    if type(value) is dict:
        return {key: _renewed(item, new) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_renewed(item, new) for item in value)
    return value


def _aliases(modules: list[tuple[str, nn.Module]], found: list[Slot]) -> Iterator[_Alias]:
    known = {id(slot.tensor) for slot in found}

    def holds(value: Any) -> bool:
        if isinstance(value, Tensor):
            return id(value) in known or (value._base is not None and id(value._base) in known)
        items = value.values() if type(value) is dict else value if type(value) in (list, tuple) else ()
        return any(holds(item) for item in items if type(item) not in ATOMS)

    for _, module in modules:
        for key, value in module.__dict__.items():
            if key in ("_parameters", "_buffers", "_modules") or type(value) in ATOMS:
                continue
            view = isinstance(value, Tensor) and value._base is not None and id(value._base) in known
            if view or (type(value) in (list, tuple, dict) and value and holds(value)):
                yield _Alias(module.__dict__, key)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _scored(modules: list[tuple[str, nn.Module]], recipe: Recipe, found: list[Slot]) -> dict[str, Tensor]:
    """Every floating weight with two or more dimensions, or the recipe's narrower choice."""
    chosen: dict[str, Tensor] = {}
    seen: set[object] = set()
    allowed: set[str] | None = None
    if recipe.scored != "matrices":
        kinds = _WEIGHT_OF[recipe.scored]
        allowed = {f"{name}.weight" if name else "weight" for name, m in modules if isinstance(m, kinds)}
    for slot in found:
        tensor = slot.tensor
        if not slot.scorable or tensor.dim() < 2 or not tensor.is_floating_point():
            continue
        if (allowed is not None and slot.name not in allowed) or (recipe.ties == "once" and slot.identity in seen):
            continue
        seen.add(slot.identity)
        chosen[slot.name] = tensor
    return chosen
