"""Readers of NASLib's tables: the zips of its runs, and NAS-Bench-Suite-Zero's JSON files (`zc_*.json`).

A JSON file is data set → architecture → record, or space → data set → architecture → record. A record has
`val_accuracy` and proxies, each a number or {"score": number, "time": seconds}.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssnr.benchmarks.facts import NASLIB_SPACES
from ssnr.benchmarks.readers import tables
from ssnr.core.errors import BenchmarkError

if TYPE_CHECKING:
    import pandas as pd

ACCURACY = "val_accuracy"
NOT_A_NUMBER = -1e8  # what NASLib writes where a proxy gave NaN
_DESCRIPTIONS = ("arch", "idx", "index", ACCURACY)  # of a record; what else it has is proxies


@dataclass(frozen=True)
class Part:
    """The records of one space and data set.

    Attributes:
        space: NASLib's name; empty where the file does not say.
        dataset: NASLib's name.
        records: by architecture, in the form that NASLib writes.
    """

    space: str
    dataset: str
    records: dict[str, dict[str, Any]]


# --- JSON -----------------------------------------------------------------------------------------------------


def parts(path: Path) -> list[Part]:
    """Everything in a `zc_*.json`.

    Raises:
        BenchmarkError: no JSON, or not this layout.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BenchmarkError(f"{path}: no such file") from error
    except (ValueError, OSError, RecursionError) as error:
        raise BenchmarkError(f"{path}: not readable as JSON, or truncated ({error})") from error
    found = list(_parts(content, ()))
    if not found:
        raise BenchmarkError(f"{path}: not NAS-Bench-Suite-Zero's layout: no record with arch and {ACCURACY}")
    for part in found:
        if part.space and part.space not in NASLIB_SPACES:
            raise BenchmarkError(
                f"{path}: not NAS-Bench-Suite-Zero's layout: it names the space {part.space!r}, expected one of "
                f"{', '.join(NASLIB_SPACES)}"
            )
    named = re.search("|".join(sorted(NASLIB_SPACES, key=len, reverse=True)), path.name.lower())
    return [part if part.space or not named else Part(named[0], part.dataset, part.records) for part in found]


def _parts(content: Any, names: tuple[str, ...]) -> Iterator[Part]:
    if not isinstance(content, dict) or not content or len(names) > 2:
        return
    first = next(iter(content.values()))
    if isinstance(first, dict) and ACCURACY in first:
        *space, dataset = names or ("",)
        yield Part(space[0] if space else "", dataset, content)
        return
    for name, inner in content.items():
        yield from _parts(inner, (*names, str(name)))


def select(path: Path, space: str, dataset: str) -> Part:
    """The records of one space and data set, by NASLib's names.

    Raises:
        BenchmarkError: the file holds others; see `parts`.
    """
    found = parts(path)
    for part in found:
        if part.space == space and part.dataset.lower() == dataset:
            return part
    held = ", ".join(f"{part.space or 'an unnamed space'} {part.dataset}" for part in found)
    raise BenchmarkError(f"{path}: a benchmark file of another task: holds {held}, expected {space} {dataset}")


def accuracies(path: Path, part: Part, family: str | None = None) -> pd.DataFrame:
    """The checked table of a part."""
    forms, places = list(part.records), _places(part)
    for form, place in zip(forms, places, strict=True):
        record = part.records[form]
        if not isinstance(record, dict) or ACCURACY not in record:
            raise BenchmarkError(f"{path}: {place} holds no {ACCURACY}")
        if record.get("arch", form) != form:
            raise BenchmarkError(f"{path}: {place} is of {form} but its arch is {record['arch']}")
    values = [part.records[form][ACCURACY] for form in forms]
    return tables.table(path, family or NASLIB_SPACES[part.space][0], forms, values, where=places.__getitem__)


def proxies(path: Path, part: Part) -> pd.DataFrame:
    """The published proxies of a part: one column each, NaN where the file has −1e8."""
    places = _places(part)
    family = NASLIB_SPACES[part.space][0]
    architectures = tables.checked_architectures(path, family, list(part.records), where=places.__getitem__)
    return scores(path, architectures, list(part.records.values()), places)


def _places(part: Part) -> list[str]:
    return [f"{part.dataset} entry {position}" for position in range(1, len(part.records) + 1)]


def scores(path: Path, architectures: Sequence[str], records: Sequence[Any], places: Sequence[str]) -> pd.DataFrame:
    """Proxies out of records, by architecture."""
    import pandas as pd

    columns: dict[str, list[float]] = {}
    for position, record in enumerate(records):
        for proxy in (name for name in record if name not in _DESCRIPTIONS):
            value = record[proxy].get("score") if isinstance(record[proxy], dict) else record[proxy]
            if not tables.finite(value):
                raise BenchmarkError(f"{path}: {places[position]}: {proxy} is {value!r}, expected a number")
            column = columns.setdefault(proxy, [float("nan")] * len(records))
            column[position] = float("nan") if value == NOT_A_NUMBER else float(value)
    return pd.DataFrame({name: columns[name] for name in sorted(columns)}, index=tables.index(architectures))


# --- the catalogue's files ------------------------------------------------------------------------------------

NOISE = 0.5
"""How far apart, in %, two predictions of NAS-Bench-301's noisy surrogate for one architecture may be."""


def read_json(*paths: Path, space: str, dataset: str) -> pd.DataFrame:
    """The accuracies of one space and data set from one or several JSON files; where two have one, the first's."""
    found = [accuracies(path, select(path, space, dataset)) for path in paths]
    return merge(list(paths), found, NOISE if len(paths) > 1 else 0.0)


def read_json_proxies(*paths: Path, space: str, dataset: str) -> pd.DataFrame:
    """The published proxies of one space and data set; where two files have an architecture, the first's."""
    import pandas as pd

    frame = pd.concat([proxies(path, select(path, space, dataset)) for path in paths])
    return frame[~frame.index.duplicated()]


def merge(paths: Sequence[Path], found: Sequence[pd.DataFrame], tolerance: float) -> pd.DataFrame:
    """One table from several; the first that has an architecture decides, the others must agree.

    `table.attrs["note"]` says in how many they differ.

    Raises:
        BenchmarkError: two differ by more than `tolerance`.
    """
    import pandas as pd

    merged = found[0]
    differences: list[float] = []
    for path, frame in zip(paths[1:], found[1:], strict=True):
        common = frame.index.intersection(merged.index)
        kept, other = (table.loc[common, "accuracy"].tolist() for table in (merged, frame))
        for architecture, one, two in zip(common, kept, other, strict=True):
            differences.append(abs(one - two))
            if differences[-1] > tolerance:
                raise BenchmarkError(
                    f"{paths[0].name} and {path.name} disagree about {architecture}: {one:g} and {two:g}; "
                    f"expected at most {tolerance:g} apart: load one of them alone"
                )
        merged = pd.concat([merged, frame.drop(index=common)])
    if differences:
        merged.attrs["note"] = (
            f"{len(differences)} architectures are in several files, up to {max(differences):.2f} apart: "
            f"taken from {paths[0].name}"
        )
    return merged


def read_zip(path: Path, space: str, dataset: str, rows: int) -> pd.DataFrame:
    """NASLib's `val_accuracy` of one space and data set from a zip of its runs."""
    entries, places = tables.naslib_entries(path, space, dataset)
    return tables.table(
        path,
        NASLIB_SPACES[space][0],
        [entry["arch"] for entry in entries],
        [entry[ACCURACY] for entry in entries],
        rows=rows,
        where=places.__getitem__,
    )


def read_zip_proxies(path: Path, space: str, dataset: str, rows: int) -> pd.DataFrame:
    """The published proxies of one space and data set from a zip of NASLib's runs."""
    entries, places = tables.naslib_entries(path, space, dataset)
    forms = [entry["arch"] for entry in entries]
    family = NASLIB_SPACES[space][0]
    architectures = tables.checked_architectures(path, family, forms, rows=rows, where=places.__getitem__)
    return scores(path, architectures, entries, places)


def space_of(path: Path, part: Part) -> str:
    """NASLib's name of the space of a part that does not say it: the one whose architectures these are.

    Raises:
        BenchmarkError: none, or several.
    """
    family = tables.family_of(path, list(part.records))
    for space, (known, _) in NASLIB_SPACES.items():
        if known == family:
            return space
    raise BenchmarkError(f"{path}: architectures of {family}: call the file zc_SPACE.json to say which space it is of")
