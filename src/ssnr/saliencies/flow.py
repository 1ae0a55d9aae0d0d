"""Synflow: one forward and one backward pass, on ones and |θ|."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssnr._errors import UsageError
from ssnr._model import Model, outputs_of
from ssnr.data import ones
from ssnr.linearize import linear
from ssnr.saliencies.signals import Signal, products, set_mode, spread


def synflow(model: Model, input_shape: tuple[int, ...] | None, inputs: Any = None) -> Signal:
    """S = |θ ⊙ ∂R/∂θ|, R = the sum of all outputs of the network at |θ| on an all-ones input (Tanaka et al., 2020).

    Norms and dropout are passed through, biases and buffers enter by magnitude, activations stay.

    Args:
        model: the network.
        input_shape: of one sample without its batch dimension.
        inputs: what the network takes, instead of `input_shape`; only its shape is used.

    Raises:
        ScoringError: the forward pass raised, or has no floating-point output.
        UsageError: neither `input_shape` nor `inputs`.
    """
    dtype = getattr(torch, model.recipe.synflow_dtype)
    device = next(iter(model.scored.values())).device
    leaf = ones_like(inputs, input_shape).to(device, dtype).requires_grad_()
    weights = model.weights(dtype, torch.abs, statistics=model.recipe.norms != "all")
    leaves = {name: weights[name].requires_grad_() for name in model.scored if name in weights}
    # Bypassed norms have no mode; where a recipe keeps some, they are in the mode that its program leaves them in.
    set_mode(model, "eval" if model.recipe.norms == "all" else model.recipe.mode)
    with torch.enable_grad(), linear(model.net, model.recipe.norms):
        # A copy, because a network may change its input in place, which a leaf does not allow.
        outputs = outputs_of(model.call(weights, leaf.clone()))
        R = torch.stack([out.sum() for out in outputs]).sum()
    if not R.requires_grad:
        return Signal(dict.fromkeys(model.scored), dead=True)
    *gradients, flow = torch.autograd.grad(R, [*leaves.values(), leaf], allow_unused=True)
    # Not in place: two weights that are added have one gradient tensor between them.
    magnitudes = [None if s is None else s.abs_() for s in products(list(leaves.values()), list(gradients))]
    dead = flow is None or not bool(flow.any())
    return Signal(spread(model, dict(zip(leaves, magnitudes, strict=True))), dead)


def ones_like(inputs: Any, input_shape: tuple[int, ...] | None) -> Tensor:
    """The all-ones input of a network: from the shape of one sample, or from that of the inputs it takes."""
    if input_shape is not None:
        return ones(input_shape)
    if isinstance(inputs, (tuple, list)) and len(inputs) == 1:
        inputs = inputs[0]
    if isinstance(inputs, Tensor):
        return ones(tuple(inputs.shape[1:]))
    raise UsageError("synflow needs the shape of one input: input_shape=(3, 32, 32), or a batch")
