"""Several stores into one: shards of a cluster, sweeps of colleagues."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ssnr.core.errors import StoreError, UsageError
from ssnr.core.moments import pack
from ssnr.core.results import Result
from ssnr.store.file import Architecture, Group, Store
from ssnr.store.searches import keep_trials, kept_searches

_AT_ONCE = 500  # rows a transaction


class Conflict(NamedTuple):
    """One key with two results."""

    group: Group
    network: str
    kept: str
    other: str

    def __str__(self) -> str:
        return f"{self.network} ({self.group.measured}, seed {self.group.seed}): {self.kept} and {self.other}"


def merge(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    keep: str | None = None,
    notify: Callable[[int, int], None] | None = None,
) -> list[Conflict]:
    """Write what several stores hold into one, which is created or added to.

    Layer names are numbered anew: the numbers of two stores mean different things. Recipes, seeds, data and versions
    are parts of a row's key and stay apart. Rows that are there already are skipped, so that a merge may be stopped at
    any moment and run again.

    Args:
        sources: the stores.
        out: where to.
        keep: "first" keeps the row that is there where two differ; None refuses.
        notify: called with sources done and in all.

    Returns:
        The conflicts that `keep` settled.

    Raises:
        UsageError: no source, or the target among them.
        StoreError: a store cannot be read or written, or two rows of one key differ and `keep` does not settle it;
            rows before it are in the target.
    """
    paths = [Path(source) for source in sources]
    if not paths:
        raise UsageError("nothing to merge: name at least one store")
    if keep not in (None, "first"):
        raise UsageError(f"keep {keep!r}: expected first")
    if Path(out).resolve() in {path.resolve() for path in paths}:
        raise UsageError(f"{out} is one of the stores to merge: name another file with -o")
    for path in paths:
        Store(path, create=False).close()  # all of them are stores, before anything is written
    conflicts: list[Conflict] = []
    with Store(out) as target:
        for number, path in enumerate(paths):
            if notify is not None:
                notify(number, len(paths))
            with Store(path, create=False) as source:
                for space in source.spaces():
                    _architectures(source, target, space)
                for group in source.groups():
                    conflicts += _results(source, target, group, keep)
                there = [search.head for search in kept_searches(target)]
                for search in kept_searches(source):
                    if search.head not in there:
                        keep_trials(target, search.head, 0, search.trials)
        if notify is not None:
            notify(len(paths), len(paths))
    return conflicts


def _architectures(source: Store, target: Store, space: str) -> None:
    known = {row.architecture: row for row in target.architectures(space)}
    new: list[Architecture] = []
    for row in source.architectures(space):
        there = known.get(row.architecture)
        if there is None:
            new.append(row)
        elif there != row:
            raise StoreError(f"{source.path}: {row.architecture} has counts {row[1:]}, in {target.path} {there[1:]}")
    target.add_architectures(space, new)


def _results(source: Store, target: Store, group: Group, keep: str | None) -> Iterator[Conflict]:
    there = target.done(group)
    rows = source.results(group)
    found: list[Conflict] = []
    while chunk := list(islice(rows, _AT_ONCE)):
        for result in chunk:
            if result.network in there:
                (kept,) = target.results(group, [result.network])
                if not _same(kept, result):
                    conflict = Conflict(group, result.network, _brief(kept), _brief(result))
                    if keep is None:
                        raise StoreError(
                            f"{source.path} and {target.path} disagree on {conflict}: "
                            "--keep first keeps what is there, or merge them apart"
                        )
                    found.append(conflict)
        target.add((group, result) for result in chunk if result.network not in there)
    return iter(found)


def _same(one: Result, other: Result) -> bool:
    """Whether two results are the same measurement, whatever the seconds that it took."""
    plain = (replace(result, seconds=None, moments=None) for result in (one, other))
    first, second = plain
    if first != second or (one.moments is None) != (other.moments is None):
        return False
    if one.moments is None or other.moments is None:
        return True
    return one.moments.names == other.moments.names and pack(one.moments) == pack(other.moments)


def _brief(result: Result) -> str:
    if result.moments is not None:
        return f"{result.status}, Σ S {float((result.moments.total * 2.0**result.moments.exponent).sum()):.10g}"
    return f"{result.status}, {json.dumps(result.reason) if result.value is None else result.value}"
