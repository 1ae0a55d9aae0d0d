"""swap: how many different patterns the units of a network show over a batch; and the linear regions of its images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssnr.proxies.capture import capture_of
from ssnr.proxies.naswot import kernel_of


def packed(codes: Iterable[Tensor]) -> np.ndarray[Any, Any]:
    """The code of each unit over N samples, as one row of bytes a unit."""
    # Turned first, so that a unit's bits lie side by side: several times as fast as packing down the columns.
    return np.concatenate([np.packbits(code.T.contiguous().cpu().numpy(), axis=1) for code in codes])


def swap_score(codes: Iterable[Tensor]) -> int:
    """Number of distinct columns of the codes (N, V) of all activations, at most min(V, 2^N).

    >>> swap_score([torch.tensor([[True, True, False], [True, False, False]])])
    3
    """
    rows = packed(codes)
    words = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8))).view(np.uint64)
    if not len(words):
        return 0
    # Sorted, like are side by side: np.unique is a hundred times slower.
    ranked = np.sort(words, axis=0) if words.shape[1] == 1 else words[np.lexsort(words.T)]
    return 1 + int((ranked[1:] != ranked[:-1]).any(1).sum())


def regions(kernel: Tensor) -> float:
    """Σ_n 1 / (number of samples with the code of sample n): how many linear regions the samples lie in.

    Args:
        kernel: (N, N) number of units at which two samples agree; all of them where the codes are the same.

    >>> from ssnr.proxies.naswot import agreements
    >>> regions(agreements(torch.tensor([[True, True], [True, True], [True, False]])))
    2.0
    """
    same = kernel == kernel.diagonal()[:, None]
    return float((~torch.tril(same, -1).any(1)).sum())  # those that are like none before


def swap(context: Any) -> float:
    """Number of distinct activation patterns of units over the batch (Peng et al., ICLR 2024).

    At the network's own weights and on the whole batch; with many images nearly every unit is distinct, and the score
    tends to the number of units.
    """
    return float(swap_score(capture_of(context).codes("swap")))


def linear_regions(context: Any) -> float:
    """Number of linear regions that the images lie in (Chen, Gong & Wang, ICLR 2021)."""
    return regions(kernel_of(context, "linear_regions"))
