"""synflow_bn: synflow with norms kept."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from ssnr.core.errors import ScoringError
from ssnr.networks.model import Model
from ssnr.proxies.capture import capture_of
from ssnr.saliencies import synflow_of


def synflow_bn(context: Any) -> float:
    """Σ |θ ∂R/∂θ| as synflow, with every norm kept, in eval mode (Abdelfattah et al., ICLR 2021).

    In train mode a batch norm turns the constant maps of an all-ones input into its bias, and the signal is lost.
    """
    recipe = replace(context.recipe, norms="none", mode="eval")
    capture = capture_of(context)
    model = Model(context.net, recipe, context.forward)
    inputs = None if capture.batch is None else capture.batch.inputs
    signal = synflow_of(model, context.input_shape, inputs)
    total = sum(float(t.sum(dtype=torch.float64)) for t in signal.tensors.values() if t is not None)
    try:
        return math.ldexp(total, signal.exponent)
    except OverflowError:
        raise ScoringError("synflow_bn is beyond float64; synflow, which bypasses norms, has its logarithm") from None
