"""Which operation of a network has no second derivative, and in which layer it is."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ssnr.networks.diagnose import graph
from ssnr.networks.trees import flatten

Matches = Callable[[Any], bool]  # whether a node of the graph is the operation
Run = Callable[[], Any]  # the forward pass once more
_NAN = re.compile(r"Function '(\w+?)(?:Backward\d*)+' returned nan values")
_MISSING = re.compile(r"derivative for '?(?:\w+::)?(\w+?)'? is not implemented")


def missing_derivative(error: BaseException | None, net: nn.Module, run: Run) -> str | None:
    """One line naming the operation that autograd could not differentiate again; None if that is not the error."""
    missing = _MISSING.search(str(error))
    if missing is None:
        return None
    operation = missing[1].removesuffix("_backward").strip("_")
    return _line(f"PyTorch has none of {operation}", net, run, partial(_is_operation, operation))


def once_differentiable(value: Tensor, leaves: Iterable[Tensor], net: nn.Module, run: Run) -> str | None:
    """One line naming the custom functions between leaves and loss whose backward is @once_differentiable, or None.

    Autograd raises nothing there: what such a backward returns hangs on no leaf, and is left out of the second pass.
    """
    between = _between(value, leaves)
    names = sorted({type(node)._forward_cls.__name__ for node in between if _is_once(node)})
    if not names:
        return None
    what = f"{' and '.join(names)} ha{'s' if len(names) == 1 else 've'} none (@once_differentiable)"
    return _line(what, net, run, _is_once)


def first_nan(run: Run) -> str | None:
    """The operation that outputs the first NaN of the backward passes in `run`, in words; None if none does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of being slow; of where it was, in many lines
        try:
            with torch.autograd.detect_anomaly(check_nan=True):
                run()
        except Exception as error:
            found = _NAN.search(str(error))
            return found and f"NaN first comes out of the derivative of {found[1].lower()} (a root or norm at zero?)"
    return None


def _line(what: str, net: nn.Module, run: Run, matches: Matches) -> str:
    return f"grasp needs a second derivative, and {what}{_where(net, run, matches)}"


def _is_operation(operation: str, node: Any) -> bool:
    kind = re.sub(r"Backward\d*$", "", node.name())
    return bool(kind.lower() == operation.replace("_", "").lower())


def _is_once(node: Any) -> bool:
    """Whether a custom function's backward is wrapped by PyTorch's decorator, perhaps inside others."""
    backward = getattr(getattr(type(node), "_forward_cls", None), "backward", None)
    while backward is not None:
        wrapped = getattr(backward, "__wrapped__", None)
        if wrapped is not None and backward.__globals__["__name__"] == torch.autograd.function.__name__:
            return True
        backward = wrapped
    return False


def _where(net: nn.Module, run: Run, matches: Matches) -> str:
    """The innermost module whose own part of the graph holds the operation."""
    found: list[str] = []

    def look(name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if not found and any(map(matches, graph(flatten(output), flatten([args, kwargs])))):
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


def _between(value: Tensor, leaves: Iterable[Tensor]) -> set[Any]:
    """Nodes that the value depends on and that depend on a leaf."""
    wanted = {id(leaf) for leaf in leaves}
    after: dict[Any, list[Any]] = defaultdict(list)
    todo = []
    for node in graph([value], ()):
        if id(getattr(node, "variable", None)) in wanted:
            todo.append(node)
        for before, _ in node.next_functions:
            if before is not None:
                after[before].append(node)
    found: set[Any] = set()
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += after[node]
    return found
