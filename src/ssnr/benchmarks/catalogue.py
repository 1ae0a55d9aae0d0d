"""The benchmarks by name, and official releases and tables of the user's by path."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssnr.benchmarks import files as sources
from ssnr.benchmarks.facts import Facts
from ssnr.benchmarks.readers import converted, tables
from ssnr.benchmarks.rows import CATALOGUE, PUBLISHED, Published, Source
from ssnr.core.errors import BenchmarkError, UsageError
from ssnr.core.registry import unknown

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
_OFFICIAL_SUFFIXES = {".pth", ".pbz2", ".json", ".sqlite"}


def names() -> tuple[str, ...]:
    """The benchmarks.

    >>> names()[:3]
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


def load(
    name: str | Path, source: str | Path | None = None, *, family: str | None = None, epochs: int | None = None
) -> Benchmark:
    """A benchmark by name, from a file of its official release, or from a user's own CSV, TSV or Parquet file.

    Official releases (`official.KINDS`) are converted once; see `converted.convert`.

    Args:
        name: one of `names()`, or a path.
        source: for a name one of `sources_of(name)`, or the path of an official release. For an official release's path
            which of its accuracies, such as `cifar100`, `cifar10/validation`, `cifar10/test/12`; what is not said is
            the longest training, and the test set except for TransNAS-Bench-101. For a user's file the name of its
            accuracy column. Where None: the first source if its files are on this machine, else one that pip installed,
            else the first, downloaded.
        family: of the space that reads a user's file, for architectures that several spaces read.
        epochs: of training, where it matters.

    Raises:
        UsageError: unknown benchmark or source, with near names.
        BenchmarkError: a file is missing, altered or not what it should be, or has no such number of epochs.
    """
    path = _user_path(name)
    if path is None:
        rows = _rows(str(name))
        if source is not None and (release := _release_path(source)):
            return _load_release(release, None, rows[0].family, epochs, name=rows[0].name)
        return _load_row(_choose(str(name), None if source is None else str(source)), epochs)
    selector = None if source is None else str(source)
    if _is_release(path):
        return _load_release(path, selector, family, epochs)
    if epochs is not None:
        raise BenchmarkError(f"{path}: a table of the user's does not say its epochs, {epochs} were asked for")
    return _load_user(path, selector, family)


def fetch(name: str | Path, source: str | None = None) -> list[Path]:
    """Bring a benchmark's files to this machine, those of all its sources where none is named; their paths.

    What only pip can install is left out unless it is there or asked for by its source. For the path of an official
    release: convert it; the converted table's path.

    Raises:
        UsageError: unknown benchmark or source.
        BenchmarkError: a file is altered, cannot be downloaded, or has an unknown layout.
    """
    path = _user_path(name)
    if path is not None:
        return [converted.convert(path)]
    name = str(name)
    if source is not None:
        return [sources.locate(file) for file in _choose(name, source).files]
    rows = _rows(name)
    wanted = [file for row in rows for file in row.files if not sources.FILES[file].distribution or row.here]
    wanted += [file for published_there in PUBLISHED.get(rows[0].name, ()) for file in published_there.files]
    return [sources.locate(file) for file in dict.fromkeys(wanted)]


def published(name: str) -> pd.DataFrame:
    """Proxy values that others published for a benchmark's architectures: one column per proxy, NaN where it failed.

    `frame.attrs["files"]` says for each column which files it is from.

    Raises:
        UsageError: no published proxies are known for the benchmark.
        BenchmarkError: a file is missing, altered or not what it should be.
    """
    frame: pd.DataFrame | None = None
    files: dict[str, str] = {}
    for source in _published(name):
        found = source.read(*(sources.locate(file) for file in source.files))
        found = found[[column for column in found.columns if column not in files]]
        files |= dict.fromkeys(found.columns, ", ".join(source.files))
        frame = found if frame is None else frame.join(found, how="outer")
    assert frame is not None
    frame.attrs["files"] = files
    return frame


def published_listing() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of `ssnr list published`: which proxies others published for which benchmark.

    >>> header, rows = published_listing()
    >>> header, rows[1]
    (('benchmark', 'proxies', 'file'), ('nasbench201/cifar100', 'zen', 'nb201_zen.zip'))
    """
    return ("benchmark", "proxies", "file"), [
        (name, ", ".join(source.columns), ", ".join(source.files))
        for name, found in PUBLISHED.items()
        for source in found
    ]


def _published(name: str) -> tuple[Published, ...]:
    if name.lower() not in PUBLISHED:
        raise unknown("benchmark with published proxies", name, PUBLISHED)
    return PUBLISHED[name.lower()]


# --- the catalogue --------------------------------------------------------------------------------------------


def _load_row(row: Source, epochs: int | None) -> Benchmark:
    if epochs is not None and epochs != row.epochs:
        raise BenchmarkError(
            f"{row.name} from {row.source} has {row.epochs or 'an unknown number of'} epochs, {epochs} were asked for: "
            f"name a file of the official release that has them as the source"
        )
    files = [sources.FILES[file] for file in row.files]
    table = row.read(*(sources.locate(file) for file in files))
    return Benchmark(
        **_facts(row, table.attrs.pop("note", "")),
        address="; ".join(file.address for file in files),
        licence="; ".join(dict.fromkeys(file.licence for file in files)),
        table=table,
    )


def _facts(facts: Facts, note: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {fact.name: getattr(facts, fact.name) for fact in fields(Facts)}
    return found | {"note": "; ".join(filter(None, (facts.note, note)))}


def _rows(name: str) -> list[Source]:
    rows = [row for row in CATALOGUE if row.name == name.lower()]
    if not rows:
        raise unknown("benchmark", name, names())
    return rows


def _choose(name: str, source: str | None) -> Source:
    rows = _rows(name)
    if source is not None:
        for row in rows:
            if row.source == source.lower():
                return row
        raise unknown(f"source of {rows[0].name}", source, sources_of(name))
    if rows[0].here:
        return rows[0]
    return next((row for row in rows if row.stand_in and row.here), rows[0])


# --- paths ----------------------------------------------------------------------------------------------------


def _user_path(name: str | Path) -> Path | None:
    """The path, where a file or folder is meant: benchmarks have names without an ending."""
    if isinstance(name, str) and name.lower() in names():
        return None
    path = Path(name).expanduser()
    if isinstance(name, Path) or (_TABLE_SUFFIXES | _OFFICIAL_SUFFIXES) & set(path.suffixes) or path.exists():
        return path
    return None


def _is_release(path: Path) -> bool:
    return path.is_dir() or path.suffix in _OFFICIAL_SUFFIXES


def _release_path(source: str | Path) -> Path | None:
    """The path of an official release, where a source is one."""
    path = Path(source).expanduser()
    return path if path.suffix in _OFFICIAL_SUFFIXES or (os.sep in str(source) and path.is_dir()) else None


def _load_release(
    path: Path, selector: str | None, family: str | None, epochs: int | None, name: str | None = None
) -> Benchmark:
    if not path.exists():
        raise BenchmarkError(f"{path}: no such file or folder; `ssnr list benchmarks` shows the known ones")
    target = path if path.suffix == ".sqlite" else converted.convert(path)
    every = converted.facts_of(target)
    position = _select(path, every, selector, family=family, epochs=epochs, name=name)
    table, expected = converted.table(target, position), converted.expected(target)
    partial = f"{len(table):,} of {expected:,} architectures are in it" if expected and len(table) < expected else ""
    return Benchmark(**_facts(every[position], partial), address=str(path), licence="that of the release", table=table)


def _select(
    path: Path, every: list[Facts], selector: str | None, *, family: str | None, epochs: int | None, name: str | None
) -> int:
    """Which of a release's accuracies is meant: everything said must match, the rest is `_preference`'s."""
    held = ", ".join(dict.fromkeys(facts.name for facts in every))
    found = [facts for facts in every if name in (None, facts.name) and family in (None, facts.family)]
    if not found:
        raise BenchmarkError(f"{path}: a benchmark file of another task: holds {held}, expected {name or family}")
    for part in (selector or "").split("/") if selector else ():
        matching = [facts for facts in found if part.strip().lower() in _handles(facts)]
        if not matching and part.strip().isdecimal():
            raise _no_budget(path, found, part.strip())
        if not matching:
            known = sorted(set().union(*map(_handles, found)))
            raise UsageError(f"{path}: no {part!r} in source {selector!r}: known are {', '.join(known)}")
        found = matching
    if epochs is not None:
        matching = [facts for facts in found if facts.epochs == epochs]
        if not matching:
            raise _no_budget(path, found, str(epochs))
        found = matching
    if len({facts.name for facts in found}) > 1:
        best = min(found, key=lambda facts: (_preference(facts), facts.dataset))
        example = "/".join(filter(None, (best.dataset, best.split)))
        raise UsageError(f"{path}: holds {held}: say which as the source, such as {example}")
    return every.index(min(found, key=_preference))


def _no_budget(path: Path, found: list[Facts], wanted: str) -> BenchmarkError:
    budgets = sorted({facts.epochs for facts in found if facts.epochs})
    held = " and ".join(map(str, budgets)) or "an unknown number of"
    return BenchmarkError(f"{path}: accuracies after {held} epochs, {wanted} were asked for")


def _handles(facts: Facts) -> set[str]:
    """What may stand in a selector."""
    quantity = facts.metric.removeprefix(facts.split).partition("(")[0].strip().lower()
    return {facts.dataset, facts.split, str(facts.epochs or ""), facts.name.partition("/")[0], quantity} - {""}


def _preference(facts: Facts) -> tuple[int, bool, bool]:
    """The longest training; the test set, but for TransNAS-Bench-101, whose literature uses the validation set."""
    first = "validation" if facts.family.startswith("transnasbench101") else "test"
    return (-(facts.epochs or 0), facts.split != first, "IoU" in facts.metric)


def _load_user(path: Path, source: str | None, family: str | None) -> Benchmark:
    if not path.is_file():
        raise BenchmarkError(f"{path}: no such file; `ssnr list benchmarks` shows the known ones")
    if not _TABLE_SUFFIXES & set(path.suffixes):
        endings = sorted(_TABLE_SUFFIXES | _OFFICIAL_SUFFIXES)
        raise UsageError(f"{path}: a benchmark file ends in {', '.join(endings)}")
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
