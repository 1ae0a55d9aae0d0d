"""Inside of a worker: what it is sent, how it ends with its parent, and how it keeps its memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from importlib.machinery import PathFinder
from multiprocessing import forkserver, resource_tracker
from typing import Any, NamedTuple

from ssnr.core.errors import SsnrError, UsageError, one_line

READY = "ready"


class Raised(NamedTuple):
    """What `work` itself raised, on its way to the parent."""

    error: BaseException


def packed(work: Any, *, defined: Any = ()) -> bytes:
    """`work` and the proxies of the user's own; what a script or a notebook defines goes by value.

    Args:
        work: what a worker calls with each chunk.
        defined: objects whose classes or functions may be the user's own.

    Raises:
        UsageError: something of it cannot be sent to a worker.
    """
    import cloudpickle

    from ssnr.core.catalogue import own_entries

    entries = own_entries()
    by_value = [
        module
        for name in {_module_of(thing) for thing in (*defined, *(entry.function for entry in entries))}
        if (module := sys.modules.get(name)) is not None and not _importable(module)
    ]
    for module in by_value:
        cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps((entries, work)))
    except Exception as error:
        raise UsageError(
            f"what is swept cannot be sent to worker processes ({type(error).__name__}: {one_line(error, 120)}): "
            "define it in a module, or take workers=1"
        ) from error
    finally:
        for module in by_value:
            cloudpickle.unregister_pickle_by_value(module)


def _module_of(thing: Any) -> str:
    return str(getattr(thing, "__module__", None) or type(thing).__module__)


def _importable(module: Any) -> bool:
    """Whether a worker that imports this name finds the same file."""
    name, file = module.__name__, getattr(module, "__file__", None)
    if name == "__main__" or file is None:
        return True  # cloudpickle sends all of __main__ by value
    top = name.partition(".")[0]
    found = PathFinder.find_spec(top)
    if found is None:
        return False
    return top != name or found.origin is None or os.path.realpath(found.origin) == os.path.realpath(file)


def serve(pipe: Any, payload: bytes, memory: int | None) -> None:
    """Answer chunk after chunk until the parent hangs up."""
    # Ctrl-C goes to the whole group: the parent decides what happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):  # not on Windows; see `interrupts_wait`
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    sys.stdout = sys.stderr  # what a user's code prints is no part of any answer
    _end_with_the_fork_server()
    chunks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    # A thread reads, so that the parent never waits to send, and an orphan ends at once.
    threading.Thread(target=_listen, args=(pipe, chunks), daemon=True).start()
    try:
        import torch

        torch.set_num_threads(1)
        keep_freed_memory()
        if memory is not None:
            _limit_memory(memory)
        entries, work = pickle.loads(payload)  # noqa: S301 - from the parent
        from ssnr.core.catalogue import add_entries

        add_entries(entries)
        freeze_gc()
        _send(pipe, READY)
        while True:
            _send(pipe, work(chunks.get()))
    except OSError:  # the parent is gone
        os._exit(1)
    except BaseException as error:
        with contextlib.suppress(OSError):
            _send(pipe, Raised(error))


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
    """Ctrl-C waits for the end of the body; what is started in it does not hear it before it can ignore it."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    resource_tracker.ensure_running()  # which would lift the mask, if it began in the body
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())  # only reads it
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _listen(pipe: Any, chunks: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            chunks.put(pipe.recv())
    except (EOFError, OSError):
        os._exit(1)


def _send(pipe: Any, answer: Any) -> None:
    try:
        content = pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:
        said = answer.error if isinstance(answer, Raised) else answer
        content = pickle.dumps(Raised(SsnrError(f"{type(said).__name__}: {one_line(said)}")))
    pipe.send_bytes(content)


def _end_with_the_fork_server() -> None:
    """Linux kills a worker when the fork server ends, even in the middle of an operation that holds Python's lock.

    The fork server ends when every holder of its pipe has: without this worker's copy that is the parent alone.
    """
    server = getattr(forkserver, "_forkserver", None)
    held = getattr(server, "_forkserver_alive_fd", None)
    if isinstance(held, int):
        with contextlib.suppress(OSError):
            os.close(held)
        server._forkserver_alive_fd = None  # type: ignore[union-attr]
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _limit_memory(most: int) -> None:
    """Beyond it an allocation fails, which torch reports as an error of the network that asked."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def freeze_gc() -> None:
    """Take what is imported out of Python's garbage collection.

    Each network makes hundreds of modules, and the collections that this sets off would walk all of torch: a tenth of
    the time of a sweep.
    """
    gc.collect()
    gc.freeze()


def keep_freed_memory() -> None:
    """Let glibc keep what is freed.

    Passes ask for the same large buffers again and again, and each fresh one costs page faults: a quarter of the time
    of float64 convolutions on a batch.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # not in every libc
        for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            mallopt(option, 1 << 30)
