"""What every family of saliencies shares: the signal itself, and nests of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ssnr.interpret.approximated import reaches as reaches
from ssnr.networks.model import Model
from ssnr.networks.trees import mapped as mapped
from ssnr.networks.trees import to_device as to_device

Named = dict[str, Any]  # a tensor or its row of moments; None: no gradient reached the layer, it is unused
Loss = Callable[[Any, Any], Tensor]

_DROPS = (nn.RNNBase, nn.MultiheadAttention)
_DROPPING = ("DropPath", "StochasticDepth", "DropBlock", "DropBlock2d", "DropBlock3d", "DropConnect", "PatchDropout")


class Signal(NamedTuple):
    """One saliency of one network.

    Attributes:
        tensors: of each layer; every entry stands for itself times 2^exponent.
        dead: whether the output ignores the input.
        exponent: of all tensors.
        approximated: places where the network is not of degree one, which synflow takes as they are.
        notes: what a reader of this saliency alone should know.
        rounding: why all of it is nothing but rounding, None where it is more.
    """

    tensors: Named
    dead: bool = False
    exponent: int = 0
    approximated: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rounding: str | None = None

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
        return [None if g is None else t.detach() * dense(g) for t, g in zip(theta, gradients, strict=True)]


def dense(gradient: Tensor) -> Tensor:
    """A gradient with an entry for every weight."""
    return gradient.to_dense() if gradient.layout is not torch.strided else gradient


def spread(model: Model, tensors: Named) -> Named:
    """A value for every scored name: where a recipe counts a tied tensor per module, each name shows it."""
    if len(tensors) == len(model.scored):
        return {name: tensors[name] for name in model.scored}
    first = {id(parameter): name for name, parameter in reversed(list(model.scored.items())) if name in tensors}
    return {name: tensors[first[id(parameter)]] for name, parameter in model.scored.items()}


def set_mode(model: Model, mode: str) -> None:
    """Put the network in a recipe's mode; `preserved` puts it back.

    With dropout off, modules that do nothing else in train mode but drop (stochastic depth, the dropout inside of
    recurrent layers and attention) stay in eval.
    """
    modules = model.modules
    plain = not model.scripted and all(type(module).train is nn.Module.train for module in modules)
    if mode != "caller" and plain:
        for module in modules:  # as `train` does, without the bookkeeping of attributes that it goes through
            module.__dict__["training"] = mode == "train"
    elif mode != "caller":
        model.net.train(mode == "train")
        for module in modules[len(list(model.net.modules())) :]:
            module.training = mode == "train"
    if model.recipe.dropout == "off" and mode != "eval":
        for module in modules:
            if module.training and (isinstance(module, _DROPS) or type(module).__name__.endswith(_DROPPING)):
                module.training = False


def followed(inputs: Any) -> tuple[Any, list[Tensor]]:
    """The inputs as copies of leaves, and the leaves: a copy may be changed in place, a leaf can be looked for."""
    sources: list[Tensor] = []

    def copied(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            sources.append(value.detach().requires_grad_())
            return sources[-1].clone()
        return value.clone() if isinstance(value, Tensor) else mapped(copied, value)

    with torch.enable_grad():
        return copied(inputs), sources
