"""How a network is called, what it gives back, and where it failed if it does."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from ssnr.core.errors import ScoringError
from ssnr.networks.trees import flatten

Forward = Callable[[nn.Module, Any], Any]


def call(net: nn.Module, inputs: Any) -> Any:
    """`net` on a nest of inputs, handed over as its forward takes them.

    A mapping becomes keyword arguments where its keys are names of the forward's arguments. A tuple, or a list where
    the forward needs as many, becomes positional arguments. Anything else is one argument.
    """
    takes = _takes(net)
    fields = _fields(inputs)
    if fields and ((takes.any_name and takes.needed <= set(fields)) or set(fields) <= takes.names):
        return net(**fields)
    several = isinstance(inputs, (tuple, list)) and len(inputs) <= takes.most
    if several and (isinstance(inputs, tuple) or 1 < len(inputs) <= len(takes.needed)):
        return net(*inputs)
    return net(inputs)


def needs_two(net: nn.Module) -> bool:
    """Whether the forward takes two arguments or more and cannot do with one."""
    return len(_takes(net).needed) >= 2


def _fields(inputs: Any) -> dict[str, Any] | None:
    """What could be keyword arguments: a mapping, a named tuple, a dataclass."""
    if isinstance(inputs, Mapping):
        return dict(inputs) if all(isinstance(key, str) for key in inputs) else None
    if isinstance(inputs, tuple) and hasattr(inputs, "_fields"):
        return dict(zip(inputs._fields, inputs, strict=True))
    if dataclasses.is_dataclass(inputs) and not isinstance(inputs, type):
        return {f.name: getattr(inputs, f.name) for f in dataclasses.fields(inputs)}
    return None


class _Takes(NamedTuple):
    """What a forward takes: names, those it cannot do without, how many by position, and whether any name goes."""

    names: set[str]
    needed: set[str]
    most: float
    any_name: bool


def _takes(net: nn.Module) -> _Takes:
    known = "forward" in net.__dict__
    try:
        parameters = list(inspect.signature(net.forward).parameters.values())
    except (TypeError, ValueError, AttributeError):
        return _Takes(set(), set(), float("inf"), False)
    finally:
        if not known:  # TorchScript keeps what it was asked for
            net.__dict__.pop("forward", None)
    kinds = [p.kind for p in parameters]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return _Takes(
        names={p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)},
        needed={p.name for p in positional if p.default is p.empty},
        most=float("inf") if inspect.Parameter.VAR_POSITIONAL in kinds else len(positional),
        any_name=inspect.Parameter.VAR_KEYWORD in kinds,
    )


def outputs_of(output: Any) -> list[Tensor]:
    """`flatten`, refusing an output that has nothing to differentiate.

    Raises:
        ScoringError: no floating tensor in the output.
    """
    tensors = flatten(output)
    if not tensors:
        kind = type(output).__name__
        if isinstance(output, Tensor) and output.is_complex():
            kind = f"{output.dtype}".removeprefix("torch.")
        raise ScoringError(f"the output holds no floating-point tensor ({kind}): nothing to differentiate")
    return tensors
