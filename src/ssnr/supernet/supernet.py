"""The supernet itself: weights, batches, and each architecture's moments under its standalone network's names."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from ssnr.core.errors import UsageError
from ssnr.core.moments import Moments
from ssnr.core.results import Result
from ssnr.spaces import Space, get_space
from ssnr.spaces.base import derived_rng
from ssnr.spaces.modules import Draw, fill
from ssnr.supernet.batch import Batch, Table, group
from ssnr.supernet.directory import Directory
from ssnr.supernet.kernels import conv as steps
from ssnr.supernet.kernels.base import Layer, Step
from ssnr.supernet.kernels.conv import Head
from ssnr.supernet.layouts import base as layouts
from ssnr.supernet.layouts.base import Choice, Layout, Use
from ssnr.supernet.liveness import Survey, Surveyor

_DEAD = "the output does not depend on the input"


class Supernet:
    """Every candidate operation of a space once, with weights drawn from (seed, space).

    Args:
        space: a space or its name; `layouts.LAYOUTS` has the families that have a supernet.
        seed: of the weights.
        dtype: of the passes. Layers agree with the standalone network's float64 pass to 1e-5 in float32 (`MaxPool`
            has the exception), 1e-10 in float64.

    Attributes:
        batch_size: architectures that go through one pass.

    Raises:
        UsageError: the space has no supernet, or the dtype is another one.

    >>> net = Supernet("nasbench201")
    >>> (moments,) = net.moments(["|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|"])
    >>> moments.names[:3]
    ('stem.0.weight', 'cells.0.0_1.1.weight', 'cells.1.0_1.1.weight')
    """

    def __init__(self, space: str | Space, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        if dtype not in (torch.float32, torch.float64):
            raise UsageError(f"dtype {dtype}: expected torch.float32 or torch.float64")
        self.space, self.seed, self.dtype = get_space(space), seed, dtype
        self._layout = layouts.layout_of(self.space)
        self._steps: list[dict[Use, list[Step]]] = []
        self._shapes = layouts.shapes(self._layout)
        self._survey = Surveyor(self._layout.blocks)
        self._head, self._places = self._build()
        self.batch_size = layouts.batch_size(self._layout, dtype.itemsize)
        # glibc gives large freed blocks back to the system, and gets the next ones page by page, until it has seen a
        # block of this size come and go.
        torch.empty(31 << 20, dtype=torch.uint8)

    def moments(self, archs: Sequence[str]) -> list[Moments]:
        """Synflow's moments of each architecture, its layers in the order of its standalone network's parameters.

        An architecture's numbers do not depend on which others it is scored with, up to rounding.
        """
        return [result.moments for result in self.results(archs) if result.moments is not None]

    def results(self, archs: Sequence[str]) -> list[Result]:
        """What `scoring.measure` says of each architecture: status "ok" or "dead" with its reason, and moments."""
        parsed = [self.space.parse(arch) for arch in archs]
        found: dict[str, Result] = {}
        same: dict[Choice, dict[str, Survey]] = {}  # those that differ only in operations that carry nothing
        for arch in dict.fromkeys(parsed):
            seen = self._survey(self._layout.choice(arch))
            if seen.dead:
                found[arch] = Result(arch, "dead", _DEAD, self._moments(arch, seen, None, 0), None, 0.0)
            else:
                same.setdefault(seen.live, {})[arch] = seen
        # Neighbours in this order share most of their operations: fewer, larger groups in a batch.
        order = sorted(same)
        for start in range(0, len(order), self.batch_size):
            part = order[start : start + self.batch_size]
            started = time.perf_counter()
            table = self._pass(part)
            seconds = (time.perf_counter() - started) / len(part)
            for sample, live in enumerate(part):
                for arch, seen in same[live].items():
                    found[arch] = Result(arch, "ok", None, self._moments(arch, seen, table, sample), None, seconds)
        return [found[arch] for arch in parsed]

    def network(self, arch: str) -> nn.Module:
        """The standalone network of an architecture, with the supernet's weights copied in."""
        arch = self.space.parse(arch)
        net, places = self.space.build(arch, seed=self.seed), self._places(self._layout.choice(arch))
        parameters = dict(net.named_parameters())
        targets = {slot: parameters[name] for name, slot in zip(places.names, places.slot.tolist(), strict=True)}
        targets[self._head.layer.slot + 1] = parameters[f"{self._layout.head.name}.bias"]
        # Drawn again: the passes need magnitudes only.
        with torch.no_grad():
            for slot, weight in enumerate(_draw(self._layout, self.seed, self.space.name)):
                if slot in targets:
                    targets[slot].copy_(weight)
        return net

    # --- building -------------------------------------------------------------------------------------------------

    def _build(self) -> tuple[Head, Directory]:
        """Steps of every operation and of the head, and where their layers lie."""
        weights = enumerate(_draw(self._layout, self.seed, self.space.name))
        slots: list[dict[Use, list[int]]] = []
        for block, shapes in zip(self._layout.blocks, self._shapes, strict=True):
            self._steps.append({})
            slots.append({})
            for e, edge in enumerate(block.edges):
                for name, operation in edge.candidates.items():
                    drawn = (next(weights) for _ in layouts.convs(operation))
                    layers = [Layer(weight, slot, self.dtype) for slot, weight in drawn]
                    slots[-1][e, name] = [layer.slot for layer in layers]
                    self._steps[-1][e, name] = steps.build(operation, layers, shapes[edge.source], self.dtype)
        slot, weight = next(weights)
        head = Head(self._layout.head, Layer(weight[:, :, None, None], slot, self.dtype))
        return head, Directory(self._layout, slots, slot)

    # --- scoring --------------------------------------------------------------------------------------------------

    def _pass(self, live: Sequence[Choice]) -> Table:
        """Forward and backward of one batch, with gradients switched off: the backward pass is our own."""
        with torch.inference_mode():
            slots = self._head.layer.slot + 1
            batch = Batch(self._layout.blocks, self._steps, self._shapes, group(live), slots, len(live))
            height, width, channels = self._layout.image
            x, exponent = batch.forward(torch.ones(height, width, 1, channels, dtype=self.dtype))
            table = batch.backward(self._head.backward(x))
            for column, values in zip(table[:3], self._head.moments(x), strict=True):
                column[self._head.layer.slot] = values.numpy()
        return table._replace(exponent=np.concatenate([table.exponent, exponent[None]]))

    def _moments(self, arch: str, seen: Survey, table: Table | None, sample: int) -> Moments:
        """One architecture's column of the table; without a table nothing has any saliency."""
        names, numel, slot, block, target = self._places(self._layout.choice(arch))
        total, square, peak = np.zeros((3, len(names)))
        exponent = np.zeros(len(names), np.int64)
        if table is not None:
            total, square, peak = (column[slot, sample] for column in table[:3])
            peak, scale = np.frexp(peak)
            total, square = np.ldexp(total, -scale), np.ldexp(square, -2 * scale)
            exponent = np.where(peak > 0, table.exponent[block, sample] + scale, 0)
        m2 = np.maximum(square - total * total / numel, 0.0)
        unused = ~seen.reached[block, target]
        precision = "float64" if self.dtype == torch.float64 else "float32"
        return Moments(names, numel, exponent, total, m2, total, m2, peak, unused, precision)


def _draw(layout: Layout, seed: int, space: str) -> Iterator[Tensor]:
    """The weights one by one, in the order of blocks, edges and candidates, then the head's and its bias.

    Each is to be copied before the next is drawn: they share their memory.
    """
    draws: list[tuple[tuple[int, ...], float, bool]] = []
    operations = (op for block in layout.blocks for edge in block.edges for op in edge.candidates.values())
    for conv in (conv for operation in operations for conv in layouts.convs(operation)):
        sizes = layouts.weight_shape(conv)
        fan_in, fan_out = prod(sizes[1:]), sizes[0] * prod(sizes[2:])
        draws.append((sizes, (2.0 / fan_out) ** 0.5 if layout.fan_out else fan_in**-0.5, layout.fan_out))
    head = layout.head
    features = head.repeats * head.channels
    draws += [((head.outputs, features), features**-0.5, False), ((head.outputs,), features**-0.5, False)]
    memory = torch.empty(max(prod(shape) for shape, *_ in draws))
    rng = derived_rng(seed, space, "shared")
    for shape, scale, normal in draws:
        weight = memory[: prod(shape)].view(shape)
        fill([Draw(weight, scale, normal)], rng)
        yield weight
