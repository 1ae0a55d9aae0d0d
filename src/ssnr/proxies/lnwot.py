"""lnwot and relu_logdet: naswot read from the outputs of layers, one by one or together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from ssnr.core.errors import ScoringError
from ssnr.proxies.capture import capture_of
from ssnr.proxies.naswot import agreements, log_determinant, naswot_score


def layer_determinants(outputs: Iterable[tuple[str, Tensor]]) -> dict[str, float]:
    """Ln |det K_l| of each layer by name; 0 where K_l is singular, the sum over uses where a layer runs twice.

    Args:
        outputs: for each use of a layer, its name and output > 0 as Booleans (N, units).

    >>> import torch
    >>> codes = torch.tensor([[True, True, False], [True, False, False]])
    >>> layer_determinants([("a", codes), ("b", codes[:, :1])])
    {'a': 1.609437912434..., 'b': 0.0}
    """
    found: dict[str, float] = {}
    for name, code in outputs:
        try:
            value = log_determinant(agreements(code), "lnwot")
        except ScoringError:  # the definition's value of a layer to which two samples are the same
            value = 0.0
        found[name] = found.get(name, 0.0) + value
    return found


def _outputs(context: Any, name: str) -> list[tuple[str, Tensor]]:
    capture = capture_of(context)
    capture.pairs(name)
    if not capture.data.outputs:
        raise ScoringError(f"{name} reads what convolution and linear layers output, and none was seen")
    return capture.data.outputs


def lnwot(context: Any) -> float:
    """Σ_l ln |det K_l|, K_l the agreements of [output of l > 0]; singular K_l add 0 (Xiang et al., AutoML 2023)."""
    return sum(layer_determinants(_outputs(context, "lnwot")).values())


def relu_logdet(context: Any) -> float:
    """Ln |det Σ_l K_l|, K_l the agreements of [output of layer l > 0] (the `nwot` of Xiang et al., AutoML 2023)."""
    return naswot_score([code for _, code in _outputs(context, "relu_logdet")], "relu_logdet")
