"""Reading pickles of other programs without running anything: every global must be on a list.

Nothing of the modules that a pickle names is imported: the list says which class or function to use instead. `PLAIN` is
what plain data needs (ordered dictionaries, sets, NumPy's numbers); a reader adds the record types of its format.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from ssnr.core.errors import BenchmarkError


class Record:
    """Stands in for another program's record: its attributes, as they were pickled."""


def stand_in(path: Path, allowed: Mapping[str, Any], module: str, name: str) -> Any:
    """What replaces a global: `module.name` of the list, or `*.name` where the module does not matter.

    Raises:
        BenchmarkError: it is not on the list.
    """
    for known in (f"{module}.{name}", f"*.{name}"):
        if known in allowed:
            return allowed[known]
    raise BenchmarkError(f"{path}: refused to unpickle {module}.{name}: this file may hold plain data only")


class _Restricted(pickle.Unpickler):
    def __init__(self, file: BinaryIO, path: Path, allowed: Mapping[str, Any]) -> None:
        super().__init__(file)
        self._path, self._allowed = path, allowed

    def find_class(self, module: str, name: str) -> Any:
        return stand_in(self._path, self._allowed, module, name)


def load(path: Path, allowed: Mapping[str, Any]) -> Any:
    """The object in a pickle that names no other globals than `allowed`.

    Raises:
        BenchmarkError: another global is named, or the file is no pickle.
    """
    with one_line(path), path.open("rb") as file:
        return _Restricted(file, path, allowed).load()


def read(file: BinaryIO, path: Path, allowed: Mapping[str, Any]) -> Any:
    """The next object in an open file; `path` is for the errors. Otherwise as `load`."""
    with one_line(path):
        return _Restricted(file, path, allowed).load()


@contextmanager
def one_line(path: Path) -> Iterator[None]:
    """Turns whatever reading a damaged pickle raises into one line."""
    try:
        yield
    except BenchmarkError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        text = " ".join(str(error).split()) or "the file ends too soon"
        raise BenchmarkError(f"{path}: not a readable pickle ({type(error).__name__}: {text})") from error


# --- NumPy's numbers, without NumPy ---------------------------------------------------------------------------

_FORMATS = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
    "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip


class DType:
    """Stands in for `numpy.dtype`: the letter of one number, and its byte order."""

    __slots__ = ("format", "order")

    def __init__(self, name: str, *_: object) -> None:
        self.format, self.order = _FORMATS[name], "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = {"<": "<", ">": ">", "|": "<"}[state[1]]

    def numbers(self, raw: bytes, count: int) -> tuple[Any, ...]:
        return struct.unpack(f"{self.order}{count}{self.format}", raw)


class _Array(list[Any]):
    """Stands in for `numpy.ndarray`: its numbers in one list."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, _, raw = state
        self[:] = dtype.numbers(raw, prod(shape))


def _scalar(dtype: DType, raw: bytes) -> Any:
    return dtype.numbers(raw, 1)[0]


def _array(*_: object) -> _Array:
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """How pickles of protocol 2 spell bytes."""
    if encoding != "latin1":
        raise ValueError(f"bytes in {encoding}")
    return text.encode("latin1")


def _dictionary(*_: object) -> dict[Any, Any]:
    """Stands in for `defaultdict`, whose factory is code."""
    return {}


PLAIN: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": _dictionary,
    "builtins.set": set,
    "__builtin__.set": set,
    "builtins.list": list,  # only as the factory of a defaultdict
    "__builtin__.list": list,
    "_codecs.encode": _encode,
    "numpy.dtype": DType,
    "numpy.ndarray": _Array,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    PLAIN[f"{_module}.scalar"] = _scalar
    PLAIN[f"{_module}._reconstruct"] = _array
