"""Which architectures a study is about. Published correlations take any of the three, and they differ.

all       every architecture
used      those without an idle operation, one that no path from input to output uses: 9,445 of the 15,625 cells of
          NAS-Bench-201, of which NASLib's proxies are published
classes   one architecture of each class of isomorphic ones: 6,466 cells of NAS-Bench-201
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ssnr.core.errors import UsageError
from ssnr.core.registry import unknown
from ssnr.spaces import get_space

POPULATIONS = ("all", "used", "classes")


def checked(population: str) -> str:
    """The population, where there is one of that name.

    Raises:
        UsageError: unknown, with near names.
    """
    if population not in POPULATIONS:
        raise unknown("population", population, POPULATIONS)
    return population


def members(population: str, space: str, architectures: Sequence[str]) -> NDArray[np.bool_]:
    """Which of these architectures belong to a population.

    Of a class its canonical architecture is taken where it is among them, else the first of them in their order: the
    answer depends on nothing but the architectures.

    Raises:
        UsageError: unknown population, or one that the space does not define.

    >>> members("all", "nasbench201", ["a", "b"]).tolist()
    [True, True]
    """
    if checked(population) == "all":
        return np.ones(len(architectures), dtype=np.bool_)
    try:
        here = get_space(space)
        if population == "used":
            return np.array([here.idle_operations(arch) == 0 for arch in architectures], dtype=np.bool_)
        classes = [here.canonical(arch) for arch in architectures]
    except UsageError as error:
        raise UsageError(f"population {population}: {error}; take population all") from error
    first: dict[str, int] = {}
    for at, (arch, its_class) in enumerate(zip(architectures, classes, strict=True)):
        if arch == its_class:
            first[its_class] = at
        else:
            first.setdefault(its_class, at)
    chosen = np.zeros(len(architectures), dtype=np.bool_)
    chosen[list(first.values())] = True
    return chosen


def described(population: str, count: int, whole: int) -> str:
    """What was left of a benchmark, for a reader.

    >>> described("used", 9_445, 15_625)
    'population used: the 9,445 of 15,625 architectures without an idle operation'
    """
    which = "without an idle operation" if population == "used" else "that stand for a class of isomorphic ones"
    return f"population {population}: the {count:,} of {whole:,} architectures {which}"
