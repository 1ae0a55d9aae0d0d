"""TransNAS-Bench-101's networks; `transnasbench101.py` says which. Imports torch: only `build` imports this."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ssnr.spaces.modules import (
    Cell,
    Conv2d,
    ConvTranspose2d,
    Draw,
    Edge,
    FactorizedReduce,
    Layer,
    Linear,
    cell_layers,
    fan_out_normal,
    fill,
    relu_conv_norm,
    torch_default,
)
from ssnr.spaces.transnasbench101.layout import EDGES, STEM, Block, DecoderLayer

TILES = 9


def micro_cell(digits: Sequence[int], block: Block) -> Cell:
    """One cell: width and stride change on the three edges that leave node 0."""
    operations: dict[Edge, nn.Module | None] = {}
    for edge, digit in zip(EDGES, digits, strict=True):
        own = block if edge[0] == 0 else Block(block.channels_out, block.channels_out, 1)
        if digit == 1:
            changes = own.stride > 1 or own.channels_in != own.channels_out
            operations[edge] = FactorizedReduce(own.channels_in, own.channels_out) if changes else None
        elif digit:
            kernel = 1 if digit == 2 else 3
            operations[edge] = relu_conv_norm(own.channels_in, own.channels_out, kernel, stride=own.stride)
    return Cell(operations, 4, block.channels_out, stride=block.stride)


class BasicBlock(nn.Module):
    """Two ReLU-convolution-norms and a shortcut, which is a 1×1 convolution where width or size change."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *relu_conv_norm(block.channels_in, block.channels_out, 3, stride=block.stride),
            *relu_conv_norm(block.channels_out, block.channels_out, 3),
        )
        self.shortcut: nn.Module = nn.Identity()
        if block.changes:
            self.shortcut = nn.Sequential(
                Conv2d(block.channels_in, block.channels_out, 1, stride=block.stride, bias=False),
                nn.BatchNorm2d(block.channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, channels_out, H/stride, W/stride)."""
        out: Tensor = self.main(x) + self.shortcut(x)
        return out


class TransNasNetwork(nn.Module):
    """Stem, blocks, decoder of the task."""

    def __init__(self, blocks: Sequence[nn.Module], decoder: nn.Module) -> None:
        super().__init__()
        half, width = STEM
        self.stem = nn.Sequential(
            Conv2d(3, half, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(half),
            *relu_conv_norm(half, width, 3, stride=2),
        )
        self.blocks = nn.Sequential(*blocks)
        self.decoder = decoder

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) → what the task asks for: (N, outputs), or (N, outputs, H, W)."""
        out: Tensor = self.decoder(self.blocks(self.stem(x)))
        return out


class Jigsaw(TransNasNetwork):
    """One encoder for nine tiles, whose features are joined on channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Tiles (N, 9, 3, H, W) → logits (N, permutations)."""
        if self.training:  # the benchmark's nine calls: batch statistics of each tile's place alone
            features = torch.cat([self.blocks(self.stem(tile)) for tile in x.unbind(1)], dim=1)
        else:
            features = self.blocks(self.stem(x.flatten(0, 1)))
            features = features.unflatten(0, (x.shape[0], TILES)).flatten(1, 2)
        out: Tensor = self.decoder(features)
        return out


def classifier(channels: int, outputs: int) -> nn.Sequential:
    """Global average pooling and a linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), Linear(channels, outputs))


def decoder(layers: Sequence[DecoderLayer], last: nn.Module | None) -> nn.Sequential:
    """A convolutional decoder: all layers but the last with norm and leaky ReLU."""
    made: list[nn.Module] = []
    for layer in layers:
        if layer.doubles:
            made.append(ConvTranspose2d(layer.channels_in, layer.channels_out, 3, 2, 1, output_padding=1))
        else:
            made.append(Conv2d(layer.channels_in, layer.channels_out, 3, padding=1))
        if layer is not layers[-1]:
            made += [nn.BatchNorm2d(layer.channels_out), nn.LeakyReLU(0.2)]
    return nn.Sequential(*made, *([] if last is None else [last]))


def initialise(net: TransNasNetwork, order: Sequence[Edge], rng: np.random.Generator, init: str) -> None:
    """Fill the weights: the encoder by `init`, the decoder as PyTorch does by default, and at last what is idle."""
    rule = fan_out_normal if init == "fan_out" else torch_default
    body, idle = cell_layers(net.blocks, order)
    stem = [m for m in net.stem if isinstance(m, Layer)]
    tail = [m for m in net.decoder.modules() if isinstance(m, Layer)]
    draws: list[Draw] = [draw for layer in [*stem, *body] for draw in rule(layer)]
    draws += [draw for layer in tail for draw in torch_default(layer)]
    fill(draws + [draw for layer in idle for draw in rule(layer)], rng)
