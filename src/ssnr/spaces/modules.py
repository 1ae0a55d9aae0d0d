"""Operations that several cell spaces share, and the filling of weights. Imports torch: only `build` imports this.

Layers are made without initialising them (`fill` draws every weight once, from one stream), which is most of the cost
of building a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssnr.spaces.base import derived_rng

Edge = tuple[int, int]


class Conv2d(nn.Conv2d):
    """A convolution that starts with whatever is in memory: `fill` gives it weights."""

    def reset_parameters(self) -> None:
        """Leave the weights alone."""


class ConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution that starts with whatever is in memory: `fill` gives it weights."""

    def reset_parameters(self) -> None:
        """Leave the weights alone."""


class Linear(nn.Linear):
    """A linear layer that starts with whatever is in memory: `fill` gives it weights."""

    def reset_parameters(self) -> None:
        """Leave the weights alone."""


Layer = Conv2d | ConvTranspose2d | Linear


# --- operations -----------------------------------------------------------------------------------------------

M = TypeVar("M", bound=nn.Module)


def stamp(module: M) -> M:
    """Another module like this one, with parameters of its own that are still to be filled, and buffers as here.

    A constructor spends most of its time on the bookkeeping of attributes; copying what that came to costs a tenth.
    Norms, which nobody fills, keep their ones and zeros.
    """
    with torch.no_grad():
        return _stamped(module)


def _stamped(module: M) -> M:
    made = object.__new__(type(module))
    attributes = made.__dict__
    attributes.update(module.__dict__)
    for key, value in module.__dict__.items():
        if isinstance(value, dict):  # a new one costs a tenth of the copy of an empty one, and a module has ten of them
            attributes[key] = value.copy() if value else type(value)()
    filled = isinstance(module, Layer)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            made._parameters[name] = nn.Parameter(_memory(parameter) if filled else _memory(parameter).copy_(parameter))
    for name, buffer in module._buffers.items():
        if buffer is not None:
            made._buffers[name] = _memory(buffer).copy_(buffer)
    for name, child in module._modules.items():
        if child is not None:
            made._modules[name] = _stamped(child)
    return made


def _memory(tensor: Tensor) -> Tensor:
    """Room for a tensor like this one on the device that is current, as a constructor would take it."""
    return torch.empty(tensor.shape, dtype=tensor.dtype)


def relu_conv_norm(
    channels_in: int,
    channels_out: int,
    kernel: int,
    *,
    stride: int = 1,
    bias: bool = False,
    affine: bool = True,
    running: bool = True,
) -> nn.Sequential:
    """ReLU, convolution that keeps the size at stride 1, batch norm (with affine, with running statistics)."""
    return stamp(_relu_conv_norm(channels_in, channels_out, kernel, stride, bias, affine, running))


@cache
def _relu_conv_norm(
    channels_in: int, channels_out: int, kernel: int, stride: int, bias: bool, affine: bool, running: bool
) -> nn.Sequential:
    with torch.device("cpu"):  # kept, so it must not hang on the device of whoever comes first
        return nn.Sequential(
            nn.ReLU(),
            Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=bias),
            nn.BatchNorm2d(channels_out, affine=affine, track_running_stats=running),
        )


class FactorizedReduce(nn.Module):
    """Half the size by two 1×1 convolutions, on the even and on the odd rows and columns, joined on channels.

    An odd size gets one row and column of zeros after it, so that both halves have the same size.
    """

    def __init__(self, channels_in: int, channels_out: int, *, affine: bool = True) -> None:
        super().__init__()
        half = channels_out // 2
        self.relu = nn.ReLU()
        self.even = Conv2d(channels_in, half, 1, stride=2, bias=False)
        self.odd = Conv2d(channels_in, channels_out - half, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(channels_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, channels_out, ⌈H/2⌉, ⌈W/2⌉)."""
        x = self.relu(x)
        height, width = x.shape[-2:]
        shifted = F.pad(x, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else x
        out: Tensor = self.norm(torch.cat([self.even(x), self.odd(shifted[:, :, 1:, 1:])], dim=1))
        return out


def zeros_like_output(x: Tensor, channels: int, stride: int) -> Tensor:
    """Zeros of the shape that an operation would output; where the shape is the input's, still connected to it.

    Connected, so that what hangs on the zeros has gradient 0 and not none, as in the benchmarks' own networks.
    """
    if stride == 1 and x.shape[1] == channels:
        return x * 0.0
    height, width = (-(-size // stride) for size in x.shape[-2:])
    return x.new_zeros((x.shape[0], channels, height, width))


class Cell(nn.Module):
    """Node j is the sum over its incoming edges of operation(node i); the last node is the output.

    Args:
        operations: edge → module, None for the identity; edges that give zero are left out.
        nodes: their number.
        channels: of the output.
        stride: of the operations that leave node 0.

    What a cell holds and never runs is in a child named `spare`.
    """

    def __init__(
        self, operations: Mapping[Edge, nn.Module | None], nodes: int, channels: int, *, stride: int = 1
    ) -> None:
        super().__init__()
        self.nodes, self.channels, self.stride = nodes, channels, stride
        self.edges = [(edge, operation is None) for edge, operation in operations.items()]
        for (source, target), operation in operations.items():
            if operation is not None:
                self.add_module(f"{source}_{target}", operation)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, channels, H/stride, W/stride)."""
        values: list[Tensor | None] = [x] + [None] * (self.nodes - 1)
        for (source, target), identity in self.edges:
            below = values[source]
            if below is None:
                below = values[source] = zeros_like_output(x, self.channels, self.stride)
            term = below if identity else self._modules[f"{source}_{target}"](below)  # type: ignore[misc]
            so_far = values[target]
            values[target] = term if so_far is None else so_far + term
        out = values[-1]
        return zeros_like_output(x, self.channels, self.stride) if out is None else out

    def layers(self, edge: Edge) -> list[Layer]:
        """The convolutions of the operation on an edge."""
        operation = self._modules.get(f"{edge[0]}_{edge[1]}")
        return [] if operation is None else [m for m in operation.children() if isinstance(m, Conv2d)]


def cell_layers(blocks: Iterable[nn.Module], edges: Sequence[Edge]) -> tuple[list[Layer], list[Layer]]:
    """The layers of a stack of blocks as their weights are drawn: those to draw in order, and the idle ones.

    In each cell the layers on `edges` come in that order; the cell's others reach nothing, and are drawn after all the
    rest, so that the rest does not depend on whether they are there. Blocks that are no cells come as they are.
    """
    drawn: list[Layer] = []
    idle: list[Layer] = []
    for block in blocks:
        if not isinstance(block, Cell):
            drawn += [m for m in block.modules() if isinstance(m, Layer)]
            continue
        for edge in edges:
            drawn += block.layers(edge)
        idle += [layer for edge, _ in block.edges if edge not in edges for layer in block.layers(edge)]
        idle += [
            m for spare in (block._modules.get("spare"),) if spare for m in spare.modules() if isinstance(m, Layer)
        ]
    return drawn, idle


# --- weights --------------------------------------------------------------------------------------------------


class Draw(NamedTuple):
    """How to fill one parameter: U(−scale, scale), N(0, scale²), or, of scale 0, zeros."""

    parameter: Tensor
    scale: float
    normal: bool = False


def torch_default(layer: Layer) -> Iterator[Draw]:
    """PyTorch's own initialisation: weights and biases from U(−1/√fan_in, 1/√fan_in)."""
    bound = float(layer.weight[0].numel()) ** -0.5
    yield Draw(layer.weight, bound)
    if layer.bias is not None:
        yield Draw(layer.bias, bound)


def fan_out_normal(layer: Layer) -> Iterator[Draw]:
    """N(0, 2/fan_out) of He et al. (2015), fan_out = output channels × kernel; biases zero."""
    yield Draw(layer.weight, (2.0 / (layer.weight.shape[0] * layer.weight[0, 0].numel())) ** 0.5, normal=True)
    if layer.bias is not None:
        yield Draw(layer.bias, 0.0)


def fill(draws: Iterable[Draw], rng: np.random.Generator) -> None:
    """Draw the parameters one after another from one stream, into the memory they have."""
    for parameter, scale, normal in draws:
        direct = parameter.dtype == torch.float32 and parameter.device.type == "cpu" and parameter.is_contiguous()
        view = parameter.detach().numpy() if direct else np.empty(tuple(parameter.shape), np.float32)
        if scale == 0.0:
            view[...] = 0.0
        elif normal:
            rng.standard_normal(out=view, dtype=np.float32)
            view *= scale
        else:
            rng.random(out=view, dtype=np.float32)
            view *= 2.0
            view -= 1.0
            view *= scale
        if not direct:
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(view))


def weights_rng(seed: int | None, space: str, key: str) -> np.random.Generator:
    """The stream of a network's weights; `seed=None` takes the seed from torch's global generator."""
    if seed is None:
        seed = int(torch.randint(2**62, ()).item())
    return derived_rng(seed, space, key)
