"""lnwot and relu_logdet: naswot read from the outputs of layers, one by one or together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ssnr.core.errors import ScoringError
from ssnr.proxies.capture import capture_of
from ssnr.proxies.naswot import agreements, log_determinant


def layer_determinants(outputs: Iterable[tuple[str, Tensor]]) -> dict[str, float]:
    """Ln |det K_l| of each layer by name; 0 where K_l is singular, the sum over uses where a layer runs twice.

    Args:
        outputs: for each use of a layer, its name and output > 0 as Booleans (N, units).

    >>> import torch
    >>> codes = torch.tensor([[True, True, False], [True, False, False]])
    >>> layer_determinants([("a", codes), ("b", codes[:, :1])])
    {'a': 1.609437912434..., 'b': 0.0}
    """
    return _determinants((name, agreements(code)) for name, code in outputs)


def _determinants(kernels: Iterable[tuple[str, Tensor]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, kernel in kernels:
        try:
            value = log_determinant(kernel, "lnwot")
        except ScoringError:  # the definition's value of a layer to which two samples are the same
            value = 0.0
        found[name] = found.get(name, 0.0) + value
    return found


def _kernels(context: Any, name: str) -> list[tuple[str, Tensor]]:
    """K_l of each use of a layer, once for all that read it."""
    capture = capture_of(context)
    capture.pairs(name)
    if "kernels" not in context.cache:
        outputs = capture.observed("layers").outputs
        context.cache["kernels"] = [(layer, agreements(code)) for layer, code in outputs]
    kernels: list[tuple[str, Tensor]] = context.cache["kernels"]
    if not kernels:
        raise ScoringError(f"{name} reads what convolution and linear layers output, and none was seen")
    return kernels


def determinants_of(context: Any, name: str) -> dict[str, float]:
    """`layer_determinants` of a network, once for all that read it.

    Raises:
        ScoringError: one sample only, or no layer.
    """
    if "determinants" not in context.cache:
        context.cache["determinants"] = _determinants(_kernels(context, name))
    found: dict[str, float] = context.cache["determinants"]
    return found


def lnwot(context: Any) -> float:
    """Σ_l ln |det K_l|, K_l the agreements of [output of l > 0]; singular K_l add 0 (Xiang et al., AutoML 2023)."""
    return sum(determinants_of(context, "lnwot").values())


def relu_logdet(context: Any) -> float:
    """Ln |det Σ_l K_l|, K_l the agreements of [output of layer l > 0] (the `nwot` of Xiang et al., AutoML 2023)."""
    kernels = _kernels(context, "relu_logdet")
    return log_determinant(torch.stack([kernel for _, kernel in kernels]).sum(0), "relu_logdet")
