"""Unpickling a file that does not fit into memory: what nobody reads is dropped while it is being built.

NAS-Bench-201's .pth is one pickle of 15,625 architectures, each with the accuracy, loss and time of every epoch: as
Python objects 28 GB. Here a function sees every entry before it is put into a dictionary, and drops or shrinks it. The
pickle's memo, which would keep everything alive, holds strings by number and forgets old containers.
"""

from __future__ import annotations

import pickle
from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ssnr.benchmarks.readers.pickles import DType, stand_in
from ssnr.core.errors import BenchmarkError

DROP = object()
"""What `prune` returns for an entry that is not kept."""

Prune = Callable[[Any, Any], Any]
"""An entry's key and value → the value to keep, or `DROP`."""

REMEMBERED = 2_000
"""How many containers a pickle may refer back to: an architecture has some dozens."""


class Forgotten:
    """Stands for a container that was built too long ago. Readers refuse it as they refuse any unexpected value."""


_FORGOTTEN = Forgotten()


class Memo:
    """What a pickle refers back to, by number: all strings (each distinct one once) and the last containers.

    Numbers are given in order, so that four bytes a number are enough.
    """

    def __init__(self) -> None:
        self._texts: list[str] = [""]
        self._known: dict[str, int] = {}
        self._text_at = array("I")  # 0: not a string
        self._recent: OrderedDict[int, Any] = OrderedDict()
        self._fixed: dict[int, Any] = {}  # classes, functions and number types: few, and named throughout the file

    def __len__(self) -> int:
        return len(self._text_at)

    def __setitem__(self, number: int, value: Any) -> None:
        text = 0
        if type(value) is str:
            text = self._known.setdefault(value, len(self._texts))
            if text == len(self._texts):
                self._texts.append(value)
        elif callable(value) or isinstance(value, DType):
            self._fixed[number] = value
        else:
            self._recent[number] = value
            if len(self._recent) > REMEMBERED:
                self._recent.popitem(last=False)
        if number == len(self._text_at):
            self._text_at.append(text)
        elif number < len(self._text_at):
            self._text_at[number] = text
        else:
            raise pickle.UnpicklingError(f"memo entry {number} before {len(self._text_at)}")

    def __getitem__(self, number: int) -> Any:
        text = self._text_at[number] if number < len(self._text_at) else -1
        if text > 0:
            return self._texts[text]
        if text < 0:
            raise KeyError(number)
        return self._fixed.get(number) or self._recent.get(number, _FORGOTTEN)


def _set_items(self: Any) -> None:
    """The opcode SETITEMS, with pruning."""
    items = self.pop_mark()
    _put(self, items)


def _set_item(self: Any) -> None:
    """The opcode SETITEM, with pruning."""
    value, key = self.stack.pop(), self.stack.pop()
    _put(self, [key, value])


def _put(self: Any, items: list[Any]) -> None:
    target = self.stack[-1]
    if not isinstance(target, dict):
        raise pickle.UnpicklingError(f"entries put into a {type(target).__name__}")
    for key, value in zip(items[::2], items[1::2], strict=True):
        kept = self.prune(key, value)
        if kept is not DROP:
            target[key] = kept


class _Pruning(pickle._Unpickler):
    """The standard library's unpickler in Python, whose opcodes can be replaced."""

    dispatch = {**pickle._Unpickler.dispatch, pickle.SETITEMS[0]: _set_items, pickle.SETITEM[0]: _set_item}  # noqa: RUF012

    def __init__(self, file: BinaryIO, path: Path, allowed: Mapping[str, Any], prune: Prune) -> None:
        super().__init__(file)
        self._path, self._allowed, self.prune = path, allowed, prune
        self.memo = Memo()
        self.storage: Callable[[Any], Any] | None = None

    def find_class(self, module: str, name: str) -> Any:
        return stand_in(self._path, self._allowed, module, name)

    def persistent_load(self, pid: Any) -> Any:
        if self.storage is None:
            raise pickle.UnpicklingError("a persistent id outside of a .pth file")
        return self.storage(pid)


def keep(key: Any, value: Any) -> Any:
    """Prunes nothing."""
    return value


def read(
    file: BinaryIO,
    path: Path,
    allowed: Mapping[str, Any],
    prune: Prune = keep,
    storage: Callable[[Any], Any] | None = None,
) -> Any:
    """The next object in an open file, with every dictionary's entries as `prune` leaves them.

    Args:
        file: open for reading.
        path: its name, for the errors.
        allowed: see `pickles`.
        prune: see `Prune`; inner dictionaries are pruned before the outer ones that hold them.
        storage: reads a persistent id (.pth files keep the tensors' numbers under them).

    Raises:
        BenchmarkError: a global is named that is not allowed.
        Exception: whatever a damaged pickle raises.
    """
    unpickler = _Pruning(file, path, allowed, prune)
    unpickler.storage = storage
    try:
        return unpickler.load()
    except RecursionError as error:
        raise BenchmarkError(f"{path}: nested too deeply") from error
