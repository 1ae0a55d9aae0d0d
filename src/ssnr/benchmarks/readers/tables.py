"""Readers: a published file → a checked table.

A table is a DataFrame with the index `architecture` (strings in the space's own format, each once) and the column
`accuracy` (finite). Nothing is guessed: a file that is not what it should be raises one line that says where.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssnr.benchmarks.readers import pickles
from ssnr.core.errors import ArchitectureError, BenchmarkError, UsageError
from ssnr.spaces import SPACES, get_space

if TYPE_CHECKING:
    import pandas as pd

NASBENCH201_CELLS = 15_625

# --- NAS-Bench-201 --------------------------------------------------------------------------------------------

_NATS_COLUMNS = {
    "cifar10": "CIFAR10TestAccuracy200Epochs",
    "cifar100": "CIFAR100TestAccuracy200Epochs",
    "imagenet16-120": "ImageNetTestAccuracy200Epochs",
}


def read_nats(path: Path, dataset: str) -> pd.DataFrame:
    """Test accuracies of one data set from nats_bench.csv, in the order of NATS-Bench's index."""
    expected = [*_NATS_COLUMNS.values(), "ArchitectureString", "UniqueString"]
    frame = _read_csv(path, expected)
    return table(
        path,
        "nasbench201",
        frame["ArchitectureString"].tolist(),
        frame[_NATS_COLUMNS[dataset]].tolist(),
        rows=NASBENCH201_CELLS,
    )


_NASLIB_MEMBER = re.compile(r".*benchmark--(?P<space>[^-]+)--(?P<dataset>.+)--(?P<start>\d+)\.json")


def read_naslib(path: Path, dataset: str) -> pd.DataFrame:
    """NASLib's `val_accuracy` of one data set, from the JSON members of nb201_zen.zip."""
    entries, places = naslib_entries(path, "nasbench201", dataset)
    return table(
        path,
        "nasbench201",
        [entry["arch"] for entry in entries],
        [entry["val_accuracy"] for entry in entries],
        rows=NASBENCH201_CELLS,
        where=places.__getitem__,
    )


def naslib_entries(path: Path, space: str, dataset: str) -> tuple[list[dict[str, Any]], list[str]]:
    """NASLib's records of one space and data set in a zip of its runs, and where in the zip each one stands."""
    entries: list[dict[str, Any]] = []
    places: list[str] = []
    try:
        with zipfile.ZipFile(path) as archive:
            held = [m for m in map(_NASLIB_MEMBER.fullmatch, archive.namelist()) if m]
            members = [m for m in held if m["space"] == space and m["dataset"].lower() == dataset]
            for member in sorted(members, key=lambda m: int(m["start"])):
                records = json.loads(archive.read(member[0]))
                entries += records
                places += [f"{member[0]} entry {position}" for position in range(1, len(records) + 1)]
    except (zipfile.BadZipFile, ValueError, TypeError, OSError) as error:
        raise BenchmarkError(f"{path}: not a readable zip of JSON files ({error})") from error
    if not entries:
        raise BenchmarkError(f"{path}: no member benchmark--{space}--{dataset}--N.json: {_held(held)}")
    for entry, place in zip(entries, places, strict=True):
        if not (isinstance(entry, dict) and {"arch", "val_accuracy"} <= entry.keys()):
            raise BenchmarkError(f"{path}: {place} holds no arch and val_accuracy")
    return entries, places


def _held(members: Iterable[re.Match[str]]) -> str:
    """What a zip is of, where it is not of what was expected."""
    tasks = sorted({f"{member['space']} {member['dataset']}" for member in members})
    return f"a benchmark file of another task, it holds {', '.join(tasks)}" if tasks else "it holds no such members"


class _Architecture:
    """Stands in for the package's record; keeps the one number that is read."""

    __slots__ = ("accuracy",)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.accuracy = state["baseline_accuracy"]


class _Unread:
    """Stands in for the package's drift records, which nothing here reads."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


_ANALOG_GLOBALS: dict[str, type] = {
    "analognasbench.data.Architecture": _Architecture,
    "analognasbench.data.DriftMeasurement": _Unread,
}


def read_analog(path: Path) -> pd.DataFrame:
    """`baseline_accuracy`, the digital full-precision one, from analog-nasbench's data.anb."""
    records = pickles.load(path, _ANALOG_GLOBALS)
    if not (isinstance(records, dict) and all(isinstance(record, _Architecture) for record in records.values())):
        raise BenchmarkError(f"{path}: expected a dictionary of architectures")
    accuracies = [record.accuracy for record in records.values()]
    return table(path, "nasbench201", list(records), accuracies, rows=NASBENCH201_CELLS)


SWAP_GENOTYPES = 1_000


def read_swap(path: Path) -> pd.DataFrame:
    """SWAP's genotypes with their CIFAR-10 accuracies: two columns, no header."""
    import pandas as pd

    try:
        frame = pd.read_csv(path, header=None)
    except (ValueError, OSError) as error:
        raise BenchmarkError(f"{path}: not a readable table ({' '.join(str(error).split())})") from error
    if frame.shape[1] != 2:
        raise BenchmarkError(f"{path}: {frame.shape[1]} columns, expected two: genotype and accuracy, no header")
    return table(path, "darts", frame[0].tolist(), frame[1].tolist(), rows=SWAP_GENOTYPES)


_PUBLISHED_CELLS = 9_445
_PUBLISHED_PROXIES = ["epe_nas", "fisher", "flops", "grad_norm", "grasp", "jacov", "l2_norm", "nwot", "params", "plain",
                      "snip", "synflow", "zen"]  # fmt: skip
_NOT_A_NUMBER = -1e8  # what NASLib writes where a proxy gave NaN


def read_published(path: Path) -> pd.DataFrame:
    """The proxies of nb201_zc_proxies.csv, by architecture; NaN where the file has −1e8.

    `synflow` is the natural logarithm of the sum; `params` and `flops` are in millions.
    """
    import numpy as np
    import pandas as pd

    frame = _read_csv(path, ["net", "net_str", *_PUBLISHED_PROXIES])
    by_string = checked_architectures(path, "nasbench201", frame["net_str"].tolist(), rows=_PUBLISHED_CELLS)
    by_tuple = checked_architectures(path, "nasbench201", frame["net"].tolist(), rows=_PUBLISHED_CELLS)
    for position, (one, other) in enumerate(zip(by_string, by_tuple, strict=True), start=1):
        if one != other:
            raise BenchmarkError(f"{path}: row {position}: net_str is {one} but net is {other}")
    values: pd.DataFrame = frame[_PUBLISHED_PROXIES].apply(pd.to_numeric, errors="coerce").astype("float64")
    for position, column in np.argwhere(values.isna().to_numpy()).tolist():
        proxy = _PUBLISHED_PROXIES[column]
        got = _short(frame[proxy].tolist()[position])
        raise BenchmarkError(f"{path}: row {position + 1}: {proxy} is {got}, expected a number")
    return values.where(values != _NOT_A_NUMBER).set_axis(index(by_string), axis=0)


# --- a user's own table ---------------------------------------------------------------------------------------

_ARCHITECTURE_NAMES = ("architecture", "arch", "arch_str", "architecture_string", "cell", "genotype", "net", "net_str")
_ACCURACY_NAMES = ("accuracy", "acc", "test_accuracy", "test_acc", "val_accuracy", "val_acc", "valid_accuracy",
                   "valid_acc", "validation_accuracy", "validation_acc", "top1")  # fmt: skip


def read_user(path: Path, *, accuracy: str | None = None, family: str | None = None) -> tuple[str, str, pd.DataFrame]:
    """(family, name of the accuracy column, table) from any CSV, TSV or Parquet file with two such columns.

    Args:
        path: the file; what it is follows from its ending.
        accuracy: the accuracy's column; found by its name where None.
        family: the space's; the one that reads every row where None.

    Raises:
        UsageError: no such column.
        BenchmarkError: no or several candidates for a column or the family, or a bad row.
    """
    frame = _read_any(path)
    columns = [str(name) for name in frame.columns]
    if accuracy is not None and accuracy not in columns:
        raise UsageError(f"{path}: no column {accuracy!r}; columns are {_names(columns)}")
    arch_column = _column(path, "architecture", columns, _ARCHITECTURE_NAMES)
    accuracy = accuracy or _column(path, "accuracy", columns, _ACCURACY_NAMES)
    if frame.empty:
        raise BenchmarkError(f"{path}: no rows")
    forms, values = frame[arch_column].tolist(), frame[accuracy].tolist()
    family = family or family_of(path, forms)
    return family, accuracy, table(path, family, forms, values)


def columns_of(path: Path) -> list[str]:
    """The names of the columns of a CSV, TSV or Parquet file."""
    return [str(name) for name in _read_any(path).columns]


def _column(path: Path, what: str, columns: Sequence[str], known: Sequence[str]) -> str:
    """The one column that is called `what`, else the one whose name says it."""
    plain = {column: re.sub(r"[^a-z0-9]", "", column.lower()) for column in columns}
    exact = [column for column in columns if plain[column] == what]
    wanted = {name.replace("_", "") for name in known}
    found = exact or [column for column in columns if plain[column] in wanted]
    if not found:
        raise BenchmarkError(f"{path}: no {what} column: call one {what!r}; columns are {_names(columns)}")
    if len(found) > 1:
        raise BenchmarkError(f"{path}: {_names(found)} could each be the {what}: call one of them {what!r}")
    return found[0]


def family_of(path: Path, forms: Sequence[Any]) -> str:
    """The one registered space that reads every architecture."""
    first = [family for family in SPACES if _reads(family, forms[:1])]
    if not first:
        own = (
            "; one of your own is known after --space file.py:build or --import file.py" if "=" in str(forms[0]) else ""
        )
        known = ", ".join(SPACES)
        raise BenchmarkError(f"{path}: row 1: no space reads the architecture {_short(forms[0])} ({known}){own}")
    found = [family for family in first if _reads(family, forms)] or first[:1]
    if len(found) > 1:
        raise BenchmarkError(f"{path}: its architectures can be read as {' or '.join(found)}: say which with `family`")
    return found[0]


def _reads(family: str, forms: Iterable[Any]) -> bool:
    parse = get_space(family).parse
    try:
        for form in forms:
            parse(form)
    except UsageError:  # no architecture, or a space of the user's own that does not work
        return False
    return True


# --- what all readers share -----------------------------------------------------------------------------------


def table(
    path: Path,
    family: str,
    forms: Sequence[Any],
    accuracies: Sequence[Any],
    *,
    rows: int | None = None,
    where: Callable[[int], str] = lambda position: f"row {position + 1}",
) -> pd.DataFrame:
    """A checked table from architectures in any form that the space reads, and their accuracies.

    Args:
        path: the file, for the errors.
        family: the space's.
        forms: one architecture a row.
        accuracies: one number a row.
        rows: how many there must be.
        where: position, from 0 → how an error names the place.

    Raises:
        BenchmarkError: the first row that is wrong, or the wrong number of rows.
    """
    import numpy as np
    import pandas as pd

    architectures = checked_architectures(path, family, forms, rows=rows, where=where)
    values = np.empty(len(accuracies))
    for position, accuracy in enumerate(accuracies):
        if isinstance(accuracy, bool) or not finite(accuracy):
            raise BenchmarkError(f"{path}: {where(position)}: accuracy is {_short(accuracy)}, expected a finite number")
        values[position] = accuracy
    return pd.DataFrame({"accuracy": values}, index=index(architectures))


def checked_architectures(
    path: Path,
    family: str,
    forms: Sequence[Any],
    *,
    rows: int | None = None,
    where: Callable[[int], str] = lambda position: f"row {position + 1}",
) -> list[str]:
    """The architectures as their strings: as many as there must be, each once; see `table`."""
    parse = get_space(family).parse
    seen: dict[str, int] = {}
    for position, form in enumerate(forms):
        try:
            architecture = parse(form)
        except ArchitectureError as error:
            raise BenchmarkError(f"{path}: {where(position)}: {error}") from error
        if architecture in seen:
            raise BenchmarkError(
                f"{path}: {where(position)}: architecture {architecture} again, first in {where(seen[architecture])}"
            )
        seen[architecture] = position
    if rows is not None and len(seen) != rows:
        raise BenchmarkError(f"{path}: {len(seen):,} rows, expected {rows:,}")
    return list(seen)


def finite(value: object) -> bool:
    """Whether this is a number, and neither NaN nor infinite."""
    try:
        return abs(float(value)) < float("inf")  # type: ignore[arg-type]  # NaN compares false
    except (TypeError, ValueError, OverflowError):
        return False


def index(architectures: Sequence[str]) -> pd.Index[Any]:
    """The index of every table."""
    import pandas as pd

    return pd.Index(architectures, name="architecture")


def _read_csv(path: Path, expected: Sequence[str]) -> pd.DataFrame:
    frame = _read_any(path)
    if list(frame.columns) != list(expected):
        raise BenchmarkError(f"{path}: columns are {_names(frame.columns)}, expected {_names(expected)}")
    return frame


def _read_any(path: Path) -> pd.DataFrame:
    """A CSV, TSV (also compressed) or Parquet file, by its ending."""
    import pandas as pd

    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, sep="\t" if ".tsv" in path.suffixes else ",")
    except ImportError as error:
        raise BenchmarkError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow, or save a CSV") from error
    except FileNotFoundError as error:
        raise BenchmarkError(f"{path}: no such file") from error
    except (ValueError, OSError) as error:  # pandas' parser errors and undecodable text are ValueErrors
        raise BenchmarkError(f"{path}: not a readable table ({' '.join(str(error).split())})") from error


def _names(columns: Iterable[Any]) -> str:
    return ", ".join(str(column) for column in columns)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
