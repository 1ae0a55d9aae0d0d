"""t_cet: layer-wise expressivity times the SSNR of the layer's saliency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssnr.core.errors import ScoringError
from ssnr.core.moments import from_tensors
from ssnr.networks.masks import counted, without_pruned
from ssnr.proxies.capture import capture_of
from ssnr.proxies.lnwot import determinants_of
from ssnr.saliencies import synflow_of


def t_cet_score(determinants: Mapping[str, float], ratios: Mapping[str, float]) -> float:
    """Σ_l ln|det K_l| · SSNR_l, by the names of layers; a layer that one of the two lacks adds 0.

    >>> t_cet_score({"a": 1.0986122887, "b": 0.0}, {"b": 6.4450339, "a": 4.2008403})
    4.615094776446195
    """
    return sum(value * ratios.get(name, 0.0) for name, value in determinants.items())


def t_cet(context: Any) -> float:
    """Σ_l lnwot_l · SSNR_l, SSNR_l = S_l/σ_l of synflow, paired by name of layer (Xiang et al., AutoML 2023)."""
    capture = capture_of(context)
    capture.pairs("t_cet")
    model = context.model
    signal = synflow_of(model, context.input_shape, context.batch.inputs, whole=False)
    if signal.dead:
        raise ScoringError("t_cet: the output does not depend on the input, so that no layer has an SSNR")
    tensors = without_pruned(signal.tensors, model.masks)
    moments = from_tensors(tensors, counted(model.scored, model.masks), exponent=signal.exponents)
    layers = moments.under(context.recipe.rules).layers()
    return t_cet_score(determinants_of(context, "t_cet"), {layer.name: layer.ratio for layer in layers})
