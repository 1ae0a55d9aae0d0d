"""te_nas: the condition number of the tangent kernel, and the number of linear regions."""

from __future__ import annotations

from typing import Any

from ssnr.proxies.ntk import ntk
from ssnr.proxies.swap import linear_regions


def te_nas(context: Any) -> dict[str, float]:
    """κ (lower is better) and linear regions (higher), whose ranks a study adds (Chen, Gong & Wang, ICLR 2021)."""
    return {"ntk": ntk(context), "linear_regions": linear_regions(context)}
