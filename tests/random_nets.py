"""Random small networks, built from a seed: branches, residuals, joins, poolings, convolutions, norms."""

from __future__ import annotations

import copy
import random

import torch
from torch import Tensor, nn

NORMS = (
    lambda c: nn.BatchNorm2d(c),
    lambda c: nn.InstanceNorm2d(c, affine=True),
    lambda c: nn.GroupNorm(2, c),
    lambda c: nn.LocalResponseNorm(2),
)


class Add(nn.Module):
    """A residual, added in place or not."""

    def __init__(self, body: nn.Module, in_place: bool) -> None:
        super().__init__()
        self.body, self.in_place = body, in_place

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(x)
        if self.in_place:
            out += x
            return out
        return x + out


class Join(nn.Module):
    """Two branches side by side."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.other(x)], 1)


class Scale(nn.Module):
    """A raw parameter, one number a channel and position; of rank 3, so that it is scored."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


def convolution(rng: random.Random, channels: int, out: int) -> nn.Module:
    kind = rng.randrange(5)
    bias = rng.random() < 0.5
    if kind == 0:
        return nn.Conv2d(channels, out, 1, bias=bias)
    if kind == 1 and channels % 2 == 0 and out % 2 == 0:
        return nn.Conv2d(channels, out, 3, padding=1, groups=2, bias=bias)
    if kind == 2:
        return nn.ConvTranspose2d(channels, out, 3, padding=1, bias=bias)
    if kind == 3 and channels == out:
        return nn.Conv2d(channels, out, 3, padding=1, groups=channels, bias=bias)
    return nn.Conv2d(channels, out, 3, padding=rng.randrange(1, 3), dilation=1, bias=bias)


def block(rng: random.Random, channels: int, depth: int) -> tuple[nn.Module, int]:
    """A module that takes `channels`, and how many it outputs; odd paddings only where nothing joins them."""
    kind = rng.randrange(6) if depth else 0
    if kind == 1:
        body = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), rng.choice(NORMS)(channels), nn.ReLU())
        return Add(body, False), channels
    if kind == 2:
        body = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1), rng.choice(NORMS)(channels))
        return Add(body, True), channels
    if kind == 3:
        one, other = (nn.Conv2d(channels, 2 * rng.randrange(1, 3), 1, bias=rng.random() < 0.5) for _ in range(2))
        return Join(one, other), one.out_channels + other.out_channels
    if kind == 4:
        pool = rng.choice([nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1), nn.AvgPool2d(2, 1, count_include_pad=False)])
        return nn.Sequential(pool, Scale(channels)), channels
    if kind == 5:
        inner = [block(rng, channels, 0)]
        inner.append(block(rng, inner[0][1], depth - 1))
        return nn.Sequential(*(m for m, _ in inner)), inner[-1][1]
    out = 2 * rng.randrange(1, 4)
    layers = [convolution(rng, channels, out)]
    if rng.random() < 0.7:
        layers.append(rng.choice(NORMS)(out))
    layers.append(rng.choice([nn.ReLU(inplace=True), nn.LeakyReLU(0.1), nn.PReLU(), nn.Dropout(0.3)]))
    return nn.Sequential(*layers), out


class Net(nn.Module):
    """Blocks, global pooling, a norm and a head; some weights may be tied, some are never used."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = random.Random(seed)
        torch.manual_seed(seed)
        channels = 2
        blocks = []
        for _ in range(rng.randrange(1, 4)):
            made, channels = block(rng, channels, 2)
            blocks.append(made)
        self.blocks = nn.Sequential(*blocks)
        self.one = nn.Linear(channels, channels)
        self.norm = rng.choice([nn.LayerNorm(channels), nn.BatchNorm1d(channels), nn.Identity()])
        self.two = nn.Linear(channels, channels)
        if rng.random() < 0.3:
            self.two.weight = self.one.weight
        self.unused = nn.Linear(3, 3)
        self.head = nn.Linear(channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        features = self.blocks(x).mean((2, 3))
        return self.head(torch.relu(self.two(self.norm(self.one(features)))))


def naive_synflow(net: nn.Module, x: Tensor) -> dict[str, Tensor | None]:
    """|θ ∂R/∂θ| of a copy whose weights are magnitudes, whose norms and dropouts are nothing, in float64."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)
    plain = copy.deepcopy(net).double()
    for module in list(plain.modules()):
        for name, child in module.named_children():
            if isinstance(child, (*kinds, nn.Dropout)):
                setattr(module, name, Copy())
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.abs_()
    plain(x).sum().backward()
    return {n: None if p.grad is None else (p * p.grad).detach() for n, p in plain.named_parameters() if p.dim() > 1}


class Copy(nn.Module):
    """What is left of a norm: a tensor of its own, equal to the input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()
