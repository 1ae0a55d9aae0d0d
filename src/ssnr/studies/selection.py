"""What a study joins: which space, which results, which proxies; and what it needs of a benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import pandas as pd

from ssnr._version import SCORING_VERSION
from ssnr.core import combinations
from ssnr.core.catalogue import CONTROLS, NAMED, PLAIN, SALIENCIES, Proxy, parse_proxies, parse_proxy
from ssnr.core.combinations import Combination
from ssnr.core.errors import UsageError
from ssnr.core.recipes import Recipe, get_recipe
from ssnr.spaces import get_space
from ssnr.store import Group, Store

Asked = str | Proxy | Combination
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
    store: Store, space: str, groups: Sequence[Group], asked: Iterable[Asked] | None, notes: list[str]
) -> list[Proxy | Combination]:
    """What was asked for, each once, or all that the groups can give; controls are left to the study.

    Raises:
        UsageError: something is not in the store; one line names what would score it.
    """
    measured = dict.fromkeys(group.measured for group in groups)
    if asked is not None:
        texts = (asked,) if isinstance(asked, str) else tuple(asked)
        parsed = {one.text: one for one in map(combinations.parse, texts)}
        if not parsed:
            parse_proxies(())  # says what is expected
        chosen = [one for one in parsed.values() if one.text not in CONTROLS]
        for one in chosen:
            absent = [proxy.text for proxy in needed([one]) if proxy.measured not in measured]
            if absent:
                what = f" ({', '.join(absent)})" if isinstance(one, Combination) else ""
                raise UsageError(
                    f"store {store.path} does not hold what {one.text} needs{what} for {space}: {_inventory(groups)}; "
                    f"add it with `ssnr sweep {space} {' '.join(f'-p {text}' for text in absent)} --store {store.path}`"
                )
        return chosen
    found: list[Proxy | Combination] = []
    for name in measured:
        found += [parse_proxy(own) for own in NAMED if parse_proxy(own).measured == name]
        derived = [saliency for saliency in SALIENCIES if SALIENCIES[saliency].measured == name]
        found += [parse_proxy(f"{saliency}/{aggregate}") for saliency in derived for aggregate in DEFAULT_AGGREGATES]
        if name in PLAIN:
            found.append(parse_proxy(name))
        elif not derived:
            notes.append(f"{name} is in the store but not registered in this session: left out")
    return found


def needed(asked: Iterable[Proxy | Combination]) -> list[Proxy]:
    """The proxies themselves and the members of combinations, each once; without the controls."""
    found: dict[str, Proxy] = {}
    for one in asked:
        members = [member.proxy for member in one.members] if isinstance(one, Combination) else [one]
        found |= {proxy.text: proxy for proxy in members if proxy.text not in CONTROLS}
    return list(found.values())
