"""What studies over several benchmarks share: their parts by key, samples of accuracies, a store for each space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from ssnr.core.errors import UsageError

if TYPE_CHECKING:
    from ssnr.benchmarks import Benchmark


class Keyed(Protocol):
    """A part of a study."""

    @property
    def key(self) -> str:
        """How it is named on the command line, such as nb301."""


P = TypeVar("P", bound=Keyed)


def chosen(parts: Sequence[P], keys: Sequence[str] | None, kind: str = "part") -> tuple[P, ...]:
    """The parts by key, all by default; `kind` is what an error calls them.

    Raises:
        UsageError: an unknown key.
    """
    known = {part.key: part for part in parts}
    for key in keys or ():
        if key not in known:
            raise UsageError(f"unknown {kind} {key!r}: known are {', '.join(known)}")
    return tuple(known[key] for key in keys or known)


def sample(benchmark: Benchmark, most: int | None, seed: int = 0) -> Benchmark:
    """A benchmark cut down to so many architectures, drawn from the seed, in its own order."""
    if most is None or most >= len(benchmark.table):
        return benchmark
    rows = np.random.default_rng(seed).choice(len(benchmark.table), most, replace=False)
    return replace(benchmark, table=benchmark.table.iloc[np.sort(rows)])


def path_of(folder: Path, space: str) -> Path:
    """The store of a space: one each, so that a study cannot take the networks of another data set."""
    return folder / f"{space.replace('/', '-')}.sqlite"
