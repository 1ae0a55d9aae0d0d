"""The oracle: each saliency in the plainest way, in float64, from separate passes over a copy of the network.

Slow, and blind to whatever a network does that these few lines do not think of; what it gives is right.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def matrices(net: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters with two or more dimensions."""
    return {name: p for name, p in net.named_parameters() if p.dim() >= 2}


def naive_synflow(net: nn.Module, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """θ ∂R/∂θ: a float64 copy, weights replaced by magnitudes, batch norms by identities, one backward call."""
    twin = copy.deepcopy(net).double().eval()
    for module in list(twin.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.modules.batchnorm._NormBase):
                setattr(module, name, nn.Identity())
    with torch.no_grad():
        for p in twin.parameters():
            p.abs_()
    twin(torch.ones(1, *shape, dtype=torch.float64)).sum().backward()
    return {name: p.detach() * p.grad for name, p in matrices(twin).items() if p.grad is not None}


def naive_gradients(net: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, dict[str, Tensor]]:
    """plain, snip and grasp: a float64 copy in train mode without dropout, mean cross-entropy, separate passes."""
    twin = copy.deepcopy(net).double().train()
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    inputs, targets = batch[0].double(), batch[1]
    weights = matrices(twin)

    def gradients(create_graph: bool) -> list[Tensor]:
        loss = F.cross_entropy(twin(inputs), targets)
        found = torch.autograd.grad(loss, list(weights.values()), create_graph=create_graph, allow_unused=True)
        return [torch.zeros_like(w) if g is None else g for g, w in zip(found, weights.values(), strict=True)]

    g = gradients(False)
    z = torch.stack([(a * b).sum() for a, b in zip(g, gradients(True), strict=True)]).sum()
    h = torch.autograd.grad(z, list(weights.values()), allow_unused=True)
    named = list(zip(weights.items(), g, h, strict=True))
    return {
        "plain": {name: w.detach() * g for (name, w), g, _ in named},
        "snip": {name: (w.detach() * g).abs() for (name, w), g, _ in named},
        "grasp": {name: -w.detach() * (torch.zeros_like(w) if h is None else h) for (name, w), _, h in named},
    }
