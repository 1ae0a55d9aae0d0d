"""A space of a user's own: a function that builds a network from a trial's choices, or from named arguments."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any

from ssnr.core.errors import ArchitectureError, UsageError, one_line
from ssnr.core.registry import unknown
from ssnr.core.results import Counts
from ssnr.spaces.base import Controls, Space, check_variant, derived_rng, draw
from ssnr.spaces.functions import sending
from ssnr.spaces.functions.choices import Parameter, label_of
from ssnr.spaces.functions.trial import Asked, Drawn, Listed, Refused, Source, Suggested, Trial, Written

if TYPE_CHECKING:
    from torch import nn

Choices = dict[str, Asked]
_EXPECTED = "expected NAME=VALUE,…, such as depth=3,width=64"
_REMEMBERED = 1 << 14  # architectures whose choices and counts are kept
_CHECKED = 3  # architectures of a store that are counted again
_REPEATS = 300  # draws in a row that give nothing new, after which there is taken to be nothing new


class FunctionSpace(Space):
    """The networks that a function builds; made by `ssnr.space`.

    An architecture is written by its parameters in the order in which the function asks for them, those alone that it
    does ask for: `depth=2,width0=16,width1=32,act=relu`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        parameters: Mapping[str, Parameter] | None = None,
        input_shape: tuple[int, ...] | None = None,
        num_classes: int | None = None,
    ) -> None:
        self.function, self.name, self.family = function, name, name
        self.parameters = dict(parameters or {})
        self._input_shape = input_shape if input_shape is not None else getattr(function, "input_shape", None)
        self._num_classes = num_classes if num_classes is not None else getattr(function, "num_classes", None)
        if self._input_shape is not None:
            self._input_shape = checked_shape(self._input_shape, name)
        self._checked = False
        self._choices: OrderedDict[str, Choices] = OrderedDict()
        self._counts: OrderedDict[str, Counts | Exception] = OrderedDict()

    def __reduce__(self) -> Any:
        return sending.sent(self)

    def __getstate__(self) -> dict[str, Any]:
        """What says the same space in another process: all but its function, and what is only remembered."""
        return {**self.__dict__, "function": None, "_choices": OrderedDict(), "_counts": OrderedDict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    # --- what it is ---

    @property
    def input_shape(self) -> tuple[int, ...]:
        """One input without its batch dimension.

        Raises:
            UsageError: nobody said it.
        """
        if self._input_shape is None:
            told = getattr(self._any_network(), "input_shape", None)
            if told is None:
                raise UsageError(
                    f"space {self.name}: the shape of one input is not known: ssnr.space(…, input_shape=(3, 32, 32)), "
                    f"an attribute {self.function.__name__}.input_shape, or --input-shape 3,32,32"
                )
            self._input_shape = checked_shape(told, self.name)
        return self._input_shape

    @input_shape.setter
    def input_shape(self, shape: tuple[int, ...]) -> None:
        self._input_shape = checked_shape(shape, self.name)
        self._counts.clear()

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """Number of classes of its outputs (N, classes); 10 where they have another form."""
        if self._num_classes is None:
            from ssnr.spaces.functions import net

            found = self._any_network()
            self._num_classes = (None if found is None else net.classes(found, self.input_shape)) or 10
        return self._num_classes

    @property
    def size(self) -> int | None:
        """Number of architectures; None where the function decides, or a parameter is a real number."""
        counts = [parameter.count for parameter in self.parameters.values()]
        return math.prod(map(int, filter(None, counts))) if counts and None not in counts else None

    def __len__(self) -> int:
        if self.size is None:
            raise UsageError(f"space {self.name}: the number of its architectures is not known")
        return self.size

    def __repr__(self) -> str:
        return f"<space {self.name}>" if self.size is None else f"<space {self.name}: {self.size:,} architectures>"

    # --- strings ---

    def parse(self, form: Any) -> str:
        """Accepts `depth=3,width=64` in any order, and a mapping of names to values.

        Raises:
            ArchitectureError: a parameter is missing, not asked for, given twice, or has a value that it cannot have.
        """
        return self._text(self._read(form))

    def canonical(self, arch: Any) -> str:
        """The string itself: whether two of them are the same network is not known."""
        return self.parse(arch)

    def params(self, arch: Any) -> dict[str, Any]:
        """The parameters of an architecture, as the function gets them."""
        return {name: asked.value for name, asked in self._read(arch).items()}

    def suggest(self, trial: Any) -> str:
        return self._remembered(self._walk(Suggested(trial)))

    def suggestion(self, arch: Any) -> dict[str, Any]:
        return {name: asked.parameter.as_suggested(asked.value) for name, asked in self._read(arch).items()}

    @staticmethod
    def _text(choices: Choices) -> str:
        return ",".join(f"{name}={asked.label}" for name, asked in choices.items())

    def _read(self, form: Any) -> Choices:
        text = form if isinstance(form, str) else None
        if text is not None and (known := self._choices.get(text.strip())) is not None:
            return known
        where = f"{self.name} {form!r:.80}"
        labels = _labels(form, where)
        try:
            choices = self._walk(Written(labels))
        except Refused as refused:
            raise ArchitectureError(f"{where}: {refused}") from None
        for name in labels:
            if name not in choices:
                raise ArchitectureError(f"{where}: {unknown('parameter', name, choices)}")
        self._remembered(choices)
        return choices

    def _remembered(self, choices: Choices) -> str:
        text = self._text(choices)
        _keep(self._choices, text, choices)
        return text

    # --- moving about ---

    def sample(self, rng: Any) -> str:
        """One architecture: each parameter that is asked for is drawn uniformly, or in the logarithm."""
        return self._remembered(self._walk(Drawn(rng)))

    def sample_many(self, count: int, rng: Any) -> list[str]:
        """`count` distinct architectures, in the order drawn.

        Raises:
            UsageError: more than there are, or than are found.
        """
        if self.size is not None and (self.size < 2**20 or count > self.size):
            return super().sample_many(count, rng)
        if count < 1:
            raise UsageError(f"{self.name}: cannot draw {count:,} architectures")
        drawn: dict[str, None] = {}
        repeats = 0
        while len(drawn) < count:
            before = len(drawn)
            drawn[self.sample(rng)] = None
            repeats = 0 if len(drawn) > before else repeats + 1
            if repeats == _REPEATS:
                raise UsageError(
                    f"{self.name}: {len(drawn):,} distinct architectures, and nothing new in {repeats:,} draws: "
                    f"cannot draw {count:,}"
                )
        return list(drawn)

    def all(self) -> Iterator[str]:
        """Every architecture once, the last parameter moving first.

        Raises:
            UsageError: a parameter is a real number without a step.
        """
        for choices in self._completed(Listed()):
            for name, asked in choices.items():
                if asked.parameter.count is None:
                    raise UsageError(f"space {self.name}: {name} is a real number, so its architectures have no list")
            yield self._remembered(choices)

    def neighbours(self, arch: Any) -> Iterator[str]:
        """Every architecture with another value of one parameter.

        The other parameters keep their values; those that come with the change take every value that they can have. Of
        a real range the values are eight, spread evenly.
        """
        choices = self._read(arch)
        own, seen = self._text(choices), set[str]()
        for name, asked in choices.items():
            others = Listed()
            for _ in others.turns():
                value = others.value(name, asked.parameter)
                if asked.parameter.label(value) == asked.label:
                    continue
                for near in self._completed(Listed(_values(choices) | {name: value})):
                    text = self._remembered(near)
                    if text != own and text not in seen:
                        seen.add(text)
                        yield text

    def mutate(self, arch: Any, rng: Any) -> str:
        """Another value of one parameter, both drawn uniformly; parameters that come with it are drawn too.

        Raises:
            UsageError: no parameter has another value.
        """
        choices = self._read(arch)
        open_ = [name for name, asked in choices.items() if asked.parameter.count != 1]
        if not open_:
            raise UsageError(f"{self.name} {self._text(choices)}: no parameter has another value")
        name = open_[draw(rng, len(open_))]
        parameter, own = choices[name].parameter, choices[name].label
        value = choices[name].value
        while parameter.label(value) == own:
            value = parameter.drawn(rng)
        return self._remembered(self._walk(Drawn(rng, _values(choices) | {name: value})))

    def _completed(self, source: Listed) -> Iterator[Choices]:
        return (self._walk(source) for _ in source.turns())

    # --- networks ---

    def build(self, arch: Any, *, seed: int | None = 0, variant: str = "default") -> nn.Module:
        """The network, initialised by the function itself with torch's generator seeded.

        Raises:
            Exception: whatever the function raises.
            TypeError: it returns no module.
        """
        check_variant(self, variant)
        made = self._built(self._read(arch), seed)
        if isinstance(made, Exception):
            raise made
        return made

    def counts(self, arch: Any, *, variant: str = "default") -> Counts:
        """Counted on the built network, once.

        Raises:
            Exception: the network cannot be built, or its forward pass raises.
        """
        check_variant(self, variant)
        choices = self._read(arch)
        text = self._text(choices)
        found = self._counts.get(text)
        if found is None:
            found = _keep(self._counts, text, self._counted(choices))
        if isinstance(found, Exception):
            raise found
        return found

    def _counted(self, choices: Choices) -> Counts | Exception:
        from ssnr.spaces.functions import net

        made = self._built(choices, 0)
        if isinstance(made, Exception):
            return made
        try:
            return net.counted(made, self.input_shape)
        except UsageError:
            raise
        except Exception as error:
            return error

    def _built(self, choices: Choices, seed: int | None) -> nn.Module | Exception:
        from ssnr.spaces.functions import net

        return self._made(choices, net.seed_of(seed, self.name, self._text(choices)))

    def _made(self, choices: Choices, seed: int) -> nn.Module | Exception:
        """The network of choices that were read; a function that now asks for others is refused.

        Raises:
            UsageError: the function is not deterministic.
        """
        from ssnr.spaces.functions import net

        if self.parameters:
            made = net.run(lambda: self.function(**_values(choices)), seed)
        else:
            trial = Trial(Written({name: asked.label for name, asked in choices.items()}))
            try:
                made = net.run(lambda: self.function(trial), seed)
            except Refused as refused:
                raise self._varies(choices, f"the second time {refused}") from None
            if trial.asked.keys() != choices.keys():
                raise self._varies(choices, f"the second time it asked for {', '.join(trial.asked) or 'nothing'}")
        if not self._checked and not isinstance(made, Exception):
            self._checked = True
            again = self._made(choices, seed + 1)
            found = "the second build raised" if isinstance(again, Exception) else net.difference(made, again)
            if found is not None:
                self._checked = False
                raise self._varies(choices, found)
        return made

    def _varies(self, choices: Choices, how: str) -> UsageError:
        return UsageError(
            f"space {self.name}: {self._text(choices)} built twice gives two networks: {how}; "
            "a build may depend on its parameters alone"
        )

    def _walk(self, source: Source) -> Choices:
        """The parameters that the function asks for, with the values that a source gives.

        Raises:
            UsageError: it asks for nothing, or in a wrong way.
            Refused: a written value is none of a parameter's.
        """
        trial = Trial(source)
        if self.parameters:
            for name, parameter in self.parameters.items():
                trial.value(name, parameter)
            return trial.asked
        from ssnr.spaces.functions import net

        made = net.run(lambda: self.function(trial), 0)
        if isinstance(made, UsageError):
            raise UsageError(f"space {self.name}: {made}") from made
        if not trial.asked:
            why = f"{type(made).__name__}: {one_line(made)}" if isinstance(made, Exception) else "trial.suggest_int, …"
            raise UsageError(f"space {self.name}: {self.function.__name__}(trial) asks its trial for nothing ({why})")
        if not isinstance(made, Exception):
            self._look_at(made, trial.asked)
        return trial.asked

    def _look_at(self, made: nn.Module, choices: Choices) -> None:
        """Learn what a network tells that was built to see what the function asks for: building it again costs more."""
        from ssnr.spaces.functions import net

        if not self._checked:
            self._built(choices, 0)
        shape = self._input_shape or getattr(made, "input_shape", None)
        if shape is not None and (text := self._text(choices)) not in self._counts:
            counts = net.counted_at_once(made, checked_shape(shape, self.name))
            if counts is not None:
                _keep(self._counts, text, counts)

    def _any_network(self) -> nn.Module | None:
        """The network of some architecture, None where none of a few can be built."""
        rng = derived_rng("any", self.name)
        for _ in range(8):
            made = self._built(self._walk(Drawn(rng)), 0)
            if not isinstance(made, Exception):
                return made
        return None

    def controls(self, arch: Any) -> Controls:
        try:
            return super().controls(arch)
        except UsageError:
            raise
        except Exception:  # the sweep says why: it builds the network too
            return (None, None, None, None)

    def check_kept(self, kept: Mapping[str, Controls]) -> None:
        """Build a few of the architectures again: their counts must be those that are kept."""
        for arch in list(kept)[:_CHECKED]:
            now = self.controls(arch)
            if now != kept[arch]:
                params = [f"{n:,} parameters" if n is not None else "no network" for n in (kept[arch][0], now[0])]
                what = " and ".join(params) if params[0] != params[1] else f"{kept[arch]} and {now} as its counts"
                raise UsageError(
                    f"space {self.name} has changed since the store was written: {arch} has {what}, then and now; "
                    "name another store, or give the space another name"
                )


def _labels(form: Any, where: str) -> dict[str, str]:
    """Names and written values of an architecture's form."""
    if isinstance(form, Mapping):
        return {str(name): _written(value) for name, value in form.items()}
    if not isinstance(form, str) or not form.strip():
        raise ArchitectureError(f"{where}: {_EXPECTED}")
    labels: dict[str, str] = {}
    for part in form.strip().split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not name:
            raise ArchitectureError(f"{where}: {part!r:.40} is no NAME=VALUE; {_EXPECTED}")
        if name in labels:
            raise ArchitectureError(f"{where}: {name} is given twice")
        labels[name] = value
    return labels


def _written(value: Any) -> str:
    try:
        return label_of(value.item() if type(value).__module__ == "numpy" else value)
    except UsageError:
        return repr(value)


def _values(choices: Choices) -> dict[str, Any]:
    return {name: asked.value for name, asked in choices.items()}


def _keep(memory: OrderedDict[str, Any], text: str, value: Any) -> Any:
    memory[text] = value
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)
    return value


def checked_shape(shape: Any, name: str) -> tuple[int, ...]:
    """An input shape as a tuple.

    Raises:
        UsageError: not positive whole numbers.
    """
    whole = isinstance(shape, (tuple, list)) and shape and all(isinstance(n, Integral) and int(n) > 0 for n in shape)
    if not whole:
        raise UsageError(f"space {name}: its input_shape is {shape!r}, expected whole numbers such as (3, 32, 32)")
    return tuple(map(int, shape))
