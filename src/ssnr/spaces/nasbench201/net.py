"""NAS-Bench-201's network; `nasbench201.py` says which. Imports torch: only `build` imports this."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from ssnr.spaces.modules import Cell, Conv2d, Edge, Linear, cell_layers, fill, relu_conv_norm, stamp, torch_default


class FixedBatchNorm2d(nn.BatchNorm2d):
    """The batch norm in the reduction blocks of zero-cost-nas, which its BN-free networks keep."""


class Reduction(nn.Module):
    """Residual block that halves the size and doubles the channels; no activation after the sum."""

    def __init__(self, channels: int, norm: type[nn.BatchNorm2d]) -> None:
        super().__init__()
        wide = 2 * channels
        self.main = nn.Sequential(
            nn.ReLU(),
            Conv2d(channels, wide, 3, stride=2, padding=1, bias=False),
            norm(wide),
            nn.ReLU(),
            Conv2d(wide, wide, 3, padding=1, bias=False),
            norm(wide),
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), Conv2d(channels, wide, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, 2C, H/2, W/2)."""
        out: Tensor = self.shortcut(x) + self.main(x)
        return out


@cache
def _reduction(channels: int, norm: type[nn.BatchNorm2d]) -> Reduction:
    with torch.device("cpu"):  # kept, so it must not hang on the device of whoever comes first
        return Reduction(channels, norm)


class CellNetwork(nn.Module):
    """Stem, three stages of equal cells with reduction blocks between them, head."""

    def __init__(
        self,
        ops: Sequence[str],
        edges: Sequence[Edge],
        *,
        num_classes: int,
        widths: Sequence[int] = (16, 32, 64),
        cells_per_stage: int = 5,
        variant: str = "default",
    ) -> None:
        super().__init__()
        used = [(edge, op) for edge, op in zip(edges, ops, strict=True) if op != "none"]
        nodes = max(target for _, target in edges) + 1
        plain = variant != "zero-cost-nas"
        reduction_norm = nn.BatchNorm2d if plain else FixedBatchNorm2d
        self.stem = nn.Sequential(Conv2d(3, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]))
        body: list[nn.Module] = []
        for stage, width in enumerate(widths):
            if stage:
                body.append(stamp(_reduction(widths[stage - 1], reduction_norm)))
            cell = Cell({edge: operation(op, width, variant) for edge, op in used}, nodes, width)
            if not plain:
                cell.add_module("spare", _spare(ops, edges, width, variant))
            body += [cell, *(stamp(cell) for _ in range(cells_per_stage - 1))]
        self.cells = nn.Sequential(*body)
        self.lastact = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True))
        self.classifier = Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) → logits (N, classes)."""
        features = self.lastact(self.cells(self.stem(x))).mean((2, 3))
        logits: Tensor = self.classifier(features)
        return logits


def operation(op: str, channels: int, variant: str) -> nn.Module | None:
    """The module of an operation, None for the identity."""
    if op == "skip_connect":
        return None
    if op == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    plain = variant != "zero-cost-nas"
    kernel = 3 if op == "nor_conv_3x3" else 1
    return relu_conv_norm(channels, channels, kernel, bias=not plain, affine=plain, running=plain)


def _spare(ops: Sequence[str], edges: Sequence[Edge], channels: int, variant: str) -> nn.ModuleDict:
    """The convolutions that zero-cost-nas makes on every edge and does not run."""
    unused = [
        (f"{source}_{target}_{op}", op)
        for (source, target), chosen in zip(edges, ops, strict=True)
        for op in ("nor_conv_3x3", "nor_conv_1x1")
        if op != chosen
    ]
    made = {name: operation(op, channels, variant) for name, op in unused}
    return nn.ModuleDict({name: module for name, module in made.items() if module is not None})


def initialise(net: CellNetwork, order: Sequence[Edge], rng: np.random.Generator) -> None:
    """Fill the weights as PyTorch does by default: stem, cells with their convolutions in `order`, head, the idle."""
    body, idle = cell_layers(net.cells, order)
    stem = net.stem[0]
    assert isinstance(stem, Conv2d)
    fill((draw for layer in [stem, *body, net.classifier, *idle] for draw in torch_default(layer)), rng)
