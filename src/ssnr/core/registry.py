"""One small registry: decorate to add, look up by name, unknown names suggest near ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from ssnr.core.errors import UsageError

T = TypeVar("T")

# Kind of thing → the list of `ssnr list` that shows all of them.
_LISTS = {
    "proxy": "proxies", "saliency": "proxies", "aggregate": "aggregates", "space": "spaces",
    "space or module": "spaces", "benchmark": "benchmarks",
    "recipe": "recipes",
}  # fmt: skip


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not there, with the near ones.

    >>> str(unknown("proxy", "sinflow", ["synflow", "snip"]))
    "unknown proxy 'sinflow': did you mean synflow? (`ssnr list proxies` shows all)"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        where = _LISTS.get(kind)
        hint = f" (`ssnr list {where}` shows all)" if where else ""
        return UsageError(f"unknown {kind} {name!r}: did you mean {' or '.join(near)}?{hint}")
    return UsageError(f"unknown {kind} {name!r}: known are {', '.join(names)}")


class Registry(Generic[T]):
    """A name → object table of one kind.

    Raises:
        UsageError: on a second object of the same name, and on looking up an unknown one.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Add `entry` under `name`, which must be free."""
        if name in self._entries:
            raise UsageError(f"a {self.kind} named {name!r} is registered already")
        self._entries[name] = entry
        return entry

    def remove(self, name: str) -> None:
        """Take an entry out again (tests and notebooks that redefine one)."""
        self._entries.pop(name, None)

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name]
        except KeyError:
            raise unknown(self.kind, name, self._entries) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
