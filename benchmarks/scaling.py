"""Time against the number of architectures: the whole command, from the start of its process to stored rows."""

from __future__ import annotations

import tempfile
from functools import partial

from benchmarks.harness import SEED, Row, Taken, run, spread, taking_turns

WHOLE = 15_625
THREE = ("-p", "synflow/sum", "-p", "synflow/ssnr", "-p", "synflow/layerwise_ssnr")


def sweep(archs: int, init: str, workers: int) -> Taken:
    """`ssnr sweep nasbench201` into an empty store."""
    with tempfile.TemporaryDirectory() as folder:
        options = ("--archs", "all" if archs == WHOLE else str(archs), "--init", init, "--workers", str(workers))
        store = ("--store", f"{folder}/s.sqlite", "--seed", str(SEED))
        return run("-m", "ssnr", "sweep", "nasbench201", *THREE, *options, *store)


def rows(quick: bool) -> list[Row]:
    """One row a number of architectures, one pair of columns an initialisation."""
    found = []
    for count in (100, 1000) if quick else (100, 1000, 5000, WHOLE):
        ways = {f"{count:,} {init}": partial(sweep, count, init, 2) for init in ("shared", "independent")}
        times = taking_turns(ways, 1 if quick else 3)
        row: Row = {"architectures": count}
        for way, taken in times.items():
            init = way.split()[1]
            row |= spread(f"seconds, {init}", (one.seconds for one in taken))
            row[f"ms an architecture, {init}"] = row[f"seconds, {init}"] / count * 1e3
        found.append(row)
    return found
