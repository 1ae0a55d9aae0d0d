"""What the tests of spaces share: the suite that ships in the package, published files, another program's counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ssnr.testing.spaces import SpaceContract as SpaceContract
from ssnr.testing.spaces import outputs as outputs


def published(name: str) -> Path:
    """A benchmark file, from the folders in $SSNR_DATA; the test is skipped where there is none."""
    folders = [Path(folder) for folder in os.environ.get("SSNR_DATA", "").split(os.pathsep) if folder]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    return pytest.skip(f"{name} is not in $SSNR_DATA" if folders else "SSNR_DATA is not set")


def naslib_flops(net: nn.Module, input_shape: tuple[int, ...]) -> int:
    """The `flops` of NASLib's tables: those of executed leaf modules, with the faults of the tool that counted them.

    A module that runs several times counts once; batch norm costs 2 an element with affine weights and 1 without; the
    kernel of adaptive pooling is one too large; transposed convolutions and linear biases cost nothing.
    """
    cost: dict[nn.Module, float] = {}

    def hook(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        x = args[0]
        if isinstance(module, nn.Conv2d):
            bias = out[0].numel() if module.bias is not None else 0
            cost[module] = module.weight[0].numel() * out[0].numel() + bias
        elif isinstance(module, nn.Linear):
            cost[module] = module.weight.numel()
        elif isinstance(module, nn.BatchNorm2d):
            cost[module] = x[0].numel() * (2 if module.affine else 1)
        elif isinstance(module, (nn.ReLU, nn.LeakyReLU)):
            cost[module] = x[0].numel()
        elif isinstance(module, (nn.AvgPool2d, nn.MaxPool2d)):
            cost[module] = out[0].numel() * int(module.kernel_size) ** 2
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            cost[module] = x.shape[1] * (x.shape[2] + 1) * (x.shape[3] + 1)

    net = net.to("meta").eval()
    for module in net.modules():
        if not list(module.children()):
            module.register_forward_hook(hook)
    net(torch.empty((1, *input_shape), device="meta"))
    return int(sum(cost.values()))
