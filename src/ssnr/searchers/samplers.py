"""Who proposes architectures: all of them, random ones, evolution, or Optuna's samplers.

A sampler is asked for a batch and told what came of it. What it proposes depends on its seed and on what it was told,
so that a search repeats whatever the number of workers.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from ssnr.core.errors import UsageError
from ssnr.searchers.result import fronts
from ssnr.spaces import Space

SMALL = 20_000  # architectures up to which a space is searched in full where nothing else is asked for
POPULATION, SAMPLE = 64, 16  # of evolution, as in Real et al. (2019) in its proportions
_TRIES = 2000  # proposals that the constraints refuse, before a sampler gives up


class Told(NamedTuple):
    """What came of a proposal: its losses, smaller is better; None where it has no number."""

    architecture: str
    losses: tuple[float, ...] | None


class Sampler(ABC):
    """Proposes architectures that meet the constraints.

    Attributes:
        refused: how many proposals did not.
    """

    def __init__(self, space: Space, allowed: Callable[[str], bool], seed: int) -> None:
        self.space, self.allowed = space, allowed
        self.rng = np.random.default_rng([0x5EA2C4, abs(seed), seed < 0])
        self.seen: set[str] = set()
        self.refused = 0

    @abstractmethod
    def ask(self, count: int) -> list[str]:
        """Up to `count` architectures that were not proposed before; none where the space is exhausted."""

    def tell(self, told: Sequence[Told]) -> None:  # noqa: B027 - most have nothing to learn
        """What came of the last batch."""

    @property
    def exhausted(self) -> bool:
        """Whether every architecture was proposed."""
        return self.space.size is not None and len(self.seen) >= self.space.size

    def _new(self, draw: Callable[[], str], count: int) -> list[str]:
        """`count` new ones that meet the constraints, or fewer after many tries in vain."""
        found: list[str] = []
        tries = 0
        while len(found) < count and tries < _TRIES and not self.exhausted:
            arch = draw()
            if arch in self.seen:
                tries += 1
                continue
            self.seen.add(arch)
            if self.allowed(arch):
                found.append(arch)
                tries = 0
            else:
                self.refused += 1
                tries += 1
        return found


class Exhaustive(Sampler):
    """Every architecture of the space, in its order."""

    def __init__(self, space: Space, allowed: Callable[[str], bool], seed: int) -> None:
        super().__init__(space, allowed, seed)
        self._all = self._kept()

    def _kept(self) -> Any:
        for arch in self.space.all():
            if self.allowed(arch):
                yield arch
            else:
                self.refused += 1

    def ask(self, count: int) -> list[str]:
        return list(islice(self._all, count))


class Random(Sampler):
    """Uniform draws, each architecture once."""

    def ask(self, count: int) -> list[str]:
        return self._new(lambda: self.space.sample(self.rng), count)


class Evolution(Sampler):
    """Regularised evolution (Real, Aggarwal, Huang & Le, AAAI 2019): the best of a sample is mutated, the oldest dies.

    Of several objectives the best of a sample is one on its first front (Deb et al., 2002).
    """

    def __init__(self, space: Space, allowed: Callable[[str], bool], seed: int) -> None:
        super().__init__(space, allowed, seed)
        self.population: deque[Told] = deque(maxlen=POPULATION)

    def ask(self, count: int) -> list[str]:
        if len(self.population) < POPULATION // 2:
            return self._new(lambda: self.space.sample(self.rng), count)
        found = self._new(self._child, count)
        return found or self._new(lambda: self.space.sample(self.rng), count)

    def _child(self) -> str:
        size = min(SAMPLE, len(self.population))
        drawn = [self.population[i] for i in self.rng.choice(len(self.population), size, replace=False)]
        losses = np.array([one.losses for one in drawn], dtype=np.float64)
        first = np.flatnonzero(fronts(losses) == 1)
        parent = drawn[int(first[self.rng.integers(len(first))])].architecture
        arch = self.space.mutate(parent, self.rng)
        while arch in self.seen and self.rng.random() < 0.5:  # further away where all neighbours are known
            arch = self.space.mutate(arch, self.rng)
        return arch

    def tell(self, told: Sequence[Told]) -> None:
        self.population.extend(one for one in told if one.losses is not None)


class Optuna(Sampler):
    """One of Optuna's samplers, over the parameters that the space suggests."""

    def __init__(self, space: Space, allowed: Callable[[str], bool], seed: int, kind: str, objectives: int) -> None:
        super().__init__(space, allowed, seed)
        optuna = optuna_or_say()
        options: dict[str, Any] = {"seed": abs(seed) % 2**32}
        if kind == "tpe":
            # In groups, because what a space of one's own asks for may depend on what it was told.
            options |= {"constant_liar": True, "multivariate": True, "group": True}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                chosen = optuna.samplers.TPESampler(**_accepted(optuna.samplers.TPESampler, options))
        else:
            chosen = optuna.samplers.NSGAIISampler(population_size=POPULATION, **options)
        self._study = optuna.create_study(directions=["minimize"] * objectives, sampler=chosen)
        self._open: dict[str, list[Any]] = {}
        self._known: dict[str, tuple[float, ...] | None] = {}

    def ask(self, count: int) -> list[str]:
        import optuna

        found: list[str] = []
        for _ in range(20 * count):
            if len(found) == count or self.exhausted:
                break
            trial = self._study.ask()
            arch = self.space.suggest(trial)
            if arch is None:
                raise UsageError(
                    f"{self.space.name} has no parameters to suggest: take the sampler evolution or random"
                )
            if arch in self.seen:  # told at once what is known of it
                losses = self._known.get(arch)
                state = None if losses is not None else optuna.trial.TrialState.FAIL
                self._study.tell(trial, losses, state=state)
                continue
            self.seen.add(arch)
            if not self.allowed(arch):
                self.refused += 1
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            self._open.setdefault(arch, []).append(trial)
            found.append(arch)
        return found

    def tell(self, told: Sequence[Told]) -> None:
        import optuna

        for one in told:
            self._known[one.architecture] = one.losses
            for trial in self._open.pop(one.architecture, ()):
                if one.losses is None:
                    self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
                else:
                    self._study.tell(trial, one.losses)


def optuna_or_say() -> Any:
    """Optuna, which is an extra.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UsageError("this needs Optuna: pip install 'ssnr[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _accepted(made: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options that this version of Optuna has."""
    import inspect

    return {name: value for name, value in options.items() if name in inspect.signature(made).parameters}


# Name → function of (space, allowed, seed, objectives) that makes the sampler.
SAMPLERS: dict[str, Callable[[Space, Callable[[str], bool], int, int], Sampler]] = {
    "exhaustive": lambda space, allowed, seed, _: Exhaustive(space, allowed, seed),
    "random": lambda space, allowed, seed, _: Random(space, allowed, seed),
    "evolution": lambda space, allowed, seed, _: Evolution(space, allowed, seed),
    "nsga2": lambda space, allowed, seed, objectives: Optuna(space, allowed, seed, "nsga2", objectives),
    "tpe": lambda space, allowed, seed, objectives: Optuna(space, allowed, seed, "tpe", objectives),
}
AUTO = "auto"  # chooses by the size of the space
