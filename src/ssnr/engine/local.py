"""Worker processes of one torch thread each, fed chunks through pipes.

A worker that dies or hangs costs no more than the chunk that it works on: whoever calls gets it back as `Lost`, and
another worker takes its place. Workers end with this process, however it ends.
"""

from __future__ import annotations

import gc
import pickle
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import connection, forkserver, get_all_start_methods, get_context
from types import ModuleType
from typing import Any, NamedTuple

from ssnr.core.errors import SsnrError
from ssnr.engine import process

Work = Callable[[Any], Any]


class Limits(NamedTuple):
    """What one network may take.

    Attributes:
        seconds: of one network; None for any.
        memory: bytes of data of one worker; None for any. Linux only.
    """

    seconds: float | None = None
    memory: int | None = None


class Done(NamedTuple):
    """A chunk and what `work` made of it."""

    chunk: Any
    answer: Any


class Lost(NamedTuple):
    """A chunk whose worker did not come back, and why.

    Attributes:
        chunk: what it worked on.
        reason: in words.
        machine: the machine went away, which is no fault of a network.
    """

    chunk: Any
    reason: str
    machine: bool = False


def warm_up() -> None:
    """Start importing what workers need, beside whatever comes before the first of them."""
    if _context().get_start_method() == "forkserver":
        with process.interrupts_wait():
            forkserver.ensure_running()


def each(work: Work, chunks: Iterable[Any], workers: int, limits: Limits | None = None) -> Iterator[Done | Lost]:
    """What `work` makes of the chunks, as they finish; one worker without limits is this process.

    `chunks` may give more after it has ended, where one was lost.

    Raises:
        SsnrError: worker processes cannot start.
        UsageError: `work` cannot be sent to one.
    """
    limits = limits or Limits()
    if workers == 1 and limits == Limits():
        return _here(work, chunks)
    return _beside(work, chunks, workers, limits)


def _here(work: Work, chunks: Iterable[Any]) -> Iterator[Done]:
    """On one thread as in any worker: a score must not depend on the number of workers."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    process.freeze_gc()
    try:
        for chunk in chunks:
            yield Done(chunk, work(chunk))
    finally:
        torch.set_num_threads(threads)
        gc.unfreeze()


class Kept:
    """One worker process that is kept from chunk to chunk, with the limits of `each`; another takes its place if lost.

    It is started without a fork server, which would need as much memory again.
    """

    def __init__(self, payload: bytes, limits: Limits) -> None:
        self._payload, self._limits = payload, limits
        self._worker: _Worker | None = None

    def __call__(self, chunk: Any) -> Done | Lost:
        """The chunk done or lost.

        Raises:
            SsnrError: the process cannot start.
            BaseException: what the work itself raised.
        """
        if self._worker is None:
            self._worker = _started(self._payload, self._limits, get_context("spawn"))
        worker = self._worker
        worker.give(chunk)
        try:
            while True:
                ready = connection.wait([worker.pipe], _patience([worker], self._limits))
                found = _looked_at(worker, bool(ready), self._limits)
                if isinstance(found, Lost):
                    self.close()
                if found is not None:
                    return found
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process."""
        if self._worker is not None:
            self._worker.end()
            self._worker = None


@dataclass
class _Worker:
    """One process, this end of its pipe, and the chunks that it has: the first is being worked on."""

    process: Any
    pipe: Any
    chunks: deque[Any] = field(default_factory=deque)
    ready: bool = False
    started: float = 0.0  # when it began with its first chunk

    def give(self, chunk: Any) -> None:
        if not self.chunks:
            self.started = time.monotonic()
        self.chunks.append(chunk)
        with suppress(OSError):  # it is dead: that shows when it is waited for
            self.pipe.send(chunk)

    def took(self) -> Any:
        """Its first chunk, which is done or lost."""
        self.started = time.monotonic()
        return self.chunks.popleft()

    def left(self, seconds: float) -> float:
        """How many seconds its first chunk still has, where each of the chunk's networks has `seconds`."""
        return self.started + seconds * max(1, len(self.chunks[0])) - time.monotonic()

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _beside(work: Work, chunks: Iterable[Any], workers: int, limits: Limits) -> Iterator[Done | Lost]:
    """At most two chunks a worker are out, so that memory stays flat and no worker waits."""
    payload = payload_of(work)
    waiting, more = deque[Any](), iter(chunks)
    crew: list[_Worker] = []
    try:
        while True:
            _hand_out(crew, waiting, more, workers, payload, limits)
            busy = [worker for worker in crew if worker.chunks]
            if not busy:
                return
            ready = connection.wait([worker.pipe for worker in busy], _patience(busy, limits))
            for worker in busy:
                found = _looked_at(worker, worker.pipe in ready, limits)
                if isinstance(found, Lost):
                    crew.remove(worker)
                    worker.end()
                    waiting.extend(worker.chunks)
                if found is not None:
                    yield found
    finally:
        for worker in crew:
            worker.end()


def payload_of(work: Work) -> bytes:
    """`work` as a worker process takes it, with the classes and functions of the user's own.

    Raises:
        UsageError: it cannot be sent to one.
    """
    return process.packed(work, defined=_parts(work))


def _parts(work: Work) -> tuple[Any, ...]:
    """What may be of the user's own: the arguments of a partial, and what they hold."""
    given = getattr(work, "args", ())
    return (work, *given, *(value for one in given for value in getattr(one, "__dict__", {}).values()))


def _hand_out(
    crew: list[_Worker], waiting: deque[Any], more: Iterator[Any], workers: int, payload: bytes, limits: Limits
) -> None:
    """Two chunks to every worker, first what a lost worker left behind; a worker starts when there is work for it."""
    for depth in (1, 2):
        for number in range(workers):
            if number < len(crew) and len(crew[number].chunks) >= depth:
                continue
            chunk = waiting.popleft() if waiting else next(more, None)
            if chunk is None:
                return
            if number >= len(crew):
                crew.append(_started(payload, limits))
            crew[min(number, len(crew) - 1)].give(chunk)


def _started(payload: bytes, limits: Limits, context: Any = None) -> _Worker:
    context = context or _context()
    ours, theirs = context.Pipe()
    with _without_main(), process.interrupts_wait():
        worker = context.Process(target=process.serve, args=(theirs, payload, limits.memory), daemon=True)
        worker.start()
    theirs.close()
    return _Worker(worker, ours)


def _looked_at(worker: _Worker, answers: bool, limits: Limits) -> Done | Lost | None:
    """The worker's answer, `Lost` if it died or took too long, None if it is still busy.

    Raises:
        SsnrError: it died before it could begin.
        BaseException: what `work` itself raised, which is no fault of one network.
    """
    if not answers:
        if limits.seconds is None or not worker.ready or worker.left(limits.seconds) > 0:
            return None
        return Lost(worker.took(), f"it took longer than {limits.seconds:g} s")
    try:
        answer = pickle.loads(worker.pipe.recv_bytes())  # noqa: S301 - from a process of our own
    except (EOFError, OSError):
        worker.process.join(5)
        reason = f"its worker process {_death(worker.process.exitcode)}"
        if not worker.ready:
            raise SsnrError(f"a worker process could not start: {reason}") from None
        return Lost(worker.took(), reason)
    if isinstance(answer, process.Raised):
        raise answer.error
    if not worker.ready:
        worker.ready, worker.started = True, time.monotonic()
        return None
    return Done(worker.took(), answer)


def _death(code: int | None) -> str:
    """How a worker ended, in words.

    >>> _death(-11), _death(3)
    ('crashed (segmentation fault)', 'ended with exit code 3')
    """
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    known = {9: "was killed, most likely for lack of memory", 11: "crashed (segmentation fault)", 6: "crashed (abort)",
             7: "crashed (bus error)", 8: "crashed (arithmetic error)", 4: "crashed (illegal instruction)"}  # fmt: skip
    return known.get(-code, f"was ended by signal {-code}")


def _patience(busy: list[_Worker], limits: Limits) -> float | None:
    if limits.seconds is None:
        return None
    return max(0.01, min(worker.left(limits.seconds) for worker in busy))


@cache
def _context() -> Any:
    """Workers are forked from a process that has only imported; a fork of this one would copy its threads' locks."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    forkserver.set_forkserver_preload(["ssnr.engine.preload"])
    return get_context("forkserver")


@contextmanager
def _without_main() -> Iterator[None]:
    """Keep `multiprocessing` from running the user's script again in every worker.

    It would, to find what the script defines; `process.packed` sends that along instead. So a script needs no
    `if __name__ == "__main__":`.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
