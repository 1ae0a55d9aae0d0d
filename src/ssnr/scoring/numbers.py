"""Plain proxies: one number of a network each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ssnr.core.catalogue import PLAIN
from ssnr.core.errors import Failure, ScoringError, failure_of, kind_of
from ssnr.core.results import Result
from ssnr.data import Batch
from ssnr.networks.trees import map_tensors, one_sample
from ssnr.proxies.capture import Context
from ssnr.proxies.controls import control
from ssnr.proxies.device import latency, memory
from ssnr.scoring.job import Job


def measure_control(job: Job, names: Sequence[str]) -> dict[str, Result]:
    """A count, in float32 where an operation does not exist in the recipe's dtype."""
    (name,) = names
    inputs = None if job.batch is None else job.batch.inputs
    try:
        value, notes = control(name, job.net, job.input_shape, inputs, job.forward, job.recipe)
    except ScoringError as error:
        if error.kind != "precision":
            raise
        lower = replace(job.recipe, synflow_dtype="float32")
        value, notes = control(name, job.net, job.input_shape, inputs, job.forward, lower)
    return {name: Result("", "ok", value=float(value), notes=notes)}


def measure_on_device(job: Job, names: Sequence[str]) -> dict[str, Result]:
    """Time or memory of a forward pass of one sample, on one thread, where the network is."""
    (name,) = names
    inputs = None
    if job.input_shape is None and job.batch is not None:  # a sample of its own, not a part of the batch's memory
        inputs = map_tensors(Tensor.clone, next(iter(one_sample(job.batch.inputs))))
    if name == "memory":
        held = memory(job.net, job.input_shape, inputs=inputs, forward=job.forward)
        return {name: Result("", "ok", value=float(held.peak), notes=(f"memory: {held}",))}
    taken = latency(job.net, job.input_shape, inputs=inputs, forward=job.forward)
    return {name: Result("", "ok", value=taken.median, notes=(f"latency: {taken}",))}


def measure_own_proxy(job: Job, names: Sequence[str]) -> dict[str, Result]:
    """What a user's function of network and batch returns."""
    (name,) = names
    return {name: _number(name, guarded(PLAIN[name].function, job.net, job.batch))}


def measure_context_proxies(job: Job, names: Sequence[str]) -> dict[str, Result]:
    """Proxies that read activations and gradients, from passes that each runs once."""
    context = Context(
        job.model(), job.net, job.batch, job.loss, job.forward, job.recipe, job.seed, job.input_shape, {},
        tuple(names),
    )  # fmt: skip
    found: dict[str, Result] = {}
    for name in names:
        function = PLAIN[name].function
        assert function is not None
        try:
            value = function(context) if PLAIN[name].builtin else guarded(function, context)
        except (ScoringError, RuntimeError) as error:
            found[name] = Result.of(failure_of(error))
            continue
        found[name] = _number(name, value, tuple(context.model.notes))
    return found


def _number(name: str, value: Any, notes: tuple[str, ...] = ()) -> Result:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ScoringError(f"{name} returned {type(value).__name__}: expected one number") from error
    if math.isfinite(number):
        return Result("", "ok", value=number, notes=notes)
    return Result.of(Failure("nan" if number != number else "infinite", f"{name} is {number}"))


def guarded(function: Any, *given: nn.Module | Batch | Context | None) -> Any:
    """A user's own function, its exceptions as a reason."""
    try:
        return function(*given)
    except ScoringError:
        raise
    except Exception as error:
        raise ScoringError(f"{function.__name__} raised {type(error).__name__}: {error}", kind_of(error)) from error
