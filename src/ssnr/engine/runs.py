"""Score many architectures into a store: each network once, in worker processes, resumable at any moment.

Workers (`local`) build one network at a time and send back moments; the parent
commits a chunk in one transaction, so memory does not grow with the number of architectures and a kill loses at most
the chunks in flight.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ssnr.core.catalogue import Proxy, isomorphic_share, parse_proxies
from ssnr.core.errors import Failure, UsageError, failure_of
from ssnr.core.recipes import Recipe
from ssnr.core.results import Result, Score, Scores, failed, score_of
from ssnr.core.views import headline
from ssnr.engine.executors import Executor, executor_of
from ssnr.engine.local import Limits, Lost
from ssnr.engine.plans import Chunk, Plan, Scored, _in_batches, _passes, plan
from ssnr.engine.shards import shard_of
from ssnr.engine.worker import timed_chunk
from ssnr.spaces import Space
from ssnr.store import Store

if TYPE_CHECKING:
    import pandas as pd

# Networks a worker scores between two commits: a second or so of work.
CHUNK, CHUNK_WITH_DATA = 32, 4
MOVES = 3  # machines that may go away with a chunk before one of its networks is suspected


@dataclass(frozen=True, repr=False)
class Row:
    """One architecture of a sweep with the scores that were asked for."""

    architecture: str
    scores: Scores

    def to_frame(self) -> pd.DataFrame:
        """One row per proxy: value, log_value, status, reason, notes."""
        return self.scores.to_frame()

    def plot(self, *, backend: str = "matplotlib") -> Any:
        """Bars of the layers of the first score that has any, as `Scores.plot`.

        Raises:
            UsageError: none has; another backend than matplotlib or plotly.
        """
        return self.scores.plot(backend=backend)

    def __repr__(self) -> str:
        return f"Row({self.architecture!r}, {', '.join(f'{name} {headline(s)}' for name, s in self.scores.items())})"

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.architecture)}</p>{self.scores._repr_html_()}"


class Progress(NamedTuple):
    """How far a sweep is.

    Attributes:
        done: networks scored of those that were missing.
        total: how many were missing.
        failed: how many could not be scored.
        lost: of these, whose worker did not come back: network and reason, those since the last progress.
        networks: what was scored since the last progress.
        expected: seconds that all would take, if all took as long as these.
    """

    done: int
    total: int
    failed: int
    lost: tuple[tuple[str, str], ...] = ()
    networks: frozenset[str] = frozenset()
    expected: float = 0.0


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
    executor: str | Executor = "local",
    device: str = "cpu",
    gpus: float = 0.0,
    timeout: float | None = None,
    max_memory: int | None = None,
    shard: str | tuple[int, int] | None = None,
) -> Iterator[Row]:
    """Score architectures into a store and yield them in the order given, each as soon as it is done.

    Arguments are checked, and the store is opened, when this is called; scoring begins with the first row that is asked
    for. What the store holds already is read. A supernet scores in an order of its own: rows may come late there.

    Args:
        space: a space or its name.
        archs: architectures in any form that the space parses; repeats are scored once.
        proxies: as in `score`; controls are always kept.
        store: the file, created where there is none.
        workers: worker processes of one torch thread each; default one a core, 1 is this process.
        seed: of the initialisation of every network, with the space and the architecture.
        batch: for proxies that read data.
        recipe: the choices that change numbers.
        executor: "local"; "ray" for a Ray of its own, or the cluster that this process has joined; "ray:ADDRESS", such
            as "ray:auto" or "ray:head:6379"; or a function of one's own (`ssnr.engine.Executor`). Rows are the same.
        device: where networks are scored.
        gpus: with Ray, the share of a GPU that each worker takes; device="cuda" puts networks there.
        timeout: seconds that a network may take before it is marked failed; needs a worker process, also for one.
        max_memory: bytes of data that a worker may have; what asks for more fails. Linux only.
        shard: `3/16`: only the third of sixteen parts, into a store of its own; `ssnr.store.merge` joins them.

    Raises:
        UsageError: unknown names, a malformed architecture, no batch where one is needed, an impossible limit.
        StoreError: the store cannot be opened or written; what was committed is kept.
    """
    limits, own = limits_of(timeout, max_memory), shard_of(shard)
    _check_workers(workers)
    where = executor_of(executor, gpus)
    proxies = parse_proxies(proxies)
    workers = workers_for(proxies, workers, executor)
    opened = store if isinstance(store, Store) else Store(store)
    try:
        layout = plan(space, archs, proxies, store=opened, seed=seed, batch=batch, recipe=recipe, device=device,
                      shard=own)  # fmt: skip
    except BaseException:
        if opened is not store:
            opened.close()
        raise
    return _rows(layout, opened, workers, where, limits, close=opened is not store)


def _rows(
    layout: Plan, store: Store, workers: int | None, executor: Executor, limits: Limits, *, close: bool
) -> Iterator[Row]:
    """An architecture as soon as it and those before it are done."""
    try:
        missing = {network for network, _ in layout.missing}
        asked = iter(layout.networks.items())
        arch, network = next(asked)
        for step in run(layout, store, workers=workers, executor=executor, limits=limits):
            missing -= step.networks
            while arch and not {arch, network} & missing:
                yield row(layout, store, arch)
                arch, network = next(asked, ("", ""))
    finally:
        if close:
            store.close()


def limits_of(timeout: float | None, max_memory: int | None) -> Limits:
    """What one network may take.

    Raises:
        UsageError: no time or no memory at all.
    """
    if timeout is not None and not timeout > 0:
        raise UsageError(f"timeout {timeout}: expected seconds above 0")
    if max_memory is not None and max_memory < 1 << 28:
        raise UsageError(f"max_memory {max_memory}: expected at least {1 << 28:,} bytes (256 MiB), which torch needs")
    return Limits(timeout, max_memory)


def _check_workers(workers: int | None) -> None:
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise UsageError(f"workers {workers!r}: expected a whole number, at least 1")


def workers_for(proxies: Iterable[Proxy], workers: int | None, executor: str | Executor = "local") -> int | None:
    """The number of workers, 1 where something is measured while nothing else runs.

    Raises:
        UsageError: several were asked for, or another machine than this one.
    """
    alone = [proxy.text for proxy in proxies if proxy.plain is not None and proxy.plain.alone]
    if not alone:
        return workers
    if executor != "local":
        raise UsageError(f"{alone[0]} is measured on this machine: take executor local")
    if workers not in (None, 1):
        raise UsageError(f"{alone[0]} is measured one network at a time: take one worker, not {workers}")
    return 1


def run(
    layout: Plan,
    store: Store,
    *,
    workers: int | None = None,
    executor: str | Executor = "local",
    limits: Limits | None = None,
    gpus: float = 0.0,
) -> Iterator[Progress]:
    """Score what is missing, a commit per chunk; yields after each.

    A network whose worker dies or takes too long is tried once more alone, and is a failure if that happens again.
    Only this process writes to the store.

    Raises:
        SsnrError: worker processes cannot start.
        StoreError: the store cannot be written.
    """
    _check_workers(workers)
    where = executor_of(executor, gpus)
    total, done, failures = len(layout.missing), 0, 0
    yield Progress(0, total, 0)
    if not total:
        return
    with where(workers_for(layout.proxies, workers)) as pool:
        count = max(1, min(pool.size, total))
        todo = _Queue(_chunks(layout, count))
        for found in pool.each(partial(timed_chunk, layout.job), todo, count, limits or Limits()):
            seconds, (scored, lost) = (
                (0.0, todo.lost(found)) if isinstance(found, Lost) else (found.answer[0], (found.answer[1], ()))
            )
            if not scored:
                continue
            store.add((layout.groups[measured], result) for measured, result in scored)
            networks = frozenset(result.network for _, result in scored)
            done += len(networks)
            failures += len({result.network for _, result in scored if result.status == "failed"})
            expected = seconds * (total / len(networks)) / count
            yield Progress(done, total, failures, lost, networks, expected)


class _Queue:
    """Chunks to score; those that were lost come again, each network alone."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self._chunks = deque(chunks)
        self._again: set[str] = set()
        self._moved: Counter[str] = Counter()

    def __iter__(self) -> _Queue:
        return self

    def __next__(self) -> Chunk:
        if not self._chunks:
            raise StopIteration
        return self._chunks.popleft()

    def lost(self, found: Lost) -> tuple[Scored, tuple[tuple[str, str], ...]]:
        """Failures of the networks that were alone already; the others are queued once more.

        What went away with its machine is queued as it was, unless it is always this chunk with which they go.
        """
        first = found.chunk[0][0]
        if found.machine and self._moved[first] < MOVES:
            self._moved[first] += 1
            self._chunks.append(found.chunk)
            return [], ()
        scored: Scored = []
        named: list[tuple[str, str]] = []
        for network, measured in found.chunk:
            if network in self._again:
                failure = Failure("lost", found.reason)
                scored += [(name, Result.of(failure, network)) for name in measured]
                named.append((network, found.reason))
            else:
                self._again.add(network)
                self._chunks.append([(network, measured)])
        return scored, tuple(named)


def _chunks(layout: Plan, count: int) -> list[Chunk]:
    size = CHUNK_WITH_DATA if any(group.data for group in layout.groups.values()) else CHUNK
    if layout.job.recipe.init == "shared" and _in_batches(layout):
        size = _passes(layout.job.space, layout.job.recipe)
    return _cut(layout.missing, max(1, min(size, -(-len(layout.missing) // count))), 1 if count == 1 else 4 * count)


def _cut(missing: Chunk, size: int, small: int) -> list[Chunk]:
    """Chunks of `size`, and after them about `small` of a quarter: workers come to the end at about the same time."""
    quarter = -(-size // 4)
    large = max(0, len(missing) - small * quarter) // size * size
    starts = [*range(0, large, size), *range(large, len(missing), quarter), len(missing)]
    return [missing[start:end] for start, end in pairwise(starts)]


def read(layout: Plan, store: Store) -> Iterator[Row]:
    """The rows of a finished sweep, in the order in which its architectures were given."""
    return (row(layout, store, arch) for arch in layout.networks)


def row(layout: Plan, store: Store, arch: str) -> Row:
    """One architecture with its scores, from the store."""
    network, recipe = layout.networks[arch], layout.job.recipe
    found = {
        name: next(store.results(group, [network if isomorphic_share(name, recipe) else arch]), None)
        for name, group in layout.groups.items()
    }
    scores = Scores()
    for proxy in layout.proxies:
        if proxy.plain is not None and proxy.plain.control:
            scores[proxy.text] = _control(layout.job.space, arch, proxy.measured)
            continue
        result = found[proxy.measured]
        scores[proxy.text] = failed("not in the store") if result is None else score_of(proxy, result, recipe)
    return Row(arch, scores)


def scores_of_all(layout: Plan, store: Store) -> dict[str, Scores]:
    """The scores of every architecture of a finished sweep, without their layers; each network is read once."""
    recipe = layout.job.recipe
    found: dict[str, dict[str, Score]] = {proxy.text: {} for proxy in layout.proxies}
    for name, group in layout.groups.items():
        wanted = {network if isomorphic_share(name, recipe) else arch for arch, network in layout.networks.items()}
        several = [proxy for proxy in layout.proxies if proxy.measured == name]
        for result in store.results(group, None if len(wanted) > 1000 else wanted):
            if result.network in wanted:
                for proxy in several:
                    found[proxy.text][result.network] = score_of(proxy, result, recipe, with_layers=False)
    absent = failed("not in the store")
    everything: dict[str, Scores] = {}
    for arch, network in layout.networks.items():
        own = everything[arch] = Scores()
        for proxy in layout.proxies:
            if proxy.plain is not None and proxy.plain.control:
                own[proxy.text] = _control(layout.job.space, arch, proxy.measured)
            else:
                stands = network if isomorphic_share(proxy.measured, recipe) else arch
                own[proxy.text] = found[proxy.text].get(stands, absent)
    return everything


def _control(space: Space, arch: str, name: str) -> Score:
    """A count of the space's own; a network of the user's that cannot be built has none."""
    try:
        return Score(float(getattr(space.counts(arch), name)))
    except UsageError:
        raise
    except Exception as error:
        failure = failure_of(error)
        return failed(failure.reason, failure.kind)
