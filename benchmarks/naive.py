"""The yardstick and the oracle: a straight float64 loop over networks, written for clarity.

    python -m benchmarks.naive --archs 100

For each cell: build the network with PyTorch's own initialisation, copy it to float64, take magnitudes, drop the
norms, one forward and one backward pass on ones, then sum, σ and the three aggregates weight by weight.
"""

from __future__ import annotations

import argparse
import copy
import time

import numpy as np
import torch
from torch import nn

from ssnr.spaces import get_space


def synflow(net: nn.Module, input_shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    twin = copy.deepcopy(net).double().eval()
    for module in list(twin.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.modules.batchnorm._NormBase):
                setattr(module, name, nn.Identity())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.abs_()
    twin(torch.ones(1, *input_shape, dtype=torch.float64)).sum().backward()
    weights = {name: p for name, p in twin.named_parameters() if p.dim() >= 2 and p.grad is not None}
    return {name: (p * p.grad).detach().abs() for name, p in weights.items()}


def aggregates(saliency: dict[str, torch.Tensor]) -> tuple[float, float, float]:
    live = [s.flatten() for s in saliency.values() if bool(s.any())]
    if not live:
        return 0.0, 0.0, 0.0
    whole = torch.cat(live)
    layerwise = sum(float(s.sum() / s.std(correction=0)) for s in live)
    return float(whole.sum()), float(whole.sum() / whole.std(correction=0)), layerwise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archs", type=int, default=100)
    count = parser.parse_args().archs
    torch.set_num_threads(1)
    space = get_space("nasbench201")
    started = time.perf_counter()
    for arch in space.sample_many(count, np.random.default_rng(0)):
        net = space.build(arch)
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                type(module).__bases__[0].reset_parameters(module)
        aggregates(synflow(net, space.input_shape))
    print(f"{(time.perf_counter() - started) / count * 1e3:.2f} ms a cell")


if __name__ == "__main__":
    main()
