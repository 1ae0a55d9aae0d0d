"""Score one network: the passes that its proxies need, each once, and the numbers that follow."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ssnr.core.catalogue import HEADLINE, NOISE, PLAIN, SALIENCIES, Proxy, Saliency, parse_proxies
from ssnr.core.errors import ScoringError, UsageError, one_line
from ssnr.core.moments import from_tensors
from ssnr.core.recipes import Recipe, get_recipe
from ssnr.core.results import APPROXIMATED, Result, Score, evaluate, failed
from ssnr.data import Batch, batch_of
from ssnr.interpret.approximated import reaches
from ssnr.networks.calling import Forward, needs_two
from ssnr.networks.masks import counted, surviving, survivors, users_name
from ssnr.networks.model import Model
from ssnr.networks.preserve import preserved
from ssnr.networks.settings import drawn as random_states
from ssnr.networks.settings import seed_everything, undisturbed
from ssnr.networks.trees import flatten, moved
from ssnr.networks.weights import unwrapped
from ssnr.proxies.capture import Context
from ssnr.proxies.controls import control
from ssnr.saliencies import Loss, Signal, gradient_saliencies, ones_like, synflow_of, weight_saliencies
from ssnr.saliencies.gradients import Refused, not_a_number, second_order_error
from ssnr.saliencies.noise import drawn
from ssnr.saliencies.signal import followed


def score(
    net: nn.Module,
    batch: Any = None,
    proxies: Iterable[str | Proxy] = (HEADLINE,),
    *,
    input_shape: tuple[int, ...] | None = None,
    loss: Loss | None = None,
    forward: Forward | None = None,
    recipe: str | Recipe = "seed",
    seed: int = 0,
    check: bool = False,
) -> dict[str, Score]:
    """Training-free scores of a network, which is bit-identical afterwards.

    Args:
        net: any module; its weights are scored as they are.
        batch: a tensor, (inputs, targets) or a `Batch`; needed by proxies that read data. Inputs are a tensor, a
            tuple of several, a mapping (keyword arguments where its keys are names of the forward's arguments), or
            whatever else the network takes as its one argument.
        proxies: `saliency/aggregate`, a bare saliency (its sum), or a plain name; see `ssnr list proxies`. The default
            is `noise_ssnr`, the one that ranks best (docs/evidence.md); `synflow/layerwise_ssnr` is the paper's.
        input_shape: of one input without the batch dimension, for data-free proxies; else taken from the batch.
        loss: (output, targets) → scalar; the default follows from both, see `ssnr.saliencies.losses`.
        forward: (net, inputs) → output, where calling the network needs more than `net(inputs)`.
        recipe: the choices that change numbers; see `ssnr list recipes`.
        seed: of whatever the forward pass draws itself.
        check: run two more forward passes, and note where they differ; for grasp also hold its second derivatives
            against a difference of gradients.

    Returns:
        Proxy text → `Score`. A network that cannot be scored gives status "failed" with the reason, never a number.

    Raises:
        UsageError: the call is wrong: unknown names, not a module, no batch or shape where one is needed.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))
    >>> with torch.no_grad():
    ...     _ = net[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.5]]))
    ...     _ = net[2].weight.copy_(torch.tensor([[-1.0, 2.0], [0.5, 1.0]]))
    >>> score(net, input_shape=(2,), proxies=["synflow/layerwise_ssnr"])["synflow/layerwise_ssnr"].value
    12.29279657...
    """
    parsed, chosen = parse_proxies(proxies), get_recipe(recipe)
    results = measure(
        net, {p.measured for p in parsed}, batch=batch, input_shape=input_shape, loss=loss, forward=forward,
        recipe=chosen, seed=seed, check=check,
    )  # fmt: skip
    return {proxy.text: _score(proxy, results[proxy.measured], chosen) for proxy in parsed}


def saliency(
    net: nn.Module,
    name: str,
    batch: Any = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    loss: Loss | None = None,
    forward: Forward | None = None,
    recipe: str | Recipe = "seed",
    seed: int = 0,
) -> dict[str, Tensor]:
    """The saliency itself: parameter name → tensor of the parameter's shape, zeros where a layer is unused.

    Arguments as in `score`. Entries beyond float64 are infinite; `score` has the logarithm of their sum.

    Raises:
        UsageError: as in `score`.
        ScoringError: the network cannot be scored; the message says why.
    """
    if name not in SALIENCIES and name in PLAIN:
        raise UsageError(f"{name} is a plain proxy: it has no saliency by weight")
    entry, chosen, given = SALIENCIES[name], get_recipe(recipe), batch_of(batch)
    _check_numbers(input_shape, seed)
    _check_data([entry.measured], given)
    given = _fitted(net, given, forward)
    with undisturbed(), preserved(net, exposed=entry.family == "custom"):
        seed_everything(seed)
        model = Model(net, chosen, forward, lambda: _example(given, input_shape))
        signal = signal_of(model, entry, given, input_shape, loss, seed)
    found: dict[str, Tensor] = {}
    for layer, tensor in signal.tensors.items():
        values = torch.zeros_like(model.scored[layer]) if tensor is None else tensor.detach()
        if signal.exponent:
            values = torch.ldexp(values.to(torch.float64), torch.tensor(signal.exponent, device=values.device))
        found[layer] = surviving(layer, values.abs() if entry.is_magnitude else values, model.masks)
    return found


def signal_of(
    model: Model,
    entry: Saliency,
    batch: Batch | None,
    input_shape: tuple[int, ...] | None,
    loss: Loss | None,
    seed: int,
) -> Signal:  # fmt: skip
    """What is measured for one saliency, signed; the caller keeps the network `preserved`."""
    if entry.draws:
        return _signal_of_noise(model, entry, batch, input_shape, loss, seed)
    return _family(model, entry.family, {entry.measured}, batch, input_shape, loss)[entry.measured]


def _signal_of_noise(
    model: Model,
    entry: Saliency,
    batch: Batch | None,
    input_shape: tuple[int, ...] | None,
    loss: Loss | None,
    seed: int,
) -> Signal:  # fmt: skip
    of, failure = entry.measured.removesuffix(NOISE), None
    for images, own_loss in drawn(model, batch, input_shape, seed, loss):
        try:
            return gradient_saliencies(model, images, [of], own_loss)[of]
        except ScoringError as error:
            failure = failure or error
    assert failure is not None  # `drawn` gives one at least, or raises
    raise failure


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

    Saliencies of one family share their passes; a family that fails leaves the others alone.

    Raises:
        UsageError: as in `score`.
    """
    recipe, given = recipe or get_recipe("seed"), batch_of(batch)
    if not isinstance(net, nn.Module):
        raise UsageError(f"expected a torch.nn.Module, got {type(net).__name__}: {net!r:.60}")
    _check_numbers(input_shape, seed)
    _check_data(measured, given)
    given = _fitted(net, given, forward)
    families: dict[str, list[str]] = {}
    for name in measured:
        kind = SALIENCIES[name].family if name in SALIENCIES else "shared" if PLAIN[name].shared else "plain"
        families.setdefault(name if kind in ("custom", "plain") else kind, []).append(name)
    job = _Job(net, given, input_shape, loss, forward, recipe, seed, check)
    found: dict[str, Result] = {}
    for family, names in families.items():
        started = time.perf_counter()
        with undisturbed(), preserved(net, exposed=family not in _SHIELDED):
            seed_everything(seed)
            try:
                results = _results(job, family, names)
            except (ScoringError, RuntimeError) as error:
                results = {name: Result("", "failed", _reason(error)) for name in names}
        seconds = (time.perf_counter() - started) / len(names)
        found |= {name: r._replace(network=network, seconds=seconds) for name, r in results.items()}
    return found


# Families that never let a network run on its own tensors: `Model.call` hands it others.
_SHIELDED = ("weights", "synflow", "gradient", "noise", "shared")


class _Job(NamedTuple):
    """One network and everything that its families of proxies share."""

    net: nn.Module
    batch: Batch | None
    input_shape: tuple[int, ...] | None
    loss: Loss | None
    forward: Forward | None
    recipe: Recipe
    seed: int
    check: bool

    def model(self) -> Model:
        return Model(self.net, self.recipe, self.forward, lambda: _example(self.batch, self.input_shape))


def _results(job: _Job, family: str, names: list[str]) -> dict[str, Result]:
    if family == "shared":
        return _shared(job, names)
    if family in PLAIN:
        return _plain(job, family)
    if family != "noise":
        return _saliencies(job, family, names)
    of = {name.removesuffix(NOISE): name for name in names}
    found: dict[str, Result] = {}
    for batch, loss in drawn(job.model(), job.batch, job.input_shape, job.seed, job.loss):
        seed_everything(job.seed)
        again = _saliencies(job._replace(batch=batch, loss=loss), "gradient", list(of))
        found = found or again  # the first reason counts
        if any(result.status != "failed" for result in again.values()):
            found = again
            break
    return {of[name]: result for name, result in found.items()}


def _saliencies(job: _Job, family: str, names: list[str]) -> dict[str, Result]:
    """One family, in float32 where the network calls what only exists in lower precision than the recipe's."""
    found = _saliencies_once(job, family, names, ())
    lower = replace(job.recipe, dtype="float32", synflow_dtype="float32")
    lacking = [name for name in names if (reason := found[name].reason) and _lacks_double(reason)]
    if not lacking or lower == job.recipe:
        return found
    seed_everything(job.seed)
    again = _saliencies_once(job._replace(recipe=lower), family, lacking, (f"in float32: {found[lacking[0]].reason}",))
    return found | {name: result for name, result in again.items() if result.status != "failed"}


def _lacks_double(reason: str) -> bool:
    return " raised " in reason and any(word in reason for word in ("Double", "float64", "torch.float64"))


def _saliencies_once(job: _Job, family: str, names: list[str], notes: tuple[str, ...]) -> dict[str, Result]:
    model = job.model()
    model.notes.update(dict.fromkeys(notes))
    found: dict[str, Result] = {}
    if "fisher" in names and model.scripted:
        reason = "fisher reads what each layer puts out, which TorchScript does not show"
        found["fisher"] = Result("", "failed", reason)
        names = [name for name in names if name != "fisher"]
    before = random_states()

    def inputs() -> Any:
        return _example(job.batch if family == "gradient" else None, job.input_shape, job.batch)

    try:
        inputs_of = (job.batch, job.input_shape, job.loss)
        signals = _family(model, family, set(names), *inputs_of, whole=False) if names else {}
    except (ScoringError, RuntimeError) as error:  # RuntimeError: what torch raises in backward passes
        return found | {name: Result("", "failed", _blamed(model, inputs(), _reason(error))) for name in names}
    after = random_states()
    if sources := [source for source in before if before[source] != after.get(source)]:
        model.notes[f"the forward pass draws random numbers ({', '.join(sources)}): seeded with {job.seed}"] = None
    if job.check and family in ("synflow", "gradient") and not model.repeats(inputs(), job.seed):
        model.notes["nondeterministic: two forward passes on the same input with the same seed differ"] = None
    numel = counted(model.scored, model.masks)
    for name in names:
        signal = signals[name]
        if job.check and name == "grasp" and not isinstance(signal.tensors, Refused):
            signal = _checked(job, model, signal)
        try:
            moments = from_tensors(survivors(signal.tensors, model.masks), numel, exponent=signal.exponents)
        except ScoringError as error:
            reason = _blamed(model, inputs(), str(error))
            if family == "gradient" and reason == str(error) and "(NaN)" in reason:
                assert job.batch is not None
                where = not_a_number(model, job.batch, job.loss, second=name == "grasp")
                reason = f"{reason}: {where}" if where else reason
            found[name] = Result("", "failed", reason)
            continue
        notes, dead = (*model.notes, *signal.notes), None
        if signal.approximated:
            notes = (*notes, APPROXIMATED + ", ".join(signal.approximated))
        if signal.rounding:
            dead = signal.rounding
        elif signal.dead:
            dead = "the output does not depend on the input"
            if _cut_off(model, inputs()):
                if moments.unused.all():
                    found[name] = Result("", "failed", DETACHED)
                    continue
                notes, dead = (*notes, CUT), None
        if moments.unused.all() and dead is None and model.feels(inputs()):
            found[name] = Result("", "failed", DETACHED)
            continue
        if moments.dead.all() and dead is None:
            dead = "no weight has any saliency"
        found[name] = Result("", "dead" if dead else "ok", dead, moments, notes=notes)
    return found


def _checked(job: _Job, model: Model, signal: Signal) -> Signal:
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


# How far a correct Hg is from a difference of gradients, by far.
_AGREES = {"float64": 1e-4, "float32": 0.1}
DETACHED = "the output is detached from every weight (detach or no_grad in the forward): nothing to differentiate"
CUT = "no gradient reaches the input (detach or no_grad on the way): layers before that point have no saliency"


def _cut_off(model: Model, inputs: Any) -> bool:
    """Whether the output changes with the input although autograd sees no path between them."""
    copies, sources = followed(moved(inputs, model.device, torch.float64))
    with torch.enable_grad():
        outputs = flatten(model.call(model.weights(torch.float64), copies))
    return not any(reaches(out, sources) for out in outputs) and model.reads(inputs)


def _check_numbers(input_shape: Any, seed: Any) -> None:
    whole = isinstance(input_shape, (tuple, list)) and all(isinstance(n, Integral) and int(n) >= 0 for n in input_shape)
    if input_shape is not None and not whole:
        raise UsageError(f"input_shape={input_shape!r}: expected whole numbers such as (3, 32, 32), without the batch")
    if not isinstance(seed, Integral) or not -(2**63) <= int(seed) < 2**63:
        raise UsageError(f"seed={seed!r}: expected a whole number of at most 63 bits")


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, ScoringError) else f"{type(error).__name__}: {one_line(error)}"


def _blamed(model: Model, inputs: Any, reason: str) -> str:
    """A reason, and where NaN or infinity comes from if that is what it is about."""
    if "not finite" not in reason and "the loss is" not in reason:
        return reason
    where = model.blame(inputs)
    return f"{reason}: {where}" if where else reason


def _example(batch: Batch | None, input_shape: tuple[int, ...] | None, other: Batch | None = None) -> Any:
    """What the network can be called with: the batch's inputs, else ones."""
    if batch is not None:
        return batch.inputs
    return ones_like(None if other is None else other.inputs, input_shape)


def _fitted(net: nn.Module, batch: Batch | None, forward: Forward | None) -> Batch | None:
    """(x, y) of a network that cannot be called without both: two inputs and no targets."""
    if batch is None or forward is not None or not isinstance(batch.inputs, Tensor):
        return batch
    if batch.targets is None or not isinstance(net, nn.Module) or not needs_two(unwrapped(net)):
        return batch
    return replace(batch, inputs=(batch.inputs, batch.targets), targets=None)


def _family(
    model: Model, family: str, names: Collection[str], batch: Batch | None, input_shape: tuple[int, ...] | None,
    loss: Loss | None, *, whole: bool = True,
) -> Mapping[str, Signal]:  # fmt: skip
    if family == "weights":
        return weight_saliencies(model, names)
    if family == "synflow":
        return {"synflow": synflow_of(model, input_shape, None if batch is None else batch.inputs, whole=whole)}
    if family == "gradient":
        assert batch is not None  # `_check_data`
        return gradient_saliencies(model, batch, names, loss)
    (name,) = names
    function = SALIENCIES[name].function
    assert function is not None
    tensors = {users_name(key, model.masks): t for key, t in _guarded(function, model.net, batch).items()}
    unknown = set(tensors) - set(model.scored)
    if unknown:
        raise ScoringError(f"{name} returned {sorted(unknown)[0]!r}, which is not a scored parameter of the network")
    return {name: Signal({layer: tensors.get(layer) for layer in model.scored})}


def _plain(job: _Job, name: str) -> dict[str, Result]:
    entry = PLAIN[name]
    if entry.function is None:
        inputs = None if job.batch is None else job.batch.inputs
        try:
            number, notes = control(name, job.net, job.input_shape, inputs, job.forward, job.recipe)
        except ScoringError as error:
            if not _lacks_double(str(error)):
                raise
            lower = replace(job.recipe, synflow_dtype="float32")
            number, notes = control(name, job.net, job.input_shape, inputs, job.forward, lower)
        return {name: Result("", "ok", value=float(number), notes=notes)}
    value = float(_guarded(entry.function, job.net, job.batch))
    if value != value or abs(value) == float("inf"):
        return {name: Result("", "failed", f"{name} is {value}")}
    return {name: Result("", "ok", value=value)}


def _shared(job: _Job, names: list[str]) -> dict[str, Result]:
    """Proxies that read activations and gradients, from passes that each runs once."""
    context = Context(
        job.model(), job.net, job.batch, job.loss, job.forward, job.recipe, job.seed, job.input_shape, {}
    )  # fmt: skip
    found: dict[str, Result] = {}
    for name in names:
        function = PLAIN[name].function
        assert function is not None
        try:
            value = float(function(context))
        except (ScoringError, RuntimeError) as error:
            found[name] = Result("", "failed", _reason(error))
            continue
        if value != value or abs(value) == float("inf"):
            found[name] = Result("", "failed", f"{name} is {value}")
        else:
            found[name] = Result("", "ok", value=value, notes=tuple(context.model.notes))
    return found


def _guarded(function: Any, net: nn.Module, batch: Batch | None) -> Any:
    """A user's own function, its exceptions as a reason."""
    try:
        return function(net, batch)
    except Exception as error:
        raise ScoringError(f"{function.__name__} raised {type(error).__name__}: {error}") from error


def _score(proxy: Proxy, result: Result, recipe: Recipe) -> Score:
    if result.status == "failed":
        return failed(result.reason or "unknown")
    if result.moments is None:
        return Score(result.value, None, result.status, result.reason, notes=result.notes)
    return evaluate(proxy, result.moments, recipe, result.status, result.reason)._replace(notes=result.notes)


def _check_data(measured: Collection[str], batch: Batch | None) -> None:
    if batch is not None:
        return
    for name in measured:
        if (SALIENCIES[name] if name in SALIENCIES else PLAIN[name]).data:
            raise UsageError(f"{name} needs a batch: score(net, (inputs, targets), …), or --data on the command line")
