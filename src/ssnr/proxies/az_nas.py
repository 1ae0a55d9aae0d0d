"""az_nas: expressivity, progressivity and trainability of a chain of blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssnr.core.errors import ScoringError
from ssnr.proxies.capture import Capture, capture_of, gradients
from ssnr.proxies.scatter import cross, scatter

SAMPLES = 64
_CHAINS = (nn.Sequential, nn.ModuleList)


def entropy(features: Tensor) -> float:
    """H = −Σ p ln(p + 1e−8), p the eigenvalues of the channels' covariance as shares of their sum.

    Args:
        features: (N, C, height, width); positions of all images are the samples.

    Raises:
        ScoringError: the features are constant, or not finite.

    >>> round(entropy(torch.tensor([[[[1.0, -1, 1, -1]], [[1, 1, -1, -1]]]])), 6)
    0.693147
    """
    rows = features.detach().movedim(1, -1)
    found = scatter(rows)
    if not math.isfinite(found.trace) or found.constant(rows, 8 * torch.finfo(rows.dtype).eps):
        raise ScoringError("az_nas: a block outputs the same at every position of every image, or numbers beyond float")
    p = torch.linalg.eigvalsh(found.products / found.trace).clamp_min(0)
    return float(-(p * (p + 1e-8).log()).sum())


def block_trainability(g_in: Tensor, g_out: Tensor) -> float:
    """2 − s − 1/(s + 1e−6), s the largest singular value of (g_inᵀ g_out)/positions; −∞ of the identity.

    Args:
        g_in: gradient at the input of the block, (N, C, height, width).
        g_out: the signs that it is the vector-Jacobian product of.

    Raises:
        ScoringError: the block changes height and width by other than one whole factor.
    """
    if g_in.shape == g_out.shape and torch.equal(g_in, g_out):
        return -math.inf
    if g_in.shape[2:] != g_out.shape[2:]:
        (h, w), (oh, ow) = g_in.shape[2:], g_out.shape[2:]
        if h % oh or w % ow or h // oh != w // ow:
            raise ScoringError(f"az_nas: a block turns {h}×{w} positions into {oh}×{ow}, which is no whole factor")
        g_in = F.pixel_unshuffle(g_in, h // oh)
    rows, columns = (g.movedim(1, -1) for g in (g_in, g_out))
    positions = columns.numel() // columns.shape[-1]
    s = float(torch.linalg.matrix_norm(cross(rows, columns) / positions, 2))
    return 2 - s - 1 / (s + 1e-6)


def chain_of(net: nn.Module) -> list[nn.Module]:
    """The blocks of a network: what its outermost lists and sequences hold, where that is modules of modules.

    Of a network without such, what its longest list or sequence holds.
    """
    found: list[nn.Module] = []

    def walk(module: nn.Module) -> None:
        own = list(module.children())
        if isinstance(module, _CHAINS) and sum(any(True for _ in child.children()) for child in own) > 1:
            found.extend(own)
            return
        for child in own:
            walk(child)

    walk(net)
    longest: Sequence[nn.Module] = max(
        (list(m.children()) for m in net.modules() if isinstance(m, _CHAINS)), key=len, default=[]
    )
    return found or list(longest)


@contextmanager
def _recorded(blocks: Sequence[nn.Module], features: list[Tensor]) -> Iterator[None]:
    """Feature maps at the first block's input and at every block's output; a later block may write in place."""

    def before(module: nn.Module, args: Any) -> None:
        if not features and args and isinstance(args[0], Tensor) and args[0].dim() == 4:
            features.append(args[0])

    def after(module: nn.Module, args: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or output.dim() != 4:
            return None
        features.append(output)
        return output.clone()

    handles = [block.register_forward_hook(after) for block in blocks]
    handles += [block.register_forward_pre_hook(before) for block in blocks[:1]]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _kaiming(capture: Capture, weights: dict[str, Tensor], generator: torch.Generator) -> None:
    """Weights N(0, 2/fan-in), biases 0, scales of norms 1, in place."""
    for name, value in weights.items():
        if name in capture.model.scored:
            drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            value.copy_(drawn * math.sqrt(2 / value[0].numel()))
        elif name.endswith("bias"):
            value.zero_()
        elif name.endswith("weight"):
            value.fill_(1.0)


def az_nas(context: Any) -> dict[str, float]:
    """Three of the four numbers whose ranks over a population a study combines (Lee & Ham, CVPR 2024).

    expressivity Σ H, progressivity min (H_next − H), trainability the mean over blocks; the fourth, complexity, is the
    control `flops`. Weights by Kaiming, 64 normal images, batch statistics.
    """
    if "az_nas" in context.cache:
        known: dict[str, float] = context.cache["az_nas"]
        return known
    capture = capture_of(context)
    blocks = chain_of(context.model.net)
    features: list[Tensor] = []
    generator = capture.generator()
    if len(blocks) > 1:
        with _recorded(blocks, features):
            x, state = capture.noise(SAMPLES, generator), generator.get_state()

            def change(weights: dict[str, Tensor]) -> None:
                features.clear()  # of a pass in another layout, which did not get to the end
                generator.set_state(state)
                _kaiming(capture, weights, generator)

            capture.forward(x, change=change, weights=True, watch=False, mode="train")
    if len(features) < 3:
        raise ScoringError("az_nas reads a chain of blocks with feature maps between them, and found none")
    entropies = [entropy(value) for value in features]
    trainable = []
    for f_in, f_out in pairwise(features):
        bits = torch.randint(0, 2, f_out.shape, generator=generator, dtype=f_out.dtype)
        signs = torch.empty_like(f_out).copy_(bits).mul_(2).sub_(1)  # in the feature map's order of memory
        g_in = gradients(f_out, [f_in], grad_outputs=signs)[0] if f_out.requires_grad else None
        trainable.append(block_trainability(torch.zeros_like(f_in) if g_in is None else g_in, signs))
    found = {
        "expressivity": sum(entropies),
        "progressivity": min(b - a for a, b in pairwise(entropies)),
        "trainability": sum(trainable) / len(trainable),
    }
    context.cache["az_nas"] = found
    return found


def az_nas_expressivity(context: Any) -> float:
    """Σ over feature maps between blocks of the entropy of their channels' principal components."""
    return az_nas(context)["expressivity"]


def az_nas_progressivity(context: Any) -> float:
    """The least growth of that entropy from one block to the next."""
    return az_nas(context)["progressivity"]


def az_nas_trainability(context: Any) -> float:
    """Mean over blocks of 2 − s − 1/s, s how much a block amplifies gradients."""
    return az_nas(context)["trainability"]
