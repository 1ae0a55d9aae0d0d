"""One batch through a supernet: forward over the blocks, back again, moments on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssnr.supernet.layouts import ZERO, Block, Choice
from ssnr.supernet.steps import Gradients, Step

Steps = Mapping[tuple[int, str], Sequence[Step]]  # (edge, operation) → its steps


class Table(NamedTuple):
    """What a pass finds: (slots, samples) sums of S, of S² and largest S, in units of 2**exponent (blocks, samples)."""

    total: NDArray[np.float64]
    square: NDArray[np.float64]
    peak: NDArray[np.float64]
    exponent: NDArray[np.int64]


Samples = Tensor | slice | None  # which of a batch; None for all of them


class Group(NamedTuple):
    """The samples of a batch that use one operation on one edge."""

    edge: int
    operation: str
    samples: Samples


def group(choices: Sequence[Choice]) -> list[Group]:
    """Samples by edge and operation, in the order of edges."""
    found: dict[tuple[int, str], list[int]] = {}
    for sample, choice in enumerate(choices):
        for edge, operation in enumerate(choice):
            if operation != ZERO:
                found.setdefault((edge, operation), []).append(sample)
    return [Group(*key, _selection(samples, len(choices))) for key, samples in sorted(found.items())]


def _selection(samples: list[int], size: int) -> Samples:
    """The cheapest form: of all and of neighbours nothing needs to be gathered."""
    if len(samples) == size:
        return None
    if samples[-1] - samples[0] == len(samples) - 1:
        return slice(samples[0], samples[-1] + 1)
    return torch.tensor(samples)


class Note(NamedTuple):
    """Moments of one layer for some samples, by their numbers.

    Lists and not tensors, which would lie in between the large blocks of memory that come and go, and keep the freed
    ones from being joined.
    """

    slot: int
    samples: Sequence[int]
    total: list[float]
    square: list[float]
    peak: list[float]


class Batch:
    """One pass of `size` samples; `groups` are theirs in every block that is not shared."""

    def __init__(
        self, blocks: Sequence[Block], steps: Sequence[Steps], groups: Sequence[Group], slots: int, size: int
    ) -> None:
        self._blocks, self._steps, self._size = blocks, steps, size
        self._groups = [_everyone(block) if block.shared else groups for block in blocks]
        self._values: list[list[Tensor]] = []  # of the nodes of each block
        self._notes: list[Note] = []
        self._slots = slots
        # Of what goes into each block, and of the gradient of what comes out.
        self._exponents = np.zeros((2, len(blocks) + 1, size), np.int64)

    def forward(self, x: Tensor) -> tuple[Tensor, NDArray[np.int64]]:
        """The last block's output (H, W, size, C) and its exponents.

        Args:
            x: the image (H, W, 1, C); one sample until the architectures part ways.
        """
        for k, block in enumerate(self._blocks):
            values: list[Tensor | None] = [x] + [None] * (block.nodes - 1)
            for edge, operation, samples in self._groups[k]:
                source, target = block.edges[edge][:2]
                value = values[source]
                assert value is not None  # only edges on a path from the input are in a group
                y = _take(value, samples)
                for step in self._steps[k][edge, operation]:
                    y = step.forward(y)
                _add(values, target, samples, y.clone() if y is value else y, self._size)
            out = values[-1]
            assert out is not None
            self._values.append([value if value is not None else out for value in values])
            self._exponents[0, k + 1] = self._exponents[0, k] + _normalise(out)
            x = out
        return x, self._exponents[0, -1]

    def backward(self, g: Tensor) -> Table:
        """Moments of every layer, from the gradient g (H, W, size, C) of the last block's output; g is changed."""
        self._exponents[1, -1] = _normalise(g)
        for k in reversed(range(len(self._blocks))):
            block, values = self._blocks[k], self._values.pop()
            gradients: list[Tensor | None] = [None] * (block.nodes - 1) + [g]
            for edge, operation, samples in reversed(self._groups[k]):
                source, target = block.edges[edge][:2]
                gradient = gradients[target]
                assert gradient is not None  # only edges on a path to the output are in a group
                y = self._through(self._steps[k][edge, operation], values[source], gradient, samples)
                _add(gradients, source, samples, y.clone() if y is gradient else y, self._size)
            below = gradients[0]
            assert below is not None
            self._exponents[1, k] = self._exponents[1, k + 1] + _normalise(below)
            g = below
        return self._table()

    def _through(self, steps: Sequence[Step], value: Tensor, gradient: Tensor, samples: Samples) -> Tensor:
        """One operation backward, its layers' moments noted; what is inside it is computed again."""
        g = _take(gradient, samples)
        if not steps:
            return g
        inputs = [_take(value, samples)]
        for step in steps[:-1]:
            inputs.append(step.forward(inputs[-1]))
        for step, x in zip(reversed(steps), reversed(inputs), strict=True):
            self._note(step.saliencies(x, g), samples)
            g = step.backward(g)
        return g

    def _note(self, saliencies: Gradients, samples: Samples) -> None:
        for layer, part, values in saliencies:
            total, peak = values.sum(1).tolist(), values.amax(1).tolist()
            square = values.square_().sum(1).tolist()
            self._notes.append(Note(layer.slot, _numbers(samples, part), total, square, peak))

    def _table(self) -> Table:
        """The notes as a table; layers that a sample does not use have zeros."""
        rows = np.repeat([note.slot for note in self._notes], [len(note.samples) for note in self._notes])
        columns = np.fromiter(chain.from_iterable(note.samples for note in self._notes), np.int64, len(rows))
        total, square, peak = np.zeros((3, self._slots, self._size))
        for values, name in ((total, "total"), (square, "square"), (peak, "peak")):
            noted = chain.from_iterable(getattr(note, name) for note in self._notes)
            values[rows, columns] = np.fromiter(noted, np.float64, len(rows))
        return Table(total, square, peak, self._exponents[0, :-1] + self._exponents[1, 1:])


def _everyone(block: Block) -> list[Group]:
    return [Group(edge, operation, None) for edge, e in enumerate(block.edges) for operation in e.candidates]


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
    """Scale each sample of x (H, W, b, C) in place by the power of two that brings its largest entry into [½, 1)."""
    # In two steps: reducing all axes but one at once is slow where there are few channels.
    peak = x.flatten(2).flatten(0, 1).amax(0).view(x.shape[2], x.shape[3]).amax(1)
    exponent = torch.where(peak > 0, torch.frexp(peak).exponent, 0)
    x.mul_(torch.ldexp(torch.ones_like(peak), -exponent)[:, None])
    return exponent.numpy().astype(np.int64)
