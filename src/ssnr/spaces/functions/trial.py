"""The trial that a build function is given: Optuna's `suggest_*`, without Optuna."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ssnr.core.errors import UsageError
from ssnr.spaces.functions.choices import GRID, Categorical, Parameter, Real, Whole


class Refused(BaseException):
    """A value that a string gives is none of the parameter's.

    Raised through a user's function, where `except Exception` must not catch it.
    """


class Asked(NamedTuple):
    """A parameter that was asked for, and the value that it has."""

    parameter: Parameter
    value: Any

    @property
    def label(self) -> str:
        """The value as it is written."""
        return self.parameter.label(self.value)


class Source(Protocol):
    """Where the values of parameters come from."""

    def value(self, name: str, parameter: Parameter) -> Any:
        """The value of a parameter that is asked for the first time."""


class Trial:
    """What a build function asks for its parameters; each is asked for by a name, and twice gives the same value.

    The methods are those of `optuna.trial.Trial`, so that one function serves both.

    Attributes:
        asked: the parameters so far, in the order in which they were asked for.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.asked: dict[str, Asked] = {}

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number: low, low + step, … up to high.

        Raises:
            UsageError: no such range, or a name that is taken by another one.
        """
        return int(self._ask(name, "int", lambda: Whole.checked(low, high, step, log)))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number from low to high, in steps where one is given.

        Raises:
            UsageError: no such range, or a name that is taken by another one.
        """
        return float(self._ask(name, "float", lambda: Real.checked(low, high, step, log)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices: None, truth values, numbers, texts, tuples of them, classes or functions.

        Raises:
            UsageError: no choices, two that are written alike, or a name that is taken by others.
        """
        return self._ask(name, "categorical", lambda: Categorical(tuple(choices)))

    @property
    def params(self) -> dict[str, Any]:
        """The values so far, by name."""
        return {name: asked.value for name, asked in self.asked.items()}

    def _ask(self, name: str, kind: str, make: Any) -> Any:
        try:
            parameter: Parameter = make()
        except UsageError as error:
            raise UsageError(f"trial.suggest_{kind}({name!r}, …): {error}") from error
        return self.value(name, parameter)

    def value(self, name: str, parameter: Parameter) -> Any:
        """The value of a parameter.

        Raises:
            UsageError: a name that cannot be part of a string, or one that is taken by another parameter.
        """
        known = self.asked.get(name)
        if known is None:
            check_name(name)
            known = self.asked[name] = Asked(parameter, self._source.value(name, parameter))
        elif known.parameter != parameter:
            raise UsageError(f"{name!r} was asked for twice, as {known.parameter} and as {parameter}")
        return known.value


def check_name(name: Any) -> None:
    """Refuse a name that an architecture's string cannot hold.

    Raises:
        UsageError: it is empty, has one of `,=:` or spaces around it, or is no text.
    """
    if not isinstance(name, str) or not name or name != name.strip() or set(name) & set(",=:\n"):
        raise UsageError(f"a parameter named {name!r}: expected a text without , = and :")


class Drawn:
    """Values that are kept where there are any, else drawn."""

    def __init__(self, rng: Any, kept: Mapping[str, Any] | None = None) -> None:
        self._rng, self._kept = rng, kept or {}

    def value(self, name: str, parameter: Parameter) -> Any:
        """The kept value where the parameter still has it, else one that is drawn."""
        if name in self._kept and parameter.holds(self._kept[name]):
            return self._kept[name]
        return parameter.drawn(self._rng)


class Written:
    """The values that a string gives."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = labels

    def value(self, name: str, parameter: Parameter) -> Any:
        """The value that is written.

        Raises:
            Refused: there is none, or it is none of the parameter's.
        """
        if name not in self._labels:
            raise Refused(f"{name} is missing")
        try:
            return parameter.read(self._labels[name])
        except ValueError as error:
            raise Refused(f"{name}={self._labels[name]} {error}") from None


class Suggested:
    """The values that an Optuna trial chooses."""

    def __init__(self, trial: Any) -> None:
        self._trial = trial

    def value(self, name: str, parameter: Parameter) -> Any:
        """What the trial chooses."""
        return parameter.asked(self._trial, name)


class Listed:
    """Every way to choose the values that are not kept, one after another.

    The first choice is the first value of every parameter; `next` then moves the last one that has a further value.
    """

    def __init__(self, kept: Mapping[str, Any] | None = None) -> None:
        self._kept = kept or {}
        self._path: list[int] = []
        self._counts: list[int] = []

    def value(self, name: str, parameter: Parameter) -> Any:
        """The kept value where the parameter still has it, else that of this turn."""
        if name in self._kept and parameter.holds(self._kept[name]):
            return self._kept[name]
        at = len(self._counts)
        self._counts.append(GRID if parameter.count is None else parameter.count)
        if at == len(self._path):
            self._path.append(0)
        return parameter.at(self._path[at])

    def next(self) -> bool:
        """Go on to the next choice; False after the last."""
        path = self._path[: len(self._counts)]
        while path and path[-1] + 1 >= self._counts[len(path) - 1]:
            path.pop()
        if path:
            path[-1] += 1
        self._path, self._counts = path, []
        return bool(path)

    def turns(self) -> Iterator[None]:
        """One turn a choice."""
        yield
        while self.next():
            yield
