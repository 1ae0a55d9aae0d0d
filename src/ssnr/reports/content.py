"""What a page shows, as plain data: architectures, counts, scores, accuracies, correlations, layers, provenance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ssnr._version import SCORING_VERSION, __version__
from ssnr.core.catalogue import CONTROLS, SALIENCIES, Proxy, parse_proxy
from ssnr.core.errors import UsageError
from ssnr.core.results import Result
from ssnr.spaces import get_space
from ssnr.store import Group, KeptSearch, Store, kept_searches
from ssnr.studies.export import export
from ssnr.studies.selection import BenchmarkTable, describe_metric
from ssnr.studies.sheet import estimate, named
from ssnr.studies.study import Study, study

# Networks whose layers are in the page, by the first score, best first, shared by all that was measured; a page of all
# would be too large to mail.
LAYERS_OF, AT_LEAST = 3000, 200
_KEYS = ("proxy", "kind", "recipe", "seed", "data", "published_in")
CITE = (
    "Scores by ssnr {version}: signal-to-noise ratios of saliency of networks at initialisation. "
    "Cite the sources of each proxy as `ssnr list proxies` names them."
)


def content(
    stores: Sequence[Store], benchmarks: Sequence[BenchmarkTable], proxies: Iterable[str] | None, title: str
) -> dict[str, Any]:
    """The document of a page.

    Raises:
        UsageError: nothing of what is asked for is in the stores.
    """
    asked = None if proxies is None else [parse_proxy(text) for text in proxies]
    found = [(one, studies) for one in benchmarks if (studies := _studies(stores, one, asked))]
    if benchmarks and not found:
        held = sorted({space for store in stores for space in store.spaces()})
        raise UsageError(
            f"no benchmark of {', '.join(held) or 'an empty store'} was found: name one with --benchmark, "
            "such as nasbench201/cifar10 or a CSV file of accuracies"
        )
    joined = [one.scores for _, studies in found for one in studies]
    alone = [store for store in stores if not any(_holds(store, one) for one, _ in found)]
    tables = [*joined, *(frame for store in alone if (frame := _without_accuracy(store, asked)) is not None)]
    if not tables:
        raise UsageError(f"{', '.join(str(store.path) for store in stores)}: no scores: run `ssnr sweep` first")
    archs = list(dict.fromkeys(a for table in tables for a in table["architecture"]))
    places = {arch: place for place, arch in enumerate(archs)}
    scores = _scores(tables, places, len(archs))
    measured = {one["name"]: one["value"] for one in scores if one["name"] in ("latency", "memory")}
    return {
        "title": title,
        "architectures": archs,
        "counts": _counts(stores, archs) | measured,
        "scores": scores,
        "searches": [_search(search, places) for store in stores for search in kept_searches(store)],
        "benchmarks": [_benchmark(one, studies, places, len(archs)) for one, studies in found],
        "layers": _layers(stores, archs, scores),
        "measured": [_provenance(group, store) for store in stores for group in store.groups()],
        "cite": CITE.format(version=__version__),
        "versions": {"ssnr": __version__, "scoring": SCORING_VERSION},
    }


def _studies(stores: Sequence[Store], benchmark: BenchmarkTable, asked: Sequence[Proxy] | None) -> list[Study]:
    """A study of each store that holds networks of a benchmark, of the proxies that it can give.

    Raises:
        UsageError: no store can give one that is asked for.
    """
    here = [store for store in stores if _holds(store, benchmark)]
    held = {id(store): {group.measured for group in store.groups()} for store in here}
    for proxy in asked or ():
        if here and not any(proxy.measured in measured for measured in held.values()):
            raise UsageError(f"no store holds what {proxy.text} needs: add it with `ssnr sweep … -p {proxy.text}`")
    found = []
    for store in here:
        own = None if asked is None else [proxy for proxy in asked if proxy.measured in held[id(store)]]
        if own is None or own:
            found.append(study(store, benchmark, own))
    return found


def _without_accuracy(store: Store, asked: Sequence[Proxy] | None) -> pd.DataFrame | None:
    """The scores of a store that no benchmark is for, as the rows of a study; None where there are none."""
    held = {group.measured for group in store.groups()}
    own = None if asked is None else [proxy.text for proxy in asked if proxy.measured in held]
    if own == [] or not held:
        return None
    return export(store, proxies=own, long=True).rename(columns={"value": "score", "log_value": "log_score"}).assign(
        kind="proxy", published_in=""
    )  # fmt: skip


def _holds(store: Store, benchmark: BenchmarkTable) -> bool:
    return any(space.partition("/")[0] == benchmark.family for space in store.spaces())


def _number(value: float | None, digits: int = 6) -> float | None:
    """Few digits: nobody reads more from a picture, and they are most of the page's size."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def _counts(stores: Sequence[Store], archs: Sequence[str]) -> dict[str, list[float | None]]:
    known: dict[str, Any] = {}
    for store in stores:
        for space in store.spaces():
            for row in store.architectures(space):
                known.setdefault(row.architecture, row)
    return {
        name: [_number(getattr(known[arch], name), 9) if arch in known else None for arch in archs] for name in CONTROLS
    }


def _scores(found: Sequence[pd.DataFrame], places: dict[str, int], count: int) -> list[dict[str, Any]]:
    """Each score once: values by architecture, the logarithm where a value is beyond float64, and states."""
    made: dict[tuple[Any, ...], dict[str, Any]] = {}
    for table in found:
        for keys, rows in table.groupby(list(_KEYS), dropna=False, sort=False):
            key: tuple[Any, ...] = tuple(keys)
            if key[1] == "control" or key in made:
                continue
            value: list[float | None] = [None] * count
            state = ["missing"] * count
            logs = rows["log_score"].notna().all() and not np.isfinite(rows["score"].to_numpy(dtype=float)).all()
            column = "log_score" if logs else "score"
            for arch, number, status in zip(rows["architecture"], rows[column], rows["status"], strict=True):
                value[places[arch]] = _number(float(number)) if number is not None else None
                state[places[arch]] = status
            made[key] = {
                "name": key[0], "kind": key[1], "recipe": key[2], "seed": None if pd.isna(key[3]) else int(key[3]),
                "data": key[4], "logarithm": bool(logs), "value": value, "larger": _larger(str(key[0])),
                "dead": [i for i, s in enumerate(state) if s == "dead"],
                "failed": [i for i, s in enumerate(state) if s == "failed"],
            }  # fmt: skip
    scores = list(made.values())
    for one in scores:
        twins = [other for other in scores if other["name"] == one["name"]]
        apart = [f"{k} {one[k]}" for k in ("seed", "recipe", "data") if len({str(t[k]) for t in twins}) > 1]
        one["label"] = " ".join([one["name"], *apart])
    return scores


def _larger(name: str) -> bool:
    """Whether more of a score is better, as its authors say."""
    try:
        proxy = parse_proxy(name)
    except UsageError:
        return True  # a combination of ranks
    entry = proxy.saliency or proxy.plain
    return entry is None or entry.higher_is_better


def _search(search: KeptSearch, places: dict[str, int]) -> dict[str, Any]:
    """A search: its objectives, and every trial; an architecture is its place in the page where it has one."""
    head, trials = search.head, search.trials
    bounds = [f"{name} {'–'.join('' if end is None else f'{end:g}' for end in ends)}"
              for name, ends in head["constraints"].items()]  # fmt: skip
    how = [f"sampler {head['sampler']}", f"seed {head['seed']}", f"recipe {head['recipe']}", *bounds]
    return {
        "title": f"{head['space']}: {', '.join(o['text'] for o in head['objectives'])}",
        "how": ", ".join(how),
        "objectives": head["objectives"],
        "architectures": [places.get(one.architecture, one.architecture) for one in trials],
        "ok": [int(one.status == "ok") for one in trials],
        "values": [[_number(one.numbers.get(o["name"])) for one in trials] for o in head["objectives"]],
    }


def _benchmark(one: BenchmarkTable, studies: Sequence[Study], places: dict[str, int], count: int) -> dict[str, Any]:
    accuracy: list[float | None] = [None] * count
    for result in studies:
        rows = result.scores.drop_duplicates("architecture")
        for arch, number in zip(rows["architecture"], rows["accuracy"], strict=True):
            accuracy[places[arch]] = _number(float(number))
    everything = pd.concat([result.table for result in studies], ignore_index=True)
    everything = everything[~everything.duplicated(["proxy", "recipe", "seed", "data", "n"])]
    everything = everything.sort_values("kendall", ascending=False, na_position="last", kind="stable")
    table = [
        {"proxy": named(row), "kind": row["kind"], "rho": estimate(row, "spearman"), "tau": estimate(row, "kendall"),
         "n": row["n"], "dead": row["dead"], "failed": row["failed"], "choice": _number(row["choice"])}
        for row in everything.to_dict("records")
    ]  # fmt: skip
    # A file of the user's own is called by its path: colleagues need not see where it was.
    own = Path(one.name)
    name, notes = (own.name if own.suffix else one.name), dict.fromkeys(n for result in studies for n in result.notes)
    return {
        "name": f"{name} ({one.source})", "metric": describe_metric(one), "accuracy": accuracy, "table": table,
        "notes": [note.replace(one.name, name) for note in notes],
        "n": max(result.n for result in studies), "coverage": max(result.coverage for result in studies),
    }  # fmt: skip


def _layers(stores: Sequence[Store], archs: Sequence[str], scores: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each measured saliency: its layers' weights, and Σ S and σ of the networks that are in the page."""
    saliencies = {SALIENCIES[name].measured for name in SALIENCIES}
    groups = [(store, group) for store in stores for group in store.groups() if group.measured in saliencies]
    wanted = _best_first(archs, scores)[: max(AT_LEAST, LAYERS_OF // max(len(groups), 1))]
    return [_layers_of(store, group, _networks(store, group, wanted)) for store, group in groups]


def _best_first(archs: Sequence[str], scores: Sequence[dict[str, Any]]) -> list[str]:
    if not scores:
        return list(archs)
    values = np.array([-np.inf if v is None else v for v in scores[0]["value"]], dtype=np.float64)
    return [archs[i] for i in np.argsort(-values, kind="stable")]


def _networks(store: Store, group: Group, wanted: Sequence[str]) -> dict[str, list[str]]:
    """Network → architectures that it stands for, of those wanted."""
    stands = {row.architecture: row.network for row in store.architectures(group.space)}
    done = store.done(group)
    names: dict[str, list[str]] = {}
    for arch in wanted:
        network = stands.get(arch)
        own = network if network in done else arch
        if own in done:
            names.setdefault(own, []).append(arch)
    return names


def _layers_of(store: Store, group: Group, names: dict[str, list[str]]) -> dict[str, Any]:
    layouts: list[dict[str, Any]] = []
    numbers: dict[tuple[str, ...], int] = {}
    networks: dict[str, list[Any]] = {}
    for result in store.results(group, list(names)):
        if result.moments is None:
            continue
        layout = result.moments.names
        if layout not in numbers:
            numbers[layout] = len(layouts)
            layouts.append({"names": list(layout), "numel": result.moments.numel.tolist()})
        row = [numbers[layout], *_columns(result)]
        for arch in names[result.network]:
            networks[arch] = row
    return {"measured": group.measured, "seed": group.seed, "recipe": group.recipe, "layouts": layouts,
            "networks": networks}  # fmt: skip


def _columns(result: Result) -> tuple[list[float | None], list[float | None]]:
    """Σ |S| and σ of each layer's magnitudes."""
    assert result.moments is not None
    m = result.moments.magnitude()
    with np.errstate(over="ignore", under="ignore"):
        total, sigma = np.ldexp(m.total, m.exponent), np.ldexp(m.sigma, m.exponent)
    return [_number(v, 4) for v in total.tolist()], [_number(v, 4) for v in sigma.tolist()]


def _provenance(group: Group, store: Store) -> dict[str, Any]:
    space = group.space
    try:
        size: int | None = len(get_space(space))
    except UsageError:
        size = None
    return {"store": store.path.name, "space": space, "of": size, "measured": group.measured, "recipe": group.recipe,
            "seed": group.seed, "data": group.data, "version": group.version,
            "networks": len(store.done(group))}  # fmt: skip
