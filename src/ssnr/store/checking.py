"""Is a store what was written? And what to do where it is not."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssnr.core.errors import StoreError, UsageError
from ssnr.core.moments import unpack
from ssnr.core.results import Result
from ssnr.store.file import Architecture, Group, Store, checksum
from ssnr.store.searches import SEARCHES, TRIALS, keep_trials, trial_of

_RESULTS = (
    "SELECT r.space, r.network, r.measured, r.recipe, r.seed, r.data, r.version, r.status, r.reason, "
    "l.names, r.moments, r.value, r.seconds, r.notes, r.kind, r.checksum FROM results r LEFT JOIN layouts l "
    "ON l.id = r.layout"
)
_ARCHITECTURES = (
    "SELECT space, architecture, network, params, flops, reachable_params, layers, checksum FROM architectures"
)


class Damage(NamedTuple):
    """What is wrong with a store.

    Attributes:
        file: what SQLite says of the file, "" where it is whole.
        rows: rows that are not what was written, in words.
        unchecked: rows without a checksum, which earlier versions wrote.
        sound: rows that are what was written.
    """

    file: str
    rows: tuple[str, ...]
    unchecked: int
    sound: int

    @property
    def any(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.file or self.rows)


def check(path: str | Path) -> Damage:
    """Read every row of a store and hold it against its checksum.

    Raises:
        UsageError: there is no such file.
        StoreError: it is no SQLite file at all.
    """
    with _opened(Path(path)) as db:
        said = _quick_check(db)
        rows, unchecked, sound = [], 0, 0
        for name, verdict in _verdicts(db):
            if verdict is None:
                unchecked += 1
            elif verdict:
                sound += 1
            else:
                rows.append(name)
    return Damage(said, tuple(rows), unchecked, sound)


def repair(path: str | Path) -> tuple[Damage, Path]:
    """Write what is sound into a new file that takes the store's name; the old one is kept beside it.

    The same sweep then fills what was dropped.

    Returns:
        What was wrong, and the old file's new name.

    Raises:
        UsageError: there is no such file.
        StoreError: it is no SQLite file at all, or the new one cannot be written.
    """
    old, new = Path(path), Path(path).with_name(Path(path).name + ".repaired")
    found = check(old)
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    with Store(new) as target, _opened(old) as db:
        for values in _sound(db, _ARCHITECTURES, "space {0}, architecture {0}"):
            target.add_architectures(values[0], [Architecture(*values[1:])])
        for values in _sound(db, _RESULTS, "r.rowid {0}"):
            target.add([_result(values)])
        for name, head in list(_sound(db, SEARCHES, "search {0}")):
            # Up to the first trial that is damaged: what a search looked at later depends on it.
            rows = sorted((row for row in _sound(db, TRIALS, "search {0}, trial {0}") if row[0] == name), key=_number)
            whole = [row for at, row in enumerate(rows) if row[1] == at]
            keep_trials(target, json.loads(head), 0, [trial_of(row) for row in whole])
    kept = _free_name(old)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            old.with_name(old.name + suffix).unlink()
    old.replace(kept)
    new.replace(old)
    return found, kept


def _number(row: Sequence[Any]) -> int:
    return int(row[1])


def _result(values: Sequence[Any]) -> tuple[Group, Result]:
    """A row of `_RESULTS`, without its checksum, as what a store adds."""
    space, network, measured, recipe, seed, data, version, status, reason, names, blob, value, seconds, notes, kind = (
        values
    )
    moments = None if blob is None or names is None else unpack(blob, json.loads(names))
    group = Group(space, measured, recipe, seed, data, version)
    return group, Result(network, status, reason, moments, value, seconds, tuple(json.loads(notes or "[]")), kind)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    if not path.is_file():
        raise UsageError(f"{path}: no such store")
    db = sqlite3.connect(path, isolation_level=None)
    db.text_factory = lambda content: content.decode("utf-8", "replace")
    try:
        db.execute("PRAGMA schema_version").fetchone()
        for table, column in (("architectures", "checksum"), ("results", "notes"), ("results", "kind"),
                              ("results", "checksum")):  # fmt: skip
            with contextlib.suppress(sqlite3.Error):
                if column not in {row[1] for row in db.execute(f"PRAGMA table_info({table})")}:
                    db.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
        yield db
    except sqlite3.DatabaseError as error:
        if "not a database" in str(error):
            raise StoreError(f"{path} is no store, or nothing of it can be read: put a copy in its place") from error
        raise StoreError(f"store {path}: nothing of it can be read ({error})") from error
    finally:
        db.close()


def _quick_check(db: sqlite3.Connection) -> str:
    try:
        said = [row[0] for row in db.execute("PRAGMA integrity_check(5)")]
    except sqlite3.Error as error:
        return str(error)
    return "" if said == ["ok"] else "; ".join(said)


def _verdicts(db: sqlite3.Connection) -> Iterator[tuple[str, bool | None]]:
    """Each row by name: sound, or not, or None where it has no checksum."""
    for *values, expected in _readable(db, _ARCHITECTURES, "space {0}, architecture {0}"):
        yield f"architecture {values[1]!r}", None if expected is None else expected == checksum(*values)
    for *values, expected in _readable(db, _RESULTS, "r.rowid {0}"):
        name = f"{values[2]} of {values[1]!r} (recipe {values[3]}, seed {values[4]})"
        yield name, None if expected is None else expected == checksum(*values)
    for *values, expected in _readable(db, SEARCHES, "search {0}"):
        yield f"search {values[0]}", expected == checksum(*values)
    for *values, expected in _readable(db, TRIALS, "search {0}, trial {0}"):
        yield f"trial {values[1]} of search {values[0]}", expected == checksum(*values)


def _sound(db: sqlite3.Connection, query: str, order: str) -> Iterator[Sequence[Any]]:
    """The rows that are what was written, without their checksums."""
    for *values, expected in _readable(db, query, order):
        if expected is None or expected == checksum(*values):
            yield values


def _readable(db: sqlite3.Connection, query: str, order: str) -> Iterator[Sequence[Any]]:
    """Every row that can be reached: from the front up to what is broken, then from the back."""
    seen: set[tuple[Any, ...]] = set()
    for direction in ("ASC", "DESC"):
        with contextlib.suppress(sqlite3.Error):
            for row in db.execute(f"{query} ORDER BY {order.format(direction)}"):
                if row[:7] not in seen:
                    seen.add(row[:7])
                    yield row
            return


def _free_name(path: Path) -> Path:
    number = 1
    while (named := path.with_name(f"{path.name}.damaged{'' if number == 1 else number}")).exists():
        number += 1
    return named
