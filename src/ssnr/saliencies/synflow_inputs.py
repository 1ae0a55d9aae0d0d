"""Synflow of networks that do not take one sample as it is cut out of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ssnr.core.errors import ScoringError
from ssnr.networks.model import Model
from ssnr.saliencies.signal import Signal
from ssnr.saliencies.synflow import synflow

WHOLE = "the network does not take one sample of the batch: {} on the whole batch"


def synflow_of(model: Model, input_shape: tuple[int, ...] | None, inputs: Any, *, whole: bool = True) -> Signal:
    """`synflow` on one sample, or else on the first of a list of samples, or else on as many ones as the batch has.

    Networks for detection take lists of images; a state of fixed size, a graph, or lengths of sequences that belong to
    the batch come with it or not at all. On the whole batch, which a note says, every saliency is that of all samples.

    Raises:
        ScoringError: as in `synflow`, for one sample.
        UsageError: as in `synflow`.
    """
    try:
        return synflow(model, input_shape, inputs, whole=whole)
    except ScoringError:
        if input_shape is not None or inputs is None:
            raise
        for example, note in _others(inputs):
            try:
                signal = synflow(model, None, inputs, whole=whole, example=example)
            except ScoringError:
                continue
            model.notes.update(dict.fromkeys(note))
            return signal
        raise


def _others(inputs: Any) -> Iterator[tuple[Any, tuple[str, ...]]]:
    if isinstance(inputs, list) and inputs:
        yield inputs[:1], ()
    yield inputs, (WHOLE.format("synflow"),)
