"""NAS-Bench-101's network; `nasbench101.py` says which. Imports torch: only `build` imports this."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ssnr.spaces.modules import Conv2d, Draw, Linear, fan_out_normal, fill, torch_default
from ssnr.spaces.nasbench101.cells import Cell
from ssnr.spaces.nasbench101.layout import STEM, WIDTHS, cell_channels, vertex_widths


def conv_norm_relu(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    """Convolution that keeps the size, batch norm, ReLU: this space activates last."""
    conv = Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU())


class CellModule(nn.Module):
    """A pruned cell. Whatever takes the cell's input takes a 1×1 projection of its own."""

    def __init__(self, cell: Cell, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.cell = cell
        self.widths = (*vertex_widths(cell, channels_out), channels_out)
        for vertex, (sources, width) in enumerate(zip(cell.sources, self.widths, strict=True), start=1):
            if 0 in sources:
                self.add_module(f"project_{vertex}", conv_norm_relu(channels_in, width, 1))
            if vertex > len(cell.ops):
                continue
            op = cell.ops[vertex - 1]
            if op == "maxpool3x3":
                self.add_module(f"vertex_{vertex}", nn.MaxPool2d(3, 1, 1))
            else:
                self.add_module(f"vertex_{vertex}", conv_norm_relu(width, width, 3 if op == "conv3x3" else 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, H, W) → (N, channels_out, H, W)."""
        values = [x]
        for vertex, (sources, width) in enumerate(zip(self.cell.sources[:-1], self.widths, strict=False), start=1):
            # A vertex may be one channel wider than what it feeds, which then takes its first channels.
            terms = [values[v][:, :width] for v in sources if v > 0]
            if 0 in sources:
                terms.append(self._modules[f"project_{vertex}"](x))  # type: ignore[misc]
            summed = terms[0]
            for term in terms[1:]:
                summed = summed + term
            values.append(self._modules[f"vertex_{vertex}"](summed))  # type: ignore[misc]
        ends = [values[v] for v in self.cell.sources[-1] if v > 0]
        out = ends[0] if len(ends) == 1 else torch.cat(ends, dim=1) if ends else None
        if 0 in self.cell.sources[-1]:
            projected: Tensor = self._modules[f"project_{len(self.widths)}"](x)  # type: ignore[misc]
            out = projected if out is None else out + projected
        assert out is not None  # a pruned cell has an edge into its output
        return out


class Network(nn.Module):
    """Stem, three stacks of three cells with max-pooling between them, head."""

    def __init__(self, cell: Cell, num_classes: int) -> None:
        super().__init__()
        body: list[nn.Module] = [conv_norm_relu(3, STEM, 3)]
        before = 0
        for channels_in, channels_out, stack in cell_channels():
            if stack > before:
                body.append(nn.MaxPool2d(2))
            body.append(CellModule(cell, channels_in, channels_out))
            before = stack
        self.layers = nn.Sequential(*body)
        self.classifier = Linear(WIDTHS[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) → logits (N, classes)."""
        logits: Tensor = self.classifier(self.layers(x).mean((2, 3)))
        return logits


def initialise(net: Network, rng: np.random.Generator, init: str) -> None:
    """Fill the weights in the order of the modules, `fan_out` or as PyTorch does by default."""
    draws: list[Draw] = []
    for conv in (m for m in net.layers.modules() if isinstance(m, Conv2d)):
        draws += fan_out_normal(conv) if init == "fan_out" else torch_default(conv)
    if init == "fan_out":
        draws += [Draw(net.classifier.weight, 0.01, normal=True), Draw(net.classifier.bias, 0.0)]
    else:
        draws += torch_default(net.classifier)
    fill(draws, rng)
