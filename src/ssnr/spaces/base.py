"""The contract of a search space: strings in, networks out. Importing a space never imports torch."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ssnr.core.errors import UsageError
from ssnr.core.registry import Registry, unknown
from ssnr.core.results import Counts

if TYPE_CHECKING:
    from torch import nn

Controls = tuple[int | None, int | None, int | None, int | None]


class Space(ABC):
    """A family of networks, each identified by one string.

    Attributes:
        name: as users write it, with the data set where the network depends on it: `nasbench201/cifar100`.
        family: the name without the data set: benchmarks and spaces meet by it and the architecture string.
        input_shape: one input without its batch dimension.
        num_classes: number of outputs of a classifier.
        variants: the ways in which `build` can make the network of an architecture.
    """

    variants: ClassVar[tuple[str, ...]] = ("default",)
    family: str
    name: str
    input_shape: tuple[int, ...]
    num_classes: int

    @abstractmethod
    def parse(self, form: Any) -> str:
        """Any accepted form of an architecture → its string.

        Raises:
            ArchitectureError: what was expected and where it broke.
        """

    @abstractmethod
    def canonical(self, arch: Any) -> str:
        """The string that stands for all architectures isomorphic to this one; a member of the class."""

    def twin(self, arch: Any) -> str:
        """The string of the cheapest architecture that is this very network, weight for weight.

        A sweep computes each twin once. Defaults to the architecture itself.
        """
        return self.parse(arch)

    def idle_operations(self, arch: Any) -> int:
        """Number of operations that the string names and no path from input to output uses.

        Raises:
            UsageError: the space does not tell them apart.
        """
        raise UsageError(f"{self.name} does not say which operations of an architecture are idle")

    @abstractmethod
    def build(self, arch: Any, *, seed: int | None = 0, variant: str = "default") -> nn.Module:
        """The network.

        Its weights are drawn from (seed, space, network) alone, so that order, workers and resuming never change a
        score; `seed=None` draws them from torch's global generator.
        """

    @abstractmethod
    def counts(self, arch: Any, *, variant: str = "default") -> Counts:
        """Parameters, multiply-accumulates, reachable weights and layers, without building the network."""

    def controls(self, arch: Any) -> Controls:
        """Parameters, multiply-accumulates, reachable weights and layers as a store keeps them.

        None where the network cannot be built.
        """
        found = self.counts(arch)
        return found.params, found.flops, found.reachable_params, found.layers

    def check_kept(self, kept: Mapping[str, Controls]) -> None:  # noqa: B027 - those of this package do not change
        """Refuse what a store keeps, architecture → controls, where another space of this name wrote it.

        Raises:
            UsageError: the space has changed since.
        """

    @abstractmethod
    def all(self) -> Iterator[str]:
        """Every architecture once.

        Raises:
            UsageError: there is no list of them.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Number of architectures.

        Raises:
            UsageError: it is not known; see `size`.
        """

    @property
    def size(self) -> int | None:
        """Number of architectures, None where it is not known."""
        return len(self)

    @abstractmethod
    def sample(self, rng: Any) -> str:
        """One architecture, drawn uniformly; `rng` is a `numpy.random.Generator` or a `random.Random`."""

    @abstractmethod
    def neighbours(self, arch: Any) -> Iterator[str]:
        """Every architecture one elementary change away."""

    def suggest(self, trial: Any) -> str | None:
        """An architecture from the parameters that a trial of Optuna suggests; None where the space names none."""
        return None

    def suggestion(self, arch: Any) -> dict[str, Any] | None:
        """The parameters with which `suggest` gives an architecture, as for `study.enqueue_trial`; None without any."""
        return None

    def mutate(self, arch: Any, rng: Any) -> str:
        """A uniformly drawn neighbour."""
        near = list(self.neighbours(arch))
        return near[draw(rng, len(near))]

    def sample_many(self, count: int, rng: Any) -> list[str]:
        """`count` distinct architectures, in the order drawn.

        Raises:
            UsageError: more than there are.
        """
        if not 0 < count <= len(self):
            raise UsageError(f"{self.name} has {len(self):,} architectures: cannot draw {count:,} distinct ones")
        if count > len(self) // 2:
            everything = list(self.all())
            return [everything[i] for i in np.random.default_rng(draw(rng, 2**62)).permutation(len(self))[:count]]
        drawn: dict[str, None] = {}
        while len(drawn) < count:
            drawn[self.sample(rng)] = None
        return list(drawn)

    def __bool__(self) -> bool:
        return True  # not by its length, which may not be known

    def __repr__(self) -> str:
        return f"<space {self.name}: {len(self):,} architectures>"


def check_variant(space: Space, variant: str) -> None:
    """Refuse a variant that the space does not have.

    Raises:
        UsageError: with near names.
    """
    if variant not in space.variants:
        raise unknown(f"variant of {space.family}", variant, space.variants)


def draw(rng: Any, below: int) -> int:
    """A uniform integer in [0, below) from either kind of generator."""
    return int(rng.integers(below)) if hasattr(rng, "integers") else int(rng.randrange(below))


def derived_rng(*parts: object) -> np.random.Generator:
    """A generator that depends on the parts alone: same parts, same stream, on every machine."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.SFC64(int.from_bytes(digest, "little")))


# Family → function from the text after "/" ("" where there is none) to the space.
SPACES: Registry[Callable[[str], Space]] = Registry("space")


def register_space(family: str) -> Callable[[Callable[[str], Space]], Callable[[str], Space]]:
    """Add a space under its family name: the decorated function makes it from the data set's name ("" = default)."""

    def add(make: Callable[[str], Space]) -> Callable[[str], Space]:
        return SPACES.add(family, make)

    return add
