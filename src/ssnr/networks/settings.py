"""What a process has and a forward may change: torch's settings, and the states that random numbers come from."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch


def kept_settings() -> Callable[[], None]:
    """A function that puts torch's settings back to their present values."""
    before = [read() for read, _ in _SETTINGS]

    def restore() -> None:
        for (read, write), value in zip(_SETTINGS, before, strict=True):
            if read() != value:
                write(value)

    return restore


def _set_default_device(device: torch.device | None) -> None:
    torch.set_default_device(device)


def _set_determinism(modes: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(modes[0], warn_only=modes[1])


def _set_anomalies(modes: tuple[bool, bool]) -> None:
    torch.autograd.set_detect_anomaly(*modes)


def _flag(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


# How to read a setting, and how to put it back.
_SETTINGS: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_default_dtype, torch.set_default_dtype),
    (lambda: getattr(sys.modules.get("torch.utils._device"), "CURRENT_DEVICE", None), _set_default_device),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        _set_determinism,
    ),
    (lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()), _set_anomalies),
    (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
    (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
    (torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled),
    *(_flag(torch.backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")),
]


def kept_random_states() -> Callable[[], None]:
    """What puts the random states of torch (CPU and CUDA), numpy and Python back to what they are now."""
    cpu, python = torch.get_rng_state(), random.getstate()
    legacy = np.random.get_state(legacy=False)
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]

    def restore() -> None:
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        random.setstate(python)
        np.random.set_state(legacy)

    return restore


def seed_everything(seed: int) -> None:
    """Seed what a forward pass may draw from: torch, numpy's global generator, Python's.

    A device that nobody has used yet stays unseeded: `torch.manual_seed` would note a seed for it, in place of the one
    that the caller had noted, and write down the whole stack, which takes longer than a small layer.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def random_states() -> dict[str, Any]:
    """The random states, to compare: a pass that changes one of them draws random numbers."""
    found: dict[str, Any] = {"torch": torch.get_rng_state().numpy().tobytes(), "random": random.getstate()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found["torch.cuda"] = b"".join(s.numpy().tobytes() for s in torch.cuda.get_rng_state_all())
    state = np.random.get_state(legacy=False)
    found["numpy"] = (state["state"]["key"].tobytes(), state["state"]["pos"])
    return found


# Scoring seeds the process's random generators, and for a moment replaces functions of torch: threads take turns.
TURNS = threading.RLock()


@contextmanager
def undisturbed() -> Iterator[None]:
    """The caller's inference mode and autocast do not reach in here: both would change or forbid gradients.

    Other threads that score wait: see `TURNS`.
    """
    with TURNS, ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
