"""Official releases as compact tables: one SQLite file each in the cache, made once, read in milliseconds.

A converted file belongs to a path, and is made again when the names, sizes or times of what is there have changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ssnr.benchmarks import files as sources
from ssnr.benchmarks.facts import Facts
from ssnr.benchmarks.readers import official
from ssnr.core.errors import ArchitectureError, BenchmarkError
from ssnr.spaces import get_space

if TYPE_CHECKING:
    import pandas as pd

_VERSION = 1
_SCHEMA = f"""
PRAGMA user_version = {_VERSION};
PRAGMA journal_mode = OFF;
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE facts (id INTEGER PRIMARY KEY, facts TEXT NOT NULL);
CREATE TABLE architecture (id INTEGER PRIMARY KEY, family TEXT, text TEXT NOT NULL, place TEXT, UNIQUE (family, text));
CREATE TABLE accuracy (
    facts INTEGER, architecture INTEGER, value REAL NOT NULL, PRIMARY KEY (facts, architecture)
) WITHOUT ROWID;
"""
"""No journal: the file is written under another name, and gets its own when it is complete."""


def convert(path: str | Path, kind: str | None = None) -> Path:
    """The compact table of an official release, made where it is not there yet.

    Memory stays far below 2 GB whatever the release's size: folders are read one architecture at a time, single files
    lose what nobody reads while they are unpickled.

    Args:
        path: a file or folder of one of `official.KINDS`.
        kind: which of them; what the layout says where None.

    Raises:
        UsageError: no such kind.
        BenchmarkError: nothing there, an unknown layout, another kind than asked for, a damaged file, or one whose
            parts disagree.
    """
    path = Path(path).expanduser()
    target, signature = place_of(path), _signature(path)
    if (about := _about(target)) is not None and about["signature"] == signature and kind in (None, about["kind"]):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".convert-", dir=target.parent) as scratch:
            partial = Path(scratch) / target.name
            _write(partial, path, kind, signature)
            partial.replace(target)
    except OSError as error:
        raise BenchmarkError(f"{path}: the table cannot be written to {target.parent}: {error.strerror}") from error
    return target


def place_of(path: Path) -> Path:
    """Where the converted table of a path is or will be."""
    digest = hashlib.blake2b(str(path.resolve()).encode(), digest_size=6).hexdigest()
    return sources.cache_folder() / "converted" / f"{path.stem.partition('.')[0]}-{digest}.sqlite"


def _signature(path: Path) -> str:
    """A hash of the names, sizes and times of what is converted."""
    try:
        entries = [entry for entry in os.scandir(path) if entry.is_file()] if path.is_dir() else []
        found = [(entry.name, entry.stat()) for entry in entries] if path.is_dir() else [(path.name, path.stat())]
    except OSError as error:
        raise BenchmarkError(f"{path}: {'no such file or folder' if not path.exists() else error.strerror}") from error
    lines = sorted(f"{name}\x1f{stat.st_size}\x1f{stat.st_mtime_ns}" for name, stat in found)
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def _write(target: Path, path: Path, kind: str | None, signature: str) -> None:
    bar = sources.progress_bar(path.name)
    if bar:
        bar.total = path.stat().st_size if path.is_file() else sum(entry.stat().st_size for entry in os.scandir(path))
    done = 0

    def tick(position: int) -> None:
        nonlocal done
        if bar:
            bar.update(position - done)
            done = position

    try:
        with closing(sqlite3.connect(target)) as connection, connection:
            connection.executescript(_SCHEMA)
            release = official.read(path, kind, tick)
            _fill(connection, path, release)
            about = {"signature": signature, "kind": release.kind, "expected": release.expected, "path": str(path)}
            connection.executemany("INSERT INTO about VALUES (?, ?)", list(about.items()))
    finally:
        if bar:
            bar.close()


def _fill(connection: sqlite3.Connection, path: Path, release: official.Release) -> None:
    facts_ids: dict[Facts, int] = {}
    for place, form, accuracies in release.measured:
        ids: dict[str, int] = {}
        for facts, value in accuracies.items():
            if facts not in facts_ids:
                facts_ids[facts] = len(facts_ids)
                connection.execute(
                    "INSERT INTO facts VALUES (?, ?)", (facts_ids[facts], json.dumps(asdict(facts), ensure_ascii=False))
                )
            if facts.family not in ids:
                ids[facts.family] = _add_architecture(connection, path, place, facts.family, form)
            if not abs(value) < float("inf"):
                raise BenchmarkError(f"{path}: {place}: {facts.metric} is {value}, expected a finite number")
            connection.execute("INSERT INTO accuracy VALUES (?, ?, ?)", (facts_ids[facts], ids[facts.family], value))
    if not facts_ids:
        raise BenchmarkError(f"{path}: no accuracies in it")


def _add_architecture(connection: sqlite3.Connection, path: Path, place: str, family: str, form: object) -> int:
    try:
        text = get_space(family).parse(form)
    except ArchitectureError as error:
        raise BenchmarkError(f"{path}: {place}: {error}") from error
    found = connection.execute("SELECT id, place FROM architecture WHERE (family, text) = (?, ?)", (family, text))
    first = found.fetchone()
    if first is None:
        cursor = connection.execute(
            "INSERT INTO architecture (family, text, place) VALUES (?, ?, ?)", (family, text, place)
        )
        return int(cursor.lastrowid or 0)
    raise BenchmarkError(f"{path}: {place}: architecture {text} again, first in {first[1]}")


# --- reading --------------------------------------------------------------------------------------------------


@contextmanager
def _open(target: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(f"{target.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            if connection.execute("PRAGMA user_version").fetchone() != (_VERSION,):
                raise BenchmarkError(f"{target}: not a converted benchmark of this version; delete it")
            yield connection
    except sqlite3.Error as error:
        raise BenchmarkError(f"{target}: not a converted benchmark ({error})") from error


def _about(target: Path) -> dict[str, str | None] | None:
    """What a converted table says of itself; None where there is none that can be read."""
    if not target.is_file():
        return None
    try:
        with _open(target) as connection:
            return dict(connection.execute("SELECT key, value FROM about"))
    except BenchmarkError:
        return None


def facts_of(target: Path) -> list[Facts]:
    """What accuracies a converted table has, in the order of the release."""
    with _open(target) as connection:
        rows = connection.execute("SELECT facts FROM facts ORDER BY id").fetchall()
    return [Facts(**json.loads(row[0])) for row in rows]


def expected(target: Path) -> int | None:
    """How many architectures the whole benchmark has, where the release says it."""
    value = (_about(target) or {}).get("expected")
    return None if value is None else int(value)


def table(target: Path, position: int) -> pd.DataFrame:
    """The accuracies of the facts at this position of `facts_of`; see `tables`."""
    import pandas as pd

    with _open(target) as connection:
        rows = connection.execute(
            "SELECT text, value FROM accuracy JOIN architecture ON id = architecture WHERE facts = ? "
            "ORDER BY architecture",
            (position,),
        ).fetchall()
    architectures, values = zip(*rows, strict=True)
    return pd.DataFrame({"accuracy": list(values)}, index=pd.Index(architectures, name="architecture"), dtype=float)
