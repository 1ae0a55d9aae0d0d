"""The pass of grasp: plain's, and its derivative along every architecture's own gradient, forward and back again.

With g = ∂L/∂θ, −Hg is the derivative of g where θ moves along d = −g (Pearlmutter, 1994): the steps of plain's pass
once more, each with its derivative. What a step puts out moves by θ ∗ dx + d ∗ x, the gradient δ of what goes in by
θᵀ ∗ dδ + dᵀ ∗ δ, and the weight's gradient x ⊗ δ by x ⊗ dδ + dx ⊗ δ. Architectures share θ but not d: along it they
part ways at the stem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ssnr.supernet.batch import MomentTable, Note, _add, _joined, _take
from ssnr.supernet.kernels.base import Gradients, Step
from ssnr.supernet.kernels.nonlinear import Relu
from ssnr.supernet.loss_pass import LossBatch, LossHead, reduced, spread

Nodes = list[Tensor | None]  # of a block; None where nothing arrives


class Way:
    """Steps one after the other, on their way forward, back, and both again.

    It keeps what the derivatives read: what goes into each step and how that moves, the gradient of what comes out,
    and along what the weights move.
    """

    def __init__(self, steps: Sequence[Step], into: list[Tensor], *, of_image: bool = False) -> None:
        for k, step in enumerate(steps[:-1]):
            if isinstance(step, Relu):  # positive where what comes out is, which the next step keeps anyway
                into[k] = into[k + 1]
        self._steps = list(zip(steps, into, strict=True))
        self._of_image = of_image
        self._moves: list[Tensor | None] = []
        self._after: list[Tensor | None] = []  # the last step's first
        self._own: dict[int, list[tuple[slice, Tensor]]] = {}
        self.arrived = False  # whether a gradient has come back

    def backward(self, g: Tensor) -> Tensor | None:
        """The gradient of what goes in; None of the image."""
        self.arrived = True
        for k, (step, x) in reversed(list(enumerate(self._steps))):
            self._after.append(g if step.bends else None)
            for layer, part, gradient in step.gradients(x, g):
                self._own.setdefault(layer.slot, []).append((part, gradient.neg_()))
            if self._of_image and k == 0:
                return None
            g = step.backward(x, g)
        return g

    def tangent(self, dx: Tensor) -> Tensor:
        """How what comes out moves."""
        for step, x in self._steps:
            self._moves.append(dx if step.bends else None)
            dx = step.tangent(x, dx, self._own)
        return dx

    def backward_tangent(self, dg: Tensor, note: Callable[[Gradients], None]) -> Tensor | None:
        """How the gradient of what goes in moves; `note` gets −Hg of each weight."""
        for k, (step, x) in reversed(list(enumerate(self._steps))):
            g, dx = self._after.pop(0), self._moves.pop()
            if self._of_image and k == 0:  # which does not move
                note(step.gradients(x, dg))
                return None
            if g is not None and dx is not None:
                note(_sums(step.gradients(x, dg), step.gradients(dx, g)))
            dg = step.backward_tangent(x, dx, g, dg, self._own)
        return dg


def _sums(first: Gradients, second: Gradients) -> Gradients:
    for (layer, part, one), (_, _, other) in zip(first, second, strict=True):
        yield layer, part, one.add_(other)


class GraspHead:
    """`LossHead` and its derivative along the weight's own gradient, in one pass."""

    def __init__(self, head: LossHead, x: Tensor, labels: Tensor) -> None:
        self._head, self._shape = head, x.shape
        into, self._features, self._chances = head.forward(x)
        self._error = head.error(self._chances, labels)
        self._way = Way(head.steps, into)
        self._own = -head.outer(self._error, self._features)

    def backward(self) -> Tensor:
        """Gradient of the mean loss of each architecture."""
        g = self._way.backward(spread(self._error @ self._head.weight, self._shape))
        assert g is not None
        return g

    def backward_tangent(self, dx: Tensor) -> tuple[Tensor, Tensor]:
        """How that gradient moves where x moves along dx, and −Hg of the weight (b / images, numel)."""
        weight, features, error = self._head.weight, self._features, self._error
        moved = self._way.tangent(dx).mean((0, 1))
        logits = moved @ weight.t() + self._each(features, self._own.transpose(1, 2))
        # The derivative of softmax, p ⊙ (dz − Σ p dz).
        changed = self._chances * (logits - (self._chances * logits).sum(1, keepdim=True)) / self._head.images
        hessian = self._head.outer(changed, features) + self._head.outer(error, moved)
        dg = spread(changed @ weight + self._each(error, self._own), self._shape)
        below = self._way.backward_tangent(dg, lambda _: None)
        assert below is not None
        return below, hessian.flatten(1)

    def _each(self, x: Tensor, matrices: Tensor) -> Tensor:
        """Every row times the matrix of its architecture."""
        return (self._head.apart(x) @ matrices).flatten(0, 1)


class GraspBatch(LossBatch):
    """One pass of `architectures`, each with `images` samples."""

    def run(self, x: Tensor, labels: Tensor, head: LossHead) -> MomentTable:
        """Moments of every layer from images (H, W, k, C) and their labels (k)."""
        if self._images > 1:
            x = x.repeat(1, 1, self._architectures, 1)
        self._ways: list[list[Way]] = []
        out, _ = self.forward(x)
        top = GraspHead(head, out.expand(-1, -1, self._size, -1), labels.repeat(self._architectures))
        self._walk_back(top.backward(), derivative=False)
        dg, hessian = top.backward_tangent(self._tangent(torch.zeros_like(x)))
        self._notes.append(Note(head.slot, range(self._architectures), reduced(hessian.mul_(head.weight.flatten()))))
        self._walk_back(dg, derivative=True)
        return self._of_architectures(self._table())

    def _block_forward(self, k: int, inputs: list[Tensor]) -> Tensor:
        out = super()._block_forward(k, inputs)
        block, values, ways = self._blocks[k], self._values[k], list[Way]()
        for (edge, operation, samples), into in zip(self._groups[k], self._inner.pop(), strict=True):
            steps, source = self._steps[k][edge, operation], block.edges[edge].source
            if len(steps) == 1:
                into = [_take(values[source], samples) if steps[0].reads else values[source]]
            of_image = source < len(block.inputs) and block.inputs[source] > k
            ways.append(Way(steps, into, of_image=of_image))
        self._ways.append(ways)
        self._values[k] = values[:1] if k == 0 else []  # the ways hold what they need
        return out

    def _tangent(self, image: Tensor) -> Tensor:
        """How the last block's output moves, from how the image does, which is not at all."""
        put_out = [image]
        for k, block in enumerate(self._blocks):
            moves: Nodes = [put_out[-back] for back in block.inputs]
            moves += [None] * (block.nodes - len(moves))
            for (edge, _, samples), way in zip(self._groups[k], self._ways[k], strict=True):
                if not way.arrived:
                    continue
                source, target = block.edges[edge][:2]
                move = moves[source] = self._or_zeros(moves[source], k, source)
                y = way.tangent(_take(move, samples))
                _add(moves, target, samples, y.clone() if y is move else y, self._size)
            put_out.append(_joined([self._or_zeros(moves[node], k, node) for node in block.ends]))
        return put_out[-1]

    def _walk_back(self, g: Tensor, *, derivative: bool) -> None:
        """Through all blocks, from the gradient of the last one's output, or from how that moves."""
        arriving: Nodes = [None] * (len(self._blocks) - 1) + [g]
        for k in reversed(range(len(self._blocks))):
            ways, arrived = self._ways.pop() if derivative else self._ways[k], arriving.pop()
            if arrived is None:  # no architecture of the batch uses what the block outputs
                continue
            for node, below in enumerate(self._walk_back_through(k, arrived, ways, derivative)):
                number = k - self._blocks[k].inputs[node]
                if below is not None and number >= 0:
                    so_far = arriving[number]
                    arriving[number] = below if so_far is None else so_far.add_(below)

    def _walk_back_through(self, k: int, g: Tensor, ways: list[Way], derivative: bool) -> Nodes:
        """What `_walk_back` finds of the inputs of a block."""
        block = self._blocks[k]
        nodes: Nodes = [None] * block.nodes
        widths = [self._shapes[k][node][2] for node in block.ends]
        for node, part in zip(block.ends, torch.split(g, widths, 3), strict=True):
            nodes[node] = part.contiguous()
        for (edge, _, samples), way in zip(reversed(self._groups[k]), reversed(ways), strict=True):
            source, target = block.edges[edge][:2]
            gradient = nodes[target]
            if gradient is None:  # what comes after is cut off in this block
                continue
            y = _take(gradient, samples)
            note = partial(self._note, samples=samples)
            below = way.backward_tangent(y, note) if derivative else way.backward(y)
            if below is not None:
                _add(nodes, source, samples, below.clone() if below is gradient else below, self._size)
        return nodes[: len(block.inputs)]
