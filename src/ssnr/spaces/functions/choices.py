"""What a build function may ask for: one of a few, a whole number, a real number; and how each is written down.

A value is written so that a string of an architecture is unambiguous: texts as they are with `,`, `=`, `%` and spaces
escaped, tuples joined by `x`, classes and functions by their names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from numbers import Real as RealNumber
from typing import Any, Protocol
from urllib.parse import quote

from ssnr.core.errors import UsageError
from ssnr.spaces.base import draw

GRID = 8  # values that stand for a real range where all have to be listed


class Parameter(Protocol):
    """The values that one parameter may have."""

    @property
    def count(self) -> int | None:
        """How many; None for the real numbers of a range."""

    def at(self, position: int) -> Any:
        """The value at a position, 0 … count − 1; of a real range one of `GRID` that spread evenly."""

    def drawn(self, rng: Any) -> Any:
        """A value drawn uniformly; from a logarithmic range, uniformly in the logarithm."""

    def label(self, value: Any) -> str:
        """How a value is written."""

    def read(self, text: str) -> Any:
        """A written value → the value.

        Raises:
            ValueError: what was expected instead.
        """

    def asked(self, trial: Any, name: str) -> Any:
        """What an Optuna trial chooses."""

    def as_suggested(self, value: Any) -> Any:
        """A value in the form that an Optuna trial keeps."""

    def holds(self, value: Any) -> bool:
        """Whether this is one of the values."""


@dataclass(frozen=True, eq=False)
class Categorical:
    """One of a few values without an order."""

    choices: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.choices:
            raise UsageError("no values to choose from")
        seen: dict[str, Any] = {}
        for value in self.choices:
            label = label_of(value)
            if label in seen:
                raise UsageError(f"{seen[label]!r} and {value!r} are both written {label}")
            seen[label] = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Categorical) and list(self._by_label) == list(other._by_label)

    def __hash__(self) -> int:
        return hash(tuple(self._by_label))

    @cached_property
    def _by_label(self) -> dict[str, Any]:
        return {label_of(value): value for value in self.choices}

    @property
    def count(self) -> int:
        return len(self.choices)

    def at(self, position: int) -> Any:
        return self.choices[position]

    def drawn(self, rng: Any) -> Any:
        return self.choices[draw(rng, len(self.choices))]

    def label(self, value: Any) -> str:
        return label_of(value)

    def read(self, text: str) -> Any:
        if text not in self._by_label:
            raise ValueError(f"is not {'one of ' if len(self.choices) > 1 else ''}{_listed(list(self._by_label))}")
        return self._by_label[text]

    @cached_property
    def _storable(self) -> bool:
        """Whether Optuna's storages can keep the values themselves; else it is their labels."""
        return all(value is None or type(value) in (bool, int, float, str) for value in self.choices)

    def asked(self, trial: Any, name: str) -> Any:
        if self._storable:
            return trial.suggest_categorical(name, list(self.choices))
        return self._by_label[trial.suggest_categorical(name, list(self._by_label))]

    def as_suggested(self, value: Any) -> Any:
        return value if self._storable else self.label(value)

    def holds(self, value: Any) -> bool:
        return any(value is choice or label_of(value) == label_of(choice) for choice in self.choices)


@dataclass(frozen=True)
class Whole:
    """Whole numbers low, low + step, …, up to high."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    @classmethod
    def checked(cls, low: int, high: int, step: int = 1, log: bool = False) -> Whole:
        """A range, ended at the last value that its steps reach.

        Raises:
            UsageError: no whole numbers, an empty range, or one that has no logarithms.
        """
        for value in (low, high, step):
            if not isinstance(value, int) or isinstance(value, bool):
                raise UsageError(f"{value!r} is no whole number")
        _check_range(low, high, step, log)
        if log and low < 1:
            raise UsageError(f"a logarithmic range of whole numbers starts at 1 or above, got {low}")
        return cls(low, high - (high - low) % step, step, log)

    @property
    def count(self) -> int:
        return (self.high - self.low) // self.step + 1

    def at(self, position: int) -> int:
        return self.low + position * self.step

    def drawn(self, rng: Any) -> int:
        if not self.log:
            return self.at(draw(rng, self.count))
        # Every number stands for the half unit around it, as in Optuna.
        low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
        return min(max(round(math.exp(low + (high - low) * rng.random())), self.low), self.high)

    def label(self, value: int) -> str:
        return str(int(value))

    def read(self, text: str) -> int:
        value = int(text) if re.fullmatch(r"[+-]?[0-9]{1,30}", text) else None
        if value is None or not self.holds(value):
            if self.step > 1:
                raise ValueError(f"is not one of {_listed([str(self.at(k)) for k in _ends(self.count)], self.count)}")
            raise ValueError(f"is not a whole number from {self.low} to {self.high}")
        return value

    def asked(self, trial: Any, name: str) -> int:
        return int(trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log))

    def as_suggested(self, value: int) -> int:
        return value

    def holds(self, value: Any) -> bool:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole and self.low <= value <= self.high and (value - self.low) % self.step == 0


@dataclass(frozen=True)
class Real:
    """Real numbers from low to high, or, with a step, those of the steps from low alone."""

    low: float
    high: float
    step: float | None = None
    log: bool = False

    @classmethod
    def checked(cls, low: float, high: float, step: float | None = None, log: bool = False) -> Real:
        """A range, ended at the last value that its steps reach.

        Raises:
            UsageError: not finite, an empty range, a step with a logarithm, or a range that has no logarithms.
        """
        for value in (low, high, 0.0 if step is None else step):
            if not isinstance(value, RealNumber) or isinstance(value, bool) or not math.isfinite(float(value)):
                raise UsageError(f"{value!r} is no finite number")
        _check_range(low, high, 1 if step is None else step, log, stepped=step is not None)
        if log and low <= 0:
            raise UsageError(f"a logarithmic range starts above 0, got {low}")
        made = cls(float(low), float(high), None if step is None else float(step), log)
        return made if made.count is None else cls(made.low, made.at(made.count - 1), made.step)

    @property
    def count(self) -> int | None:
        return None if self.step is None else int((_exact(self.high) - _exact(self.low)) / _exact(self.step)) + 1

    def at(self, position: int) -> float:
        if self.step is not None:  # in decimals, so that 0.1 + 2 × 0.1 is 0.3
            return float(_exact(self.low) + position * _exact(self.step))
        return self._between(position / (GRID - 1))

    def _between(self, share: float) -> float:
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return min(max(math.exp(low + (high - low) * share), self.low), self.high)
        return self.low + (self.high - self.low) * share

    def drawn(self, rng: Any) -> float:
        return self._between(float(rng.random())) if self.count is None else self.at(draw(rng, self.count))

    def label(self, value: float) -> str:
        return repr(self._snapped(float(value)))

    def _snapped(self, value: float) -> float:
        if self.step is None:
            return value
        return self.at(round((_exact(value) - _exact(self.low)) / _exact(self.step)))

    def read(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not self.holds(value):
            steps = "" if self.step is None else f" in steps of {self.step}"
            raise ValueError(f"is not a number from {self.low} to {self.high}{steps}")
        return self._snapped(value)

    def asked(self, trial: Any, name: str) -> float:
        return self._snapped(float(trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)))

    def as_suggested(self, value: float) -> float:
        return value

    def holds(self, value: Any) -> bool:
        if not isinstance(value, RealNumber) or isinstance(value, bool) or not self.low <= float(value) <= self.high:
            return False
        return self.step is None or math.isclose(self._snapped(float(value)), float(value), rel_tol=1e-9, abs_tol=1e-12)


def of_values(values: Any) -> Parameter:
    """A list, tuple or range of values → a parameter; a range that rises keeps its order.

    Raises:
        UsageError: something else, no values, or two that are written alike.
    """
    if isinstance(values, range) and len(values) and values.step > 0:
        return Whole.checked(values[0], values[-1], values.step)
    if not isinstance(values, (list, tuple, range)):
        raise UsageError(f"expected a list or range of values, got {values!r:.60}")
    return Categorical(tuple(values))


def label_of(value: Any) -> str:
    """How a categorical value is written.

    Raises:
        UsageError: it has no short form.

    >>> [label_of(value) for value in (3, 0.5, None, "a, b", (3, 5), dict)]
    ['3', '0.5', 'None', 'a%2C%20b', '3x5', 'dict']
    """
    if value is None or isinstance(value, (bool, int)):
        return str(value)
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, str):
        return quote(value, safe="/()[]{}<>+*!?'\"&#@;$^~|\\`") or "''"
    if isinstance(value, (tuple, list)):
        return "x".join(map(label_of, value)) or "()"
    name = getattr(value, "__name__", None)
    if not isinstance(name, str):
        raise UsageError(f"{value!r:.60} has no name to write it by: expected numbers, texts, classes or functions")
    return label_of(name)


def _check_range(low: float, high: float, step: float, log: bool, stepped: bool | None = None) -> None:
    if low > high:
        raise UsageError(f"the range from {low} to {high} is empty")
    if step <= 0:
        raise UsageError(f"a step of {step}: expected one above 0")
    if log and (step != 1 if stepped is None else stepped):
        raise UsageError("a logarithmic range has no step")


def _exact(value: float) -> Fraction:
    """The number as it is written in decimals, not in binary."""
    return Fraction(repr(float(value)))


def _ends(count: int, most: int = 8) -> Iterator[int]:
    yield from range(count) if count <= most else (*range(most - 1), count - 1)


def _listed(labels: list[str], count: int | None = None) -> str:
    """Some labels, those in the middle left out where there are many.

    >>> _listed(["16", "32", "64"])
    '16, 32, 64'
    """
    whole = len(labels) if count is None else count
    shown = labels if count is not None else [labels[k] for k in _ends(whole)]
    return ", ".join(shown) if whole == len(shown) else f"{', '.join(shown[:-1])}, … {shown[-1]}"
