"""snip and grasp without data: images and labels drawn from the seed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ssnr.core.errors import UsageError
from ssnr.data import Batch, noise_inputs, noise_labels
from ssnr.networks.model import Model
from ssnr.networks.trees import flatten, map_leaves
from ssnr.saliencies.losses import loss_of
from ssnr.saliencies.signal import Loss


def drawn(
    model: Model, batch: Batch | None, input_shape: tuple[int, ...] | None, seed: int, loss: Loss | None
) -> Iterator[tuple[Batch, Loss]]:
    """Images as a network may take them, the likely one first, and a loss that draws their labels.

    As many standard-normal inputs as the recipe's `images` says, equal to those of `ssnr.data.noise`. Where a batch is
    given its shapes are drawn: numbers, and ids for integers. Where only a shape is known and the network looks tokens
    up, numbers come first, then ids.

    Raises:
        UsageError: neither a shape nor a batch.
    """
    count = model.recipe.images
    ids = min((table.num_embeddings for table in model.embeddings), default=0)

    def pair(inputs: Any) -> tuple[Batch, Loss]:
        name = f"noise:{count}:seed{seed}"
        return Batch(inputs, None, "noise", name), partial(drawn_loss, seed=seed, loss=loss, model=model)

    if input_shape is not None:
        yield pair(noise_inputs(input_shape, count, seed=seed))
        if ids:
            yield pair(noise_labels((count, *input_shape), ids, seed=seed))
    elif batch is not None:
        yield pair(_like(batch.inputs, count, ids, seed))
    else:
        raise UsageError("drawn images need the shape of one input: input_shape=(3, 32, 32), or a batch")


def _like(inputs: Any, count: int, ids: int, seed: int) -> Any:
    """A nest of tensors drawn anew for `count` samples; truth values are those of the first sample."""

    def draw(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.dim():
            return leaf
        if leaf.is_floating_point():
            return noise_inputs(tuple(leaf.shape[1:]), count, seed=seed)
        first = leaf[:1].expand(count, *leaf.shape[1:])
        if leaf.dtype.itemsize < 4 or leaf.dim() < 2:
            return first.clone()
        return noise_labels(tuple(first.shape), ids or int(leaf.max()) + 1, seed=seed)

    return map_leaves(draw, inputs)


def drawn_loss(output: Any, targets: Any, *, seed: int, loss: Loss | None, model: Model) -> Tensor:
    """Mean cross-entropy with uniformly drawn labels; squared distance from normal targets where there is one output.

    The classes are the last axis of (N, C) and (N, T, C), the second of images (N, C, H, W). A loss of the user's gets
    the drawn labels.
    """
    named = getattr(output, "logits", None) if not isinstance(output, (Tensor, dict)) else None
    logits = named if isinstance(named, Tensor) else next(iter(flatten(output)), output)
    temperature = model.recipe.temperature
    if not isinstance(logits, Tensor) or logits.dim() == 0:
        return loss_of(output, None, model.device, logits.dtype, loss, temperature)
    if logits.dim() > 2 and logits.shape[2:].numel() == 1:
        logits = logits.flatten(1)
    axis = 1 if logits.dim() != 3 else 2
    classes = logits.shape[axis] if logits.dim() > 1 else 1
    if classes == 1:
        wanted = noise_inputs(tuple(logits.shape[1:]), logits.shape[0], seed=seed).to(logits)
        return F.mse_loss(logits / temperature, wanted) if loss is None else loss(output, wanted)
    shape = tuple(n for position, n in enumerate(logits.shape) if position != axis)
    labels = noise_labels(shape, classes, seed=seed).to(logits.device)
    if loss is not None:
        return loss(output, labels)
    return F.cross_entropy(logits.movedim(axis, 1) / temperature, labels)
