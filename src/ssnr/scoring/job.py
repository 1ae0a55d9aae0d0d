"""One network and everything that its families of proxies share; the checks of a call before any work."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

from torch import Tensor, nn

from ssnr.core.catalogue import entry_of
from ssnr.core.errors import UsageError
from ssnr.core.recipes import Recipe
from ssnr.data import Batch, batch_of
from ssnr.networks.calling import Forward, needs_two
from ssnr.networks.model import Model
from ssnr.networks.weights import unwrapped
from ssnr.saliencies import Loss, ones_like


@dataclass(frozen=True)
class Job:
    """A call of `score`, `saliency` or `measure`, its arguments checked."""

    net: nn.Module
    batch: Batch | None
    input_shape: tuple[int, ...] | None
    loss: Loss | None
    forward: Forward | None
    recipe: Recipe
    seed: int = 0
    check: bool = False

    @classmethod
    def of(cls, net: Any, measured: Collection[str], batch: Any, input_shape: Any, loss: Loss | None,
           forward: Forward | None, recipe: Recipe, seed: Any, check: bool = False) -> Job:  # fmt: skip
        """A job for what is to be measured.

        Raises:
            UsageError: not a module, no batch where one is needed, an impossible shape or seed.
        """
        if not isinstance(net, nn.Module):
            raise UsageError(f"expected a torch.nn.Module, got {type(net).__name__}: {net!r:.60}")
        given = batch_of(batch)
        _check_numbers(input_shape, seed)
        if given is None:
            for name in measured:
                if entry_of(name).data:
                    raise UsageError(
                        f"{name} needs a batch: score(net, (inputs, targets), …), or --data on the command line"
                    )
        return cls(net, _fitted(net, given, forward), input_shape, loss, forward, recipe, seed, check)

    def model(self) -> Model:
        """The network as a function of its weights."""
        return Model(self.net, self.recipe, self.forward, lambda: self.example(with_batch=True))

    def example(self, *, with_batch: bool) -> Any:
        """What the network can be called with: the batch's inputs, or ones of their kind."""
        if with_batch and self.batch is not None:
            return self.batch.inputs
        return ones_like(None if self.batch is None else self.batch.inputs, self.input_shape)


def _check_numbers(input_shape: Any, seed: Any) -> None:
    whole = isinstance(input_shape, (tuple, list)) and all(isinstance(n, Integral) and int(n) >= 0 for n in input_shape)
    if input_shape is not None and not whole:
        raise UsageError(f"input_shape={input_shape!r}: expected whole numbers such as (3, 32, 32), without the batch")
    if not isinstance(seed, Integral) or not -(2**63) <= int(seed) < 2**63:
        raise UsageError(f"seed={seed!r}: expected a whole number of at most 63 bits")


def _fitted(net: nn.Module, batch: Batch | None, forward: Forward | None) -> Batch | None:
    """(x, y) of a network that cannot be called without both: two inputs and no targets."""
    if batch is None or forward is not None or not isinstance(batch.inputs, Tensor):
        return batch
    if batch.targets is None or not needs_two(unwrapped(net)):
        return batch
    return replace(batch, inputs=(batch.inputs, batch.targets), targets=None)
