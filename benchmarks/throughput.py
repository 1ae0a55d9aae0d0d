"""Architectures a second: spaces × saliencies × the general path, a supernet and the naive loop.

Each way scores in a process of its own, one thread, through `ssnr.sweep` with one worker: building the networks (or the
supernet) and writing the store are in the time, starting Python and importing torch are not. The ways take turns.
Ways that score fewer architectures score every k-th of the others', in the order of multiply-accumulates, so that
their networks are as large on average. Ratios are of processor time.
"""

from __future__ import annotations

import tempfile
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import SEED, Measured, Row, Taken, call, spread, stopwatch, taking_turns
from ssnr.spaces import get_space
from ssnr.supernet.layouts.base import LAYOUTS

AGGREGATES = ("sum", "ssnr", "layerwise_ssnr")
WORK = {
    "synflow": [f"synflow/{name}" for name in AGGREGATES],
    "snip": [f"snip/{name}" for name in AGGREGATES],
    "grasp": [f"grasp/{name}" for name in AGGREGATES],
    "all of one pass": ["grasp", "grasp_abs", "snip", "plain", "grad_norm", "fisher"],
}
SINGLE = "seed(dtype=float32)"
SHARED = "seed(synflow_dtype=float32,init=shared)"


class Size(NamedTuple):
    """Of a space: how many architectures each way scores, and samples in a batch."""

    synflow: int
    supernet: int
    data: int
    batch: int


SIZES = {
    "nasbench201": (Size(256, 2048, 16, 64), Size(24, 512, 2, 16)),
    "darts": (Size(64, 256, 2, 64), Size(6, 48, 1, 8)),
    "transnasbench101-micro": (Size(16, 256, 2, 4), Size(3, 48, 1, 2)),
}


def rows(quick: bool) -> list[Row]:
    """One row for each space, saliency and way."""
    found: list[Row] = []
    for space, sizes in SIZES.items():
        size, small = sizes[1 if quick else 0], space == "nasbench201"
        # Data-driven passes at the images of the larger spaces take minutes.
        for work in ["synflow"] if quick and not small else WORK:
            found += _rows(space, work, size, 3 if not quick and (small or work == "synflow") else 1)
    return found


def _rows(space: str, work: str, size: Size, repeats: int) -> list[Row]:
    data = work != "synflow"
    count, batch = (size.data, size.batch) if data else (size.synflow, 0)
    ways: dict[str, tuple[Any, ...]] = {"general": ("benchmarks.throughput:swept", space, work, count, batch, "seed")}
    if data:
        ways["general, float32"] = ("benchmarks.throughput:swept", space, work, count, batch, SINGLE)
    if work in ("synflow", "snip"):
        ways["naive"] = ("benchmarks.throughput:naive", space, count, batch)
    if work == "synflow" and get_space(space).family in LAYOUTS:
        ways["supernet"] = ("benchmarks.throughput:swept", space, work, size.supernet, batch, SHARED)
    measured = taking_turns({f"{space} {work} {way}": partial(call, *what) for way, what in ways.items()}, repeats)
    per_arch = {way: [_per_arch(one) for one in measured[f"{space} {work} {way}"]] for way in ways}
    if work == "synflow":
        per_arch.setdefault("supernet", [])
    return [
        _row({"space": space, "saliency": work, "way": way, "batch": batch or None}, taken, per_arch.get("naive", []),
             max((one.peak_mib for one in measured.get(f"{space} {work} {way}", [])), default=None))
        for way, taken in per_arch.items()
    ]  # fmt: skip


def _per_arch(one: Measured) -> Taken:
    seconds, processor, count = one.value
    return Taken(seconds / count, processor / count)


def _row(head: Row, taken: list[Taken], naive: list[Taken], peak: float | None) -> Row:
    row = {**head, "ms": None, "architectures a second": None, "times naive": None, "peak MiB": peak}
    if taken:
        row |= spread("ms", (1e3 * one.seconds for one in taken))
        row["architectures a second"] = 1e3 / row["ms"]
    if taken and naive:
        row["times naive"] = float(np.median([n.processor / t.processor for n, t in zip(naive, taken, strict=True)]))
    return row


# --- in a process of its own ----------------------------------------------------------------------------------


def chosen(space: str, count: int) -> list[str]:
    """Architectures of a space that are as large as those of any other count, on average."""
    where = get_space(space)
    most = max(*(size.supernet for size in SIZES[space]), count)
    drawn = sorted(where.sample_many(most, np.random.default_rng(SEED)), key=lambda arch: where.counts(arch).flops)
    return [drawn[int((k + 0.5) * most / count)] for k in range(count)]


def _batch(space: str, size: int) -> Any:
    from ssnr import data

    where = get_space(space)
    return data.load(None, where.input_shape, where.num_classes, size=size, seed=SEED) if size else None


def swept(space: str, work: str, count: int, batch_size: int, recipe: str) -> tuple[float, float, int]:
    """Clock and processor seconds of a sweep, and its number of architectures."""
    import ssnr.scoring  # torch with it, before the clock starts

    archs, batch = chosen(space, count), _batch(space, batch_size)
    with tempfile.TemporaryDirectory() as folder, stopwatch() as taken:
        store = f"{folder}/s.sqlite"
        for row in ssnr.sweep(space, archs, WORK[work], store=store, workers=1, seed=SEED, batch=batch, recipe=recipe):
            failed = [score.reason for score in row.scores.values() if score.status == "failed"]
            assert not failed, f"{row.architecture}: {failed[0]}"
        return (*taken(), count)


def naive(space: str, count: int, batch_size: int) -> tuple[float, float, int]:
    """The same of the naive loop."""
    import torch

    from benchmarks.naive import loop

    torch.set_num_threads(1)
    archs, batch = chosen(space, count), _batch(space, batch_size)
    with stopwatch() as taken:
        loop(get_space(space), archs, batch)
        return (*taken(), count)
