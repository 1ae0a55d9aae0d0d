"""Which layer raised, output what is not finite, or took a parameter from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from ssnr.core.errors import one_line
from ssnr.networks.trees import flatten


def describe_failure(net: nn.Module, run: Callable[[], Any], error: BaseException) -> str:
    """Run a failing pass again with hooks, to name the layer it failed in."""
    stack: list[tuple[str, nn.Module, Any]] = []
    handles = []
    for name, module in net.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            before = partial(_push, stack, name)
            handles += [module.register_forward_pre_hook(before), module.register_forward_hook(partial(_pop, stack))]
    try:
        run()
    except (Exception, SystemExit) as again:
        error = again
    finally:
        for handle in handles:
            handle.remove()
    reason = one_line(error)
    if "Expected more than 1 value per channel" in reason:
        reason += "; take a batch of two samples or more, or draw two (recipe option images=2)"
    if not stack:
        return f"the forward pass raised {type(error).__name__}: {reason}"
    name, module, args = stack[-1]
    got = ", ".join(str(tuple(t.shape)) for t in flatten(args)) or "no tensor"
    weight = getattr(module, "weight", None)
    own = f", weight {tuple(weight.shape)}" if isinstance(weight, Tensor) else ""
    return f"{_place(name, module)} raised {type(error).__name__} on input {got}{own}: {reason}"


def _place(name: str, module: nn.Module) -> str:
    return f"layer {name!r} ({type(module).__name__})" if name else f"the network ({type(module).__name__})"


def _push(stack: list[Any], name: str, module: nn.Module, args: Any) -> None:
    stack.append((name, module, args))


def _pop(stack: list[Any], module: nn.Module, args: Any, output: Any) -> None:
    stack.pop()


def first_not_finite(net: nn.Module, run: Callable[[], Any]) -> str | None:
    """The first module that outputs NaN or infinity, in words; None where all is finite."""
    found: list[str] = []

    def look(name: str, module: nn.Module, args: Any, output: Any) -> None:
        if found:
            return
        for tensor in flatten(output):
            if not bool(torch.isfinite(tensor).all()):
                kind = "NaN" if bool(torch.isnan(tensor).any()) else "infinity"
                where = (
                    f"layer {name!r} ({type(module).__name__})" if name else f"the network ({type(module).__name__})"
                )
                found.append(f"{where} outputs {kind}")
                return

    handles = [
        module.register_forward_hook(partial(look, name))
        for name, module in net.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        run()
    except Exception:
        return None
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def foreign_parameters(output: Any, weights: Mapping[str, Tensor]) -> str | None:
    """The shapes of parameters that an output depends on and that are none of its weights; None without any."""
    own = {id(weight) for weight in weights.values()}
    found = []
    for node in graph(flatten(output)):
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, nn.Parameter) and id(leaf) not in own:
            found.append(str(tuple(leaf.shape)))
    return ", ".join(sorted(found)) or None


def graph(outputs: Iterable[Tensor], inputs: Iterable[Tensor] = ()) -> Iterator[Any]:
    """Nodes of autograd's graph that the outputs depend on and the inputs do not."""
    seen = {t.grad_fn for t in inputs}
    todo = [t.grad_fn for t in outputs]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        todo += [before for before, _ in node.next_functions]
