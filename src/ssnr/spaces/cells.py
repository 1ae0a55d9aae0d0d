"""Operations and networks that several cell spaces share. The only module of `spaces` that imports torch.

Layers are made without initialising them (`initialise` draws every weight once, from one stream), which is most of the
cost of building a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

Edge = tuple[int, int]


class Conv2d(nn.Conv2d):
    """A convolution that starts with whatever is in memory: `initialise` fills it."""

    def reset_parameters(self) -> None:
        """Leave the weights alone."""


class Linear(nn.Linear):
    """A linear layer that starts with whatever is in memory: `initialise` fills it."""

    def reset_parameters(self) -> None:
        """Leave the weights alone."""


class FixedBatchNorm2d(nn.BatchNorm2d):
    """The batch norm in the reduction blocks of zero-cost-nas, which its BN-free networks keep."""


def relu_conv_norm(
    channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, variant: str = "default"
) -> nn.Sequential:
    """ReLU, convolution that keeps the size at stride 1, batch norm."""
    plain = variant == "default"
    return nn.Sequential(
        nn.ReLU(),
        Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=not plain),
        nn.BatchNorm2d(channels_out, affine=plain, track_running_stats=plain),
    )


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


class Cell(nn.Module):
    """Node j is the sum over its incoming edges of operation(node i); the last node is the output.

    `none` is left out: it adds zero. A node that nothing reaches is zero, still connected to the input, so that what
    hangs on it has gradient 0 as in the benchmark's own network.
    """

    def __init__(self, ops: Sequence[str], edges: Sequence[Edge], channels: int, *, variant: str = "default") -> None:
        super().__init__()
        self.edges = [(edge, op) for edge, op in zip(edges, ops, strict=True) if op != "none"]
        self.nodes = max(target for _, target in edges) + 1
        for (source, target), op in self.edges:
            if op == "nor_conv_3x3":
                self.add_module(f"{source}_{target}", relu_conv_norm(channels, channels, 3, variant=variant))
            elif op == "nor_conv_1x1":
                self.add_module(f"{source}_{target}", relu_conv_norm(channels, channels, 1, variant=variant))
            elif op == "avg_pool_3x3":
                pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
                self.add_module(f"{source}_{target}", pool)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → the same shape."""
        values: list[Tensor | None] = [x] + [None] * (self.nodes - 1)
        for (source, target), op in self.edges:
            below = values[source]
            if below is None:
                below = values[source] = x * 0.0
            term = below if op == "skip_connect" else self._modules[f"{source}_{target}"](below)  # type: ignore[misc]
            so_far = values[target]
            values[target] = term if so_far is None else so_far + term
        out = values[-1]
        return x * 0.0 if out is None else out


class CellNetwork(nn.Module):
    """Stem, three stages of equal cells with reduction blocks between them, head: NAS-Bench-201's network."""

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
        reduction_norm = nn.BatchNorm2d if variant == "default" else FixedBatchNorm2d
        self.stem = nn.Sequential(Conv2d(3, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]))
        body: list[nn.Module] = []
        for stage, width in enumerate(widths):
            if stage:
                body.append(Reduction(widths[stage - 1], reduction_norm))
            body += [Cell(ops, edges, width, variant=variant) for _ in range(cells_per_stage)]
        self.cells = nn.Sequential(*body)
        self.lastact = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True))
        self.classifier = Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) → logits (N, classes)."""
        features = self.lastact(self.cells(self.stem(x))).mean((2, 3))
        logits: Tensor = self.classifier(features)
        return logits


def initialise(net: CellNetwork, order: Sequence[int], rng: np.random.Generator) -> None:
    """Fill every convolution and linear layer with U(−1/√fan_in, 1/√fan_in), PyTorch's default.

    Weights are drawn in the order stem, cells (their convolutions in `order`, edge positions), reductions, head, and
    only then the convolutions that are not in `order`: they reach nothing, and what comes before must not depend on
    whether they are there.
    """
    layers: list[nn.Module] = [net.stem[0]]
    idle: list[nn.Module] = []
    for block in net.cells:
        if isinstance(block, Reduction):
            layers += [m for m in block.modules() if isinstance(m, Conv2d)]
            continue
        assert isinstance(block, Cell)
        convs = {edge: block._modules[f"{edge[0]}_{edge[1]}"][1] for edge, op in block.edges if "conv" in op}  # type: ignore[index]
        chosen = [ALL_EDGES[k] for k in order]
        layers += [convs[edge] for edge in chosen]
        idle += [conv for edge, conv in convs.items() if edge not in chosen]
    _fill([*layers, net.classifier, *idle], rng)


ALL_EDGES: tuple[Edge, ...] = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


def _fill(layers: Iterable[nn.Module], rng: np.random.Generator) -> None:
    """Draw all weights at once, then hand each layer its share."""
    shares: list[tuple[nn.Parameter, float]] = []
    for layer in layers:
        assert isinstance(layer, (Conv2d, Linear))
        bound = float(layer.weight[0].numel()) ** -0.5
        shares.append((layer.weight, bound))
        if layer.bias is not None:
            shares.append((layer.bias, bound))
    flat = torch.from_numpy(rng.random(sum(p.numel() for p, _ in shares), dtype=np.float32)).mul_(2.0).sub_(1.0)
    with torch.no_grad():
        for (parameter, bound), drawn in zip(shares, flat.split([p.numel() for p, _ in shares]), strict=True):
            parameter.copy_(drawn.view_as(parameter)).mul_(bound)
