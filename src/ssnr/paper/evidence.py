"""How well one image of noise ranks: the protocol behind the proxy that is used where none is named.

(p, q, r), the number of images and the saliency are chosen on `SELECTION` random cells of NAS-Bench-201 and their
CIFAR-10 accuracies. Everything else is reported with the choice frozen. `sweeps` and `points` say what has to be
scored, `evidence` reads it and scores nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from ssnr import benchmarks
from ssnr.core.catalogue import NAMED, parse_proxy
from ssnr.core.recipes import Recipe, get_recipe, shared, with_option
from ssnr.core.results import Result
from ssnr.paper.parts import chosen as chosen_of
from ssnr.paper.parts import path_of as path_of
from ssnr.paper.parts import sample
from ssnr.spaces import Space, get_space
from ssnr.store import Store
from ssnr.studies.study import Study, study

if TYPE_CHECKING:
    from ssnr.benchmarks import Benchmark
    from ssnr.data import Batch

FROZEN = "noise_ssnr"
AS_FROZEN = "snip/layerwise_ssnr(0.5,8,0.1)"  # the same of a batch that is given
PROXIES = (
    FROZEN,
    "snip_noise/layerwise_ssnr(0.5,8)",
    "snip_noise/layerwise_ssnr",
    "snip_noise/ssnr",
    "snip_noise/sum",
    "synflow/layerwise_ssnr",
)
SELECTION = 1000  # cells on which the choice was made
SHARES = (0.01, 0.05, 0.1)
CURVE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
IMAGES = (1, 2, 4, 8, 16, 32, 64)
POWERS = (1, 2, 3, 4, 6, 8, 10, 12, 16)


class Part(NamedTuple):
    """One table of accuracies: whose networks, how many images, and what its accuracies decided."""

    key: str
    title: str
    space: str
    benchmark: str
    source: str | None = None
    images: int = 1
    shared: bool = True  # with the weights of one supernet
    held_out: bool = True
    populations: tuple[str, ...] = ("all",)
    most: int | None = None  # architectures, drawn at random; None: all that the benchmark has
    repeated: bool = True  # whether it is scored with every seed


_TNB = "transnasbench101-micro"
_TASKS = {
    "class_scene": "scene", "class_object": "object", "room_layout": "room", "jigsaw": "jigsaw",
    "normal": "normal", "segmentsemantic": "segmentation", "autoencoder": "autoencoder",
}  # fmt: skip
_IMAGES = ("normal", "segmentsemantic", "autoencoder")
_WHOLE = ("all", "used", "classes")

PARTS = (
    Part("nb201-c10", "NB201 CIFAR-10", "nasbench201", "nasbench201/cifar10", "nats",
         held_out=False, populations=_WHOLE),
    Part("nb201-c100", "NB201 CIFAR-100", "nasbench201", "nasbench201/cifar100", "nats",
         held_out=False, populations=_WHOLE),
    Part("nb201-in16", "NB201 ImageNet16-120", "nasbench201", "nasbench201/imagenet16-120", "nats",
         held_out=False, populations=_WHOLE),
    Part("nb201-c100-own", "NB201 CIFAR-100, own networks", "nasbench201/cifar100", "nasbench201/cifar100", "nats",
         held_out=False),
    Part("nb201-in16-own", "NB201 ImageNet16-120, own networks", "nasbench201/imagenet16-120",
         "nasbench201/imagenet16-120", "nats", held_out=False),
    Part("nb101", "NB101", "nasbench101", "nasbench101/cifar10", shared=False),
    Part("nb301", "NB301 (surrogate)", "darts", "nasbench301/cifar10", images=2),
    Part("darts-swap", "DARTS-SWAP", "darts", "darts-swap/cifar10", images=2),
    # Networks that give an image have biases and a tanh, which no supernet takes, and each is slow: one seed.
    *(Part(f"tnb-{name}", f"TNB micro {name}", f"{_TNB}/{task}", f"{_TNB}/{task}", images=2,
           shared=task not in _IMAGES, most=120 if task in _IMAGES else 300, repeated=task not in _IMAGES)
      for task, name in _TASKS.items()),
)  # fmt: skip


class Sweep(NamedTuple):
    """What has to be in one store: the file's name is the space's."""

    space: str
    architectures: list[str]
    proxies: tuple[str, ...]
    recipe: Recipe
    seeds: tuple[int, ...] = (0,)
    batch: Batch | None = None


class Point(NamedTuple):
    """One point of a curve over what the saliency reads."""

    kind: str  # "noise", "CIFAR-10 images", "ones", "a Gabor patch"
    images: int
    sweep: Sweep


def parts(keys: Sequence[str] | None = None) -> tuple[Part, ...]:
    """The parts by key, all by default; `UsageError` for an unknown one."""
    return chosen_of(PARTS, keys)


def recipe_of(images: int, *, one_supernet: bool) -> Recipe:
    """float32, a number of images, and where it can be the weights of one supernet."""
    recipe = with_option(with_option(get_recipe("seed"), "dtype", "float32"), "images", str(images))
    return shared(recipe) if one_supernet else recipe


def sweeps(chosen: Iterable[Part], seeds: int) -> list[Sweep]:
    """What the parts need, each space and recipe once."""
    needed: dict[tuple[str, int], tuple[Part, dict[str, None]]] = {}
    for part in chosen:
        _, archs = needed.setdefault((part.space, part.images), (part, {}))
        archs.update(dict.fromkeys(accuracies(part).table.index))
    return [
        Sweep(part.space, list(archs), (FROZEN, "synflow"), recipe_of(part.images, one_supernet=part.shared),
              tuple(range(seeds if part.repeated else 1)))
        for part, archs in needed.values()
    ]  # fmt: skip


def points(cifar10: str | Path | None, most_images: int = IMAGES[-1]) -> list[Point]:
    """What else is scored of the cells of the choice: more images, real ones, and one image of other kinds.

    Args:
        cifar10: the folder of CIFAR-10; None leaves real images out.
        most_images: up to which the curves go; more than eight are scored network by network.
    """
    from ssnr.data import cifar10 as images_of

    space = get_space("nasbench201")
    cells = selection(space)
    found: list[Point] = []
    for count in (k for k in IMAGES if k <= most_images):
        recipe = recipe_of(count, one_supernet=True)
        found.append(Point("noise", count, Sweep(space.name, cells, (FROZEN,), recipe)))
        if cifar10 is not None:
            batch = images_of(cifar10, count, seed=0)
            found.append(Point("CIFAR-10 images", count, _given(space, cells, batch)))
    found += [Point(kind, 1, _given(space, cells, batch)) for kind, batch in one_image(space.input_shape).items()]
    return found


def _given(space: Space, cells: list[str], batch: Batch) -> Sweep:
    return Sweep(space.name, cells, (AS_FROZEN,), recipe_of(1, one_supernet=True), batch=batch)


def one_image(shape: tuple[int, ...]) -> dict[str, Batch]:
    """One image of other kinds than normal noise, with the label of class 0."""
    import torch

    from ssnr.data import batch_of

    generator = torch.Generator().manual_seed(0)
    across, down = torch.linspace(-1, 1, shape[2]), torch.linspace(-1, 1, shape[1])[:, None]
    wave = torch.exp(-(across**2 + down**2) / 0.32) * torch.cos(4 * torch.pi * (across + down) / 2**0.5)
    images = {
        "ones": torch.ones(1, *shape),
        "uniform noise": torch.rand(1, *shape, generator=generator) * 2 - 1,
        "a Gabor patch": wave.expand(1, *shape).contiguous(),
    }
    found = {kind: batch_of((image, torch.zeros(1, dtype=torch.int64))) for kind, image in images.items()}
    return {kind: batch for kind, batch in found.items() if batch is not None}


def accuracies(part: Part) -> Benchmark:
    """The accuracies of a part: all that the benchmark has, or `most` of them, drawn from seed 0."""
    return sample(benchmarks.load(part.benchmark, part.source), part.most)


def selection(space: Space) -> list[str]:
    """The cells on which the choice was made: a thousand, drawn from seed 0."""
    return space.sample_many(SELECTION, np.random.default_rng(0))


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the store says.

    Attributes:
        table: one row per part, population and proxy or control: part, title, population, proxy, kind, n, dead, failed,
            seeds, spearman, kendall (means over seeds), spearman_sd, kendall_sd, kendall_lo, kendall_hi (of seed 0),
            choice and regret of the highest score (mean over seeds), precision@1%, @5%, @10% and ndcg@10%.
        top: spearman and kendall within the most accurate share, of seed 0: part, proxy, share, k, spearman, kendall.
        images: one row a `Point`: kind, images, spearman, kendall, kendall_lo, kendall_hi, n, dead, on the cells of
            the choice.
        powers: over q of layerwise_ssnr(0.5,q,0.1): cells ("choice", "all"), q, spearman, kendall.
        layers: the layers' share of the numerator: layer, share (mean over cells), top (mean over the 100 highest).
        study: NAS-Bench-201 CIFAR-10, seed 0.
    """

    table: pd.DataFrame
    top: pd.DataFrame
    images: pd.DataFrame
    powers: pd.DataFrame
    layers: pd.DataFrame
    study: Study | None


def evidence(
    folder: str | Path,
    keys: Sequence[str] | None = None,
    *,
    seeds: int = 5,
    curves: Sequence[Point] = (),
    ci: bool = True,
) -> Evidence:
    """All tables, from a folder of stores that holds what `sweeps` and `points` ask for.

    Raises:
        UsageError: something is not in a store.
    """
    rows: list[pd.DataFrame] = []
    tops: list[pd.DataFrame] = []
    first: Study | None = None
    for part in parts(keys):
        with Store(path_of(Path(folder), part.space), create=False) as store:
            for population in part.populations:
                found = [_study(store, part, population, seed, ci) for seed in range(seeds if part.repeated else 1)]
                rows.append(_rows(part, population, found))
                if population == "all":
                    tops.append(_tops(part, found[0]))
                    first = first or (found[0] if part.key == "nb201-c10" else None)
    over_images = pd.DataFrame()
    powers = layers = pd.DataFrame()
    whole = path_of(Path(folder), "nasbench201")
    if curves:
        with Store(whole, create=False) as store:
            over_images = pd.DataFrame([_point(store, point) for point in curves])
    if first is not None:
        with Store(whole, create=False) as store:
            powers = _powers(store)
            layers = dominant_layers(store, recipe_of(1, one_supernet=True))
    return Evidence(
        pd.concat(rows, ignore_index=True), pd.concat(tops, ignore_index=True), over_images, powers, layers, first
    )


def _point(store: Store, point: Point) -> dict[str, object]:
    """ρ and τ on the cells of the choice."""
    of_choice = accuracies(PARTS[0])
    of_choice = replace(of_choice, table=of_choice.table.loc[point.sweep.architectures])
    batch = point.sweep.batch
    data = None if batch is None else "; ".join((batch.fingerprint, *batch.notes))
    (proxy,) = point.sweep.proxies
    found = study(store, of_choice, [proxy], recipe=point.sweep.recipe, seed=0, data=data)
    row = found.table[found.table["proxy"] == proxy].iloc[0]
    columns = ("spearman", "kendall", "kendall_lo", "kendall_hi", "n", "dead")
    return {"kind": point.kind, "images": point.images, **{column: row[column] for column in columns}}


def _powers(store: Store) -> pd.DataFrame:
    """ρ and τ over q, on the cells of the choice and on all."""
    whole = accuracies(PARTS[0])
    names = {f"snip_noise/layerwise_ssnr(0.5,{q},0.1)": q for q in POWERS}
    rows = []
    for where, table in (("choice", whole.table.loc[selection(get_space("nasbench201"))]), ("all", whole.table)):
        recipe = recipe_of(1, one_supernet=True)
        found = study(store, replace(whole, table=table), list(names), recipe=recipe, seed=0, ci=False).table
        by_name = found.set_index("proxy")
        rows += [
            {"cells": where, "q": q, "spearman": by_name.loc[name, "spearman"], "kendall": by_name.loc[name, "kendall"]}
            for name, q in names.items()
        ]
    return pd.DataFrame(rows)


def _study(store: Store, part: Part, population: str, seed: int, ci: bool) -> Study:
    shares = CURVE if population == "all" and seed == 0 else SHARES
    recipe = recipe_of(part.images, one_supernet=part.shared)
    return study(store, accuracies(part), PROXIES, recipe=recipe, seed=seed, population=population, top=shares,
                 ci=ci and seed == 0)  # fmt: skip


def _rows(part: Part, population: str, found: Sequence[Study]) -> pd.DataFrame:
    """Means and standard deviations over seeds, in the order of the proxies, then the controls."""
    frames = [one.to_frame() for one in found]
    names = [*PROXIES, *(name for name in frames[0]["proxy"] if name not in PROXIES)]
    rows = []
    for name in names:
        same = pd.concat([frame[frame["proxy"] == name] for frame in frames], ignore_index=True)
        control = same["kind"].iloc[0] == "control"
        measures = {f"precision@{share:.0%}": same[f"precision@{share * 100:g}%"].mean() for share in SHARES}
        rows.append(
            {
                "part": part.key,
                "title": part.title,
                "population": population,
                "proxy": name,
                "kind": same["kind"].iloc[0],
                "n": int(same["n"].iloc[0]),
                "dead": int(same["dead"].max()),
                "failed": int(same["failed"].max()),
                "seeds": 1 if control else len(same),
                **{column: same[column].mean() for column in ("spearman", "kendall", "choice", "regret")},
                **{f"{c}_sd": same[c].std(ddof=1) if len(same) > 1 else np.nan for c in ("spearman", "kendall")},
                "kendall_lo": same["kendall_lo"].iloc[0],
                "kendall_hi": same["kendall_hi"].iloc[0],
                **measures,
                "ndcg@10%": same["ndcg@10%"].mean(),
            }
        )
    return pd.DataFrame(rows)


def _tops(part: Part, found: Study) -> pd.DataFrame:
    """ρ and τ within the most accurate share."""
    columns = {"proxy": "proxy", "share": "share", "k": "k", "best_spearman": "spearman", "best_kendall": "kendall"}
    table = found.top[list(columns)].rename(columns=columns)
    table.insert(0, "part", part.key)
    return table


def dominant_layers(store: Store, recipe: Recipe, most: int = 100) -> pd.DataFrame:
    """Which layers decide: the share of each kind of layer in Σ √N (mean/σ)^8 of NAS-Bench-201's cells.

    Returns:
        layer (stem, cell 0 … 4 of stage 1 … 3, the reductions between, classifier), share (mean over cells), top (mean
        over the `most` highest scores).
    """
    proxy = parse_proxy(NAMED[FROZEN])
    group = next(g for g in store.groups() if g.space == "nasbench201" and g.measured == proxy.measured
                 and g.recipe == str(recipe) and g.seed == 0)  # fmt: skip
    shares: list[pd.Series] = []
    scores: list[float] = []
    for result in store.results(group):
        found = _shares(result)
        if found is not None:
            shares.append(found[0])
            scores.append(found[1])
    table = pd.DataFrame(shares).fillna(0.0)
    highest = np.argsort(-np.array(scores))[:most]
    return pd.DataFrame({"share": table.mean(), "top": table.iloc[highest].mean()}).rename_axis("layer").reset_index()


def _shares(result: Result) -> tuple[pd.Series, float] | None:
    """Each kind of layer's share of the numerator, and the score."""
    if result.status != "ok" or result.moments is None:
        return None
    m = result.moments.magnitude()
    live = ~m.dead & (m.sigma > 0)
    part = np.where(
        live, np.sqrt(m.numel) * np.where(live, m.total / (m.numel * np.where(live, m.sigma, 1)), 0) ** 8, 0
    )
    by_kind = pd.Series(part / part.sum()).groupby([_kind(name) for name in m.names]).sum()
    return by_kind, float(part.sum())


def _kind(name: str) -> str:
    """The place of a layer of NAS-Bench-201's networks."""
    head, _, rest = name.partition(".")
    if head != "cells":
        return {"stem": "stem", "classifier": "classifier"}.get(head, head)
    number = int(rest.partition(".")[0])
    stage, place = divmod(number, 6)
    return f"reduction {stage + 1}" if place == 5 else f"stage {stage + 1}, cell {place + 1}"
