"""naswot: how differently the activations of a network answer to different images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssnr.core.errors import ScoringError
from ssnr.proxies.capture import capture_of

_WORDS = 512  # of 64 units: what is compared at once stays in the cache, and counts below 2¹⁶
_ONES = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


def agreements(*codes: Tensor) -> Tensor:
    """Number of units at which each two of N binary codes agree.

    K = C Cᵀ + (1 − C)(1 − C)ᵀ = V − Σ_v (C_iv xor C_jv), counted on 64 units at a time.

    Args:
        codes: Booleans (N, V); of several, K is their sum.

    Returns:
        (N, N), float64: whole numbers, exact.

    >>> agreements(torch.tensor([[True, True, False], [True, False, False]])).tolist()
    [[3.0, 2.0], [2.0, 3.0]]
    """
    words = np.concatenate([_packed(code) for code in codes], axis=1)
    n, units = len(words), sum(code.shape[1] for code in codes)
    differing = np.zeros((n, n))
    for start in range(0, words.shape[1], _WORDS):
        part = np.ascontiguousarray(words[:, start : start + _WORDS])
        for i in range(n - 1):
            differing[i, i + 1 :] += _ones(part[i + 1 :] ^ part[i])
    return torch.from_numpy(units - differing - differing.T).to(codes[0].device)


def _packed(codes: Tensor) -> np.ndarray[Any, Any]:
    """Each code as words of 64 bits, zeros at the end."""
    bits = np.packbits(codes.cpu().numpy(), axis=1)
    return np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))).view(np.uint64)


def _ones(words: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """How many bits of each row are set."""
    if hasattr(np, "bitwise_count"):
        counts: Any = np.bitwise_count(words)
    else:  # NumPy 1
        counts = _ONES[words.view(np.uint8)]
    found: np.ndarray[Any, Any] = counts.sum(1, dtype=np.uint16)
    return found


def log_determinant(kernel: Tensor, name: str) -> float:
    """Ln |det K| of a symmetric positive semi-definite matrix.

    Raises:
        ScoringError: K is singular to the precision of float64.
    """
    values = torch.linalg.eigvalsh(kernel.double().cpu())
    rank = int((values > values[-1].clamp_min(0) * len(values) * torch.finfo(torch.float64).eps).sum())
    if rank < len(values):
        raise ScoringError(
            f"{name}: the {len(values)} samples have codes of rank {rank}, so that the determinant is 0; "
            "use distinct samples, and fewer than the network has units"
        )
    return float(values.log().sum())


def naswot_score(codes: Iterable[Tensor], name: str = "naswot") -> float:
    """Ln |det Σ K_a| over activations a (Mellor, Turner, Storkey & Crowley, ICML 2021).

    Args:
        codes: for each activation, input > 0 as Booleans (N, units).
        name: what the error calls it.

    Raises:
        ScoringError: the sum of K is singular.
    """
    return log_determinant(agreements(*codes), name)


def kernel_of(context: Any, name: str) -> Tensor:
    """Σ K_a of a network's activations, once for all that read it.

    Raises:
        ScoringError: the network has none.
    """
    if "agreements" not in context.cache:
        context.cache["agreements"] = agreements(*capture_of(context).codes(name))
    kernel: Tensor = context.cache["agreements"]
    return kernel


def naswot(context: Any) -> float:
    """Ln |det K|, K_ij the number of activation units at which images i and j agree (Mellor et al., ICML 2021)."""
    capture_of(context).pairs("naswot")
    return log_determinant(kernel_of(context, "naswot"), "naswot")
