"""Who shares passes with whom: the table of families, and how each measures its members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ssnr.core.results import Result
from ssnr.scoring.job import Job
from ssnr.scoring.numbers import measure_context_proxies, measure_control, measure_on_device, measure_own_proxy
from ssnr.scoring.signals import (
    measure_custom,
    measure_gradients,
    measure_noise,
    measure_synflow,
    measure_weights,
)


class Family(NamedTuple):
    """Proxies that share their passes.

    Attributes:
        measure: (job, names) → a result of each; may raise a ScoringError that holds for all of them.
        alone: whether each member has passes of its own.
        exposed: whether the network's own tensors are handed to code that is not ours.
    """

    measure: Callable[[Job, Sequence[str]], dict[str, Result]]
    alone: bool = False
    exposed: bool = False


FAMILIES = {
    # saliencies
    "weights": Family(measure_weights),
    "synflow": Family(measure_synflow),
    "gradient": Family(measure_gradients),
    "noise": Family(measure_noise),
    "custom": Family(measure_custom, alone=True, exposed=True),
    # plain proxies
    "context": Family(measure_context_proxies),
    "control": Family(measure_control, alone=True, exposed=True),
    "own": Family(measure_own_proxy, alone=True, exposed=True),
    "device": Family(measure_on_device, alone=True, exposed=True),
}
