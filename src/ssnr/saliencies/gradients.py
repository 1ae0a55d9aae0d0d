"""plain, grad_norm, fisher and grasp: one forward, one backward, and for grasp one Hessian-vector product."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ssnr.core.errors import Failure, ScoringError, kind_of
from ssnr.data import Batch
from ssnr.interpret.approximated import reaches
from ssnr.interpret.differentiable import (
    channels_last_is_faster,
    differentiable,
    in_channels_last,
    in_the_faster_layout,
)
from ssnr.networks.masks import with_pruned_zero
from ssnr.networks.model import Model
from ssnr.networks.second_derivatives import first_nan, missing_derivative, once_differentiable
from ssnr.networks.trees import flatten, to_device
from ssnr.saliencies.fisher import Channels
from ssnr.saliencies.losses import loss_of
from ssnr.saliencies.signal import Loss, Signal, followed, products, set_mode, share_of_norm, spread

Gradients = list[Tensor | None]

# Where autograd multiplies and adds what should cancel, some hundred roundings of the loss are left.
_DUST = 4096
ROUNDING = (
    "the loss depends on no weight beyond rounding: with one image a batch norm before the pooling leaves nothing "
    "(draw two: recipe option images=2, or take a larger batch), and a softmax before the loss may have saturated"
)


class Pass(NamedTuple):
    """A forward pass up to the loss, and what it is differentiated by."""

    value: Tensor
    leaves: dict[str, Tensor]
    capture: Channels | None
    dead: bool  # whether the loss ignores the inputs


def gradient_saliencies(
    model: Model, batch: Batch, names: Collection[str], loss: Loss | None = None
) -> dict[str, Signal | Failure]:
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

    Returns:
        A signal each, or why there is none although the others could be computed.

    Raises:
        ScoringError: the forward or backward pass raised, or the loss is not finite.
        UsageError: labels that the network has no output for.
    """
    forward = partial(_forward, model, batch, loss, second="grasp" in names, fisher="fisher" in names)
    faster = channels_last_is_faster(model.recipe.dtype, model.device)
    value, leaves, capture, dead = made = in_the_faster_layout(forward, faster=faster)
    if not value.requires_grad:
        return {name: Signal(dict.fromkeys(model.scored), dead=True) for name in names}
    probes = capture.probes if capture else []
    gradients = _grad([value], [*leaves.values(), *probes], create_graph="grasp" in names)
    first, probed = gradients[: len(leaves)], gradients[len(leaves) :]
    detached = [None if g is None else g.detach() for g in first]
    theta = [leaf.detach() for leaf in leaves.values()]
    plain = products(theta, detached)
    rounding = ROUNDING if _is_rounding(value.detach(), plain) else None

    def signal(tensors: Gradients) -> Signal:
        return Signal(spread(model, dict(zip(leaves, tensors, strict=True))), dead, rounding=rounding)

    found: dict[str, Signal | Failure] = {}
    if "plain" in names:
        found["plain"] = signal(plain)
    if "grad_norm" in names:
        there = [
            None if g is None else with_pruned_zero(name, g, model.masks)
            for name, g in zip(leaves, detached, strict=True)
        ]
        found["grad_norm"] = signal([None if g is None else share_of_norm(g) for g in there])
    if capture:
        found["fisher"] = _fisher(capture, signal(capture.fisher(leaves, probed)), leaves, first)
    if "grasp" in names:
        try:
            found["grasp"] = signal(_grasp(model, made, first, partial(forward, channels_last=False)))
        except ScoringError as error:
            found["grasp"] = error.failure
    return found


@torch.no_grad()
def _is_rounding(loss: Tensor, plain: Gradients) -> bool:
    """Whether no layer's Σ |θ g| is more than rounding of the loss leaves where nothing flows."""
    there = [t for t in plain if t is not None and t.numel()]
    if not there or not bool(loss):
        return False
    sums = torch.stack([t.to(torch.float64) for t in torch._foreach_norm(there, 1)])
    return 0.0 < float(sums.max()) <= _DUST * torch.finfo(loss.dtype).eps * float(loss.abs())


def _fisher(capture: Channels, signal: Signal, leaves: Mapping[str, Tensor], gradients: Gradients) -> Signal | Failure:
    """The signal, with a note on the layers that fisher cannot see; refused where it sees none."""
    used = [name for name, gradient in zip(leaves, gradients, strict=True) if gradient is not None]
    unseen = capture.unseen(used)
    if used and len(unseen) == len(used):
        reads = "fisher reads what convolution and linear layers output, which this network computes in other ways"
        return Failure("refused", reads)
    if not unseen:
        return signal
    listed = ", ".join(unseen)
    return signal._replace(notes=(f"fisher reads what convolution and linear layers output: not seen are {listed}",))


def _forward(
    model: Model, batch: Batch, loss: Loss | None, *, second: bool, fisher: bool, channels_last: bool,
    moved_by: Mapping[str, Tensor] | None = None,
) -> Pass:  # fmt: skip
    """One forward pass with the recipe's choices, at the network's weights or beside them.

    Raises:
        ScoringError: it raised, or the loss is not finite.
        UsageError: labels that the network has no output for.
    """
    recipe = model.recipe
    dtype, device = getattr(torch, recipe.dtype), next(iter(model.scored.values())).device
    weights, inputs = model.weights(dtype), to_device(batch.inputs, device, dtype)
    if channels_last:
        weights, inputs = in_channels_last(weights), in_channels_last(inputs)
    for name, step in (moved_by or {}).items():
        weights[name] += step
    leaves = {name: weights[name].requires_grad_() for name in model.scored if name in weights}
    capture = Channels(leaves) if fisher else None
    set_mode(model, recipe.mode)
    inputs, sources = followed(inputs)
    options = {"second": second, "dropout": recipe.dropout == "on", "trains": recipe.mode == "train"}
    with differentiable(channels_last=channels_last, **options):
        with capture or nullcontext():
            output = model.call(weights, inputs)
        value = loss_of(output, batch.targets, device, dtype, loss, recipe.temperature)
    if not value.requires_grad and any(out.requires_grad for out in flatten(output)):
        raise ScoringError("the loss is detached from the network's output: nothing to differentiate", "detached")
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
    try:
        hessian = _product(leaves, first)
    except ScoringError as error:
        reason = missing_derivative(error.__cause__, model.net, again)
        raise (error if reason is None else ScoringError(reason)) from error.__cause__
    return [
        None if g is None else torch.zeros_like(leaf) if h is None else -(leaf.detach() * h)
        for g, h, leaf in zip(first, hessian, leaves, strict=True)
    ]


def _product(leaves: list[Tensor], first: Gradients) -> Gradients:
    """Hg; all None where the gradient does not depend on the weights."""
    moving = [g for g in first if g is not None and g.requires_grad]
    if not moving:
        return [None] * len(leaves)
    return _grad(moving, leaves, along=[g.detach() for g in moving])


def not_a_number(model: Model, batch: Batch, loss: Loss | None, *, second: bool) -> str | None:
    """The operation whose derivative is the first to be NaN, in words; None where no derivative is.

    Args:
        model: the network.
        batch: inputs and targets.
        loss: as in `gradient_saliencies`.
        second: whether to look at second derivatives too.
    """
    forward = partial(_forward, model, batch, loss, second=second, fisher=False, channels_last=False)

    def run() -> None:
        made = forward()
        first = _grad([made.value], list(made.leaves.values()), create_graph=second)
        if second:
            _product(list(made.leaves.values()), first)

    return first_nan(run)


def second_order_error(model: Model, batch: Batch, loss: Loss | None = None) -> float:
    """How far autograd's Hg is from the central difference of g along itself, as a share of the latter's norm.

    About 1e-7 or less in float64. More says that a part of the network gives autograd a wrong second derivative: a
    custom backward that computes with detached tensors raises nothing and changes grasp. An activation with a kink at
    zero may, by chance, change sides between the two points.

    Args:
        model: the network.
        batch: inputs and targets.
        loss: as in `gradient_saliencies`.

    Raises:
        ScoringError: a pass raised.
        UsageError: labels that the network has no output for.
    """
    forward = partial(_forward, model, batch, loss, second=True, fisher=False, channels_last=False)

    def gradients(made: Pass, create_graph: bool = False) -> Gradients:
        return _grad([made.value], list(made.leaves.values()), create_graph=create_graph)

    made = forward()
    leaves, first = list(made.leaves.values()), gradients(made, create_graph=True)
    found = zip(made.leaves, first, _product(leaves, first), strict=True)
    products = {name: torch.zeros_like(g) if h is None else h for name, g, h in found if g is not None}
    along = {name: g.detach() for name, g in zip(made.leaves, first, strict=True) if g is not None}
    size = _norm([made.leaves[name].detach() for name in along]) / max(_norm(along.values()), 1e-300)
    step = torch.finfo(leaves[0].dtype).eps ** (1 / 3) * size
    ahead, back = (
        dict(zip(made.leaves, gradients(forward(moved_by={name: s * g for name, g in along.items()})), strict=True))
        for s in (step, -step)
    )
    expected = {name: (_zero(ahead[name], g) - _zero(back[name], g)) / (2 * step) for name, g in along.items()}
    return _norm([products[name] - expected[name] for name in along]) / max(_norm(expected.values()), 1e-300)


def _zero(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient


def _norm(tensors: Iterable[Tensor]) -> float:
    return float(torch.stack([torch.linalg.vector_norm(t) for t in tensors]).norm())


def _grad(
    values: list[Tensor], inputs: list[Tensor], *, along: list[Tensor] | None = None, create_graph: bool = False
) -> Gradients:
    try:
        return list(torch.autograd.grad(values, inputs, along, create_graph=create_graph, allow_unused=True))
    except (RuntimeError, NotImplementedError) as error:
        raise ScoringError(
            f"the backward pass raised {type(error).__name__}: {' '.join(str(error).split())}", kind_of(error)
        ) from error
