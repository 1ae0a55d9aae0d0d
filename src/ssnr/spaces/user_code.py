"""Code of the user's own, by file or by module: `file.py:name`, `pkg.mod:name`."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from ssnr.core.errors import ScoringError, UsageError, one_line
from ssnr.core.registry import unknown


def load(where: str, what: str, *, kind: str, known: Iterable[str] = ()) -> Any:
    """What a file or module has under a name, which may have dots.

    Args:
        where: a path that ends in .py, or the name of a module.
        what: the name.
        kind: of what the user names, for errors: "target", "space".
        known: names that may have been meant instead of a module.

    Raises:
        UsageError: no such file, module or name.
        ScoringError: running it raised.
    """
    label = f"{kind} {where}:{what}"
    if where.endswith(".py"):
        if not Path(where).is_file():
            raise UsageError(f"{label}: there is no file {where}")
    elif not all(part.isidentifier() for part in where.split(".")):
        raise unknown("space", where, known)
    try:
        module = file_module(where) if where.endswith(".py") else load_module(where)
    except ModuleNotFoundError as error:
        if error.name and where.startswith(error.name):
            raise unknown("space or module", where, known) from error
        raise ScoringError(f"{label}: importing {where} raised {error}") from error
    except (Exception, SystemExit) as error:
        raise ScoringError(f"{label}: importing {where} raised {type(error).__name__}: {one_line(error)}") from error
    return found_in(module, what, where)


def found_in(module: ModuleType, what: str, where: str) -> Any:
    """What a module has under a name, which may have dots; errors call the module `where`.

    Raises:
        UsageError: no such name, with near ones.
    """
    found: Any = module
    for part in what.split("."):
        if not hasattr(found, part):
            raise unknown(f"name in {where}", part, [name for name in dir(found) if not name.startswith("_")])
        found = getattr(found, part)
    return found


def run_file(path: str) -> ModuleType:
    """Run a user's file, so that what it registers is known.

    Raises:
        UsageError: no such file, or no Python file.
        ScoringError: running it raised.
    """
    if not Path(path).is_file():
        raise UsageError(f"--import {path}: there is no such file")
    if not path.endswith(".py"):
        raise UsageError(f"--import {path}: expected a Python file, NAME.py")
    try:
        return file_module(path)
    except (Exception, SystemExit) as error:
        raise ScoringError(f"--import {path}: it raised {type(error).__name__}: {one_line(error)}") from error


def file_module(path: str | Path, name: str | None = None) -> ModuleType:
    """The module of a file, run once; its neighbours can be imported as when it is run as a script.

    It is known by the file's name, or, where another module has that name, by one with a hash after it; `name` is what
    it is known by in the process that sends something of it.
    """
    file = Path(path).resolve()
    _on_the_path(file.parent)
    name = name or _name(file)
    held = sys.modules.get(name)
    if held is not None:
        return held
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _name(file: Path) -> str:
    """The name under which a file's module is known here."""
    for name in (file.stem, f"{file.stem}_{hashlib.blake2b(str(file).encode(), digest_size=4).hexdigest()}"):
        held = sys.modules.get(name)
        if held is None:
            spec = importlib.util.find_spec(name) if name.isidentifier() else None
            if spec is None or _same_file(spec.origin, file):
                return name
        elif _same_file(getattr(held, "__file__", None), file):
            return name
    return name


def _same_file(one: str | None, file: Path) -> bool:
    return one is not None and one.endswith(".py") and Path(one).resolve() == file


def load_module(name: str) -> ModuleType:
    """A module by its name, as `python -m` finds it."""
    _on_the_path(Path().resolve())
    return importlib.import_module(name)


def _on_the_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def importable(name: str, file: str | None) -> bool:
    """Whether another process that imports this name finds the same file."""
    if name == "__main__" or file is None:
        return False
    top, *inner = name.split(".")
    spec = PathFinder.find_spec(top)  # not what is loaded here, which may come from elsewhere
    for part in inner:
        if spec is None or spec.submodule_search_locations is None:
            return False
        top = f"{top}.{part}"
        spec = PathFinder.find_spec(top, list(spec.submodule_search_locations))
    return spec is not None and _same_file(spec.origin, Path(file).resolve())
