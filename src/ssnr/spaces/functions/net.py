"""Running a build function: the network that it makes, with weights from a seed, and nothing left behind."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import torch
from torch import nn

from ssnr.core.results import Counts
from ssnr.networks.calling import call
from ssnr.networks.preserve import preserved
from ssnr.networks.settings import kept_random_states, kept_settings, seed_everything
from ssnr.networks.trees import flatten
from ssnr.proxies.controls import count, count_by_shapes
from ssnr.spaces.base import derived_rng


def run(make: Callable[[], Any], seed: int) -> nn.Module | Exception:
    """What a build function makes with every generator seeded, or what it raised; random states stay as they are.

    What it prints goes to stderr: it is no part of any answer.
    """
    restores = [kept_random_states(), kept_settings()]
    seed_everything(seed)
    if torch.cuda.is_available() and not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)  # noted: the function may be the first to put weights there
    try:
        with redirect_stdout(sys.stderr):
            made = make()
    except (Exception, SystemExit) as error:
        return error if isinstance(error, Exception) else RuntimeError(f"SystemExit: {error}")
    finally:
        for restore in reversed(restores):
            restore()
    if not isinstance(made, nn.Module):
        return TypeError(f"it returned {'None' if made is None else type(made).__name__}, expected a torch.nn.Module")
    return made


def seed_of(seed: int | None, space: str, arch: str) -> int:
    """The seed of one network's weights: from (seed, space, architecture), or torch's global generator for None."""
    if seed is None:
        seed = int(torch.randint(2**62, ()).item())
    return int(derived_rng(seed, space, arch).integers(2**63))


def difference(one: nn.Module, other: nn.Module) -> str | None:
    """Where two networks are not built alike: names, shapes and kinds of their parts; None where they are."""
    mine, theirs = dict(_parts(one)), dict(_parts(other))
    for name in (*mine, *theirs):
        if mine.get(name) != theirs.get(name):
            return f"{name} is {mine.get(name, 'not there')} and then {theirs.get(name, 'not there')}"
    return None


def _parts(net: nn.Module) -> Any:
    for name, module in net.named_modules():
        yield name or "the network", type(module).__name__
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        yield name, "×".join(map(str, tensor.shape)) or "a number"


def counted(net: nn.Module, input_shape: tuple[int, ...]) -> Counts:
    """The controls of a built network."""
    return count(net, input_shape)


def counted_at_once(net: nn.Module, input_shape: tuple[int, ...]) -> Counts | None:
    """The controls where they cost next to nothing, else None."""
    return count_by_shapes(net, input_shape)


def classes(net: nn.Module, input_shape: tuple[int, ...]) -> int | None:
    """How many classes the first output (N, classes) has, None where it has another form."""
    try:
        with preserved(net), torch.no_grad():
            first = flatten(call(net.eval(), torch.ones((1, *input_shape))))[0]
    except Exception:  # what is wrong with the network, the scoring itself will say
        return None
    return int(first.shape[1]) if first.dim() == 2 and first.shape[1] > 1 else None
