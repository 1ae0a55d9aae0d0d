"""Any `nn.Module` in, tensors out, and nothing left behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ssnr._errors import ScoringError, UsageError
from ssnr.recipes import Recipe

Forward = Callable[[nn.Module, Any], Any]

_WEIGHT_OF = {
    "conv2d+linear": (nn.Conv2d, nn.Linear),
    "conv1d+conv2d+linear": (nn.Conv1d, nn.Conv2d, nn.Linear),
}


@contextmanager
def preserved(net: nn.Module) -> Iterator[None]:
    """Leave `net` bit-identical: parameters, buffers, gradients, modes, `requires_grad`, and the global RNG states.

    Also when the body raises. Hooks are restored by whoever adds them; nothing here adds any that stays.
    """
    modes = [(module, module.training) for module in net.modules()]
    flags = [(p, p.requires_grad, p.grad, None if p.grad is None else p.grad._version) for p in net.parameters()]
    buffers = [(b, b.detach().clone(), b._version) for b in net.buffers()]
    cpu = torch.get_rng_state()
    devices = {t.device for t in (*net.parameters(), *net.buffers()) if t.device.type == "cuda"}
    cuda = [(device, torch.cuda.get_rng_state(device)) for device in devices]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, needed, gradient, _ in flags:
            parameter.requires_grad_(needed)
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, value, version in buffers:
                if buffer._version != version:
                    buffer.copy_(value)
        torch.set_rng_state(cpu)
        for device, state in cuda:
            torch.cuda.set_rng_state(state, device)


class Model:
    """A network as scoring sees it: named weights, and a forward pass that takes other weights in their place.

    Attributes:
        net: the user's module.
        recipe: the choices that change numbers.
        scored: the parameters that count as layers, by the names of `named_parameters()`.
    """

    def __init__(self, net: nn.Module, recipe: Recipe, forward: Forward | None = None) -> None:
        if not isinstance(net, nn.Module):
            raise UsageError(f"expected a torch.nn.Module, got {type(net).__name__}: {net!r:.60}")
        self.net = net
        self.recipe = recipe
        self._forward = forward
        self.scored = _scored(net, recipe)

    def weights(self, dtype: torch.dtype, change: Callable[[Tensor], Tensor] | None = None) -> dict[str, Tensor]:
        """Copies of all parameters and buffers in `dtype` (integers as they are), `change`d, for `call`."""
        copies: dict[str, Tensor] = {}
        for name, tensor in (*self.net.named_parameters(), *self.net.named_buffers()):
            value = tensor.detach()
            if value.is_floating_point():
                value = value.to(dtype, copy=True)
                copies[name] = value if change is None else change(value)
            else:
                copies[name] = value.clone()
        return copies

    def call(self, weights: Mapping[str, Tensor], inputs: Any) -> Any:
        """The network's output with `weights` in place of its own.

        Raises:
            ScoringError: the forward pass raised; names the innermost layer and the shapes.
        """
        try:
            if self._forward is None:
                return functional_call(self.net, dict(weights), _arguments(inputs))
            return functional_call(_Wrapped(self.net, self._forward), _prefixed(weights), (inputs,))
        except ScoringError:
            raise
        except Exception as error:
            raise ScoringError(self._explain(weights, inputs, error)) from error

    def _explain(self, weights: Mapping[str, Tensor], inputs: Any, error: Exception) -> str:
        """Run the failing pass again with hooks, to name the layer it failed in."""
        stack: list[tuple[str, nn.Module, Any]] = []
        names = {module: name for name, module in self.net.named_modules()}
        handles = []
        for module in names:
            handles.append(module.register_forward_pre_hook(lambda m, args: stack.append((names[m], m, args))))
            handles.append(module.register_forward_hook(lambda m, args, out: stack.pop() and None))
        try:
            functional_call(self.net, dict(weights), _arguments(inputs))
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


class _Wrapped(nn.Module):
    """A network behind a user's own forward, so that `functional_call` reaches its weights."""

    def __init__(self, net: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.net = net
        self._user = forward

    def forward(self, inputs: Any) -> Any:
        return self._user(self.net, inputs)


def _prefixed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"net.{name}": value for name, value in weights.items()}


def _arguments(inputs: Any) -> tuple[Any, ...]:
    return tuple(inputs) if isinstance(inputs, tuple) else (inputs,)


def _scored(net: nn.Module, recipe: Recipe) -> dict[str, nn.Parameter]:
    """Every floating parameter with two or more dimensions, or the recipe's narrower choice."""
    once = recipe.ties == "once"
    if recipe.scored == "matrices":
        every = net.named_parameters(remove_duplicate=once)
        chosen = {name: p for name, p in every if p.dim() >= 2 and p.is_floating_point()}
    else:
        kinds = _WEIGHT_OF[recipe.scored]
        modules = net.named_modules(remove_duplicate=once)
        chosen = {f"{name}.weight" if name else "weight": m.weight for name, m in modules if isinstance(m, kinds)}
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
        raise ScoringError(f"the output holds no floating-point tensor ({type(output).__name__}): nothing to differentiate")
    return tensors
