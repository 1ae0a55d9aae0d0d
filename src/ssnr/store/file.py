"""The store: one SQLite file that says what was measured, how, with what result.

    architectures  (space, architecture) → its network (the twin that was measured) and the four controls
    results        (space, network, measured, recipe, seed, data, version) → status, reason, moments or value
    layouts        the layer names that many results share
    searches, trials  what searches looked at (`ssnr.store.searches`)

Architectures with the same twin (the same network, weight for weight) share one row of `results`. A chunk is one
transaction: a killed process loses at most the chunk in flight. Moments are kept, not scores, so a new aggregate over
an old store scores nothing again. Every row has a checksum: what a disk or a copy has changed is found when it is read,
and named.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from ssnr._version import SCORING_VERSION
from ssnr.core.errors import StoreError
from ssnr.core.moments import pack, unpack
from ssnr.core.results import Result

FORMAT = 1
_APPLICATION = 0x53534E52  # "SSNR"
# Columns that stores of earlier versions do not have; they are added when such a store is opened for writing.
_LATER = {"architectures": ("checksum INTEGER",), "results": ("notes TEXT", "kind TEXT", "checksum INTEGER")}
_CHECKED_AT_ONCE = 64 << 20  # bytes: larger files are checked by `ssnr check`, smaller ones whenever they are opened

_SCHEMA = """
CREATE TABLE layouts (id INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE);
CREATE TABLE architectures (
    space TEXT NOT NULL, architecture TEXT NOT NULL, network TEXT NOT NULL,
    params INTEGER, flops INTEGER, reachable_params INTEGER, layers INTEGER, checksum INTEGER,
    PRIMARY KEY (space, architecture)) WITHOUT ROWID;
CREATE TABLE results (
    space TEXT NOT NULL, network TEXT NOT NULL, measured TEXT NOT NULL, recipe TEXT NOT NULL, seed INTEGER NOT NULL,
    data TEXT NOT NULL, version INTEGER NOT NULL,
    status TEXT NOT NULL, reason TEXT, layout INTEGER REFERENCES layouts, moments BLOB, value REAL, seconds REAL,
    notes TEXT, kind TEXT, checksum INTEGER,
    PRIMARY KEY (space, network, measured, recipe, seed, data, version));
"""


class Group(NamedTuple):
    """What was measured and how: everything of a result's key but the network."""

    space: str
    measured: str
    recipe: str
    seed: int
    data: str = ""
    version: int = SCORING_VERSION


class Architecture(NamedTuple):
    """An architecture that was asked for, the network that stands for it, and its controls."""

    architecture: str
    network: str
    params: int | None
    flops: int | None
    reachable_params: int | None
    layers: int | None


class Store:
    """A store file, created where there is none.

    Raises:
        StoreError: the folder is missing or read-only, the file is no store or of another version, the disk is full,
            or another process holds the file. Nothing that was committed is lost.
    """

    def __init__(self, path: str | Path, *, create: bool = True, timeout: float = 30.0) -> None:
        self.path = Path(path)
        if not create and not self.path.is_file():
            raise StoreError(f"no store at {self.path}: run `ssnr sweep … --store {self.path}` first")
        if not self.path.parent.is_dir():
            raise StoreError(f"cannot create {self.path}: there is no folder {self.path.parent}")
        with self._explained():
            self._db = sqlite3.connect(self.path, timeout=timeout, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise
        self._layouts: dict[str, int] = {}

    def _open(self) -> None:
        # Tables first: another process may be making them, and the identity comes with them in one transaction.
        tables, application, version = (
            self._db.execute(query).fetchone()[0]
            for query in (
                "SELECT count(*) FROM sqlite_master",
                "PRAGMA application_id",
                "PRAGMA user_version",
            )
        )
        if tables == 0:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("BEGIN IMMEDIATE")
            if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id={_APPLICATION}")
                self._db.execute(f"PRAGMA user_version={FORMAT}")
            self._db.execute("COMMIT")
        elif application != _APPLICATION:
            raise StoreError(f"{self.path} is an SQLite file of another program; name another file for the store")
        elif version != FORMAT:
            raise StoreError(
                f"{self.path} is a store of format {version}, this ssnr reads format {FORMAT}: "
                f"use the version of ssnr that wrote it, or another file"
            )
        self._db.execute("PRAGMA synchronous=NORMAL")
        if tables and self.path.stat().st_size <= _CHECKED_AT_ONCE:
            said = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if said != "ok":
                raise StoreError(self._damaged(said))
        self._checksums = self._add_columns()
        self._file = self.path.absolute()  # the folder of the process may change
        there = self._file.stat()
        self._identity = there.st_dev, there.st_ino

    def _add_columns(self) -> bool:
        """Bring a store of an earlier version up to date; False where it cannot be written and lacks columns."""
        lacking = [
            (table, column)
            for table, columns in _LATER.items()
            for column in columns
            if column.split()[0] not in {row[1] for row in self._db.execute(f"PRAGMA table_info({table})")}
        ]
        try:
            for table, column in lacking:
                self._db.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
        except sqlite3.OperationalError as error:
            if "duplicate column" in str(error):  # another process did it just now
                return self._add_columns()
            return False
        return True

    def _still_there(self) -> None:
        """A file that was deleted stays writable for those who have it open: what they write is lost.

        Raises:
            StoreError: this is what happened.
        """
        try:
            there = self._file.stat()
        except OSError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != self._identity:
            raise StoreError(
                f"store {self.path}: the file was deleted or replaced meanwhile; the same command begins another"
            )

    def _damaged(self, what: str) -> str:
        return f"store {self.path} is damaged ({what}): `ssnr check {self.path} --repair` keeps what can be read"

    def _held(self, what: str, values: Sequence[Any], expected: int | None) -> None:
        """Hold a row against its checksum; rows of earlier versions have none.

        Raises:
            StoreError: it is not what was written.
        """
        if expected is not None and expected != checksum(*values):
            raise StoreError(self._damaged(what))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """SQLite's errors as one line that says what to do."""
        try:
            yield
        except sqlite3.Error as error:
            text = str(error)
            if "locked" in text or "busy" in text:
                why = "another process is writing to it; wait for it, or use another file and merge later"
            elif "full" in text:
                why = "the disk is full; what was committed is kept, and the same command resumes"
            elif "readonly" in text or "unable to open" in text:
                why = "the file or its folder cannot be written; check its permissions"
            elif "not a database" in text or "malformed" in text:
                why = "it is not a store, or it is damaged"
            else:
                why = "SQLite refused"
            raise StoreError(f"store {self.path}: {why} ({text})") from error

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; committed chunks are in it."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._still_there()
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    # --- writing

    def add_architectures(self, space: str, rows: Iterable[Architecture]) -> None:
        """Say which network stands for which architecture, in one transaction."""
        with self._transaction():
            self._db.executemany(
                "INSERT OR IGNORE INTO architectures (space, architecture, network, params, flops, reachable_params, "
                "layers, checksum) VALUES (?,?,?,?,?,?,?,?)",
                ((space, *row, checksum(space, *row)) for row in rows),
            )

    def add(self, rows: Iterable[tuple[Group, Result]]) -> None:
        """Keep a chunk of results, in one transaction; what is there already stays."""
        with self._transaction():
            for group, r in rows:
                names = None if r.moments is None else json.dumps(list(r.moments.names))
                blob = None if r.moments is None else pack(r.moments)
                notes = json.dumps(list(r.notes), ensure_ascii=False) if r.notes else None
                key = (group.space, r.network, *group[1:])
                value, seconds = _real(r.value), _real(r.seconds)
                said = (r.status, r.reason, names, blob, value, seconds, notes, r.kind)
                layout = None if names is None else self._layout(names)
                row = (*key, r.status, r.reason, layout, blob, value, seconds, notes, r.kind)
                self._db.execute(_INSERT, (*row, checksum(*key, *said)))

    def _layout(self, text: str) -> int:
        if text not in self._layouts:
            self._db.execute("INSERT OR IGNORE INTO layouts (names) VALUES (?)", (text,))
            found = self._db.execute("SELECT id FROM layouts WHERE names = ?", (text,)).fetchone()
            self._layouts[text] = found[0]
        return self._layouts[text]

    # --- reading

    def spaces(self) -> list[str]:
        """Spaces that have architectures here."""
        with self._explained():
            return [row[0] for row in self._db.execute("SELECT DISTINCT space FROM architectures ORDER BY 1")]

    def groups(self) -> list[Group]:
        """What was measured and how, one entry for each set of results."""
        query = "SELECT DISTINCT space, measured, recipe, seed, data, version FROM results ORDER BY 1,2,3,4,5,6"
        with self._explained():
            return [Group(*row) for row in self._db.execute(query)]

    def architectures(self, space: str) -> Iterator[Architecture]:
        """Every architecture of a space that was asked for, sorted by its string."""
        query = (
            f"SELECT architecture, network, params, flops, reachable_params, layers, {self._or_null('checksum')} "
            "FROM architectures WHERE space = ? ORDER BY architecture"
        )
        with self._explained():
            for *row, expected in self._db.execute(query, (space,)):
                self._held(f"the row of {row[0]!r}", (space, *row), expected)
                yield Architecture(*row)

    def _or_null(self, *columns: str) -> str:
        """Columns that a store of an earlier version, open for reading only, does not have."""
        return ", ".join(columns if self._checksums else ("NULL",) * len(columns))

    def done(self, group: Group) -> set[str]:
        """Networks that have a result of this group, failures included."""
        query = (
            "SELECT network FROM results "
            "WHERE space = ? AND measured = ? AND recipe = ? AND seed = ? AND data = ? AND version = ?"
        )
        with self._explained():
            return {row[0] for row in self._db.execute(query, group)}

    def results(self, group: Group, networks: Iterable[str] | None = None) -> Iterator[Result]:
        """Results of a group, one at a time: all of them, or those of the named networks, in their order."""
        columns = f"status, reason, layout, moments, value, seconds, {self._or_null('notes', 'kind', 'checksum')}"
        where = "space = ? AND measured = ? AND recipe = ? AND seed = ? AND data = ? AND version = ?"
        names: dict[int, str] = {}
        with self._explained():
            if networks is None:
                for network, *row in self._db.execute(f"SELECT network, {columns} FROM results WHERE {where}", group):
                    yield self._result(group, network, row, names)
                return
            for network in networks:
                query = f"SELECT {columns} FROM results WHERE {where} AND network = ?"
                for row in self._db.execute(query, (*group, network)):
                    yield self._result(group, network, row, names)

    def _result(self, group: Group, network: str, row: Sequence[Any], names: dict[int, str]) -> Result:
        """A row as a value.

        Raises:
            StoreError: it is not what was written.
        """
        status, reason, layout, blob, value, seconds, notes, kind, expected = row
        if layout is not None and layout not in names:
            found = self._db.execute("SELECT names FROM layouts WHERE id = ?", (layout,)).fetchone()
            names[layout] = "" if found is None else found[0]
        text = None if layout is None else names[layout]
        said = (status, reason, text, blob, value, seconds, notes, kind)
        self._held(f"the row of {network!r}, {group.measured}", (group.space, network, *group[1:], *said), expected)
        try:
            moments = None if blob is None or text is None else unpack(blob, json.loads(text))
            return Result(network, status, reason, moments, value, seconds, tuple(json.loads(notes or "[]")), kind)
        except (ValueError, TypeError, IndexError) as error:
            raise StoreError(self._damaged(f"the row of {network!r}, {group.measured}")) from error


_INSERT = (
    "INSERT OR IGNORE INTO results (space, network, measured, recipe, seed, data, version, status, reason, layout, "
    "moments, value, seconds, notes, kind, checksum) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)


def _real(value: float | None) -> float | None:
    """A number as SQLite gives it back: whole ones as floats, NaN as nothing."""
    return None if value is None or value != value else float(value)


def checksum(*values: Any) -> int:
    """CRC-32 of a row's values, layer names and moments included; SQLite keeps no sign of zero, nor does this."""
    found = 0
    for value in values:
        value = value + 0.0 if isinstance(value, float) else value
        content = value if isinstance(value, bytes) else repr(value).encode()
        found = zlib.crc32(content, zlib.crc32(len(content).to_bytes(8, "little"), found))
    return found
