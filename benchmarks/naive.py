"""The yardstick and the oracle: a straight float64 loop over networks, written for clarity.

    python -m benchmarks.naive [--space nasbench201] [--archs 100] [--saliency synflow|snip] [--batch-size 64]

For each network: build it with PyTorch's own initialisation, copy it to float64, one forward and one backward pass
(synflow: magnitudes, no norms, ones; snip: a batch, batch statistics, mean cross-entropy), then sum, σ and the three
aggregates weight by weight.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssnr import data
from ssnr.spaces import Space, get_space

Named = dict[str, Tensor]


def synflow(net: nn.Module, input_shape: tuple[int, ...]) -> Named:
    twin = copy.deepcopy(net).double().eval()
    for module in list(twin.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.modules.batchnorm._NormBase):
                setattr(module, name, nn.Identity())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.abs_()
    twin(torch.ones(1, *input_shape, dtype=torch.float64)).sum().backward()
    return _products(twin)


def snip(net: nn.Module, inputs: Tensor, targets: Tensor) -> Named:
    twin = copy.deepcopy(net).double().train()
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    F.cross_entropy(twin(inputs.double()), targets).backward()
    return _products(twin)


def _products(net: nn.Module) -> Named:
    weights = {name: p for name, p in net.named_parameters() if p.dim() >= 2 and p.grad is not None}
    return {name: (p * p.grad).detach().abs() for name, p in weights.items()}


def aggregates(saliency: Named) -> tuple[float, float, float]:
    live = [s.flatten() for s in saliency.values() if bool(s.any())]
    if not live:
        return 0.0, 0.0, 0.0
    whole = torch.cat(live)
    layerwise = sum(float(s.sum() / s.std(correction=0)) for s in live)
    return float(whole.sum()), float(whole.sum() / whole.std(correction=0)), layerwise


def fresh(space: Space, arch: str) -> nn.Module:
    """The network, its weights drawn by PyTorch."""
    net = space.build(arch)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            type(module).__bases__[0].reset_parameters(module)
    return net


def loop(space: Space, archs: Iterable[str], batch: data.Batch | None) -> float:
    """Seconds for the three aggregates of each architecture: synflow without a batch, snip with one."""
    started = time.perf_counter()
    for arch in archs:
        net = fresh(space, arch)
        found = synflow(net, space.input_shape) if batch is None else snip(net, batch.inputs, batch.targets)
        aggregates(found)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="nasbench201")
    parser.add_argument("--archs", type=int, default=100)
    parser.add_argument("--saliency", choices=("synflow", "snip"), default="synflow")
    parser.add_argument("--batch-size", type=int, default=64)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    space = get_space(chosen.space)
    batch = None
    if chosen.saliency == "snip":
        batch = data.load(None, space.input_shape, space.num_classes, size=chosen.batch_size)
    archs = space.sample_many(chosen.archs, np.random.default_rng(0))
    print(f"{loop(space, archs, batch) / chosen.archs * 1e3:.2f} ms a network")


if __name__ == "__main__":
    main()
