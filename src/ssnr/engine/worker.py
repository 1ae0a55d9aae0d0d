"""Where networks are scored: build one, measure it, send moments back."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING

from ssnr.core.errors import Failure, kind_of, one_line
from ssnr.core.results import Result
from ssnr.engine.plans import Chunk, Job, Scored
from ssnr.spaces import Space

if TYPE_CHECKING:
    from ssnr.supernet import Supernet


def timed_chunk(job: Job, chunk: Chunk) -> tuple[float, Scored]:
    """The seconds that a chunk took, and what came of it."""
    started = time.perf_counter()
    scored = score_chunk(job, chunk)
    return time.perf_counter() - started, scored


def score_chunk(job: Job, chunk: Chunk) -> Scored:
    """Build and measure the networks of a chunk, one after the other."""
    from ssnr.scoring import measure

    if job.recipe.init == "shared":
        return _score_shared(job, chunk)
    found: Scored = []
    for network, measured in chunk:
        try:
            net = job.space.build(network, seed=job.seed, variant=job.recipe.variant)
            if job.device != "cpu":  # even a `to` that moves nothing walks the whole network
                net = net.to(job.device)
        except Exception as error:
            failure = Failure(kind_of(error), f"building it raised {type(error).__name__}: {one_line(error)}")
            found += [(name, Result.of(failure, network)) for name in measured]
            continue
        results = measure(
            net, measured, batch=job.batch, input_shape=job.space.input_shape, recipe=job.recipe, seed=job.seed,
            network=network,
        )  # fmt: skip
        found += list(results.items())
    return found


def _score_shared(job: Job, chunk: Chunk) -> Scored:
    """The networks of a chunk with one supernet's weights: in batches what it can, the rest network by network."""
    from ssnr.scoring import measure
    from ssnr.supernet.layouts.base import draws, layout_of

    found: Scored = []
    together = {"synflow": job.recipe.synflow_dtype}
    net = _supernet(job.space, job.seed, job.recipe.synflow_dtype)
    if job.recipe.mode == "train" and job.recipe.temperature == 1.0:
        if (
            job.batch is not None
            and net.reads(job.batch) is None
            and draws(layout_of(job.space), len(job.batch.inputs))
        ):
            together |= dict.fromkeys(("plain", "grasp"), job.recipe.dtype)
        if draws(layout_of(job.space), job.recipe.images):
            together |= dict.fromkeys(("plain_noise", "grasp_noise"), job.recipe.dtype)
    for name, dtype in together.items():
        networks = [network for network, measured in chunk if name in measured]
        if networks:
            supernet = _supernet(job.space, job.seed, dtype)
            shared = supernet.results(networks, name, job.batch, images=job.recipe.images)
            found += [(name, result) for result in shared]
    for network, measured in chunk:
        rest = [name for name in measured if name not in together]
        if rest:
            alone = net.network(network).to(job.device)
            results = measure(alone, rest, batch=job.batch, input_shape=job.space.input_shape, recipe=job.recipe,
                              seed=job.seed, network=network)  # fmt: skip
            found += list(results.items())
    return found


@lru_cache(maxsize=2)  # synflow and the others may differ in dtype
def _supernet(space: Space, seed: int, dtype: str) -> Supernet:
    import torch

    from ssnr.supernet import Supernet

    return Supernet(space, seed=seed, dtype=getattr(torch, dtype))
