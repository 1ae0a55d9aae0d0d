"""Worker processes of one torch thread each, started once and fed chunks; the only file that knows processes."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from typing import Any

from ssnr.core.errors import SsnrError

Work = Callable[[Any], Any]


def warm_up() -> None:
    """Start importing what workers need, beside whatever comes before the first of them."""
    if _context().get_start_method() == "forkserver":
        forkserver.ensure_running()


def each(work: Work, chunks: Collection[Any], workers: int) -> Iterator[Any]:
    """What `work` makes of the chunks, as they finish; one worker is this process.

    Raises:
        SsnrError: a worker process died.
    """
    return _here(work, chunks) if workers == 1 else _beside(work, chunks, workers)


def _here(work: Work, chunks: Collection[Any]) -> Iterator[Any]:
    """On one thread as in any worker: a score must not depend on the number of workers."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    _leave_to_the_collector_what_is_new()
    try:
        for chunk in chunks:
            yield work(chunk)
    finally:
        torch.set_num_threads(threads)
        gc.unfreeze()


def _beside(work: Work, chunks: Collection[Any], workers: int) -> Iterator[Any]:
    """At most two chunks a worker are out, so that memory stays flat."""
    with _pool(work, workers) as pool:
        out: set[Future[Any]] = set()
        try:
            for chunk in chunks:
                out.add(pool.submit(_do, chunk))
                if len(out) >= 2 * workers:
                    finished, out = wait(out, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in finished)
            while out:
                finished, out = wait(out, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in finished)
        except BrokenProcessPool as error:
            raise SsnrError(
                "a worker process died, most likely for lack of memory: what was scored is kept; "
                "run the same command again, with fewer --workers"
            ) from error


@contextmanager
def _pool(work: Work, workers: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes, stopped at once when what they are for is left."""
    pool = ProcessPoolExecutor(workers, mp_context=_context(), initializer=_start, initargs=(work,))
    try:
        yield pool
    except BaseException:
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    else:
        pool.shutdown()


@cache
def _context() -> BaseContext:
    """Workers are forked from a process that has only imported; a fork of this one would copy its threads' locks."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    forkserver.set_forkserver_preload(["ssnr.engine.preload"])
    return multiprocessing.get_context("forkserver")


# --- inside of a worker ---------------------------------------------------------------------------------------

_work: Work | None = None


def _start(work: Work) -> None:
    global _work
    # Ctrl-C goes to the whole group; the parent decides what happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    torch.set_num_threads(1)
    _keep_freed_memory()
    _leave_to_the_collector_what_is_new()
    _work = work


def _do(chunk: Any) -> Any:
    assert _work is not None
    return _work(chunk)


def _leave_to_the_collector_what_is_new() -> None:
    """Take what is imported out of Python's garbage collection: each network makes hundreds of modules, and the
    collections that this sets off would walk all of torch, a tenth of the time of a sweep.
    """  # noqa: D205
    gc.collect()
    gc.freeze()


def _keep_freed_memory() -> None:
    """Let glibc keep what is freed: passes ask for the same large buffers again and again, and each fresh one costs
    page faults (a quarter of the time of float64 convolutions on a batch).
    """  # noqa: D205
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # not in every libc
        for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            mallopt(option, 1 << 30)
