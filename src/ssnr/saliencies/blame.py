"""Which operation of a network has no second derivative, and in which layer it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn

from ssnr._model import flatten

Found = Callable[[Any], bool]  # whether a node of the graph is the operation
_MISSING = re.compile(r"derivative for '?(?:\w+::)?(\w+?)'? is not implemented")
_ONCE = "@once_differentiable"


def missing_derivative(error: Exception, value: Tensor, net: nn.Module, run: Callable[[], Any]) -> str | None:
    """One line naming the operation that autograd could not differentiate again; None if that is not the error.

    Args:
        error: what the second backward pass raised.
        value: the loss, whose graph is searched.
        net: the network.
        run: runs its forward pass again, to find the layer.
    """
    text = str(error)
    missing = _MISSING.search(text)
    if missing:
        operation = missing[1].removesuffix("_backward").strip("_")
        name = f"PyTorch has none of {operation}"
        matches: Found = partial(_is_operation, operation)
    elif _ONCE in text:
        matches = _is_once
        names = {type(node)._forward_cls.__name__ for node in _graph([value], ()) if _is_once(node)}
        name = f"{' and '.join(sorted(names)) or 'a custom function'} has none (its backward is {_ONCE})"
    else:
        return None
    return f"grasp needs a second derivative, and {name}{_where(net, run, matches)}"


def _is_operation(operation: str, node: Any) -> bool:
    kind = re.sub(r"Backward\d*$", "", node.name())
    return bool(kind.lower() == operation.replace("_", "").lower())


def _is_once(node: Any) -> bool:
    function = getattr(type(node), "_forward_cls", None)
    return hasattr(getattr(function, "backward", None), "__wrapped__")


def _where(net: nn.Module, run: Callable[[], Any], matches: Found) -> str:
    """The innermost module whose own part of the graph holds the operation."""
    found: list[str] = []

    def look(name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if not found and any(map(matches, _graph(flatten(output), flatten([args, kwargs])))):
            found.append(f", in layer {name!r} ({type(module).__name__})" if name else "")

    handles = [
        module.register_forward_hook(partial(look, name), with_kwargs=True) for name, module in net.named_modules()
    ]
    try:
        run()
    except Exception:
        return ""  # the layer is a courtesy
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else ""


def _graph(outputs: Iterable[Tensor], inputs: Iterable[Tensor]) -> Iterator[Any]:
    """Nodes behind the outputs that are not behind the inputs."""
    seen = {t.grad_fn for t in inputs}
    todo = [t.grad_fn for t in outputs]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        todo += [before for before, _ in node.next_functions]
