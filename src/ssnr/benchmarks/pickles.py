"""Reading pickles of other programs without running anything: every global must be on a list."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ssnr._errors import BenchmarkError


class _Restricted(pickle.Unpickler):
    def __init__(self, file: BinaryIO, path: Path, allowed: Mapping[str, type]) -> None:
        super().__init__(file)
        self._path, self._allowed = path, allowed

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module}.{name}"
        if wanted not in self._allowed:
            raise BenchmarkError(f"{self._path}: refused to unpickle {wanted}: this file may hold plain data only")
        return self._allowed[wanted]


def load(path: Path, allowed: Mapping[str, type]) -> Any:
    """The object in a pickle that names no other globals than `allowed`: "module.name" → the class to use instead.

    Nothing of the named modules is imported.

    Raises:
        BenchmarkError: another global is named, or the file is no pickle.
    """
    try:
        with path.open("rb") as file:
            return _Restricted(file, path, allowed).load()
    except BenchmarkError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise BenchmarkError(f"{path}: not a readable pickle ({type(error).__name__}: {error})") from error
