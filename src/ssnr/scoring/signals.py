"""Saliencies: the signal of each family, and its moments or the reason why there are none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ssnr.core.catalogue import NOISE, SALIENCIES, Saliency
from ssnr.core.errors import Failure, ScoringError, failure_of
from ssnr.core.moments import from_tensors
from ssnr.core.results import APPROXIMATED, Result
from ssnr.interpret.approximated import reaches
from ssnr.networks.masks import counted, users_name, without_pruned
from ssnr.networks.model import Model
from ssnr.networks.settings import random_states, seed_everything
from ssnr.networks.trees import flatten, to_device
from ssnr.saliencies import Signal, gradient_saliencies, synflow_of, weight_saliencies
from ssnr.saliencies.gradients import ROUNDING, not_a_number, second_order_error
from ssnr.saliencies.noise import drawn
from ssnr.saliencies.signal import followed
from ssnr.scoring.job import Job
from ssnr.scoring.numbers import guarded

DETACHED = "the output is detached from every weight (detach or no_grad in the forward): nothing to differentiate"
FAINT = "in float32 the gradients are too faint to be told from rounding"
CUT = "no gradient reaches the input (detach or no_grad on the way): layers before that point have no saliency"
# Hg counts as correct if it differs from a difference of gradients by less than this share.
_AGREES = {"float64": 1e-4, "float32": 0.1}

Signals = Mapping[str, Signal | Failure]


@dataclass(frozen=True)
class _Passes:
    """How a family computes its signals, whether it reads the batch, and whether it runs the network."""

    signals: Callable[[Model, Job, Collection[str], bool], Signals]  # (model, job, names, whole tensors or moments)
    reads_batch: bool = False
    has_forward: bool = True


def _synflow(model: Model, job: Job, names: Collection[str], whole: bool) -> Signals:
    inputs = None if job.batch is None else job.batch.inputs
    return {"synflow": synflow_of(model, job.input_shape, inputs, whole=whole)}


def _gradients(model: Model, job: Job, names: Collection[str], whole: bool) -> Signals:
    assert job.batch is not None  # `Job.of`
    if "fisher" in names and model.scripted:
        refused = Failure("refused", "fisher reads what each layer outputs, which TorchScript does not show")
        others = [name for name in names if name != "fisher"]
        return {"fisher": refused, **(gradient_saliencies(model, job.batch, others, job.loss) if others else {})}
    return gradient_saliencies(model, job.batch, names, job.loss)


def _custom(model: Model, job: Job, names: Collection[str], whole: bool) -> Signals:
    (name,) = names
    found = guarded(SALIENCIES[name].function, model.net, job.batch)
    tensors = {users_name(key, model.masks): tensor for key, tensor in found.items()}
    unknown = set(tensors) - set(model.scored)
    if unknown:
        raise ScoringError(f"{name} returned {sorted(unknown)[0]!r}, which is not a scored parameter of the network")
    return {name: Signal({layer: tensors.get(layer) for layer in model.scored})}


def _weights(model: Model, job: Job, names: Collection[str], whole: bool) -> Signals:
    return weight_saliencies(model, names)


_WEIGHTS = _Passes(_weights, has_forward=False)
_SYNFLOW = _Passes(_synflow)
_GRADIENT = _Passes(_gradients, reads_batch=True)
_CUSTOM = _Passes(_custom, has_forward=False)
_BY_FAMILY = {"weights": _WEIGHTS, "synflow": _SYNFLOW, "gradient": _GRADIENT, "custom": _CUSTOM}


def signal_of(model: Model, entry: Saliency, job: Job) -> Signal:
    """What is measured for one saliency, signed; the caller keeps the network `preserved`.

    Raises:
        ScoringError: there is none; the message says why.
    """
    if not entry.draws:
        return _or_raise(_BY_FAMILY[entry.family].signals(model, job, {entry.measured}, True)[entry.measured])
    of, first = entry.measured.removesuffix(NOISE), None
    for images, loss in drawn(model, job.batch, job.input_shape, job.seed, job.loss):
        try:
            return _or_raise(gradient_saliencies(model, images, [of], loss)[of])
        except ScoringError as error:
            first = first or error
    assert first is not None  # `drawn` gives one at least, or raises
    raise first


def _or_raise(signal: Signal | Failure) -> Signal:
    if isinstance(signal, Failure):
        raise ScoringError(signal.reason, signal.kind)
    return signal


def measure_weights(job: Job, names: Sequence[str]) -> dict[str, Result]:
    """Magnitude and l2_norm: no pass."""
    return _measured(job, _WEIGHTS, names)


def measure_synflow(job: Job, names: Sequence[str]) -> dict[str, Result]:
    """synflow: one pass on ones."""
    return _measured(job, _SYNFLOW, names)


def measure_gradients(job: Job, names: Sequence[str]) -> dict[str, Result]:
    """plain, grad_norm, fisher and grasp: passes on the batch."""
    return _measured(job, _GRADIENT, names)


def measure_custom(job: Job, names: Sequence[str]) -> dict[str, Result]:
    """A user's function."""
    return _measured(job, _CUSTOM, names)


def measure_noise(job: Job, names: Sequence[str]) -> dict[str, Result]:
    """Plain and grasp on drawn images: of the kinds that the network may take, the first that it does."""
    of = {name.removesuffix(NOISE): name for name in names}
    first: dict[str, Result] = {}
    model = job.model()
    for batch, loss in drawn(model, job.batch, job.input_shape, job.seed, job.loss):
        seed_everything(job.seed)
        # The notes of one kind of input are none of another's.
        found = _measured(replace(job, batch=batch, loss=loss), _GRADIENT, list(of), None if first else model)
        first = first or found  # the first reason counts
        if any(result.status != "failed" for result in found.values()):
            first = found
            break
    return {of[name]: result for name, result in first.items()}


def _measured(job: Job, passes: _Passes, names: Sequence[str], model: Model | None = None) -> dict[str, Result]:
    """Measure one family; again in the other precision where this one does not do.

    In float32 what calls an operation that float64 does not have; in float64 what is too faint to be told from
    float32's rounding.
    """
    found = _once(job, passes, names, (), model)
    lacking = [name for name in names if found[name].kind == "precision"]
    if lacking and (job.recipe.dtype, job.recipe.synflow_dtype) != ("float32", "float32"):
        found |= _again(job, passes, lacking, "float32", str(found[lacking[0]].reason), ("ok", "dead"))
    faint = [name for name in names if found[name].reason == ROUNDING]
    if faint and job.recipe.dtype == "float32":
        found |= _again(job, passes, faint, "float64", FAINT, ("ok",))
    return found


def _again(
    job: Job, passes: _Passes, names: Sequence[str], dtype: str, why: str, statuses: tuple[str, ...]
) -> dict[str, Result]:
    """Results in another precision, with a note why; those of some statuses alone."""
    seed_everything(job.seed)
    recipe = replace(job.recipe, dtype=dtype, synflow_dtype=dtype)
    made = _once(replace(job, recipe=recipe), passes, names, (f"in {dtype}: {why}",))
    return {name: result for name, result in made.items() if result.status in statuses}


def _once(
    job: Job, passes: _Passes, names: Sequence[str], notes: tuple[str, ...], model: Model | None = None
) -> dict[str, Result]:
    """Moments of each signal, with what a reader should know of all of them."""
    model = model or job.model()
    model.notes.update(dict.fromkeys(notes))
    inputs = _Inputs(job, passes)
    before = random_states()
    try:
        signals = passes.signals(model, job, set(names), False)
    except (ScoringError, RuntimeError) as error:  # RuntimeError: what torch raises in backward passes
        failure = _blamed(model, inputs, failure_of(error))
        return {name: Result.of(failure) for name in names}
    after = random_states()
    if sources := [source for source in before if before[source] != after.get(source)]:
        model.notes[f"the forward pass draws random numbers ({', '.join(sources)}): seeded with {job.seed}"] = None
    if job.check and passes.has_forward and not model.is_deterministic(inputs(), job.seed):
        model.notes["nondeterministic: two forward passes on the same input with the same seed differ"] = None
    return {name: _result(job, model, inputs, passes, name, signals[name]) for name in names}


@dataclass(frozen=True)
class _Inputs:
    """What the network is called with when something is to be found out about it; made when asked for."""

    job: Job
    passes: _Passes

    def __call__(self) -> Any:
        return self.job.example(with_batch=self.passes.reads_batch)


def _result(job: Job, model: Model, inputs: _Inputs, passes: _Passes, name: str, signal: Signal | Failure) -> Result:
    """Moments of one signal and its status, or why there are none."""
    if isinstance(signal, Failure):
        return Result.of(_blamed(model, inputs, signal))
    if job.check and name == "grasp":
        signal = _checked(job, model, signal)
    numel = counted(model.scored, model.masks)
    try:
        moments = from_tensors(without_pruned(signal.tensors, model.masks), numel, exponent=signal.exponents)
    except ScoringError as error:
        failure = _blamed(model, inputs, error.failure)
        return Result.of(failure if failure != error.failure else _located(job, model, passes, name, failure))
    notes, dead = (*model.notes, *signal.notes), None
    if signal.approximated:
        notes = (*notes, APPROXIMATED + ", ".join(signal.approximated))
    if signal.rounding:
        dead = signal.rounding
    elif signal.dead:
        dead = "the output does not depend on the input"
        if _cut_off(model, inputs()):
            if moments.unused.all():
                return Result.of(Failure("detached", DETACHED))
            notes, dead = (*notes, CUT), None
    if moments.unused.all() and dead is None and model.depends_on_weights(inputs()):
        return Result.of(Failure("detached", DETACHED))
    if moments.dead.all() and dead is None:
        dead = "no weight has any saliency"
    return Result("", "dead" if dead else "ok", dead, moments, notes=notes)


def _checked(job: Job, model: Model, signal: Signal) -> Signal:
    """grasp, with a note where autograd's second derivative is not what a difference of gradients says."""
    assert job.batch is not None
    try:
        off = second_order_error(model, job.batch, job.loss)
    except ScoringError as error:
        said = f"second derivatives could not be checked: {error}"
    else:
        if off < _AGREES[job.recipe.dtype]:
            return signal
        said = (
            f"second derivatives: Hg is {off:.2g} of its size away from a difference of gradients "
            "(a custom backward that detaches, or a kink between the two points)"
        )
    return signal._replace(notes=(*signal.notes, said))


def _cut_off(model: Model, inputs: Any) -> bool:
    """Whether the output changes with the input although autograd sees no path between them."""
    copies, sources = followed(to_device(inputs, model.device, torch.float64))
    with torch.enable_grad():
        outputs = flatten(model.call(model.weights(torch.float64), copies))
    return not any(reaches(out, sources) for out in outputs) and model.depends_on_inputs(inputs)


def _blamed(model: Model, inputs: _Inputs, failure: Failure) -> Failure:
    """A failure, and where NaN or infinity comes from if that is what it is."""
    if failure.kind not in ("nan", "infinite"):
        return failure
    where = model.first_non_finite(inputs())
    return replace(failure, reason=f"{failure.reason}: {where}") if where else failure


def _located(job: Job, model: Model, passes: _Passes, name: str, failure: Failure) -> Failure:
    """A failure of a finite forward pass, and the operation whose derivative is NaN."""
    if not passes.reads_batch or failure.kind != "nan" or job.batch is None:
        return failure
    where = not_a_number(model, job.batch, job.loss, second=name == "grasp")
    return replace(failure, reason=f"{failure.reason}: {where}") if where else failure
