"""Readers of the benchmarks' official releases, one architecture at a time.

Each gives, for every architecture, where it stands in the file, its form, and its accuracies: one for each data set,
split and number of epochs, the mean over the trainings with that many. Only accuracies after the last epoch are read:
one from the middle of a longer training belongs to another learning rate and is no budget of its own.
"""

from __future__ import annotations

import bz2
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ssnr.benchmarks.facts import Facts, naslib_facts, nats_facts, transnas_facts
from ssnr.benchmarks.readers import pickles, streaming, suitezero, torchfiles
from ssnr.core.errors import BenchmarkError, UsageError

KINDS = {
    "nats": "NATS-Bench topology: the unpacked `simple` folder, or the single .pickle.pbz2",
    "nasbench201": "NAS-Bench-201 v1.0 or v1.1, .pth",
    "transnasbench101": "TransNAS-Bench-101, .pth",
    "suite-zero": "NAS-Bench-Suite-Zero, zc_*.json",
}

Accuracies = dict[Facts, float]


class Measured(NamedTuple):
    """One architecture: where in the file, in the file's form, and its accuracies."""

    place: str
    form: Any
    accuracies: Accuracies


class Release(NamedTuple):
    """What is in an official file: its kind, how many architectures the benchmark has, and the architectures."""

    kind: str
    expected: int | None
    measured: Iterator[Measured]


Tick = Callable[[int], None]
"""Told how many bytes of the file are done."""


def read(path: Path, kind: str | None, tick: Tick) -> Release:
    """The architectures of an official file or folder.

    Args:
        path: the file or folder.
        kind: one of `KINDS`; what the file's layout says where None.
        tick: for a progress bar.

    Raises:
        UsageError: no such kind.
        BenchmarkError: nothing there, an unknown layout, another kind than asked for, or a damaged file.
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(f"unknown kind of benchmark file {kind!r}: known are {', '.join(KINDS)}")
    release = _read(path, tick)
    if kind is not None and release.kind != kind:
        raise BenchmarkError(f"{path}: holds {KINDS[release.kind]}; expected {KINDS[kind]}")
    return release


def _read(path: Path, tick: Tick) -> Release:
    if path.is_dir():
        return _nats_folder(path, tick)
    if not path.is_file():
        raise BenchmarkError(f"{path}: no such file or folder")
    if path.suffix == ".json":
        return Release("suite-zero", None, _suite_zero(path))
    if path.suffix == ".pbz2":
        with pickles.one_line(path), bz2.open(path) as file:
            root = streaming.read(file, path, _GLOBALS, _prune)  # type: ignore[arg-type]  # a BZ2File is binary enough
        return _cells(path, "nats", root)
    if path.suffix == ".pth":
        root = torchfiles.load(path, lambda file: _told(file, tick))
        if isinstance(root, Mapping) and "arch2infos" in root:
            return _cells(path, "nasbench201", root)
        if isinstance(root, Mapping) and {"data", "metrics_dict"} <= root.keys():
            return Release("transnasbench101", None, _transnas(path, root["data"]))
        raise BenchmarkError(
            f"{path}: unknown layout: expected the entries arch2infos (NAS-Bench-201) or data and metrics_dict "
            f"(TransNAS-Bench-101), holds {_shown(root)}"
        )
    raise BenchmarkError(f"{path}: unknown layout: known are {'; '.join(KINDS.values())}")


# --- what is kept of a large file -----------------------------------------------------------------------------

_GLOBALS = {**pickles.PLAIN, "*.ArchResults": pickles.Record, "*.ResultsCount": pickles.Record}
_UNREAD = {
    "train_acc1es", "train_acc5es", "train_losses", "train_times", "eval_losses", "eval_times", "eval_names",
    "net_state_dict", "arch_config", "params", "flop", "latency", "dataset_seed", "model_info", "time_elapsed",
}  # fmt: skip


def _prune(key: Any, value: Any) -> Any:
    """Of every training only the accuracies after its last epoch; see `streaming`."""
    if key in _UNREAD:
        return streaming.DROP
    if key == "eval_acc1es" and isinstance(value, Mapping):
        return _last(value)
    if key == "metrics" and isinstance(value, Mapping):
        return {name: (len(values), values[-1]) for name, values in value.items() if len(values)}
    return value


def _told(file: BinaryIO, tick: Tick) -> streaming.Prune:
    """`_prune` that reports how far the file is read, once a training."""

    def prune(key: Any, value: Any) -> Any:
        if key in ("all_results", "metrics"):
            tick(file.tell())
        return _prune(key, value)

    return prune


def _last(accuracies: Mapping[str, Any]) -> dict[str, tuple[int, Any]]:
    """{"x-valid@0": …, "x-valid@1": …} → {"x-valid": (2 epochs, accuracy after them)}."""
    last: dict[str, tuple[int, Any]] = {}
    for key, accuracy in accuracies.items():
        images, _, epoch = key.rpartition("@")
        if int(epoch) >= last.get(images, (0,))[0]:
            last[images] = int(epoch) + 1, accuracy
    return last


# --- NATS-Bench and NAS-Bench-201 -----------------------------------------------------------------------------

_ARCHITECTURE_FILE = re.compile(r"(\d+)\.pickle\.pbz2")


def _nats_folder(path: Path, tick: Tick) -> Release:
    files = {int(m[1]): file for file in path.iterdir() if (m := _ARCHITECTURE_FILE.fullmatch(file.name))}
    if not files:
        raise BenchmarkError(
            f"{path}: unknown layout: expected a folder with 000000.pickle.pbz2, 000001.pickle.pbz2, …"
        )
    meta = path / "meta.pickle.pbz2"
    strings = _strings(meta, _unpickle(meta)) if meta.is_file() else None

    def measured() -> Iterator[Measured]:
        done = 0
        for number, file in sorted(files.items()):
            information = _unpickle(file)
            yield _cell(file, path.name, file.name, information, _expected(file, strings, number))
            done += file.stat().st_size
            tick(done)

    return Release("nats", None if strings is None else len(strings), measured())


def _unpickle(path: Path) -> Any:
    with pickles.one_line(path), bz2.open(path) as file:
        return pickles.read(file, path, _GLOBALS)  # type: ignore[arg-type]


def _strings(path: Path, root: Any) -> list[str]:
    """`meta_archs`: every architecture's string, by its number."""
    strings = root.get("meta_archs") if isinstance(root, Mapping) else None
    if not isinstance(strings, list):
        raise BenchmarkError(f"{path}: unknown layout: expected the entry meta_archs, holds {_shown(root)}")
    return strings


def _expected(path: Path, strings: list[str] | None, number: int) -> str | None:
    if strings is None:
        return None
    if number >= len(strings):
        raise BenchmarkError(f"{path}: architecture {number}, but meta_archs has {len(strings):,}")
    return strings[number]


def _cells(path: Path, kind: str, root: Any) -> Release:
    """The architectures of a single file of NAS-Bench-201 or NATS-Bench."""
    strings = _strings(path, root)
    infos = root.get("arch2infos")
    if not isinstance(infos, Mapping):
        raise BenchmarkError(f"{path}: unknown layout: expected the entry arch2infos, holds {_shown(root)}")

    def measured() -> Iterator[Measured]:
        for number in sorted(infos):
            expected = _expected(path, strings, number)
            yield _cell(path, path.name, f"architecture {number}", infos[number], expected)

    return Release(kind, len(strings), measured())


def _cell(path: Path, source: str, place: str, information: Any, expected: str | None) -> Measured:
    """One architecture from {budget: {arch_str, all_results: {(data set, seed): {epochs, eval_acc1es, …}}}}."""
    values: dict[Facts, list[float]] = {}
    strings: set[str] = set()
    with _layout(path, place):
        for results in map(_fields, information.values()):
            strings.add(results["arch_str"])
            for (dataset, _), result in results["all_results"].items():
                for facts, value in _training(path, place, source, dataset, _fields(result)):
                    values.setdefault(facts, []).append(value)
    if len(strings | {expected} - {None}) > 1:
        raise BenchmarkError(
            f"{path}: {place}: sources disagree about the architecture: "
            f"{' and '.join(sorted(filter(None, strings | {expected})))}"
        )
    for string in strings:
        if re.fullmatch(r"\d+(:\d+)+", string):
            raise BenchmarkError(f"{path}: {place}: {string} is of NATS-Bench's size space, expected a topology cell")
    return Measured(place, expected or min(strings), {facts: sum(v) / len(v) for facts, v in values.items()})


def _training(path: Path, place: str, source: str, dataset: str, result: Any) -> Iterator[tuple[Facts, float]]:
    """The accuracies of one training, after its last epoch."""
    accuracies = result["eval_acc1es"]
    if any(isinstance(key, str) and "@" in key for key in accuracies):  # not pruned while it was read
        accuracies = _last(accuracies)
    for images, (epochs, value) in accuracies.items():
        if epochs != result["epochs"]:
            raise BenchmarkError(
                f"{path}: {place}: {dataset} {images} ends after {epochs} of {result['epochs']} epochs"
            )
        facts = nats_facts(source, dataset, images, epochs)
        if facts is not None:
            yield facts, _number(value)


# --- TransNAS-Bench-101 ---------------------------------------------------------------------------------------


def _transnas(path: Path, data: Any) -> Iterator[Measured]:
    """{space: {architecture: {task: {total_epochs, metrics: {metric: one value an epoch}}}}}, pruned."""
    with _layout(path, "data"):
        spaces = [(space, dict(architectures)) for space, architectures in data.items()]
    for space, architectures in spaces:
        for form, tasks in architectures.items():
            place = f"{space} {form}"
            accuracies: Accuracies = {}
            with _layout(path, place):
                for task, results in tasks.items():
                    for column, (epochs, value) in results["metrics"].items():
                        facts = transnas_facts(path.name, space, task, column, epochs)
                        if facts is not None:
                            accuracies[facts] = _number(value)
            yield Measured(place, form, accuracies)


# --- NAS-Bench-Suite-Zero -------------------------------------------------------------------------------------


def _suite_zero(path: Path) -> Iterator[Measured]:
    """One architecture after the other, with its accuracies of all data sets."""
    found: dict[tuple[str, str], Accuracies] = {}
    for part in suitezero.parts(path):
        facts = naslib_facts(path.name, part.space or suitezero.space_of(path, part), part.dataset.lower())
        for architecture, value in suitezero.accuracies(path, part, facts.family)["accuracy"].items():
            found.setdefault((facts.family, str(architecture)), {})[facts] = float(value)
    for (family, architecture), accuracies in found.items():
        yield Measured(family, architecture, accuracies)


# --- what all share -------------------------------------------------------------------------------------------


@contextmanager
def _layout(path: Path, place: str) -> Iterator[None]:
    """Turns what reading records of another layout raises into one line."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BenchmarkError(f"{path}: {place}: unknown layout ({type(error).__name__}: {error})") from error


def _fields(record: Any) -> Any:
    """A record's fields, whether it was saved as an object or as its `state_dict`."""
    return vars(record) if isinstance(record, pickles.Record) else record


def _number(value: Any) -> float:
    if isinstance(value, torchfiles.Tensor):
        (value,) = value.numbers()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"an accuracy is {value!r}")
    return float(value)


def _shown(root: Any) -> str:
    if not isinstance(root, Mapping):
        return f"a {type(root).__name__}"
    return ", ".join(map(str, list(root)[:8])) or "an empty dictionary"
