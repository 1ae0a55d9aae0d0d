"""Score many architectures into a store: each network once, in worker processes, resumable at any moment.

The only file that knows devices. Workers (`_workers`) build one network at a time and send back moments; the parent
commits a chunk in one transaction, so memory does not grow with the number of architectures and a kill loses at most
the chunks in flight.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from ssnr.core.catalogue import Proxy, twins_share
from ssnr.core.errors import UsageError
from ssnr.core.recipes import Recipe
from ssnr.core.results import Score, failed, score_of
from ssnr.engine import local as _workers
from ssnr.engine.plans import Chunk, Plan, Scored, _in_batches, _passes, plan
from ssnr.engine.worker import score_chunk
from ssnr.spaces import Space
from ssnr.store import Store

# Networks a worker scores between two commits: a second or so of work.
CHUNK, CHUNK_WITH_DATA = 32, 4


class Row(NamedTuple):
    """One architecture of a sweep with the scores that were asked for."""

    architecture: str
    scores: dict[str, Score]


class Progress(NamedTuple):
    """How far a sweep is: networks scored of those that were missing, and how many could not be scored."""

    done: int
    total: int
    failed: int


def sweep(
    space: str | Space,
    archs: Iterable[Any],
    proxies: Iterable[str | Proxy],
    *,
    store: str | Path | Store,
    workers: int | None = None,
    seed: int = 0,
    batch: Any = None,
    recipe: str | Recipe = "seed",
    executor: str = "local",
    device: str = "cpu",
) -> Iterator[Row]:
    """Score architectures into a store and yield them in the order given; what the store holds already is read.

    Args:
        space: a space or its name.
        archs: architectures in any form that the space parses; repeats are scored once.
        proxies: as in `score`; controls are always kept.
        store: the file, created where there is none.
        workers: worker processes of one torch thread each; default one a core, 1 is this process.
        seed: of the initialisation of every network, with the space and the architecture.
        batch: for proxies that read data.
        recipe: the choices that change numbers.
        executor: "local".
        device: where networks are scored.

    Raises:
        UsageError: unknown names, a malformed architecture, no batch where one is needed.
        StoreError: the store cannot be opened or written; what was committed is kept.
    """
    opened = store if isinstance(store, Store) else Store(store)
    try:
        layout = plan(space, archs, proxies, store=opened, seed=seed, batch=batch, recipe=recipe, device=device)
        for _ in run(layout, opened, workers=workers, executor=executor):
            pass
        yield from read(layout, opened)
    finally:
        if opened is not store:
            opened.close()


def run(layout: Plan, store: Store, *, workers: int | None = None, executor: str = "local") -> Iterator[Progress]:
    """Score what is missing, a commit a chunk; yields after each.

    Raises:
        SsnrError: a worker process died.
        StoreError: the store cannot be written.
    """
    if executor != "local":
        raise UsageError(f"executor {executor!r}: this version has local only")
    count = max(1, min(workers or os.cpu_count() or 1, len(layout.missing)))
    size = CHUNK_WITH_DATA if any(group.data for group in layout.groups.values()) else CHUNK
    if layout.job.recipe.init == "shared" and _in_batches(layout):
        size = _passes(layout.job.space, layout.job.recipe)
    chunks = _cut(layout.missing, max(1, min(size, -(-len(layout.missing) // count))), 1 if count == 1 else 4 * count)
    done = failures = 0
    yield Progress(0, len(layout.missing), 0)
    if not chunks:
        return
    results: Iterator[Scored] = _workers.each(partial(score_chunk, layout.job), chunks, count)
    for chunk in results:
        store.add((layout.groups[measured], result) for measured, result in chunk)
        done += len({result.network for _, result in chunk})
        failures += len({result.network for _, result in chunk if result.status == "failed"})
        yield Progress(done, len(layout.missing), failures)


def _cut(missing: Chunk, size: int, small: int) -> list[Chunk]:
    """Chunks of `size`, and behind them about `small` of a quarter: workers come to the end at about the same time."""
    quarter = -(-size // 4)
    large = max(0, len(missing) - small * quarter) // size * size
    starts = [*range(0, large, size), *range(large, len(missing), quarter), len(missing)]
    return [missing[start:end] for start, end in pairwise(starts)]


def read(layout: Plan, store: Store) -> Iterator[Row]:
    """The rows of a finished sweep, in the order in which its architectures were given."""
    for arch, network in layout.networks.items():
        found = {
            name: next(store.results(group, [network if twins_share(name, layout.job.recipe) else arch]), None)
            for name, group in layout.groups.items()
        }
        scores: dict[str, Score] = {}
        for proxy in layout.proxies:
            if proxy.plain is not None and proxy.plain.control:
                scores[proxy.text] = Score(float(getattr(layout.job.space.counts(arch), proxy.measured)))
                continue
            result = found[proxy.measured]
            if result is None:
                scores[proxy.text] = failed("not in the store")
            else:
                scores[proxy.text] = score_of(proxy, result, layout.job.recipe)
        yield Row(arch, scores)
