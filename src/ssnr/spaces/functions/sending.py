"""How a space of a user's own reaches a worker process: by the name of its function where that is enough, else whole.

A module that a worker can import is imported there; a file is run there under the same name; what a script or a
notebook defines goes by value.
"""

from __future__ import annotations

import inspect
import pickle
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ssnr.core.errors import UsageError, one_line
from ssnr.spaces import user_code

if TYPE_CHECKING:
    from ssnr.spaces.functions.space import FunctionSpace


class Home(NamedTuple):
    """Where another process finds a function: in a module, in the module of a file, or nowhere (by value)."""

    kind: str
    name: str
    module: str = ""
    file: str = ""


def home_of(function: Callable[..., Any]) -> Home:
    """Where a function can be found by name."""
    module_name, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    module = sys.modules.get(module_name or "")
    file = None if module is None else getattr(module, "__file__", None)
    by_name = (
        module_name is not None and module is not None and name and "<" not in name and _holds(module, name, function)
    )
    if not by_name or module_name == "__main__" or module_name is None:
        return Home("value", name)
    if user_code.importable(module_name, file):
        return Home("module", name, module_name)
    if file is not None and file.endswith(".py"):
        return Home("file", name, module_name, file)
    return Home("value", name)


def _holds(module: Any, name: str, function: Callable[..., Any]) -> bool:
    """Whether the name leads to the function, or to a space that was made of it."""
    found = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is function or getattr(found, "function", None) is function


def sent(space: FunctionSpace) -> tuple[Any, ...]:
    """What `__reduce__` gives: a function that makes the space again, and its arguments.

    Raises:
        UsageError: the function, or a value to choose from, cannot be sent.
    """
    import cloudpickle

    home = home_of(space.function)
    state = space.__getstate__()
    function = space.function if home.kind == "value" else None
    try:
        return _received, (home, cloudpickle.dumps((type(space), function, state)))
    except Exception as error:
        raise UsageError(
            f"space {space.name} cannot be sent to worker processes ({type(error).__name__}: {one_line(error, 120)}): "
            "define it in a file, or take one worker"
        ) from error


def _received(home: Home, payload: bytes) -> FunctionSpace:
    found = None
    if home.kind != "value":  # first, for what is in the payload may be of this file
        module: Any = user_code.file_module(home.file, home.module) if home.file else user_code.load_module(home.module)
        found = user_code.found_in(module, home.name, home.file or home.module)
        found = getattr(found, "function", found) if not inspect.isfunction(found) else found
    kind, function, state = pickle.loads(payload)  # noqa: S301 - from the parent process
    space: FunctionSpace = object.__new__(kind)
    space.__setstate__(state | {"function": function if found is None else found})
    return space
