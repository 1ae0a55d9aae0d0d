"""Where workers run: on this machine, or on those of a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

from ssnr.core.errors import UsageError
from ssnr.engine import local
from ssnr.engine.local import Done, Limits, Lost, Work


class Pool(NamedTuple):
    """Workers, as long as they are open.

    Attributes:
        size: how many chunks they work on at once.
        each: `(work, chunks, workers, limits)` → what `work` makes of the chunks, in any order. Each chunk comes back
            as `Done` or `Lost`; at most a few chunks per worker are taken from `chunks` in advance. If one is lost,
            `chunks` may yield more after it was exhausted.
    """

    size: int
    each: Callable[[Work, Iterable[Any], int, Limits], Iterator[Done | Lost]]


# From the number of workers that was asked for, or None.
Executor = Callable[[int | None], AbstractContextManager[Pool]]


def executor_of(given: str | Executor, gpus: float = 0.0) -> Executor:
    """Read `local`, `ray` or `ray:ADDRESS`; an executor of one's own is taken as it is.

    Args:
        given: its name.
        gpus: share of a GPU that each worker takes.

    Raises:
        UsageError: unknown, without its library, or a share of a GPU that there is not.
    """
    if not isinstance(given, str):
        return given
    name, _, address = given.partition(":")
    if name not in ("local", "ray") or (name == "local" and given != name):
        raise UsageError(f"executor {given!r}: expected local, ray or ray:ADDRESS")
    if not 0 <= gpus <= 1:
        raise UsageError(f"gpus {gpus:g}: expected a share of one GPU, above 0, at most 1")
    if name == "local":
        if gpus:
            raise UsageError(f"gpus {gpus:g}: only Ray shares GPUs out, take executor ray")
        return _local
    from ssnr.engine import on_ray

    on_ray.library()
    return partial(on_ray.pool, address or None, gpus)


@contextmanager
def _local(workers: int | None) -> Iterator[Pool]:
    yield Pool(workers or os.cpu_count() or 1, local.each)
