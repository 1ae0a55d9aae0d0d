"""Small stores and benchmarks, made by hand, that tests share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd

from ssnr.core.moments import Moments
from ssnr.core.results import Result
from ssnr.store import Architecture, Group, Store

SPACE = "toy"


def moments(*layers: Sequence[float]) -> Moments:
    """Moments of layers given weight by weight, straight from the definition."""
    values = [np.asarray(layer, dtype=np.float64) for layer in layers]
    peaks = [math.frexp(float(abs(v).max())) for v in values]
    scaled = [np.ldexp(v, -e) for v, (_, e) in zip(values, peaks, strict=True)]
    return Moments(
        names=tuple(f"l{k}" for k in range(len(values))),
        numel=np.array([len(v) for v in values]),
        exponent=np.array([e for _, e in peaks]),
        total=np.array([v.sum() for v in scaled]),
        m2=np.array([((v - v.mean()) ** 2).sum() for v in scaled]),
        abs_total=np.array([abs(v).sum() for v in scaled]),
        abs_m2=np.array([((abs(v) - abs(v).mean()) ** 2).sum() for v in scaled]),
        peak=np.array([p for p, _ in peaks]),
        unused=np.zeros(len(values), dtype=np.bool_),
    )


def total(value: float, *, exponent: int = 0) -> Moments:
    """Two weights whose sum is value · 2**exponent."""
    m = moments([value / 4, 3 * value / 4])
    return Moments(**{**vars(m), "exponent": m.exponent + exponent})


def group(measured: str = "synflow", *, space: str = SPACE, recipe: str = "seed", seed: int = 0, data: str = ""):
    return Group(space, measured, recipe, seed, data)


def result(network: str, outcome: float | Moments | str) -> Result:
    """A sum, moments, "dead", or the reason of a failure."""
    if outcome == "dead":
        return Result(network, "dead", "no path", moments([0.0, 0.0]))
    if isinstance(outcome, str):
        return Result(network, "failed", outcome)
    return Result(network, "ok", None, outcome if isinstance(outcome, Moments) else total(outcome))


def fill(
    store: Store,
    outcomes: Mapping[str, float | Moments | str],
    where: Group | None = None,
    *,
    networks: Mapping[str, str] | None = None,
    controls: Mapping[str, tuple[int | None, ...]] | None = None,
) -> Store:
    """Add architectures and one result for each of their networks."""
    where = where or group()
    names = {arch: (networks or {}).get(arch, arch) for arch in outcomes}
    counts = controls or {}
    store.add_architectures(where.space, [Architecture(a, n, *counts.get(a, (None,) * 4)) for a, n in names.items()])
    store.add([(where, result(names[arch], outcome)) for arch, outcome in outcomes.items()])
    return store


def benchmark(accuracies: Mapping[str, float], *, name: str = f"{SPACE}/cifar10", **changes):
    """What `ssnr.benchmarks.load` gives, as far as a study looks at it."""
    family, _, dataset = name.partition("/")
    facts = {"name": name, "family": family, "dataset": dataset, "source": "hand", "metric": "test accuracy (%)"}
    facts |= {"split": "test", "epochs": 200, "runs": "one run"}
    table = pd.DataFrame({"accuracy": pd.Series(accuracies, dtype=np.float64)})
    return SimpleNamespace(**{**facts, **changes}, table=table)
