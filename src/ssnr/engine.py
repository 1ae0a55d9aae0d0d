"""Score many architectures into a store: each network once, in worker processes, resumable at any moment.

The only file that knows devices. Workers (`_workers`) build one network at a time and send back moments; the parent
commits a chunk in one transaction, so memory does not grow with the number of architectures and a kill loses at most
the chunks in flight.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ssnr import _workers
from ssnr._errors import UsageError
from ssnr.proxies import PLAIN, SALIENCIES, Proxy, Score, evaluate, failed, parse_proxies, twins_share
from ssnr.recipes import Recipe, get_recipe
from ssnr.spaces import Space, get_space
from ssnr.store import Architecture, Group, Result, Store

if TYPE_CHECKING:
    from ssnr.data import Batch
    from ssnr.supernet import Supernet

# Networks a worker scores between two commits: a second or so of work.
CHUNK, CHUNK_WITH_DATA = 32, 4
# Passes of a supernet between two commits.
PASSES = 4
SEED = get_recipe("seed")

Chunk = Sequence[tuple[str, tuple[str, ...]]]  # networks, and what is missing of each
Scored = list[tuple[str, Result]]


class Row(NamedTuple):
    """One architecture of a sweep with the scores that were asked for."""

    architecture: str
    scores: dict[str, Score]


class Progress(NamedTuple):
    """How far a sweep is: networks scored of those that were missing, and how many could not be scored."""

    done: int
    total: int
    failed: int


@dataclass(frozen=True)
class Job:
    """What a worker needs to score any network of a sweep."""

    space: Space
    recipe: Recipe
    seed: int
    batch: Batch | None
    device: str = "cpu"


@dataclass(frozen=True)
class Plan:
    """A sweep laid out: which architectures, by which networks, and what is missing of each."""

    job: Job
    proxies: tuple[Proxy, ...]
    networks: dict[str, str]  # architecture → the network that stands for it
    groups: dict[str, Group]  # measured → key of its results
    missing: list[tuple[str, tuple[str, ...]]]  # network → what is not in the store yet

    @property
    def distinct(self) -> int:
        """Number of distinct networks."""
        return len(set(self.networks.values()))


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


def plan(
    space: str | Space,
    archs: Iterable[Any],
    proxies: Iterable[str | Proxy],
    *,
    store: Store,
    seed: int = 0,
    batch: Any = None,
    recipe: str | Recipe = "seed",
    device: str = "cpu",
) -> Plan:
    """Lay a sweep out and write its architectures, with their controls, into the store."""
    parsed, chosen, where = parse_proxies(proxies), get_recipe(recipe), get_space(space)
    given: Batch | None = None
    if batch is not None:  # without one torch is the workers' business: importing it takes as long as the rest of this
        from ssnr.data import batch_of

        given = batch_of(batch)
    if chosen.variant not in where.variants:
        raise UsageError(f"recipe {chosen} needs the variant {chosen.variant!r}, which {where.name} does not have")
    if chosen.init == "shared":
        changed = [
            name for name in ("norms", "scored", "ties", "variant") if getattr(chosen, name) != getattr(SEED, name)
        ]
        if changed:
            raise UsageError(
                f"recipe {chosen}: a supernet reads networks as recipe seed does, not with other {changed[0]}"
            )
        _passes(where, chosen)  # refuses a space that has none
    for proxy in parsed:
        if proxy.data and given is None:
            raise UsageError(f"{proxy.text} needs a batch: batch=… or --data")
    networks = {arch: where.twin(arch) for arch in dict.fromkeys(where.parse(form) for form in archs)}
    if not networks:
        raise UsageError("no architecture to score")
    known = {row.architecture for row in store.architectures(where.name)}
    new = [arch for arch in networks if arch not in known]
    store.add_architectures(where.name, (Architecture(a, networks[a], *where.counts(a)) for a in new))
    # Controls come from the space's counts above: nothing to score.
    measured = dict.fromkeys(p.measured for p in parsed if not (p.plain is not None and p.plain.control))
    groups = {name: Group(where.name, name, str(chosen), seed, _data(name, given)) for name in measured}
    done = {name: store.done(group) for name, group in groups.items()}
    missing: dict[str, dict[str, None]] = {}
    for arch, network in networks.items():
        for name in groups:
            stands = network if twins_share(name, chosen) else arch
            if stands not in done[name]:
                missing.setdefault(stands, {})[name] = None
    todo = [(network, tuple(lacking)) for network, lacking in missing.items()]
    if chosen.init == "shared":
        todo.sort()  # neighbours share operations: fewer, larger groups in a pass
    return Plan(Job(where, chosen, seed, given, device), parsed, networks, groups, todo)


def _data(measured: str, batch: Batch | None) -> str:
    """The part of a result's key that says which batch it read, and what was done to it."""
    needs = (SALIENCIES[measured] if measured in SALIENCIES else PLAIN[measured]).data
    if not needs or batch is None:
        return ""
    return "; ".join((batch.fingerprint, *batch.notes))


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
    if layout.job.recipe.init == "shared" and size == CHUNK:
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


def _passes(space: Space, recipe: Recipe) -> int:
    """Networks that a supernet scores between two commits."""
    from ssnr.supernet import layouts

    return PASSES * layouts.batch_size(layouts.layout_of(space), 4 if recipe.synflow_dtype == "float32" else 8)


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
            elif result.moments is None:
                scores[proxy.text] = Score(result.value, None, result.status, result.reason)
            else:
                scores[proxy.text] = evaluate(proxy, result.moments, layout.job.recipe, result.status, result.reason)
        yield Row(arch, scores)


# --- where networks are scored --------------------------------------------------------------------------------


def score_chunk(job: Job, chunk: Chunk) -> Scored:
    """Build and measure the networks of a chunk, one after the other."""
    from ssnr.scoring import measure

    if job.recipe.init == "shared":
        return _score_shared(job, chunk)
    found: Scored = []
    for network, measured in chunk:
        try:
            net = job.space.build(network, seed=job.seed, variant=job.recipe.variant)
            if job.device != "cpu":  # even a `to` that moves nothing walks the whole network
                net = net.to(job.device)
        except Exception as error:
            reason = f"building it raised {type(error).__name__}: {error}"
            found += [(name, Result(network, "failed", reason)) for name in measured]
            continue
        results = measure(
            net, measured, batch=job.batch, input_shape=job.space.input_shape, recipe=job.recipe, seed=job.seed,
            network=network,
        )  # fmt: skip
        found += list(results.items())
    return found


def _score_shared(job: Job, chunk: Chunk) -> Scored:
    """The networks of a chunk with one supernet's weights: synflow in batches, the rest network by network."""
    from ssnr.scoring import measure

    net = _supernet(job.space, job.seed, job.recipe.synflow_dtype)
    together = [network for network, measured in chunk if "synflow" in measured]
    found: Scored = [("synflow", result) for result in net.results(together)]
    for network, measured in chunk:
        rest = [name for name in measured if name != "synflow"]
        if rest:
            alone = net.network(network).to(job.device)
            results = measure(alone, rest, batch=job.batch, input_shape=job.space.input_shape, recipe=job.recipe,
                              seed=job.seed, network=network)  # fmt: skip
            found += list(results.items())
    return found


@lru_cache(maxsize=1)
def _supernet(space: Space, seed: int, dtype: str) -> Supernet:
    import torch

    from ssnr.supernet import Supernet

    return Supernet(space, seed=seed, dtype=getattr(torch, dtype))
