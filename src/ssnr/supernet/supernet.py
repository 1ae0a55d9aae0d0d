"""The supernet itself: weights, batches, and each architecture's moments under its standalone network's names."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from ssnr.core.catalogue import NOISE
from ssnr.core.errors import Failure, UsageError
from ssnr.core.moments import Moments
from ssnr.core.results import Result
from ssnr.data import Batch as Images
from ssnr.data import noise
from ssnr.spaces import Space, get_space
from ssnr.spaces.base import derived_rng
from ssnr.spaces.modules import Draw, fill
from ssnr.supernet.batch import BatchPass, MomentTable, Steps, group
from ssnr.supernet.directory import Directory
from ssnr.supernet.grasp_pass import GraspBatch
from ssnr.supernet.kernels import conv as kernels
from ssnr.supernet.kernels.base import Layer, Step
from ssnr.supernet.kernels.conv import Head
from ssnr.supernet.layouts import base as layouts
from ssnr.supernet.layouts.base import Choice, Layout, Use
from ssnr.supernet.liveness import Survey, Surveyor
from ssnr.supernet.loss_pass import LOSS_MEASURES, LossBatch, LossHead, unread

_DEAD = "the output does not depend on the input"
_SILENT = "no weight has any saliency"


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
        self._shapes = layouts.shapes(self._layout)
        self._survey = Surveyor(self._layout.blocks)
        self._slots, self._head_slot = self._numbered()
        self._places = Directory(self._layout, self._slots, self._head_slot)
        self._synflow: tuple[list[Steps], Head] | None = None
        self._loss: dict[int, tuple[list[Steps], LossHead]] = {}  # by images of an architecture
        self.batch_size = layouts.batch_size(self._layout, dtype.itemsize)
        # glibc gives large freed blocks back to the system, and gets the next ones page by page, until it has seen a
        # block of this size come and go.
        torch.empty(31 << 20, dtype=torch.uint8)

    def moments(self, archs: Sequence[str]) -> list[Moments]:
        """Synflow's moments of each architecture, its layers in the order of its standalone network's parameters.

        An architecture's numbers do not depend on which others it is scored with, up to rounding.
        """
        return [result.moments for result in self.results(archs) if result.moments is not None]

    def results(
        self, archs: Sequence[str], measured: str = "synflow", batch: Images | None = None, *, images: int = 1
    ) -> list[Result]:
        """What `scoring.measure` says of each architecture: status, its reason, and moments.

        Args:
            archs: architectures in any form that the space reads.
            measured: "synflow"; "plain", θ ⊙ g with g = ∂L/∂θ of the mean cross-entropy, every batch norm with the
                statistics of an architecture's own images (Mozer & Smolensky, 1989; its magnitude is snip, Lee et al.,
                2019); "grasp", −θ ⊙ Hg (Wang, Zhang & Grosse, 2020); or "plain_noise" and "grasp_noise", the same of
                noise and labels drawn from the supernet's seed.
            batch: of plain and grasp: 1 … 8 images with class labels.
            images: of plain_noise and grasp_noise: how many are drawn.

        A layer whose convolution leads straight into a batch norm has a signed total of nearly zero, since the loss
        does not depend on the weights' scale: it agrees with other paths as a share of the magnitudes' total.

        Raises:
            UsageError: another measurement, images that the space does not take, or too many of them.
        """
        run, parts = self._runner(measured, batch, images)
        parsed = [self.space.parse(arch) for arch in archs]
        found: dict[str, Result] = {}
        same: dict[Choice, dict[str, Survey]] = {}  # those that differ only in operations that carry nothing
        for arch in dict.fromkeys(parsed):
            seen = self._survey(self._layout.choice(arch))
            if seen.dead:
                # Zeros that are still connected to the image: a loss goes through autograd, which follows them.
                unconnected = measured == "synflow" or not seen.reached[0].any()
                found[arch] = Result(
                    arch, "dead", _DEAD if unconnected else _SILENT, self._moments(arch, seen, None, 0), None, 0.0
                )
            else:
                same.setdefault(seen.live, {})[arch] = seen
        # Neighbours in this order share most of their operations: fewer, larger groups in a batch.
        for part in parts(sorted(same)):
            started = time.perf_counter()
            table = run(part)
            seconds = (time.perf_counter() - started) / len(part)
            for sample, live in enumerate(part):
                for arch, seen in same[live].items():
                    found[arch] = _finite(arch, self._moments(arch, seen, table, sample), seconds)
        return [found[arch] for arch in parsed]

    def reads(self, batch: Images) -> str | None:
        """Why plain and grasp cannot be measured on a batch; None where it can."""
        if self._layout.head.repeats > 1:
            return f"{self.space.name} takes tiles, each with batch statistics of its own"
        return unread(batch, self.space.input_shape, self._layout.head.outputs)

    def network(self, arch: str) -> nn.Module:
        """The standalone network of an architecture, with the supernet's weights copied in."""
        arch = self.space.parse(arch)
        net, places = self.space.build(arch, seed=self.seed), self._places(self._layout.choice(arch))
        parameters = dict(net.named_parameters())
        targets = {slot: parameters[name] for name, slot in zip(places.names, places.slot.tolist(), strict=True)}
        targets[self._head_slot + 1] = parameters[f"{self._layout.head.name}.bias"]
        with torch.no_grad():
            for slot, weight in enumerate(_draw(self._layout, self.seed, self.space.name)):
                if slot in targets:
                    targets[slot].copy_(weight)
        return net

    # --- building -------------------------------------------------------------------------------------------------

    def _numbered(self) -> tuple[list[dict[Use, list[int]]], int]:
        """The rows of every operation's layers in the table of moments, and that of the head's."""
        numbers = itertools.count()
        slots = [
            {
                (e, name): [next(numbers) for _ in layouts.convs(operation)]
                for e, edge in enumerate(block.edges)
                for name, operation in edge.candidates.items()
            }
            for block in self._layout.blocks
        ]
        return slots, next(numbers)

    def _built(self, layer: Callable[[Tensor, int], Layer], *, signed: bool, images: int = 1) -> list[Steps]:
        """Steps of every operation, its weights made layers."""
        weights = enumerate(_draw(self._layout, self.seed, self.space.name))
        made: list[Steps] = []
        for block, shapes in zip(self._layout.blocks, self._shapes, strict=True):
            steps: dict[Use, list[Step]] = {}
            for e, edge in enumerate(block.edges):
                for name, operation in edge.candidates.items():
                    drawn = (next(weights) for _ in layouts.convs(operation))
                    layers = [layer(weight, slot) for slot, weight in drawn]
                    read = operation if signed else layouts.linear(operation)
                    steps[e, name] = kernels.build(read, layers, shapes[edge.source], self.dtype, images)
            made.append(steps)
        return made

    def _tail(self) -> tuple[Tensor, Tensor]:
        """The head's weight and bias."""
        weight, bias = (
            tensor.clone()
            for slot, tensor in enumerate(_draw(self._layout, self.seed, self.space.name))
            if slot >= self._head_slot
        )
        return weight, bias

    # --- scoring --------------------------------------------------------------------------------------------------

    def _runner(
        self, measured: str, batch: Images | None, images: int
    ) -> tuple[Callable[[Sequence[Choice]], MomentTable], Callable[[Sequence[Choice]], Iterable[Sequence[Choice]]]]:
        """What runs a pass, and what cuts architectures into passes."""
        if measured == "synflow":
            return self._synflow_pass, partial(_cut, size=self.batch_size)
        if measured not in LOSS_MEASURES:
            *others, last = LOSS_MEASURES
            raise UsageError(f"a supernet measures synflow, {', '.join(others)} and {last}, not {measured}")
        if measured.endswith(NOISE):
            batch = noise(self.space.input_shape, self._layout.head.outputs, images, seed=self.seed)
        if batch is None:
            raise UsageError(f"{measured} needs a batch of images and labels")
        reason = self.reads(batch)
        if reason is not None:
            raise UsageError(f"a supernet's {measured}: {reason}")
        count = len(batch.inputs)
        if measured.startswith("grasp"):
            return partial(self._loss_pass, GraspBatch, batch), layouts.GraspPasses(
                self._layout, self.dtype.itemsize, count
            )
        size = max(1, layouts.batch_size(self._layout, self.dtype.itemsize, loss=True) // count)
        return partial(self._loss_pass, LossBatch, batch), partial(_cut, size=size)

    def _synflow_pass(self, live: Sequence[Choice]) -> MomentTable:
        """Forward and backward of one batch, with gradients switched off: the backward pass is our own."""
        with torch.inference_mode():
            if self._synflow is None:
                weight = self._tail()[0][:, :, None, None]
                head = Head(self._layout.head, Layer(weight, self._head_slot, self.dtype))
                self._synflow = self._built(partial(Layer, dtype=self.dtype), signed=False), head
            steps, head = self._synflow
            batch = BatchPass(self._layout.blocks, steps, self._shapes, group(live), self._head_slot + 1, len(live))
            height, width, channels = self._layout.image
            x, exponent = batch.forward(torch.ones(height, width, 1, channels, dtype=self.dtype))
            table = batch.backward(head.backward(x))
            for column, values in zip(table.columns, head.moments(x), strict=True):
                column[self._head_slot] = values.numpy()
        return table._replace(exponent=np.concatenate([table.exponent, exponent[None]]))

    def _loss_pass(self, kind: type[LossBatch], images: Images, live: Sequence[Choice]) -> MomentTable:
        """The same for plain or grasp: every architecture with its own images."""
        with torch.inference_mode():
            count = len(images.inputs)
            if count not in self._loss:
                layer = partial(Layer, dtype=self.dtype, signed=True, images=count)
                head = LossHead(self._layout.head, *self._tail(), self._head_slot, self.dtype, count)
                self._loss = {count: (self._built(layer, signed=True, images=count), head)}
            steps, head = self._loss[count]
            batch = kind(
                self._layout.blocks, steps, self._shapes, group(live, count), self._head_slot + 1, len(live), count
            )
            x = images.inputs.to(self.dtype).permute(2, 3, 0, 1).contiguous()
            return batch.run(x, images.targets, head)

    def _moments(self, arch: str, seen: Survey, table: MomentTable | None, sample: int) -> Moments:
        """One architecture's column of the table; without a table nothing has any saliency."""
        names, numel, slot, block, target = self._places(self._layout.choice(arch))
        total, square, magnitude, peak = np.zeros((4, len(names)))
        exponent = np.zeros(len(names), np.int64)
        if table is not None:
            found = table.columns[:, slot, sample]
            total, square, magnitude, peak = found[0], found[1], found[-2] if len(found) == 4 else found[0], found[-1]
            peak, scale = np.frexp(peak)
            total, square, magnitude = (
                np.ldexp(total, -scale), np.ldexp(square, -2 * scale), np.ldexp(magnitude, -scale)
            )  # fmt: skip
            exponent = np.where(peak > 0, table.exponent[block, sample] + scale, 0)
        m2, abs_m2 = (np.maximum(square - sums * sums / numel, 0.0) for sums in (total, magnitude))
        unused = ~seen.reached[block, target]
        precision = "float64" if self.dtype == torch.float64 else "float32"
        return Moments(names, numel, exponent, total, m2, magnitude, abs_m2, peak, unused, precision)


def _cut(choices: Sequence[Choice], size: int) -> Iterator[Sequence[Choice]]:
    return (choices[start : start + size] for start in range(0, len(choices), size))


def _finite(arch: str, moments: Moments, seconds: float) -> Result:
    """A result, failed where a layer holds NaN or infinity; the first is named."""
    bad = ~np.isfinite(moments.peak)
    if not bad.any():
        return Result(arch, "ok", None, moments, None, seconds)
    first = int(bad.argmax())
    nan = bool(np.isnan(moments.peak[first]))
    reason = f"layer {moments.names[first]!r}: its saliency is not finite ({'NaN' if nan else 'infinity'})"
    return Result.of(Failure("nan" if nan else "infinite", reason), arch)


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
