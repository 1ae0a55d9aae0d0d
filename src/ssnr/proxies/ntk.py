"""ntk: the condition number of the neural tangent kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import BaseTorchFunctionMode, TorchFunctionMode

from ssnr.core.errors import ScoringError
from ssnr.proxies.capture import Capture, capture_of, gradients, logits_of
from ssnr.proxies.per_sample import ConstantNorms


def condition(kernel: Tensor) -> float:
    """λ_max / λ_min of a symmetric positive definite matrix.

    Raises:
        ScoringError: λ_min is 0 to the precision of the kernel.

    >>> g = torch.tensor([[1.0, 0, 1], [0, 2, 0]])
    >>> condition(g @ g.T)
    2.0
    """
    values = torch.linalg.eigvalsh(kernel.double().cpu())
    low, high = float(values[0]), float(values[-1])
    if not low > high * len(values) * torch.finfo(kernel.dtype).eps:
        raise ScoringError(
            f"ntk: the kernel of {len(values)} samples is singular, so that its condition number is infinite; "
            "use distinct samples, and fewer than the network has weights"
        )
    return high / low


def kernel_of(capture: Capture) -> Tensor:
    """Θ = G Gᵀ, row n of G the gradient of the sum of sample n's outputs.

    The recipe `seed` takes the scored weights, and the statistics of batch norms as constants: one backward pass, or N
    for networks whose layers cannot be told apart by sample. Other recipes take N passes back through the statistics,
    and every parameter whose name has "weight" in it, scales of norms among them, as the authors' program does.
    """
    n = capture.samples
    kernel = torch.zeros(n, n, dtype=capture.dtype, device=capture.model.device)

    def take(name: str, rows: Tensor) -> None:
        kernel.addmm_(rows, rows.T)

    scored = capture.model.scored
    if capture.model.recipe.name != "seed":
        weights = [name for name in capture.model.parameters() if "weight" in name or name in scored]
        return _of_passes(capture, weights, BaseTorchFunctionMode)
    if capture.per_sample(take, of_loss=False):
        return kernel
    return _of_passes(capture, scored, ConstantNorms)


def _of_passes(capture: Capture, weights: Iterable[str], norms: Callable[[], TorchFunctionMode]) -> Tensor:
    """Θ by one forward pass under a mode and N backward passes."""
    with capture.watched(lambda _: norms(), weights) as (_, output, leaves, _):
        sums = logits_of(output).sum(1)
        if not sums.requires_grad:
            raise ScoringError("ntk: the output depends on no weight")
        rows = []
        for n, value in enumerate(sums):
            found = gradients(value, list(leaves.values()), retain_graph=n + 1 < len(sums))
            rows.append(torch.cat([g.detach().flatten() for g in found if g is not None]))
        g = torch.stack(rows)
        return g @ g.T


def ntk(context: Any) -> float:
    """κ = λ_max/λ_min of Θ = G Gᵀ, G_n = ∂(Σ logits of image n)/∂θ; lower is better (Chen, Gong & Wang, ICLR 2021)."""
    capture = capture_of(context)
    capture.pairs("ntk")
    if "ntk" not in context.cache:
        context.cache["ntk"] = condition(kernel_of(capture))
    return float(context.cache["ntk"])
