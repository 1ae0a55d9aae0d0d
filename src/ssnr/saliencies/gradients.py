"""plain, grad_norm, fisher and grasp: one forward, one backward, and for grasp one Hessian-vector product."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from ssnr._errors import ScoringError
from ssnr._model import Model
from ssnr.data import Batch
from ssnr.saliencies.blame import missing_derivative, once_differentiable
from ssnr.saliencies.channels import Channels
from ssnr.saliencies.losses import loss_of
from ssnr.saliencies.paths import differentiable, in_channels_last
from ssnr.saliencies.signals import (
    Loss,
    Signal,
    followed,
    moved,
    products,
    reaches,
    set_mode,
    share_of_norm,
    spread,
)

Gradients = list[Tensor | None]


class Refused(dict[str, Tensor | None]):
    """The tensors of a saliency that could not be computed beside others that could: whoever reads them gets why."""

    def __init__(self, error: ScoringError) -> None:
        super().__init__()
        self._error = error

    def items(self) -> NoReturn:
        """Raises the reason."""
        raise self._error


class Pass(NamedTuple):
    """A forward pass up to the loss, and what it is differentiated by."""

    value: Tensor
    leaves: dict[str, Tensor]
    capture: Channels | None
    dead: bool  # whether the loss ignores the inputs


def gradient_saliencies(
    model: Model, batch: Batch, names: Collection[str], loss: Loss | None = None
) -> dict[str, Signal]:
    """plain, grad_norm, fisher and grasp from shared passes; g = ∂L/∂θ, L the mean loss on one batch.

        plain      θ ⊙ g                       (Mozer & Smolensky, 1989); snip is its magnitude (Lee et al., 2019)
        grad_norm  g²/‖g_l‖, sum ‖g_l‖         (Abdelfattah et al., 2021)
        fisher     ½ mean_n (Σ_space a ∂L/∂a)² of the output channel, repeated over its weights (Turner et al., 2020)
        grasp      −θ ⊙ Hg                     (Wang, Zhang & Grosse, 2020)

    Args:
        model: the network.
        batch: inputs and targets.
        names: which of the four.
        loss: (output, targets) → scalar; the default is mean cross-entropy, or mean squared error for float targets.

    Raises:
        ScoringError: the forward or backward pass raised, or the loss is not finite.
        UsageError: labels that the network has no output for.
    """
    forward = partial(_forward, model, batch, loss, second="grasp" in names, fisher="fisher" in names)
    value, leaves, capture, dead = made = _in_the_faster_layout(model, forward)
    if not value.requires_grad:
        return {name: Signal(dict.fromkeys(model.scored), dead=True) for name in names}
    probes = capture.probes if capture else []
    gradients = _grad([value], [*leaves.values(), *probes], create_graph="grasp" in names)
    first, probed = gradients[: len(leaves)], gradients[len(leaves) :]
    detached = [None if g is None else g.detach() for g in first]
    theta = [leaf.detach() for leaf in leaves.values()]

    def signal(tensors: Gradients) -> Signal:
        return Signal(spread(model, dict(zip(leaves, tensors, strict=True))), dead)

    found: dict[str, Signal] = {}
    if "plain" in names:
        found["plain"] = signal(products(theta, detached))
    if "grad_norm" in names:
        found["grad_norm"] = signal([None if g is None else share_of_norm(g) for g in detached])
    if capture:
        found["fisher"] = signal(capture.fisher(leaves, probed))
    if "grasp" in names:
        try:
            found["grasp"] = signal(_grasp(model, made, first, partial(forward, channels_last=False)))
        except ScoringError as error:
            found["grasp"] = Signal(Refused(error))
    return found


def _in_the_faster_layout(model: Model, forward: Callable[..., Pass]) -> Pass:
    """Images with their channels last, where the CPU's float32 convolutions are faster so and the network allows it."""
    weight = next(iter(model.scored.values()))
    if model.recipe.dtype == "float32" and weight.device.type == "cpu":
        drawn = torch.get_rng_state()
        try:
            return forward(channels_last=True)
        except ScoringError:
            torch.set_rng_state(drawn)
    return forward(channels_last=False)


def _forward(model: Model, batch: Batch, loss: Loss | None, *, second: bool, fisher: bool, channels_last: bool) -> Pass:
    """One forward pass with the recipe's choices.

    Raises:
        ScoringError: it raised, or the loss is not finite.
        UsageError: labels that the network has no output for.
    """
    recipe = model.recipe
    dtype, device = getattr(torch, recipe.dtype), next(iter(model.scored.values())).device
    weights, inputs = model.weights(dtype), moved(batch.inputs, device, dtype)
    if channels_last:
        weights, inputs = in_channels_last(weights), in_channels_last(inputs)
    leaves = {name: weights[name].requires_grad_() for name in model.scored if name in weights}
    capture = Channels(leaves) if fisher else None
    set_mode(model, recipe.mode)
    inputs, sources = followed(inputs)
    options = {"second": second, "dropout": recipe.dropout == "on", "trains": recipe.mode == "train"}
    with differentiable(channels_last=channels_last, **options):
        with capture or nullcontext():
            output = model.call(weights, inputs)
        value = loss_of(output, batch.targets, device, dtype, loss, recipe.temperature)
    return Pass(value, leaves, capture, bool(sources) and not reaches(value, sources))


def _grasp(model: Model, made: Pass, first: Gradients, again: Callable[[], Pass]) -> Gradients:
    """−θ ⊙ Hg with Hg = ∂/∂θ Σ stop(g)·g(θ): one product with the Hessian, which is never formed.

    Raises:
        ScoringError: an operation has no second derivative; named, with its layer, where `again` shows it.
    """
    leaves = list(made.leaves.values())
    reason = once_differentiable(made.value, leaves, model.net, again)
    if reason is not None:
        raise ScoringError(reason)
    moving = [g for g in first if g is not None and g.requires_grad]
    try:
        # Without any, the gradient does not depend on the weights: the Hessian is zero.
        hessian = _grad(moving, leaves, along=[g.detach() for g in moving]) if moving else [None] * len(leaves)
    except ScoringError as error:
        reason = missing_derivative(error.__cause__, model.net, again)
        raise (error if reason is None else ScoringError(reason)) from error.__cause__
    return [
        None if g is None else torch.zeros_like(leaf) if h is None else -(leaf.detach() * h)
        for g, h, leaf in zip(first, hessian, leaves, strict=True)
    ]


def _grad(
    values: list[Tensor], inputs: list[Tensor], *, along: list[Tensor] | None = None, create_graph: bool = False
) -> Gradients:
    try:
        return list(torch.autograd.grad(values, inputs, along, create_graph=create_graph, allow_unused=True))
    except (RuntimeError, NotImplementedError) as error:
        raise ScoringError(
            f"the backward pass raised {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
