"""What a network costs on this device: time and memory of a forward pass, measured one network at a time."""

from __future__ import annotations

import copy
import gc
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ssnr.core.errors import ScoringError, UsageError, one_line
from ssnr.networks.calling import Forward, call
from ssnr.networks.preserve import preserved
from ssnr.networks.settings import undisturbed
from ssnr.networks.trees import leaves, to_device

_WARM_UP = (5, 0.05)  # passes, and seconds, at least
_SECONDS, _LEAST, _MOST = 0.3, 11, 100  # of measuring where no number of passes is asked for


@dataclass(frozen=True)
class Latency:
    """Seconds of a forward pass.

    Attributes:
        median: of all passes after the warm-up.
        p10: a tenth of them took less.
        p90: a tenth of them took more.
        repeats: number of passes.
        batch: samples in one pass; None where inputs were given.
        threads: of torch, on a CPU.
        device: in torch's words.
    """

    median: float
    p10: float
    p90: float
    repeats: int
    batch: int | None
    threads: int
    device: str

    def __str__(self) -> str:
        """In one line.

        >>> str(Latency(0.00321, 0.0031, 0.0035, 50, 1, 1, "cpu"))
        '3.21 ms (p10 3.1, p90 3.5): median of 50 passes, batch 1, 1 thread, cpu'
        """
        median, low, high = (f"{1e3 * seconds:.3g}" for seconds in (self.median, self.p10, self.p90))
        batch = "inputs as given" if self.batch is None else f"batch {self.batch}"
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        return (
            f"{median} ms (p10 {low}, p90 {high}): median of {self.repeats} passes, {batch}, {threads}, {self.device}"
        )


@dataclass(frozen=True)
class Memory:
    """Bytes that a forward pass holds at once.

    Attributes:
        peak: parameters, buffers, inputs and the most that other tensors hold at one time.
        parameters: of which parameters and buffers.
        batch: samples in the pass; None where inputs were given.
        device: in torch's words.
    """

    peak: int
    parameters: int
    batch: int | None
    device: str

    def __str__(self) -> str:
        """In one line.

        >>> str(Memory(3_250_000, 1_200_000, 1, "cpu"))
        '3.25 MB, 1.2 MB of it parameters and buffers: batch 1, cpu'
        """
        peak, own = (f"{size / 1e6:.4g} MB" for size in (self.peak, self.parameters))
        batch = "inputs as given" if self.batch is None else f"batch {self.batch}"
        return f"{peak}, {own} of it parameters and buffers: {batch}, {self.device}"


def latency(
    net: nn.Module,
    input_shape: tuple[int, ...] | None = None,
    *,
    inputs: Any = None,
    batch_size: int = 1,
    device: str | None = None,
    threads: int = 1,
    repeats: int | None = None,
    forward: Forward | None = None,
) -> Latency:
    """The time of a forward pass in eval mode, without gradients, after a warm-up.

    Other work on the machine is in it: measure one network at a time, on a machine that does nothing else.

    Args:
        net: any module; it is as it was afterwards.
        input_shape: of one sample, whose numbers are drawn from a normal distribution.
        inputs: what the network takes, instead of `input_shape` and `batch_size`.
        batch_size: samples in one pass.
        device: where; default where the network is.
        threads: of torch, on a CPU.
        repeats: number of passes; by default as many as 0.3 seconds have, at least 11 and at most 100.
        forward: (net, inputs) → output, where calling the network needs more than `net(inputs)`.

    Raises:
        UsageError: a device that is not there, no shape, numbers below 1.
        ScoringError: the forward pass raised.
    """
    for name, number in (("threads", threads), ("repeats", 1 if repeats is None else repeats)):
        if not isinstance(number, int) or number < 1:
            raise UsageError(f"{name}={number!r}: expected a whole number, at least 1")
    with _ready(net, input_shape, inputs, batch_size, device, forward) as (run, where, _):
        torch.set_num_threads(threads)
        wait = _waiting(where)
        collected = gc.isenabled()
        gc.disable()  # a collection would be part of a pass
        try:
            _passes(run, wait, *_WARM_UP, most=_MOST)
            if repeats is None:
                seconds = _passes(run, wait, _LEAST, _SECONDS, most=_MOST)
            else:
                seconds = _passes(run, wait, repeats, 0.0, most=repeats)
        finally:
            if collected:
                gc.enable()
    p10, median, p90 = np.quantile(seconds, (0.1, 0.5, 0.9)).tolist()
    return Latency(median, p10, p90, len(seconds), None if inputs is not None else batch_size, threads, str(where))


def memory(
    net: nn.Module,
    input_shape: tuple[int, ...] | None = None,
    *,
    inputs: Any = None,
    batch_size: int = 1,
    device: str | None = None,
    forward: Forward | None = None,
) -> Memory:
    """The peak of what tensors hold in a forward pass in eval mode, without gradients: the same on every run.

    Each storage counts once, from the operation that makes it until nobody has it. What kernels take for themselves
    while they run is not in it on a CPU; on CUDA the allocator's own peak is taken.

    Args:
        net: any module; it is as it was afterwards.
        input_shape: of one sample.
        inputs: what the network takes, instead of `input_shape` and `batch_size`.
        batch_size: samples in the pass.
        device: where; default where the network is.
        forward: as in `latency`.

    Raises:
        UsageError: a device that is not there, no shape, a batch below 1.
        ScoringError: the forward pass raised.
    """
    with _ready(net, input_shape, inputs, batch_size, device, forward) as (run, where, held):
        own, given = held
        if where.type == "cuda":
            before = torch.cuda.memory_allocated(where)
            torch.cuda.reset_peak_memory_stats(where)
            run()
            working = torch.cuda.max_memory_allocated(where) - before
        else:
            alive = _Alive({**own, **given})
            with alive:
                run()
            working = alive.peak
    size, extra = sum(own.values()), sum(n for storage, n in given.items() if storage not in own)
    return Memory(size + extra + working, size, None if inputs is not None else batch_size, str(where))


def checked_device(text: str) -> torch.device:
    """A device that is there.

    Raises:
        UsageError: it is not.
    """
    try:
        return torch.empty(0, device=text).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        if reason.startswith("Expected one of"):  # followed by every device that torch was ever built for
            reason = "expected cpu, cuda, cuda:1 … or mps"
        raise UsageError(f"device {text!r}: {reason}") from error


_Held = tuple[dict[int, int], dict[int, int]]  # storage → bytes: of parameters and buffers, and of inputs


@contextmanager
def _ready(
    net: nn.Module, input_shape: tuple[int, ...] | None, inputs: Any, batch_size: int, device: str | None,
    forward: Forward | None,
) -> Iterator[tuple[Callable[[], Any], torch.device, _Held]]:  # fmt: skip
    """A pass to be run, where, and the storages that are there before it."""
    if not isinstance(net, nn.Module):
        raise UsageError(f"expected a torch.nn.Module, got {type(net).__name__}: {net!r:.60}")
    tensors = [*net.parameters(), *net.buffers()]
    here = tensors[0].device if tensors else torch.device("cpu")
    where = here if device is None else checked_device(device)
    if inputs is None and input_shape is None:
        raise UsageError("the shape of one input is needed: input_shape=(3, 32, 32), or inputs=…")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise UsageError(f"batch_size={batch_size!r}: expected a whole number, at least 1")
    if where != here:
        net = copy.deepcopy(net).to(where)
        tensors = [*net.parameters(), *net.buffers()]
    like = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)
    if inputs is None:
        assert input_shape is not None
        inputs = torch.randn((batch_size, *input_shape), generator=torch.Generator().manual_seed(0))
    with undisturbed(), preserved(net), torch.no_grad():
        net.eval()
        given = to_device(inputs, where, like)

        def run() -> Any:
            try:
                return forward(net, given) if forward is not None else call(net, given)
            except Exception as error:
                raise ScoringError(f"the forward pass raised {type(error).__name__}: {one_line(error)}") from error

        yield run, where, (_storages(tensors), _storages([t for t in leaves(given) if isinstance(t, Tensor)]))


def _storages(tensors: list[Any]) -> dict[int, int]:
    found = [tensor.untyped_storage() for tensor in tensors if tensor.layout is torch.strided]
    return {storage._cdata: storage.nbytes() for storage in found}


def _waiting(device: torch.device) -> Callable[[], Any]:
    """What waits until a device has done what it was given."""
    if device.type == "cpu":
        return lambda: None
    module = getattr(torch, device.type, None)
    synchronize = getattr(module, "synchronize", None)
    return synchronize if callable(synchronize) else lambda: None


def _passes(run: Callable[[], Any], wait: Callable[[], Any], least: int, seconds: float, most: int) -> list[float]:
    """The times of at least so many passes, and until so many seconds have gone."""
    found: list[float] = []
    begin = time.perf_counter()
    while len(found) < least or (len(found) < most and time.perf_counter() - begin < seconds):
        started = time.perf_counter()
        run()
        wait()
        found.append(time.perf_counter() - started)
    return found


class _Alive(TorchDispatchMode):
    """Adds up the storages that operations make, and that somebody still has.

    Attributes:
        peak: the most bytes at one time.
    """

    def __init__(self, known: dict[int, int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known = set(known)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in leaves(out):
            if isinstance(tensor, Tensor) and tensor.layout is torch.strided:
                self._meet(tensor.untyped_storage())
        return out

    def _meet(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
