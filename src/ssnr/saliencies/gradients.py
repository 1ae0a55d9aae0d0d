"""plain, grad_norm, fisher and grasp: one forward, one backward, and for grasp one Hessian-vector product."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext

import torch
from torch import Tensor

from ssnr._errors import ScoringError
from ssnr._masks import surviving
from ssnr._model import Model
from ssnr.data import Batch
from ssnr.linearize import without_dropout
from ssnr.saliencies.channels import Channels
from ssnr.saliencies.losses import loss_of
from ssnr.saliencies.signals import Loss, Signal, followed, moved, products, reaches, set_mode, share_of_norm, spread


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
    dtype = getattr(torch, model.recipe.dtype)
    device = next(iter(model.scored.values())).device
    weights = model.weights(dtype)
    leaves = {name: weights[name].requires_grad_() for name in model.scored if name in weights}
    capture = Channels(leaves) if "fisher" in names else None
    set_mode(model, model.recipe.mode)
    inputs, sources = followed(moved(batch.inputs, device, dtype))
    with torch.enable_grad(), without_dropout() if model.recipe.dropout == "off" else nullcontext():
        with capture or nullcontext():
            output = model.call(weights, inputs)
        value = loss_of(output, batch.targets, device, dtype, loss, model.recipe.temperature)
    if not value.requires_grad:
        return {name: Signal(dict.fromkeys(model.scored), dead=True) for name in names}
    dead = bool(sources) and not reaches(value, sources)
    second = "grasp" in names
    probes = capture.probes if capture else []
    gradients = _grad(value, [*leaves.values(), *probes], create_graph=second)
    first, probed = gradients[: len(leaves)], gradients[len(leaves) :]
    detached = [None if g is None else g.detach() for g in first]
    theta = [leaf.detach() for leaf in leaves.values()]

    def signal(tensors: list[Tensor | None]) -> Signal:
        return Signal(spread(model, dict(zip(leaves, tensors, strict=True))), dead)

    found: dict[str, Signal] = {}
    if "plain" in names:
        found["plain"] = signal(products(theta, detached))
    if "grad_norm" in names:
        there = [
            None if g is None else surviving(name, g, model.masks) for name, g in zip(leaves, detached, strict=True)
        ]
        found["grad_norm"] = signal([None if g is None else share_of_norm(g) for g in there])
    if capture:
        found["fisher"] = signal(capture.fisher(leaves, probed))
    if second:
        found["grasp"] = signal(_grasp(list(leaves.values()), first, detached))
    return found


def _grasp(leaves: list[Tensor], first: list[Tensor | None], detached: list[Tensor | None]) -> list[Tensor | None]:
    """−θ ⊙ Hg with Hg = ∂/∂θ Σ stop(g)·g(θ): one product with the Hessian, which is never formed."""
    terms = [
        (g * d).sum()
        for g, d in zip(first, detached, strict=True)
        if g is not None and d is not None and g.requires_grad
    ]
    if not terms:  # the gradient does not depend on the weights: the Hessian is zero
        return [None if g is None else torch.zeros_like(leaf) for g, leaf in zip(first, leaves, strict=True)]
    hessian = _grad(torch.stack(terms).sum(), leaves)
    return [
        None if g is None else torch.zeros_like(leaf) if h is None else -(leaf.detach() * h)
        for g, h, leaf in zip(first, hessian, leaves, strict=True)
    ]


def _grad(value: Tensor, inputs: list[Tensor], *, create_graph: bool = False) -> list[Tensor | None]:
    try:
        return list(torch.autograd.grad(value, inputs, create_graph=create_graph, allow_unused=True))
    except (RuntimeError, NotImplementedError) as error:
        raise ScoringError(
            f"the backward pass raised {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
