"""A sweep from the command line: lay out, score what is missing with progress, say what is kept."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ssnr.cli import terminal
from ssnr.cli.progress import progress
from ssnr.core.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from ssnr.core.catalogue import Proxy
    from ssnr.core.recipes import Recipe
    from ssnr.data import Batch
    from ssnr.engine.shards import Shard
    from ssnr.spaces import Space

MOST = 1_000_000  # architectures up to which `--archs all` is taken at its word


def swept(
    space: Space, archs: list[str], proxies: tuple[Proxy, ...], path: Path, workers: int | None, seed: int,
    batch: Batch | None, recipe: Recipe, executor: str = "local", timeout: float | None = None,
    max_memory: int | None = None, shard: Shard | None = None, gpus: float = 0.0,
) -> dict[str, Any]:  # fmt: skip
    """Score what the store lacks; the counts of what was done, and which networks were lost with their workers."""
    from ssnr.engine import local

    if workers != 1 and executor == "local":
        local.warm_up()
    from ssnr import engine
    from ssnr.store import Store

    workers = engine.workers_for(proxies, workers, executor)
    with Store(path) as store:
        layout = engine.plan(space, archs, proxies, store=store, seed=seed, batch=batch, recipe=recipe, shard=shard,
                             device="cuda" if gpus else "cpu")  # fmt: skip
        already = layout.measurable - len(layout.missing)
        if already:
            terminal.note(f"{path}: {already:,} of {layout.measurable:,} networks are there already")
        limits = engine.limits_of(timeout, max_memory)
        done = failures = 0
        lost: list[tuple[str, str]] = []
        try:
            with progress(space.name) as notify, redirect_stdout(sys.stderr):  # what a user's code prints
                for step in engine.run(layout, store, workers=workers, executor=executor, limits=limits, gpus=gpus):
                    done, failures = step.done, step.failed
                    lost += step.lost
                    if step.total:
                        notify("", step.done, step.total)
                    if step.done == len(step.networks) > 0:  # the first chunk
                        notify.expect(step.expected, step.total, step.done)
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped: {already + done:,} of {layout.measurable:,} networks are in {path}; "
                "the same command does the rest"
            ) from None
        return {
            "space": space.name,
            "store": str(path),
            "architectures": len(layout.networks),
            "networks": layout.distinct,
            "scored": done,
            "failed": failures,
            "lost": [{"network": network, "reason": reason} for network, reason in lost],
        }


class Reads(Protocol):
    """A proxy or a saliency: it says whether it reads a batch."""

    @property
    def data(self) -> bool: ...


def batch_of(
    proxies: Iterable[Reads], data: str | None, shape: tuple[int, ...], classes: int | None, size: int, seed: int
) -> Batch | None:
    """The batch that the proxies read, with a note that names it; None where they read none."""
    if not any(proxy.data for proxy in proxies):
        if data is not None:
            terminal.note(f"--data {data}: not read, no proxy asked for needs data")
        return None
    from ssnr import data as batches

    batch = batches.load(data, shape, classes, size=size, seed=seed)
    terminal.note(f"batch: {'; '.join((batch.fingerprint, *batch.notes))}")
    return batch


def space_of(text: str, input_shape: str | None = None) -> Space:
    """The space that a command names; what a user's own file prints is no part of the answer.

    Raises:
        UsageError: there is none, or it has an input shape of its own.
        ScoringError: the user's file raised.
    """
    from ssnr.cli.options import shape_of
    from ssnr.spaces import get_space
    from ssnr.spaces.functions import FunctionSpace

    with redirect_stdout(sys.stderr):
        space = get_space(text)
    shape = shape_of(input_shape)
    if shape is not None:
        if not isinstance(space, FunctionSpace):
            raise UsageError(f"--input-shape {input_shape}: {space.name} has an input shape of its own")
        space.input_shape = shape
    return space


def architectures(space: Space, text: str, seed: int) -> list[str]:
    """`all`, a number drawn from the seed, or a file with one architecture a line."""
    import numpy as np

    if text == "all":
        every = [] if (space.size or 0) > MOST else list(islice(space.all(), MOST + 1))
        if not every or len(every) > MOST:
            shown = f"{space.size:,}" if space.size is not None else f"more than {MOST:,}"
            raise UsageError(f"{space.name} has {shown} architectures: draw a number with --archs N, or name a file")
        return every
    if is_number(text):
        return space.sample_many(int(text), np.random.default_rng(seed))
    path = Path(text)
    if not path.is_file():
        raise UsageError(f"--archs {text!r}: expected all, a number, or a file with one architecture a line")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"--archs {path}: not readable as text ({error})") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            try:
                found.append(space.parse(line.strip()))
            except UsageError as error:
                raise UsageError(f"{path}, line {number}: {error}") from error
    if not found:
        raise UsageError(f"{path} holds no architecture")
    return found


def is_number(text: str) -> bool:
    """Whether `--archs` names a number."""
    return text.lstrip("-").isdigit()
