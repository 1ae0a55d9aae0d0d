"""One batch through a supernet: forward over the blocks, back again, moments on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssnr.supernet.kernels.base import Gradients, Step
from ssnr.supernet.layouts.base import Block, Choice, Shape, Use, every_edge

Steps = Mapping[Use, Sequence[Step]]  # (edge, operation) → its steps
Exponents = NDArray[np.int64]
# Of a tensor of zeros: so low that it never decides a common exponent.
_NEVER = -(1 << 40)


class MomentTable(NamedTuple):
    """What a pass finds, in units of 2**exponent (blocks, architectures).

    `columns` has the shape (n, slots, architectures). For synflow n = 3: Σ S, Σ S², max |S|. For saliencies with signs
    n = 4: Σ S, Σ S², Σ |S|, max |S|.
    """

    columns: NDArray[np.float64]
    exponent: NDArray[np.int64]


Samples = Tensor | slice | None  # which of a batch; None for all of them


class Users(NamedTuple):
    """The samples of a batch that use one operation on one edge."""

    edge: int
    operation: str
    samples: Samples


def group(choices: Sequence[Choice], images: int = 1) -> list[list[Users]]:
    """Samples by edge and operation, in the order of edges, for each kind of block; choices hold what is live.

    An architecture has `images` samples, side by side.
    """
    found: list[list[Users]] = []
    for uses in zip(*choices, strict=True):
        samples: dict[Use, list[int]] = {}
        for number, used in enumerate(uses):
            for use in used:
                samples.setdefault(use, []).extend(range(number * images, (number + 1) * images))
        found.append([Users(*use, _selection(samples[use], len(choices) * images)) for use in sorted(samples)])
    return found


def _selection(samples: list[int], size: int) -> Samples:
    """The cheapest form: of all and of neighbours nothing needs to be gathered."""
    if len(samples) == size:
        return None
    if samples[-1] - samples[0] == len(samples) - 1:
        return slice(samples[0], samples[-1] + 1)
    return torch.tensor(samples)


class Note(NamedTuple):
    """Moments of one layer for some architectures, by their numbers; columns as in `MomentTable`.

    Lists and not tensors, which would lie in between the large blocks of memory that come and go, and keep the freed
    ones from being joined.
    """

    slot: int
    architectures: Sequence[int]
    columns: tuple[list[float], ...]


class Part(NamedTuple):
    """A tensor (H, W, b, C) that stands for itself times 2**exponent, one a sample; of one sample, for all."""

    tensor: Tensor
    exponents: Exponents


class BatchPass:
    """One pass of `size` samples; `groups[kind]` says which samples use which operation in blocks of that kind.

    This is synflow's, one sample per architecture; `loss_pass` has another one.
    """

    columns = 3  # that a note has

    def __init__(
        self, blocks: Sequence[Block], steps: Sequence[Steps], shapes: Sequence[Sequence[Shape]],
        groups: Sequence[Sequence[Users]], slots: int, size: int,
    ) -> None:  # fmt: skip
        self._blocks, self._steps, self._shapes, self._size = blocks, steps, shapes, size
        self._groups = [_everyone(block) if block.kind is None else groups[block.kind] for block in blocks]
        self._values: list[list[Tensor]] = []  # of the nodes of each block
        self._inner: list[list[list[Tensor]]] = []  # what goes into each step of each group, where there are several
        self._notes: list[Note] = []
        self._slots = slots
        # Of what is in each block, with that of the gradient of what comes out.
        self._exponents = np.zeros((len(blocks), size), np.int64)

    def forward(self, x: Tensor) -> tuple[Tensor, Exponents]:
        """The last block's output (H, W, size, C) and its exponents.

        Args:
            x: the image (H, W, 1, C); one sample until the architectures part ways.
        """
        put_out: list[Part | None] = [Part(x, np.zeros(1, np.int64))]
        last = _last_uses(self._blocks)
        for k, block in enumerate(self._blocks):
            parts = [part for part in (put_out[-back] for back in block.inputs) if part is not None]
            for number in last[k]:
                put_out[number] = None
            values, exponents = _aligned(parts)
            self._exponents[k] = exponents
            out = self._block_forward(k, values)
            put_out.append(Part(out, exponents + self._normalise(out)))
        assert put_out[-1] is not None
        return put_out[-1].tensor, np.broadcast_to(put_out[-1].exponents, self._size)

    def _block_forward(self, k: int, inputs: list[Tensor]) -> Tensor:
        block = self._blocks[k]
        values: list[Tensor | None] = [*inputs, *[None] * (block.nodes - len(inputs))]
        inner: list[list[Tensor]] = []
        for edge, operation, samples in self._groups[k]:
            source, target = block.edges[edge][:2]
            value = values[source] = self._or_zeros(values[source], k, source)
            steps, into = self._steps[k][edge, operation], list[Tensor]()
            y = _take(value, samples)
            for step in steps:
                into.append(y)
                y = step.forward(y)
            inner.append(into if len(steps) > 1 else [])
            _add(values, target, samples, y.clone() if y is value else y, self._size)
        known = [self._or_zeros(value, k, node) for node, value in enumerate(values)]
        self._values.append(known)
        self._inner.append(inner)
        return _joined([known[node] for node in block.ends])

    def _or_zeros(self, value: Tensor | None, k: int, node: int) -> Tensor:
        if value is not None:
            return value
        height, width, channels = self._shapes[k][node]
        return self._values[0][0].new_zeros((height, width, 1, channels))

    def backward(self, g: Tensor) -> MomentTable:
        """Moments of every layer, from the gradient g (H, W, size, C) of the last block's output; g is changed."""
        arriving: list[list[Part]] = [[] for _ in self._blocks]
        arriving[-1].append(Part(g, np.zeros(self._size, np.int64)))
        for k in reversed(range(len(self._blocks))):
            values, inner, parts = self._values.pop(), self._inner.pop(), arriving.pop()
            if not parts:  # no architecture of the batch uses what the block outputs
                continue
            gradient, exponents = _summed(parts)
            exponents = exponents + self._normalise(gradient)
            self._exponents[k] += exponents
            for node, below in enumerate(self._block_backward(k, gradient, values, inner)):
                number = k - self._blocks[k].inputs[node]
                if below is not None and number >= 0:
                    arriving[number].append(Part(below, exponents))
        return self._table()

    def _block_backward(
        self, k: int, g: Tensor, values: list[Tensor], inner: list[list[Tensor]]
    ) -> list[Tensor | None]:
        """Gradients of the inputs of a block, from that of its output; layers' moments are noted."""
        block = self._blocks[k]
        gradients: list[Tensor | None] = [None] * block.nodes
        widths = [values[node].shape[3] for node in block.ends]
        for node, part in zip(block.ends, torch.split(g, widths, 3), strict=True):
            gradients[node] = part.contiguous()
        for edge, operation, samples in reversed(self._groups[k]):
            source, target = block.edges[edge][:2]
            into = inner.pop()
            gradient, value = gradients[target], values[source]
            if gradient is None:  # what comes after is cut off in this block
                continue
            steps = self._steps[k][edge, operation]
            of_image = source < len(block.inputs) and block.inputs[source] > k
            if len(steps) == 1:
                into = [_take(value, samples) if steps[0].reads else value]
            y = _take(gradient, samples)
            for step, x in zip(reversed(steps), reversed(into), strict=True):
                self._note(step.gradients(x, y), samples)
                if of_image and step is steps[0]:
                    break  # nobody asks for the image's gradient
                y = step.backward(x, y)
            else:
                _add(gradients, source, samples, y.clone() if y is gradient else y, self._size)
        return gradients[: len(block.inputs)]

    def _note(self, gradients: Gradients, samples: Samples) -> None:
        for layer, part, values in gradients:
            values.mul_(layer.flat)
            total, peak = values.sum(1).tolist(), values.amax(1).tolist()
            square = values.square_().sum(1).tolist()
            self._notes.append(Note(layer.slot, _numbers(samples, part), (total, square, peak)))

    def _normalise(self, x: Tensor) -> Exponents:
        """The exponents of what a block outputs, or of its gradient, after a scaling in place."""
        return _normalise(x)

    def _table(self) -> MomentTable:
        """The notes as a table; layers that an architecture does not use have zeros."""
        notes = self._notes
        rows = np.repeat([note.slot for note in notes], [len(note.architectures) for note in notes])
        places = np.fromiter(chain.from_iterable(note.architectures for note in notes), np.int64, len(rows))
        columns = np.zeros((self.columns, self._slots, self._size))
        for number, values in enumerate(columns):
            noted = chain.from_iterable(note.columns[number] for note in notes)
            values[rows, places] = np.fromiter(noted, np.float64, len(rows))
        return MomentTable(columns, self._exponents)


def _everyone(block: Block) -> list[Users]:
    return [Users(*use, None) for use in every_edge(block)]


def _last_uses(blocks: Sequence[Block]) -> list[list[int]]:
    """For each block, whose outputs no later block reads, by their place after the image."""
    last: dict[int, int] = {}
    for k, block in enumerate(blocks):
        last |= {k + 1 - back: k for back in block.inputs}
    return [[number for number, user in last.items() if user == k] for k in range(len(blocks))]


def _aligned(parts: Sequence[Part]) -> tuple[list[Tensor], Exponents]:
    """The parts' tensors in units of the largest of their exponents, and that one; a single one as it is."""
    exponents = _largest(parts)
    tensors = []
    for tensor, own in parts:
        scale = _scale(own - exponents, tensor)
        tensors.append(tensor if scale is None else tensor * scale)
    return tensors, exponents


def _summed(parts: Sequence[Part]) -> tuple[Tensor, Exponents]:
    """The sum of the parts, in place of the first, in units of the largest of their exponents."""
    exponents = _largest(parts)
    total = parts[0].tensor
    if (scale := _scale(parts[0].exponents - exponents, total)) is not None:
        total.mul_(scale)
    for tensor, own in parts[1:]:
        scale = _scale(own - exponents, tensor)
        total = total.add_(tensor) if scale is None else total.addcmul_(tensor, scale)
    return total, exponents


def _largest(parts: Sequence[Part]) -> Exponents:
    exponents = parts[0].exponents
    for part in parts[1:]:
        exponents = np.maximum(exponents, part.exponents)
    return exponents


def _scale(shift: Exponents, tensor: Tensor) -> Tensor | None:
    """2**shift, (samples, 1), for a tensor (H, W, samples, C); None where it would change nothing."""
    if not shift.any():
        return None
    if tensor.shape[2] == 1 and (shift == shift[0]).all():
        shift = shift[:1]  # one sample that stands for all stays one
    return torch.from_numpy(np.ldexp(1.0, np.maximum(shift, -2000))).to(tensor.dtype)[:, None]


def _joined(values: list[Tensor]) -> Tensor:
    """Nodes joined on channels."""
    if len(values) == 1:
        return values[0]
    samples = max(value.shape[2] for value in values)
    return torch.cat([value.expand(-1, -1, samples, -1) for value in values], dim=3)


def _numbers(samples: Samples, part: slice) -> Sequence[int]:
    """Numbers in the batch of a part of the samples."""
    if isinstance(samples, Tensor):
        return samples[part].tolist()
    first = 0 if samples is None else samples.start
    return range(first + part.start, first + part.stop)


def _take(x: Tensor, samples: Samples) -> Tensor:
    if samples is None or x.shape[2] == 1:
        return x
    return x[:, :, samples] if isinstance(samples, slice) else x.index_select(2, samples)


def _add(values: list[Tensor | None], node: int, samples: Samples, y: Tensor, size: int) -> None:
    """Add y to a node's value at those of `size` samples; y may become that value itself.

    Until architectures part ways, values have one sample that stands for all.
    """
    so_far = values[node]
    if samples is None:
        if so_far is None:
            values[node] = y
        else:
            values[node] = so_far.add_(y) if so_far.shape[2] >= y.shape[2] else so_far + y
        return
    if so_far is None:
        so_far = y.new_zeros((*y.shape[:2], size, y.shape[3]))
    elif so_far.shape[2] < size:
        so_far = so_far.expand(-1, -1, size, -1).contiguous()
    values[node] = so_far
    if isinstance(samples, slice):
        so_far[:, :, samples].add_(y)
    else:
        so_far.index_add_(2, samples, y.expand(-1, -1, len(samples), -1))


def _normalise(x: Tensor) -> NDArray[np.int64]:
    """Scale each sample of x (H, W, b, C) in place by the power of two that brings its largest entry into [½, 1).

    The exponent of zeros is so low that whatever they are added to decides.
    """
    # In two steps: reducing all axes but one at once is slow where there are few channels.
    peak = x.flatten(2).flatten(0, 1).amax(0).view(x.shape[2], x.shape[3]).amax(1)
    exponent = torch.where(peak > 0, torch.frexp(peak).exponent, 0)
    x.mul_(torch.ldexp(torch.ones_like(peak), -exponent)[:, None])
    return np.where(peak.numpy() > 0, exponent.numpy(), _NEVER)
