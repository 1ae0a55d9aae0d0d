"""`ssnr.space`: a function → a space, known by its name to everything that takes a space."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, overload

from ssnr.core.errors import UsageError
from ssnr.core.registry import unknown
from ssnr.spaces import user_code
from ssnr.spaces.base import SPACES
from ssnr.spaces.functions.choices import of_values
from ssnr.spaces.functions.space import FunctionSpace
from ssnr.spaces.functions.trial import check_name

_own: dict[str, FunctionSpace] = {}


@overload
def space(
    function: Callable[..., Any], /, *, name: str | None = None, input_shape: tuple[int, ...] | None = None,
    num_classes: int | None = None, **choices: Any,
) -> FunctionSpace: ...  # fmt: skip
@overload
def space(
    function: None = None, /, *, name: str | None = None, input_shape: tuple[int, ...] | None = None,
    num_classes: int | None = None, **choices: Any,
) -> Callable[[Callable[..., Any]], FunctionSpace]: ...  # fmt: skip
def space(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    input_shape: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    **choices: Any,
) -> FunctionSpace | Callable[[Callable[..., Any]], FunctionSpace]:
    """A search space of your own: the networks that a function builds.

    Without `choices` the function takes one argument, a trial with Optuna's `suggest_int`, `suggest_float` and
    `suggest_categorical`, and what it asks for may depend on what it was told before. With `choices` it takes those
    arguments by name, each one of a list or range of values. Without a function this is a decorator.

    Args:
        function: builds a network; a class of networks is such a function too.
        name: of the space, in stores; default FILE:FUNCTION. It is part of what weights are drawn from.
        input_shape: of one input without its batch dimension; default the attribute `input_shape` of the function or of
            the network.
        num_classes: of the labels that proxies with data need; default the width of the network's output.
        **choices: for each argument of the function the values to choose from.

    Returns:
        A space, also found by its name: `ssnr.get_space`, `ssnr.sweep`, the command line after `--import`.

    Raises:
        UsageError: the function does not take these arguments, a list is empty or has two values that are written
            alike, or the name is that of a space of this package.

    >>> def mlp(depth, width):
    ...     from torch import nn
    ...     return nn.Sequential(nn.Linear(8, width), *(nn.Linear(width, width) for _ in range(depth)))
    >>> own = space(mlp, name="mlp", input_shape=(8,), depth=[1, 2, 3], width=range(16, 65, 16))
    >>> own
    <space mlp: 12 architectures>
    >>> own.counts("depth=2,width=32").params
    2400
    """
    if function is None:
        return lambda given: space(given, name=name, input_shape=input_shape, num_classes=num_classes, **choices)
    if isinstance(function, FunctionSpace):
        function = function.function
    if not callable(function):
        raise UsageError(f"expected a function that builds a network, got {type(function).__name__}: {function!r:.60}")
    chosen = _named(function) if name is None else name
    if not isinstance(chosen, str) or not re.fullmatch(r"[^\s/,=]+", chosen):
        raise UsageError(f"a space named {chosen!r}: expected a text without spaces, / , and =")
    parameters = {}
    for argument, values in choices.items():
        check_name(argument)
        try:
            parameters[argument] = of_values(values)
        except UsageError as error:
            raise UsageError(f"space {chosen}: {argument}: {error}") from error
    _check_arguments(function, chosen, tuple(parameters))
    return _registered(FunctionSpace(function, chosen, parameters, input_shape, num_classes))


def of_function(function: Callable[..., Any]) -> FunctionSpace:
    """The space of a function of a trial; one function has one space, which remembers what it counted."""
    known = _own.get(_named(function))
    return known if known is not None and known.function is function and not known.parameters else space(function)


def _registered(made: FunctionSpace) -> FunctionSpace:
    """Known by its name from now on; one of the user's own takes the place of another."""
    if made.name in SPACES and made.name not in _own:
        raise UsageError(f"a space named {made.name!r} comes with ssnr: give yours another name")

    def by_name(dataset: str) -> FunctionSpace:
        if dataset:
            raise unknown(f"data set of {made.name}", dataset, ["none"])
        return made

    by_name.__doc__ = (inspect.getdoc(made.function) or "of your own").split("\n")[0]
    SPACES.remove(made.name)
    SPACES.add(made.name, by_name)
    _own[made.name] = made
    return made


def _named(function: Callable[..., Any]) -> str:
    """FILE:FUNCTION, the same whether the file is a script, a module or named on the command line."""
    name = getattr(function, "__name__", None)
    if not isinstance(name, str) or "<" in name:
        raise UsageError(f"{function!r:.60} has no name of its own: give the space one, name=…")
    module_name = getattr(function, "__module__", None) or "__main__"
    file = getattr(sys.modules.get(module_name), "__file__", None)
    if user_code.importable(module_name, file):
        return f"{module_name}:{name}"
    return f"{Path(file).stem}:{name}" if file else name


def _check_arguments(function: Callable[..., Any], name: str, arguments: tuple[str, ...]) -> None:
    """Refuse a function that does not take a trial, or the arguments that have choices."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a function of C does not say
        return
    shown = f"{getattr(function, '__name__', 'the function')}({', '.join(signature.parameters)})"
    try:
        if arguments:
            signature.bind(**dict.fromkeys(arguments))
        else:
            signature.bind(None)
    except TypeError as error:
        if arguments:
            raise UsageError(f"space {name}: {shown} does not take {', '.join(arguments)}: {error}") from error
        raise UsageError(
            f"space {name}: {shown} does not take a trial alone: expected build(trial), or values for each argument, "
            "ssnr.space(build, depth=[2, 3])"
        ) from error
