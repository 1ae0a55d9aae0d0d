"""Chunks as tasks of a Ray cluster.

A task takes one CPU and hands its chunk to a worker process of `local` beside it, which stays for the next task: what a
network may take, how it fails and every number are those of a sweep on one machine. What Ray itself loses, with a
worker or a node, comes back as `Lost` by no fault of its networks.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ssnr._version import SCORING_VERSION, __version__
from ssnr.core.errors import SsnrError, UsageError, one_line
from ssnr.engine import local
from ssnr.engine.local import Done, Limits, Lost, Work
from ssnr.engine.process import Raised

if TYPE_CHECKING:
    from ssnr.engine.executors import Pool

# Chunks out for each CPU: one is worked on, one waits there.
AHEAD = 2
_LOOK = 10.0  # seconds between two looks at how large the cluster is
_ANSWER = 10.0  # seconds in which a cluster has to answer
_STORE = 256 << 20  # bytes of shared memory of a Ray of our own; by default it takes a third of the machine's


def library() -> Any:
    """Ray.

    Raises:
        UsageError: it is not installed.
    """
    # It reports its use to its makers unless told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return import_module("ray")
    except ImportError as error:
        raise UsageError(f"executor ray needs Ray ({one_line(error)}): pip install 'ssnr[ray]'") from error


@contextmanager
def pool(address: str | None, gpus: float, workers: int | None) -> Iterator[Pool]:
    """A cluster: the one that this process has joined, else the one at `address`, else a Ray of our own here.

    Args:
        address: `HOST:PORT`, `auto` for the one that runs on this machine, `ray://HOST:PORT` for Ray's client;
            None for `$RAY_ADDRESS`, and where that is not set for a new Ray, which ends with the sweep.
        gpus: share of a GPU of each worker.
        workers: how many at most; None for one a CPU of the cluster, as it grows and shrinks.

    Raises:
        SsnrError: there is no cluster at `address`, or it has no GPU.
    """
    from ssnr.engine.executors import Pool

    ray = library()
    joined = ray.is_initialized()
    if not joined:
        _join(ray, address or os.environ.get("RAY_ADDRESS"), workers)
    elif address not in (None, "auto", there := ray.get_runtime_context().gcs_address):
        raise UsageError(f"executor 'ray:{address}': this process has joined the Ray cluster at {there} already")
    try:
        if gpus and not ray.cluster_resources().get("GPU"):
            raise UsageError(f"gpus {gpus:g}: the Ray cluster has no GPU")
        yield Pool(workers or _places(ray, gpus), partial(_each, ray, gpus, workers))
    finally:
        if not joined:
            ray.shutdown()


def _join(ray: Any, address: str | None, workers: int | None) -> None:
    """Join a cluster, or start a Ray.

    Raises:
        SsnrError: it cannot be done.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        options |= {"num_cpus": workers or os.cpu_count() or 1, "include_dashboard": False,
                    "object_store_memory": _STORE}  # fmt: skip
    else:
        _knock(address)
    with _own_signals():
        try:
            ray.init(address=address or "local", **options)
        except (ConnectionError, OSError, RuntimeError, ValueError, TimeoutError) as error:
            where = f"no Ray cluster at {address!r}" if address else "Ray could not start here"
            raise SsnrError(f"{where}: {one_line(error)}") from error


def _knock(address: str) -> None:
    """Ray itself tries for ten minutes.

    Raises:
        SsnrError: nobody answers there.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon and address in ("auto", "local"):
        return
    if not host or not port.isdigit():
        raise UsageError(f"executor 'ray:{address}': expected ray:auto or ray:HOST:PORT, such as ray:head:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise SsnrError(
            f"no Ray cluster at {address}: {one_line(error)}; `ray start --head` on one machine starts one"
        ) from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what this process does on SIGTERM: Ray would end it without a word."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _places(ray: Any, gpus: float) -> int:
    """How many workers there is room for."""
    there = ray.cluster_resources()
    cpus = int(there.get("CPU", 0))
    return max(1, min(cpus, int(there.get("GPU", 0) / gpus)) if gpus else cpus)


def _each(
    ray: Any, gpus: float, most: int | None, work: Work, chunks: Iterable[Any], workers: int, limits: Limits
) -> Iterator[Done | Lost]:
    """What `work` makes of the chunks, as they finish; only so many are out that no CPU waits."""
    run, payload = uuid4().hex, ray.put(local.payload_of(work))
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_there)
    path = [os.path.abspath(folder) for folder in sys.path]  # noqa: PTH100 - "" is this folder
    more, out = iter(chunks), dict[Any, Any]()
    room, looked = 0, -_LOOK
    try:
        while True:
            if time.monotonic() - looked > _LOOK:
                room, looked = most or AHEAD * _places(ray, gpus), time.monotonic()
            while len(out) < room and (chunk := next(more, None)) is not None:
                out[task.remote(run, SCORING_VERSION, path, payload, limits, chunk)] = chunk
            if not out:
                return
            ready, _ = ray.wait(list(out), num_returns=1, timeout=_LOOK)
            for one in ready:
                yield _answer(ray, one, out.pop(one))
    finally:
        for one in out:
            with suppress(Exception):  # the cluster may be gone
                ray.cancel(one, force=True)


def _answer(ray: Any, one: Any, chunk: Any) -> Done | Lost:
    """What became of a task.

    Raises:
        SsnrError: no task can run: another ssnr there, or none.
        BaseException: what the work itself raised.
    """
    errors = ray.exceptions
    try:
        found = ray.get(one)
    except errors.OutOfMemoryError:
        return Lost(chunk, "its worker was ended by Ray, for lack of memory")
    except (errors.RayTaskError, errors.RuntimeEnvSetupError, errors.TaskUnschedulableError) as error:
        cause = getattr(error, "cause", None) or error
        raise SsnrError(
            f"a Ray worker could not start ({type(cause).__name__}: {one_line(cause, 160)}): "
            f"every machine needs ssnr {__version__}, and the files that are swept"
        ) from error
    except errors.RayError as error:
        return Lost(chunk, f"its Ray worker went away: {one_line(error, 120)}", machine=True)
    if isinstance(found, Raised):
        raise found.error
    return Done(chunk, found.answer) if isinstance(found, Done) else Lost(chunk, found.reason)


# --- on a worker of Ray -----------------------------------------------------------------------------------------

_kept: dict[tuple[str, str | None], local.Kept] = {}


def _there(run: str, version: int, path: list[str], payload: bytes, limits: Limits, chunk: Any) -> Done | Lost | Raised:
    """Hand a chunk to the worker process of this sweep and these GPUs; Ray names them anew for each task."""
    if version != SCORING_VERSION:
        raise SsnrError(f"it scores by version {SCORING_VERSION}, the sweep by version {version}")
    # Modules of the user's own, where machines share a disk.
    sys.path += [folder for folder in path if folder not in sys.path]
    key = (run, os.environ.get("CUDA_VISIBLE_DEVICES"))
    for other in set(_kept) - {key}:
        _kept.pop(other).close()
    if key not in _kept:
        _kept[key] = local.Kept(payload, limits)
    try:
        found = _kept[key](chunk)
    except BaseException as error:
        return Raised(error)
    # The chunk is known where it came from.
    return found._replace(chunk=None)
