"""What a layer adds to the counts of a network, by arithmetic alone: no torch, microseconds.

Multiply-accumulates follow NATS-Bench's convention: those of convolutions and linear layers, plus one per output
element where there is a bias; norms, activations and poolings cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ssnr.core.results import Counts


class Tally(NamedTuple):
    """Trainable numbers, multiply-accumulates, scored weights, scored layers."""

    params: int = 0
    flops: int = 0
    weights: int = 0
    layers: int = 0

    def times(self, count: int) -> Tally:
        """This many of it."""
        return Tally(*(count * value for value in self))


def conv(
    channels_in: int,
    channels_out: int,
    kernel: int,
    pixels: int,
    *,
    groups: int = 1,
    bias: bool = False,
    norm: bool = True,
    transposed: bool = False,
) -> Tally:
    """A convolution and the affine norm after it.

    `pixels` are those of the output; of the input where the convolution is `transposed` and doubles height and width.

    >>> conv(3, 16, 3, 32 * 32)
    Tally(params=464, flops=442368, weights=432, layers=1)
    """
    weights = kernel * kernel * channels_in * channels_out // groups
    added = channels_out * pixels * (4 if transposed else 1) if bias else 0
    extra = (channels_out if bias else 0) + (2 * channels_out if norm else 0)
    return Tally(weights + extra, weights * pixels + added, weights, 1)


def linear(features_in: int, features_out: int) -> Tally:
    """A linear layer with bias."""
    weights = features_in * features_out
    return Tally(weights + features_out, weights + features_out, weights, 1)


def total(tallies: Iterable[Tally]) -> Tally:
    """Their sum."""
    columns = list(zip(*tallies, strict=True))
    return Tally(*map(sum, columns)) if columns else Tally()


def counts(everything: Tally, reachable: Tally) -> Counts:
    """The controls, from all layers and from those on some path from the input to the output."""
    return Counts(everything.params, everything.flops, reachable.weights, reachable.layers, everything.params)
