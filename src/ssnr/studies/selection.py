"""What a study joins: which space, which results, which proxies; and what it needs of a benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import pandas as pd

from ssnr._version import SCORING_VERSION
from ssnr.core.catalogue import CONTROLS, NAMED, PLAIN, SALIENCIES, Proxy, parse_proxies, parse_proxy
from ssnr.core.errors import UsageError
from ssnr.core.recipes import Recipe, get_recipe
from ssnr.spaces import get_space
from ssnr.store import Group, Store

DEFAULT_AGGREGATES = ("sum", "ssnr", "layerwise_ssnr")


class BenchmarkTable(Protocol):
    """What a study needs of a benchmark: measured accuracies by architecture string, and where they come from."""

    @property
    def name(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def dataset(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def epochs(self) -> int | None: ...
    @property
    def runs(self) -> str: ...
    @property
    def table(self) -> pd.DataFrame: ...


def describe_metric(benchmark: BenchmarkTable) -> str:
    """Which accuracy, in words: it decides more than most proxies do.

    >>> from types import SimpleNamespace
    >>> describe_metric(SimpleNamespace(metric="test accuracy (%)", split="test", epochs=200, source="nats"))
    'test accuracy (%), 200 epochs, source nats'
    """
    split = "" if benchmark.split in benchmark.metric else f", split {benchmark.split}"
    epochs = "epochs not stated" if benchmark.epochs is None else f"{benchmark.epochs} epochs"
    return f"{benchmark.metric}{split}, {epochs}, source {benchmark.source}"


def choose_space(store: Store, benchmark: BenchmarkTable, notes: list[str]) -> str:
    """The space of the benchmark's own data set where the store has it, else one of its family, with a note."""
    held = store.spaces()
    family = [space for space in held if space.partition("/")[0] == benchmark.family]
    if not family:
        raise UsageError(
            f"store {store.path} holds {', '.join(held) or 'no architecture'}; "
            f"benchmark {benchmark.name} needs {benchmark.family}"
        )
    full = f"{benchmark.family}/{benchmark.dataset}"
    try:
        wanted = get_space(full).name
    except UsageError:  # a space without data sets, or one that is not registered in this session
        wanted = full if full in family else benchmark.family
    if wanted in family:
        return wanted
    notes.append(f"scores are of the networks of {family[0]}, accuracies of {benchmark.name}")
    return family[0]


def choose_groups(
    store: Store, space: str, recipe: str | Recipe | None, seed: int | None, data: str | None, notes: list[str]
) -> list[Group]:
    """What was measured under the wished recipe, seed and data; of several scoring versions the newest."""
    here = [group for group in store.groups() if group.space == space]
    text = None if recipe is None else str(get_recipe(recipe))
    newest: dict[tuple[Any, ...], Group] = {}
    for group in here:
        if (
            (text is None or group.recipe == text)
            and (seed is None or group.seed == seed)
            and (data is None or group.data in (data, "") or not reads_data(group.measured))
        ):
            newest[group[:-1]] = group  # sorted by version
    if not newest:
        asked = {"recipe": text, "seed": seed, "data": data}
        wish = ", ".join(f"{name} {value}" for name, value in asked.items() if value is not None)
        raise UsageError(
            f"store {store.path} holds no scores of {space}{' with ' + wish if wish else ''}; {_inventory(here)}"
        )
    for group in newest.values():
        if group.version != SCORING_VERSION:
            notes.append(
                f"{group.measured} was scored by scoring version {group.version}, this ssnr has {SCORING_VERSION}"
            )
    return list(newest.values())


def reads_data(measured: str) -> bool:
    """Whether a measured saliency or plain proxy reads a user's batch; an unknown one may."""
    if measured in SALIENCIES:
        return SALIENCIES[measured].data
    return measured not in PLAIN or PLAIN[measured].data


def _inventory(groups: Sequence[Group]) -> str:
    if not groups:
        return "run `ssnr sweep` first"
    entries = dict.fromkeys(
        f"{g.measured} (recipe {g.recipe}, seed {g.seed}{', data ' + g.data if g.data else ''})" for g in groups
    )
    return f"it has {', '.join(entries)}"


def choose_proxies(
    store: Store, space: str, groups: Sequence[Group], asked: Iterable[str | Proxy] | None, notes: list[str]
) -> list[Proxy]:
    """What was asked for, or all that the groups can give; controls are left to the study."""
    measured = dict.fromkeys(group.measured for group in groups)
    if asked is not None:
        chosen = [proxy for proxy in parse_proxies(asked) if proxy.text not in CONTROLS]
        for proxy in chosen:
            if proxy.measured not in measured:
                raise UsageError(
                    f"store {store.path} does not hold what {proxy.text} needs for {space}: "
                    f"{_inventory(groups)}; add it with `ssnr sweep {space} -p {proxy.text} --store {store.path}`"
                )
        return chosen
    found: list[Proxy] = []
    for name in measured:
        found += [parse_proxy(own) for own in NAMED if parse_proxy(own).measured == name]
        derived = [saliency for saliency in SALIENCIES if SALIENCIES[saliency].measured == name]
        found += [parse_proxy(f"{saliency}/{aggregate}") for saliency in derived for aggregate in DEFAULT_AGGREGATES]
        if name in PLAIN:
            found.append(parse_proxy(name))
        elif not derived:
            notes.append(f"{name} is in the store but not registered in this session: left out")
    return found
