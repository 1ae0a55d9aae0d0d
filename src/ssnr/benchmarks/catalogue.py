"""The benchmarks as one table: a row of `CATALOGUE` for each pair of a benchmark and a source of its accuracies.

Validation and test, 12 and 200 epochs, one seed and the mean of several are different accuracies. Every row says which
it is, and what `load` returns says it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssnr._errors import BenchmarkError, UsageError
from ssnr._registry import unknown
from ssnr.benchmarks import sources, tables

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Benchmark(Facts):
    """Measured accuracies of architectures, and what they are.

    Attributes:
        address: where the files are published.
        licence: as stated there.
        table: index `architecture`, column `accuracy`.
    """

    address: str
    licence: str
    table: pd.DataFrame = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.table)


_TABLE_SUFFIXES = {".csv", ".tsv", ".parquet"}


def names() -> tuple[str, ...]:
    """The benchmarks.

    >>> names()
    ('nasbench201/cifar10', 'nasbench201/cifar100', 'nasbench201/imagenet16-120')
    """
    return tuple(dict.fromkeys(row.name for row in CATALOGUE))


def sources_of(name: str) -> tuple[str, ...]:
    """The sources of a benchmark, the default first.

    >>> sources_of("nasbench201/cifar10")
    ('nats', 'naslib', 'analog')

    Raises:
        UsageError: unknown benchmark, with near names.
    """
    return tuple(row.source for row in _rows(name))


def listing() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of `ssnr list benchmarks`.

    >>> header, rows = listing()
    >>> header
    ('benchmark', 'source', 'accuracy', 'here', 'note')
    >>> rows[0][:3]
    ('nasbench201/cifar10', 'nats', 'test accuracy (%), 200 epochs, mean over the available seeds')
    """
    rows: list[tuple[str, ...]] = [
        (row.name, row.source, row.label.partition(": ")[2], "yes" if row.here else "no", row.note) for row in CATALOGUE
    ]
    return ("benchmark", "source", "accuracy", "here", "note"), rows


def load(name: str | Path, source: str | None = None, *, family: str | None = None) -> Benchmark:
    """A benchmark by name, or from a user's own CSV, TSV or Parquet file.

    Args:
        name: one of `names()`, or a path.
        source: one of `sources_of(name)`; for a user's file the name of its accuracy column. Where None: the first
            source if its files are on this machine, else one that pip installed, else the first, downloaded.
        family: of the space that reads a user's file, for architectures that several spaces read.

    Raises:
        UsageError: unknown benchmark or source, with near names.
        BenchmarkError: a file is missing, altered or not what it should be.
    """
    path = _user_path(name)
    if path is not None:
        return _load_user(path, source, family)
    row = _choose(str(name), source)
    files = [sources.FILES[file] for file in row.files]
    facts: dict[str, Any] = {fact.name: getattr(row, fact.name) for fact in fields(Facts)}
    return Benchmark(
        **facts,
        address="; ".join(file.address for file in files),
        licence="; ".join(dict.fromkeys(file.licence for file in files)),
        table=row.read(*(sources.locate(file) for file in files)),
    )


def fetch(name: str, source: str | None = None) -> list[Path]:
    """Bring a benchmark's files to this machine, those of all its sources where none is named; their paths.

    What only pip can install is left out unless it is there or asked for by its source.

    Raises:
        UsageError: unknown benchmark or source.
        BenchmarkError: a file is altered or cannot be downloaded.
    """
    if source is not None:
        return [sources.locate(file) for file in _choose(name, source).files]
    rows = _rows(name)
    wanted = [file for row in rows for file in row.files if not sources.FILES[file].distribution or row.here]
    if rows[0].name in PUBLISHED:
        wanted.append(PUBLISHED[rows[0].name][0])
    return [sources.locate(file) for file in dict.fromkeys(wanted)]


def published(name: str) -> pd.DataFrame:
    """Proxy values that others published for a benchmark's architectures: one column a proxy, NaN where it failed.

    Raises:
        UsageError: no published proxies are known for the benchmark.
        BenchmarkError: the file is missing, altered or not what it should be.
    """
    if name.lower() not in PUBLISHED:
        raise unknown("benchmark with published proxies", name, PUBLISHED)
    file, read = PUBLISHED[name.lower()]
    return read(sources.locate(file))


def _rows(name: str) -> list[Row]:
    rows = [row for row in CATALOGUE if row.name == name.lower()]
    if not rows:
        raise unknown("benchmark", name, names())
    return rows


def _choose(name: str, source: str | None) -> Row:
    rows = _rows(name)
    if source is not None:
        for row in rows:
            if row.source == source.lower():
                return row
        raise unknown(f"source of {rows[0].name}", source, sources_of(name))
    if rows[0].here:
        return rows[0]
    return next((row for row in rows if row.stand_in and row.here), rows[0])


def _user_path(name: str | Path) -> Path | None:
    """The path, where a file is meant: benchmarks have names without an ending."""
    if isinstance(name, str) and name.lower() in names():
        return None
    path = Path(name).expanduser()
    if isinstance(name, Path) or _TABLE_SUFFIXES & set(path.suffixes) or path.is_file():
        return path
    return None


def _load_user(path: Path, source: str | None, family: str | None) -> Benchmark:
    if not path.is_file():
        raise BenchmarkError(f"{path}: no such file; known benchmarks are {', '.join(names())}")
    if not _TABLE_SUFFIXES & set(path.suffixes):
        raise UsageError(f"{path}: a benchmark file ends in {', '.join(sorted(_TABLE_SUFFIXES))}")
    family, column, table = tables.read_user(path, accuracy=source, family=family)
    return Benchmark(
        name=str(path),
        family=family,
        dataset="",
        source=column,
        metric=f"{column} as in the file",
        split="",
        epochs=None,
        runs="runs not stated",
        note="a table of the user's; numbers are taken as they are, higher is better",
        address=str(path),
        licence="not stated",
        table=table,
    )
