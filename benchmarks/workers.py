"""What a second worker brings, beside what a second process can bring on this machine.

The ceiling: the same fixed work in one process, and in two at the same time. Two cores that share caches, memory, or
their clock do not give twice the throughput to anyone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.harness import Row, call, spread, stopwatch, taking_turns, together
from benchmarks.scaling import sweep

PLAIN = {"pure Python": "counting", "matrix products in numpy": "products", "the naive synflow loop": "networks"}


def rows(quick: bool) -> list[Row]:
    """One row a kind of work: throughput of two over that of one."""
    repeats = 1 if quick else 5
    sweeps = {"shared": 1000 if quick else 15_625, "independent": 200 if quick else 1000}
    found = [
        _row(f"ssnr sweep, {count:,} cells, --init {init}", partial(_sweep, count, init), repeats)
        for init, count in sweeps.items()
    ]
    return found + [_row(f"ceiling: {name}", partial(_plain, function), repeats) for name, function in PLAIN.items()]


def _row(work: str, seconds: Callable[[int], float], repeats: int) -> Row:
    """`seconds` of the same amount of work with so many workers."""
    found = taking_turns({f"{work}, {n}": partial(seconds, n) for n in (1, 2)}, repeats)
    one, two = found.values()
    row = {"work": work, "seconds, one": float(np.median(one)), "seconds, two": float(np.median(two))}
    return row | spread("times one", (a / b for a, b in zip(one, two, strict=True)))


def _sweep(count: int, init: str, workers: int) -> float:
    return sweep(count, init, workers).seconds


def _plain(function: str, processes: int) -> float:
    """Seconds that so many processes take for what one does in the time of `function`."""
    where = f"benchmarks.workers:{function}"
    return call(where).value if processes == 1 else together(where, processes) / processes


# --- in a process of its own ----------------------------------------------------------------------------------


def counting() -> float:
    """Seconds for arithmetic that no cache or memory slows down."""
    with stopwatch() as taken:
        sum(k & 3 for k in range(20_000_000))
        return taken().seconds


def products() -> float:
    """Seconds for products of matrices that fit a core's own cache."""
    a = np.random.default_rng(0).normal(size=(160, 160))
    a @ a
    with stopwatch() as taken:
        for _ in range(4000):
            a @ a
        return taken().seconds


def networks() -> float:
    """Seconds for the naive loop over some cells."""
    import torch

    from benchmarks.naive import loop
    from benchmarks.throughput import chosen
    from ssnr.spaces import get_space

    torch.set_num_threads(1)
    archs = chosen("nasbench201", 48)
    loop(get_space("nasbench201"), archs[:4], None)
    with stopwatch() as taken:
        loop(get_space("nasbench201"), archs, None)
        return taken().seconds
