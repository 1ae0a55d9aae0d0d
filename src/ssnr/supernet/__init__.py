"""Many architectures of one cell space in one forward and one backward pass, for synflow.

A supernet holds every candidate operation of a space once, and each sample of a batch follows its own architecture
through it. All architectures share the weights of (block, edge, operation), drawn from the seed alone. Synflow reads a
network as |θ| on ones with norms bypassed: activations are never negative, ReLU does nothing, everything is linear.
So the backward pass is written by hand, walks the blocks in reverse, and reduces each sample's θ ⊙ ∂R/∂θ to moments as
it goes; no full set of gradients is ever held. Activations and gradients carry a power-of-two exponent per sample,
renewed after every block, so that depth and width cannot overflow.

The numbers are those of building each network alone with the same weights (`Supernet.network`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssnr.supernet.core import Supernet as Supernet

__all__ = ["Supernet"]


def __getattr__(name: str) -> Any:
    # `layouts` says what has a supernet without torch; only the supernet itself needs it.
    if name == "Supernet":
        from ssnr.supernet.core import Supernet

        return Supernet
    raise AttributeError(f"module 'ssnr.supernet' has no attribute {name!r}")
