"""Many architectures of one cell space in one forward and one backward pass, for synflow, plain, snip and grasp.

A supernet holds every candidate operation of a space once, and each sample of a batch follows its own architecture
through it. All architectures share the weights of (block, edge, operation), drawn from the seed alone. Synflow reads a
network as |θ| on ones with norms bypassed: activations are never negative, ReLU does nothing, everything is linear
(max pooling piece by piece). So the backward pass is written by hand, walks the blocks in reverse, and reduces each
sample's θ ⊙ ∂R/∂θ to moments as it goes; no full set of gradients is ever held.

Depth and width cannot overflow: what a block outputs, and the gradient of it, is scaled for each sample to a largest
entry in [½, 1), and stands for itself times 2**exponent. A block with two inputs first brings them to the larger of
their exponents, and so does a sum of two gradients; what the smaller one then loses is below 2**−126 of the larger.
A layer's saliencies have the exponent of what lies in its block plus that of the gradient that comes into it.

The numbers are those of building each network alone with the same weights (`Supernet.network`), in float32 except
where pixels under a max pooling differ by less than its rounding (`pools.MaxPool`).

Plain and snip take the same way with real images, signed weights, ReLU and batch norm (`loss_pass`). In float32 a
pre-activation within rounding of zero may fall on the other side of ReLU's kink than in another float32 pass, and norms
of one image magnify rounding: layers then differ by 1e-4 to 1e-2, as far as each network alone is from float64.
Grasp (`grasp_pass`) goes forward and back once more, by the derivative of every step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssnr.supernet.supernet import Supernet as Supernet

__all__ = ["Supernet"]


def __getattr__(name: str) -> Any:
    # `layouts` says what has a supernet without torch; only the supernet itself needs it.
    if name == "Supernet":
        from ssnr.supernet.supernet import Supernet

        return Supernet
    raise AttributeError(f"module 'ssnr.supernet' has no attribute {name!r}")
