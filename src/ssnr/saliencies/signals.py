"""What every family of saliencies shares: the signal itself, and nests of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ssnr._model import Model
from ssnr.linearize import reaches as reaches

Named = dict[str, Tensor | None]  # None: no gradient reached the layer, it is unused
Loss = Callable[[Any, Any], Tensor]


class Signal(NamedTuple):
    """One saliency of one network.

    Attributes:
        tensors: of each layer; every entry stands for itself times 2^exponent.
        dead: whether the output ignores the input.
        exponent: of all tensors.
        approximated: places where the network is not of degree one, which synflow takes as they are.
    """

    tensors: Named
    dead: bool = False
    exponent: int = 0
    approximated: tuple[str, ...] = ()

    @property
    def exponents(self) -> dict[str, int] | None:
        """The exponent of each layer, None where all are 0."""
        return dict.fromkeys(self.tensors, self.exponent) if self.exponent else None


def share_of_norm(values: Tensor) -> Tensor:
    """v²/‖v‖: what each entry adds to the Euclidean norm; scaled so that squares cannot overflow."""
    peak = values.abs().amax() if values.numel() else values.new_zeros(())
    if peak == 0:
        return torch.zeros_like(values)
    unit = values / peak
    share: Tensor = unit * unit * (peak / torch.linalg.vector_norm(unit))
    return share


def products(theta: list[Tensor], gradients: list[Tensor | None]) -> list[Tensor | None]:
    """θ ⊙ g of each weight, None where no gradient came."""
    with torch.no_grad():
        return [None if g is None else t.detach() * g for t, g in zip(theta, gradients, strict=True)]


def spread(model: Model, tensors: Named) -> Named:
    """A value for every scored name: where a recipe counts a tied tensor per module, each name shows it."""
    if len(tensors) == len(model.scored):
        return {name: tensors[name] for name in model.scored}
    first = {id(parameter): name for name, parameter in reversed(list(model.scored.items())) if name in tensors}
    return {name: tensors[first[id(parameter)]] for name, parameter in model.scored.items()}


def set_mode(model: Model, mode: str) -> None:
    """Put the network in a recipe's mode; `preserved` puts it back."""
    if mode != "caller":
        model.net.train(mode == "train")


def followed(inputs: Any) -> tuple[Any, list[Tensor]]:
    """The inputs as copies of leaves, and the leaves: a copy may be changed in place, a leaf can be looked for."""
    sources: list[Tensor] = []

    def copy(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            sources.append(value.detach().requires_grad_())
            return sources[-1].clone()
        return mapped(copy, value)

    with torch.enable_grad():
        return copy(inputs), sources


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """A nest of tuples, lists and mappings with `function` applied to its entries; anything else as it is."""
    if isinstance(value, Mapping):
        return {key: function(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(function, value))
    if isinstance(value, (tuple, list)):
        return type(value)(map(function, value))
    return value


def moved(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Tensors of a nest on the device, floating ones in `dtype`."""
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else None)
    return mapped(lambda item: moved(item, device, dtype), value)
