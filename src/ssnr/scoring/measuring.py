"""What the store keeps of one network: moments of saliencies, values of plain proxies, or reasons."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from torch import nn

from ssnr.core.catalogue import entry_of
from ssnr.core.errors import ScoringError, failure_of
from ssnr.core.recipes import Recipe, get_recipe
from ssnr.core.results import Result
from ssnr.networks.calling import Forward
from ssnr.networks.preserve import preserved
from ssnr.networks.settings import seed_everything, undisturbed
from ssnr.saliencies import Loss
from ssnr.scoring.families import FAMILIES
from ssnr.scoring.job import Job


def measure(
    net: nn.Module,
    measured: Collection[str],
    *,
    batch: Any = None,
    input_shape: tuple[int, ...] | None = None,
    loss: Loss | None = None,
    forward: Forward | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    check: bool = False,
    network: str = "",
) -> dict[str, Result]:
    """What the store keeps of a network: for each measured saliency its moments, for each plain proxy its value.

    Proxies of one family share their passes; a family that fails leaves the others alone.

    Raises:
        UsageError: as in `score`.
    """
    job = Job.of(net, measured, batch, input_shape, loss, forward, recipe or get_recipe("seed"), seed, check)
    together: dict[tuple[str, str], list[str]] = {}
    for name in measured:
        family = entry_of(name).family
        together.setdefault((family, name if FAMILIES[family].alone else ""), []).append(name)
    found: dict[str, Result] = {}
    for (family, _), names in together.items():
        started = time.perf_counter()
        with undisturbed(), preserved(net, exposed=FAMILIES[family].exposed):
            seed_everything(seed)
            try:
                results = FAMILIES[family].measure(job, names)
            except (ScoringError, RuntimeError) as error:  # RuntimeError: what torch raises
                results = {name: Result.of(failure_of(error)) for name in names}
        seconds = (time.perf_counter() - started) / len(names)
        found |= {name: replace(result, network=network, seconds=seconds) for name, result in results.items()}
    return found
