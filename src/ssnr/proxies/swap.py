"""swap: how many different patterns the units of a network show over a batch; and the linear regions of its images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssnr.proxies.capture import capture_of


def packed(codes: Iterable[Tensor]) -> np.ndarray[Any, Any]:
    """The code of each unit over N samples, as one row of bytes a unit."""
    parts = [np.packbits(code.cpu().numpy(), axis=0) for code in codes]
    return np.ascontiguousarray(np.concatenate(parts, axis=1).T)


def swap_score(codes: Iterable[Tensor]) -> int:
    """Number of distinct columns of the codes (N, V) of all activations, at most min(V, 2^N).

    >>> swap_score([torch.tensor([[True, True, False], [True, False, False]])])
    3
    """
    rows = packed(codes)
    words = -rows.shape[1] % 8
    rows = np.pad(rows, ((0, 0), (0, words))).view(np.uint64)
    return len(np.unique(rows[:, 0])) if rows.shape[1] == 1 else len(np.unique(rows, axis=0))


def regions(codes: Iterable[Tensor]) -> float:
    """Σ_n 1 / (number of samples with the code of sample n): how many linear regions the samples lie in.

    >>> regions([torch.tensor([[True, True], [True, True], [True, False]])])
    2.0
    """
    whole = np.packbits(torch.cat([code.cpu() for code in codes], 1).numpy(), axis=1)
    return float(len(np.unique(whole, axis=0)))


def swap(context: Any) -> float:
    """Number of distinct activation patterns of units over the batch (Peng et al., ICLR 2024).

    At the network's own weights and on the whole batch; with many images nearly every unit is distinct, and the score
    tends to the number of units.
    """
    return float(swap_score(capture_of(context).codes("swap")))


def linear_regions(context: Any) -> float:
    """Number of linear regions that the images lie in (Chen, Gong & Wang, ICLR 2021)."""
    return regions(capture_of(context).codes("linear_regions"))
