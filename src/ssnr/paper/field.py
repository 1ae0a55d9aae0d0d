"""The proxies of the field on the same networks: which networks, what a store says of them, and what a proxy costs.

The order of networks is drawn once from the seed: a larger number takes the same networks and adds others. `sweeps`
says what has to be scored, `rows` reads it and scores nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ssnr import benchmarks
from ssnr.core.catalogue import COMBINED, CONTROLS, entry_of
from ssnr.core.errors import UsageError
from ssnr.core.field import TABLE
from ssnr.core.recipes import Recipe, get_recipe
from ssnr.core.registry import unknown
from ssnr.paper.parts import chosen as chosen_of
from ssnr.paper.parts import path_of as path_of
from ssnr.store import Store
from ssnr.studies.study import study

if TYPE_CHECKING:
    from ssnr.benchmarks import Benchmark
    from ssnr.data import Batch

SEED = 0
MOST = 1000  # networks of a part, unless more are asked for
RECIPE = get_recipe("seed(dtype=float32)")
PROXIES = tuple(TABLE)
PUBLISHED = {"nwot": "naswot"}  # names of files, where they are not ours
_TNB = "transnasbench101-micro"


class Part(NamedTuple):
    """One table of accuracies, the space of its networks and how many samples their proxies read."""

    key: str
    title: str
    space: str
    benchmark: str
    samples: int
    source: str | None = None


PARTS = (
    Part("nb201-c10", "NAS-Bench-201, CIFAR-10", "nasbench201", "nasbench201/cifar10", 64, "nats"),
    Part("nb201-c100", "NAS-Bench-201, CIFAR-100", "nasbench201", "nasbench201/cifar100", 64, "nats"),
    Part("nb201-in16", "NAS-Bench-201, ImageNet16-120", "nasbench201", "nasbench201/imagenet16-120", 64, "nats"),
    Part("nb301", "NAS-Bench-301 (surrogate)", "darts", "nasbench301/cifar10", 16),
    Part("tnb-scene", "TransNAS-Bench-101 micro, scene", f"{_TNB}/class_scene", f"{_TNB}/class_scene", 4),
    Part("tnb-object", "TransNAS-Bench-101 micro, object", f"{_TNB}/class_object", f"{_TNB}/class_object", 4),
    Part("tnb-jigsaw", "TransNAS-Bench-101 micro, jigsaw", f"{_TNB}/jigsaw", f"{_TNB}/jigsaw", 4),
)


class Sweep(NamedTuple):
    """What has to be in the store of a space."""

    space: str
    architectures: list[str]
    samples: int
    recipe: Recipe = RECIPE


def parts(keys: Sequence[str] | None = None) -> tuple[Part, ...]:
    """The parts by key, all by default; `UsageError` for an unknown one."""
    return chosen_of(PARTS, keys)


def chosen_proxies(names: Sequence[str] | None = None) -> tuple[str, ...]:
    """The proxies of the field by name, all by default; `UsageError` for any other."""
    for name in names or ():
        if name not in PROXIES:
            raise unknown("proxy of the field", name, PROXIES)
    return tuple(dict.fromkeys(names)) if names else PROXIES


def accuracies(part: Part, networks: int = MOST) -> Benchmark:
    """The accuracies of the first networks of a part, in an order that is drawn from the seed."""
    whole = benchmarks.load(part.benchmark, part.source)
    drawn = np.random.default_rng(SEED).permutation(len(whole.table))[:networks]
    return replace(whole, table=whole.table.iloc[drawn])


def sweeps(chosen: Iterable[Part], networks: int = MOST) -> list[Sweep]:
    """One a space: parts of one space share their networks."""
    found: dict[str, Sweep] = {}
    for part in chosen:
        drawn = dict.fromkeys(map(str, accuracies(part, networks).table.index))
        known = found.get(part.space)
        if known is not None:
            drawn = dict.fromkeys([*known.architectures, *drawn])
        found[part.space] = Sweep(part.space, list(drawn), part.samples)
    return list(found.values())


def rows(folder: str | Path, chosen: Iterable[Part], networks: int = MOST, *, ci: bool = True) -> pd.DataFrame:
    """ρ and τ of every proxy, combination, control and published column of every part.

    Where lower values are better, the sign of ρ and τ is reversed.

    Returns:
        part, title, proxy, kind ("proxy", "control" or "published"), n, failed, spearman, spearman_lo, spearman_hi,
        kendall, kendall_lo, kendall_hi; a part's rows by falling τ.

    Raises:
        UsageError: a store is not there, or holds nothing of a part.
    """
    found = []
    for part in chosen:
        benchmark = accuracies(part, networks)
        published = _columns(part.benchmark)
        with Store(path_of(Path(folder), part.space), create=False) as store:
            held = {group.measured for group in store.groups()}
            asked = [name for name in PROXIES if name in held]
            asked += [name for name in COMBINED if _members(name) <= held | set(CONTROLS)]
            table = study(store, benchmark, asked, recipe=RECIPE, seed=SEED, published=published, ci=ci).table
        table = table.sort_values("n", ascending=False, kind="stable").drop_duplicates(["proxy", "kind"])
        made = pd.DataFrame([_row(part, row) for row in table.to_dict("records")])  # controls once, on the most
        found.append(made.sort_values("kendall", ascending=False, na_position="last", kind="stable"))
    return pd.concat(found, ignore_index=True)


def _columns(benchmark: str) -> list[str]:
    """The published columns of a benchmark that are proxies or controls of ours, where their files are at hand."""
    names = [*PROXIES, *PUBLISHED, *CONTROLS]
    return [name for name in names if name in set(benchmarks.published(benchmark))]


def _members(name: str) -> set[str]:
    from ssnr.core.combinations import Combination, parse

    combination = parse(name)
    assert isinstance(combination, Combination)
    return {member.proxy.measured for member in combination.members}


def _row(part: Part, row: dict[Any, Any]) -> dict[str, Any]:
    name = PUBLISHED.get(row["proxy"], row["proxy"])
    turned = row["kind"] == "proxy" and name in PROXIES and not entry_of(name).higher_is_better
    made = {"part": part.key, "title": part.title, "proxy": name, "kind": row["kind"], "n": row["n"],
            "failed": row["failed"]}  # fmt: skip
    for measure in ("spearman", "kendall"):
        value, low, high = (row.get(key, np.nan) for key in (measure, f"{measure}_lo", f"{measure}_hi"))
        made |= {measure: value, f"{measure}_lo": low, f"{measure}_hi": high}
        if turned:
            made |= {measure: -value, f"{measure}_lo": -high, f"{measure}_hi": -low}
    return made


CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|skip_connect~0|nor_conv_3x3~1|avg_pool_3x3~2|"


def costs(batch: Batch, repeats: int, notify: Callable[[str, int, int], None] | None = None) -> dict[str, float]:
    """Least milliseconds of processor time of each proxy alone on one cell of NAS-Bench-201, of all, and of grasp.

    All are timed in turn, so that a slow minute affects all of them alike. One thread, the recipe's float32.

    Returns:
        way → milliseconds: "one forward pass", "grasp", "all together" and the names of proxies.
    """
    ways = dict(_ways(batch))
    least: dict[str, float] = {}
    for turn in range(repeats):
        for number, (name, way) in enumerate(ways.items()):
            if notify is not None:
                notify(name, turn * len(ways) + number + 1, repeats * len(ways))
            started = time.process_time()
            way()
            taken = 1e3 * (time.process_time() - started)
            least[name] = min(taken, least.get(name, np.inf))
    return least


def _ways(batch: Batch) -> Iterator[tuple[str, Callable[[], Any]]]:
    import torch

    from ssnr.networks.model import Model
    from ssnr.networks.preserve import preserved
    from ssnr.networks.settings import undisturbed
    from ssnr.proxies.capture import Context
    from ssnr.saliencies import gradient_saliencies
    from ssnr.spaces import get_space

    net = get_space("nasbench201").build(CELL, seed=SEED)

    def forward() -> None:
        with torch.no_grad():
            net.train()(batch.inputs)

    def grasp() -> None:
        gradient_saliencies(Model(net, RECIPE), batch, ["grasp"])

    def proxies(*names: str) -> None:
        here = Context(Model(net, RECIPE), net, batch, None, None, RECIPE, SEED, (3, 32, 32), {}, names)
        for name in names:
            TABLE[name](here)

    def alone(way: Callable[..., None], *names: str) -> Callable[[], None]:
        def run() -> None:
            with undisturbed(), preserved(net, exposed=False):
                way(*names)

        return run

    yield "one forward pass", alone(forward)
    yield "grasp", alone(grasp)
    yield "all together", alone(proxies, *PROXIES)
    for name in PROXIES:
        yield name, alone(proxies, name)


def read_costs(path: Path) -> dict[str, float] | None:
    """What `costs` found before, where it knows every proxy.

    Raises:
        UsageError: the file holds something else.
    """
    if not path.is_file():
        return None
    try:
        found = {str(name): float(value) for name, value in json.loads(path.read_text()).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise UsageError(f"{path}: expected milliseconds by name, as this command writes them") from error
    return found if set(PROXIES) <= set(found) else None
