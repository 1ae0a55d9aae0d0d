"""A sweep laid out: which architectures, by which networks, and what is missing of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssnr.core.catalogue import PLAIN, SALIENCIES, Proxy, isomorphic_share, parse_proxies
from ssnr.core.errors import UsageError
from ssnr.core.recipes import Recipe, get_recipe
from ssnr.core.results import Result
from ssnr.engine.shards import Shard, part
from ssnr.spaces import Space, get_space
from ssnr.store import Architecture, Group, Store

if TYPE_CHECKING:
    from ssnr.data import Batch
# Passes of a supernet between two commits.
PASSES = 4
SEED = get_recipe("seed")

Chunk = Sequence[tuple[str, tuple[str, ...]]]  # networks, and what is missing of each
Scored = list[tuple[str, Result]]


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
    measurable: int  # networks that have to be measured at all; more than `distinct` where twins do not share a number

    @property
    def distinct(self) -> int:
        """Number of distinct networks."""
        return len(set(self.networks.values()))


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
    shard: Shard | None = None,
) -> Plan:
    """Lay a sweep out, or its part of it, and write its architectures, with their controls, into the store."""
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
    if shard is not None:
        networks = part(networks, shard)
        if not networks:
            raise UsageError(f"shard {shard.number}/{shard.of} is empty: there are fewer networks than shards")
    known = {row.architecture: row[2:] for row in store.architectures(where.name) if row.architecture in networks}
    where.check_kept(known)
    new = [arch for arch in networks if arch not in known]
    store.add_architectures(where.name, (Architecture(a, networks[a], *where.controls(a)) for a in new))
    # Controls come from the space's counts above: nothing to score.
    measured = dict.fromkeys(p.measured for p in parsed if not (p.plain is not None and p.plain.control))
    groups = {name: Group(where.name, name, str(chosen), seed, _data(name, given, chosen)) for name in measured}
    done = {name: store.done(group) for name, group in groups.items()}
    missing: dict[str, dict[str, None]] = {}
    measurable: set[str] = set()
    for arch, network in networks.items():
        for name in groups:
            stands = network if isomorphic_share(name, chosen) else arch
            measurable.add(stands)
            if stands not in done[name]:
                missing.setdefault(stands, {})[name] = None
    todo = [(network, tuple(lacking)) for network, lacking in missing.items()]
    if chosen.init == "shared":
        todo.sort()  # neighbours share operations: fewer, larger groups in a pass
    return Plan(Job(where, chosen, seed, given, device), parsed, networks, groups, todo, len(measurable))


def _data(measured: str, batch: Batch | None, recipe: Recipe) -> str:
    """The part of a result's key that says which batch it read, and what was done to it, or how many images it drew."""
    if measured in SALIENCIES and SALIENCIES[measured].draws:
        return f"noise:{recipe.images}"
    if measured in PLAIN and PLAIN[measured].alone:
        return "batch 1, 1 thread"
    needs = (SALIENCIES[measured] if measured in SALIENCIES else PLAIN[measured]).data
    if not needs or batch is None:
        return ""
    return "; ".join((batch.fingerprint, *batch.notes))


def _in_batches(layout: Plan) -> bool:
    """Whether a supernet gives all that is measured; the rest is scored network by network, in small chunks."""
    from ssnr.supernet.layouts.base import draws, layout_of

    names, recipe = set(layout.groups), layout.job.recipe
    drawn = names == {"synflow"} or draws(layout_of(layout.job.space), recipe.images)
    return names <= {"synflow", "plain_noise", "grasp_noise"} and drawn


def _passes(space: Space, recipe: Recipe) -> int:
    """Networks that a supernet scores between two commits."""
    from ssnr.supernet.layouts import base as layouts

    return PASSES * layouts.batch_size(layouts.layout_of(space), 4 if recipe.synflow_dtype == "float32" else 8)
