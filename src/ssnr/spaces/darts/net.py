"""The DARTS network; `darts.py` says which. Imports torch: only `build` imports this."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ssnr.spaces.darts.layout import CellPlan, Skeleton
from ssnr.spaces.darts.text import Cell, Genotype
from ssnr.spaces.modules import (
    Conv2d,
    FactorizedReduce,
    Layer,
    Linear,
    fill,
    relu_conv_norm,
    torch_default,
    zeros_like_output,
)


def operation(op: str, channels: int, stride: int, skeleton: Skeleton) -> nn.Module | None:
    """The module of an operation; None for the identity."""
    if op == "skip_connect":
        return FactorizedReduce(channels, channels, affine=skeleton.affine) if stride > 1 else None
    if op.endswith("pool_3x3"):
        pool: nn.Module = nn.MaxPool2d(3, stride, 1)
        if op.startswith("avg"):
            pool = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False)) if skeleton.pool_norm else pool
    kernel = int(op[-1])
    if op.startswith("dil"):
        return nn.Sequential(*_separable(channels, kernel, stride, 2, skeleton.affine))
    return nn.Sequential(
        *_separable(channels, kernel, stride, 1, skeleton.affine), *_separable(channels, kernel, 1, 1, skeleton.affine)
    )


def _separable(channels: int, kernel: int, stride: int, dilation: int, affine: bool) -> list[nn.Module]:
    """ReLU, depthwise convolution, 1×1 convolution, norm."""
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    ]


class DartsCell(nn.Module):
    """Nodes 2 … 5, each the sum of two operations of earlier nodes, joined on channels."""

    def __init__(self, cell: Cell, place: CellPlan, skeleton: Skeleton) -> None:
        super().__init__()
        self.cell, self.width, self.stride = cell, place.width, 2 if place.reduction else 1
        older, newer = place.inputs
        if place.after_reduction:
            self.preprocess0: nn.Module = FactorizedReduce(older, self.width)
        else:
            self.preprocess0 = relu_conv_norm(older, self.width, 1)
        self.preprocess1 = relu_conv_norm(newer, self.width, 1)
        for index, node in enumerate(cell):
            for slot, (op, source) in enumerate(node):
                stride = self.stride if source < 2 else 1
                made = None if op == "none" else operation(op, self.width, stride, skeleton)
                if made is not None:
                    self.add_module(f"{index + 2}_{slot}", made)

    def forward(self, older: Tensor, newer: Tensor) -> Tensor:
        """Two (N, C, H, W) → (N, 4·width, H/stride, W/stride)."""
        values = [self.preprocess0(older), self.preprocess1(newer)]
        for index, node in enumerate(self.cell):
            so_far: Tensor | None = None
            for slot, (op, source) in enumerate(node):
                if op == "none":
                    continue
                module = self._modules.get(f"{index + 2}_{slot}")
                term = values[source] if module is None else module(values[source])
                so_far = term if so_far is None else so_far + term
            values.append(zeros_like_output(values[0], self.width, self.stride) if so_far is None else so_far)
        return torch.cat(values[2:], dim=1)

    def layers(self, index: int, slot: int) -> list[Layer]:
        """The convolutions of one operation."""
        made = self._modules.get(f"{index + 2}_{slot}")
        return [] if made is None else [m for m in made.children() if isinstance(m, Conv2d)]


class DartsNetwork(nn.Module):
    """Stem, cells, head; without a stem the image is both inputs of the first cell, and features come out."""

    def __init__(self, genotype: Genotype, places: Sequence[CellPlan], skeleton: Skeleton, num_classes: int) -> None:
        super().__init__()
        self.stem: nn.Sequential | None = None
        if skeleton.stem:
            wide = skeleton.stem * skeleton.width
            self.stem = nn.Sequential(Conv2d(3, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide))
        made = [DartsCell(genotype.reduce if p.reduction else genotype.normal, p, skeleton) for p in places]
        self.cells = nn.ModuleList(made)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = Linear(4 * places[-1].width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) → logits (N, classes), or features (N, 4·width)."""
        older = newer = x if self.stem is None else self.stem(x)
        for cell in self.cells:
            older, newer = newer, cell(older, newer)
        features: Tensor = self.pool(newer)
        logits: Tensor = self.classifier(features)
        return features if self.stem is None else logits


def initialise(net: DartsNetwork, orders: Sequence[Sequence[tuple[int, int]]], rng: np.random.Generator) -> None:
    """Fill the weights as PyTorch does by default: stem, cells, head, and at last the operations of nothing.

    `orders` gives (node, slot) as the normal and the reduction cells draw their operations.
    """
    layers: list[Layer] = [] if net.stem is None else [m for m in net.stem if isinstance(m, Conv2d)]
    idle: list[Layer] = []
    for cell in net.cells:
        assert isinstance(cell, DartsCell)
        order = orders[cell.stride > 1]
        for before in (cell.preprocess0, cell.preprocess1):
            layers += [m for m in before.children() if isinstance(m, Conv2d)]
        for place in order:
            layers += cell.layers(*place)
        for place in ((index, slot) for index in range(len(cell.cell)) for slot in range(2)):
            if place not in order:
                idle += cell.layers(*place)
    fill((draw for layer in [*layers, net.classifier, *idle] for draw in torch_default(layer)), rng)
