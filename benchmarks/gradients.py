"""Gradient saliencies beside the field's usual code: ratios within one run.

    python -m benchmarks.gradients [--quick] [--json FILE]

On cells of NAS-Bench-201, a ResNet and a VGG (float32, one thread, one process, ways taking turns, the
fastest round, processor time):

    grasp     `measure` beside two forward passes, two backward passes and a backward pass through the second
    together  grasp, grasp_abs, snip, grad_norm, plain and fisher at once beside grasp alone
    snip      `measure` in float32 beside a straight float64 loop, and beside the same loop in float32
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.naive import aggregates
from ssnr.core.recipes import get_recipe
from ssnr.scoring import measure
from ssnr.spaces import get_space

Batch = tuple[Tensor, Tensor]
Build = Callable[[], nn.Module]
SINGLE = get_recipe("seed(dtype=float32)")
# What snip and grasp_abs are read from is measured as plain and grasp.
TOGETHER = ("grasp", "plain", "grad_norm", "fisher")
ALL_CONVOLUTIONS = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def usual_grasp(net: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """−θ ⊙ Hg as the field's programs compute it."""
    net = copy.deepcopy(net).train()
    weights = {f"{n}.weight": m.weight for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    first = torch.autograd.grad(F.cross_entropy(net(batch[0]), batch[1]), list(weights.values()), allow_unused=True)
    loss = F.cross_entropy(net(batch[0]), batch[1])
    second = torch.autograd.grad(loss, list(weights.values()), create_graph=True, allow_unused=True)
    z = sum((g.detach() * s).sum() for g, s in zip(first, second, strict=True) if g is not None)
    assert isinstance(z, Tensor)
    z.backward()
    return {name: -(w * w.grad).detach() for name, w in weights.items() if w.grad is not None}


def naive_snip(net: nn.Module, batch: Batch, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """|θ ⊙ g|: a copy in train mode, one forward and one backward pass."""
    twin = copy.deepcopy(net).to(dtype).train()
    F.cross_entropy(twin(batch[0].to(dtype)), batch[1]).backward()
    return {n: (p * p.grad).detach().abs() for n, p in twin.named_parameters() if p.dim() >= 2 and p.grad is not None}


def ours(names: tuple[str, ...], net: nn.Module, batch: Batch) -> None:
    measure(net, names, batch=batch, recipe=SINGLE)


class Residual(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(*_conv(channels_in, channels, stride), nn.ReLU(), *_conv(channels, channels))
        changes = stride > 1 or channels_in != channels
        self.shortcut = nn.Sequential(*_conv(channels_in, channels, stride, 1)) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C', H/stride, W/stride)."""
        return F.relu(self.main(x) + self.shortcut(x))


def _conv(channels_in: int, channels: int, stride: int = 1, kernel: int = 3) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(channels)]


def resnet20() -> nn.Module:
    """The CIFAR ResNet of three stages of three blocks."""
    widths = [(16, 16, 1), (16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 32, 1), (32, 64, 2)]
    blocks = [Residual(*width) for width in (*widths, (64, 64, 1), (64, 64, 1))]
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return nn.Sequential(*_conv(3, 16), nn.ReLU(), *blocks, *pool)


def vgg16(width: float = 1.0) -> nn.Module:
    """VGG-16 with batch norm for 32×32 images, all channels times `width`."""
    layers: list[nn.Module] = []
    before = 3
    for stage in ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3):
        for channels in (int(c * width) for c in stage):
            layers += [*_conv(before, channels), nn.ReLU(inplace=True)]
            before = channels
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before, 10))


def networks(quick: bool) -> dict[str, Build]:
    """What is measured, by name; NAS-Bench-201's are a sample, each once."""
    space = get_space("nasbench201")
    sample = space.sample_many(2 if quick else 8, np.random.default_rng(0))
    cells: dict[str, Build] = {
        f"nasbench201 {k}": (lambda arch=arch: space.build(arch)) for k, arch in enumerate(sample)
    }
    if quick:
        return cells | {"vgg16, a quarter wide": partial(vgg16, 0.25)}
    return cells | {
        "nasbench201, 3×3 all over": partial(space.build, ALL_CONVOLUTIONS),
        "resnet20": resnet20,
        "vgg16, a quarter wide": partial(vgg16, 0.25),
        "vgg16": vgg16,
    }


def ways(net: nn.Module, batch: Batch) -> dict[str, Callable[[], Any]]:
    """What is timed on one network."""
    return {
        "grasp_usual": partial(usual_grasp, net, batch),
        "grasp": partial(ours, ("grasp",), net, batch),
        "together": partial(ours, TOGETHER, net, batch),
        "snip_naive": lambda: aggregates(naive_snip(net, batch)),
        "snip_naive_float32": lambda: aggregates(naive_snip(net, batch, torch.float32)),
        "snip": partial(ours, ("plain",), net, batch),
    }


def fastest(timed: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Milliseconds of each way, the ways taking turns."""
    found: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, way in timed.items():
            started = time.process_time()
            way()
            found[name].append((time.process_time() - started) * 1e3)
    return {name: min(times) for name, times in found.items()}


def rows(quick: bool) -> list[dict[str, Any]]:
    """One row a network, and one over all cells of NAS-Bench-201: milliseconds and ratios."""
    threads, generator = torch.get_num_threads(), torch.Generator().manual_seed(0)
    torch.set_num_threads(1)
    size = 16 if quick else 64
    batch = torch.randn(size, 3, 32, 32, generator=generator), torch.randint(10, (size,), generator=generator)
    found = []
    try:
        for name, build in networks(quick).items():
            torch.manual_seed(0)
            net = build()
            found.append({"network": name, "batch": size, **fastest(ways(net, batch), 2 if quick else 3)})
    finally:
        torch.set_num_threads(threads)
    cells = [row for row in found if row["network"].removeprefix("nasbench201 ").isdigit()]
    mean = {way: sum(row[way] for row in cells) / len(cells) for way in cells[0] if way not in ("network", "batch")}
    found.insert(0, {"network": f"nasbench201, mean of {len(cells)}", "batch": size, **mean})
    return [row | _ratios(row) for row in found]


def _ratios(row: dict[str, Any]) -> dict[str, float]:
    return {
        "grasp_to_usual": row["grasp"] / row["grasp_usual"],
        "together_to_grasp": row["together"] / row["grasp"],
        "snip_speedup": row["snip_naive"] / row["snip"],
        "snip_speedup_float32": row["snip_naive_float32"] / row["snip"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two cells and a slim VGG, batch 16")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = rows(arguments.quick)
    columns = [name for name in found[0] if name not in ("network", "batch")]
    print(" " * 28 + "".join(f"{name:>21}" for name in columns))
    for row in found:
        print(f"{row['network']:28}" + "".join(f"{row[name]:21.2f}" for name in columns))
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": found}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
