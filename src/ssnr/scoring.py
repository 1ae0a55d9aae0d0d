"""Score one network: the passes that its proxies need, each once, and the numbers that follow."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ssnr._errors import ScoringError, UsageError
from ssnr._masks import counted, surviving, survivors, users_name
from ssnr._model import Forward, Model, preserved
from ssnr.counts import count
from ssnr.data import Batch, batch_of
from ssnr.moments import from_tensors
from ssnr.proxies import PLAIN, SALIENCIES, Proxy, Saliency, Score, evaluate, failed, parse_proxies
from ssnr.recipes import Recipe, get_recipe
from ssnr.saliencies import Loss, Signal, gradient_saliencies, synflow, weight_saliencies
from ssnr.store import Result


def score(
    net: nn.Module,
    batch: Any = None,
    proxies: Iterable[str | Proxy] = ("synflow/layerwise_ssnr",),
    *,
    input_shape: tuple[int, ...] | None = None,
    loss: Loss | None = None,
    forward: Forward | None = None,
    recipe: str | Recipe = "seed",
    seed: int = 0,
) -> dict[str, Score]:
    """Training-free scores of a network, which is bit-identical afterwards.

    Args:
        net: any module; its weights are scored as they are.
        batch: a tensor, (inputs, targets) or a `Batch`; needed by proxies that read data.
        proxies: `saliency/aggregate`, a bare saliency (its sum), or a plain name; see `ssnr list proxies`.
        input_shape: of one input without the batch dimension, for data-free proxies; else taken from the batch.
        loss: (output, targets) → scalar; default mean cross-entropy, mean squared error for float targets.
        forward: (net, inputs) → output, where calling the network needs more than `net(inputs)`.
        recipe: the choices that change numbers; see `ssnr list recipes`.
        seed: of whatever the forward pass draws itself.

    Returns:
        Proxy text → `Score`. A network that cannot be scored gives status "failed" with the reason, never a number.

    Raises:
        UsageError: the call is wrong: unknown names, not a module, no batch or shape where one is needed.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))
    >>> with torch.no_grad():
    ...     _ = net[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.5]]))
    ...     _ = net[2].weight.copy_(torch.tensor([[-1.0, 2.0], [0.5, 1.0]]))
    >>> score(net, input_shape=(2,))["synflow/layerwise_ssnr"].value
    12.29279657...
    """
    parsed, chosen = parse_proxies(proxies), get_recipe(recipe)
    results = measure(
        net, {p.measured for p in parsed}, batch=batch, input_shape=input_shape, loss=loss, forward=forward,
        recipe=chosen, seed=seed,
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

    Arguments as in `score`.

    Raises:
        UsageError: as in `score`.
        ScoringError: the network cannot be scored; the message says why.
    """
    if name not in SALIENCIES and name in PLAIN:
        raise UsageError(f"{name} is a plain proxy: it has no saliency by weight")
    entry, chosen, given = SALIENCIES[name], get_recipe(recipe), batch_of(batch)
    _check_data([entry.measured], given)
    with preserved(net):
        torch.manual_seed(seed)
        model = Model(net, chosen, forward)
        signal = signal_of(model, entry, given, input_shape, loss)
    found: dict[str, Tensor] = {}
    for layer, tensor in signal.tensors.items():
        values = torch.zeros_like(model.scored[layer]) if tensor is None else tensor.detach()
        found[layer] = surviving(layer, values.abs() if entry.is_magnitude else values, model.masks)
    return found


def signal_of(
    model: Model, entry: Saliency, batch: Batch | None, input_shape: tuple[int, ...] | None, loss: Loss | None
) -> Signal:
    """What is measured for one saliency, signed; the caller keeps the network `preserved`."""
    return _family(model, entry.family, {entry.measured}, batch, input_shape, loss)[entry.measured]


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
    _check_data(measured, given)
    families: dict[str, list[str]] = {}
    for name in measured:
        kind = SALIENCIES[name].family if name in SALIENCIES else "plain"
        families.setdefault(name if kind in ("custom", "plain") else kind, []).append(name)
    found: dict[str, Result] = {}
    for family, names in families.items():
        started = time.perf_counter()
        with preserved(net):
            torch.manual_seed(seed)
            results = _measure_family(net, family, names, given, input_shape, loss, forward, recipe)
        seconds = (time.perf_counter() - started) / len(names)
        found |= {name: r._replace(network=network, seconds=seconds) for name, r in results.items()}
    return found


def _measure_family(
    net: nn.Module, family: str, names: list[str], batch: Batch | None, input_shape: tuple[int, ...] | None,
    loss: Loss | None, forward: Forward | None, recipe: Recipe,
) -> dict[str, Result]:  # fmt: skip
    """One family's passes; a reason instead of moments where the network cannot be scored."""
    try:
        if family in PLAIN:
            return {family: _plain(net, family, batch, input_shape, forward, recipe)}
        model = Model(net, recipe, forward)
        signals = _family(model, family, set(names), batch, input_shape, loss)
    except ScoringError as error:
        return {name: Result("", "failed", str(error)) for name in names}
    numel = counted(model.scored, model.masks)
    found: dict[str, Result] = {}
    for name in names:
        signal = signals[name]
        try:
            moments = from_tensors(survivors(signal.tensors, model.masks), numel, exponent=signal.exponents)
        except ScoringError as error:
            found[name] = Result("", "failed", str(error))
            continue
        dead = "the output does not depend on the input" if signal.dead else None
        if dead is None and moments.dead.all():
            dead = "no weight has any saliency"
        found[name] = Result("", "dead" if dead else "ok", dead, moments)
    return found


def _family(
    model: Model, family: str, names: Collection[str], batch: Batch | None, input_shape: tuple[int, ...] | None,
    loss: Loss | None,
) -> Mapping[str, Signal]:  # fmt: skip
    if family == "weights":
        return weight_saliencies(model, names)
    if family == "synflow":
        return {"synflow": synflow(model, input_shape, None if batch is None else batch.inputs)}
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


def _plain(
    net: nn.Module, name: str, batch: Batch | None, input_shape: tuple[int, ...] | None, forward: Forward | None,
    recipe: Recipe,
) -> Result:  # fmt: skip
    entry = PLAIN[name]
    if entry.function is None:
        inputs = None if batch is None else batch.inputs
        return Result("", "ok", value=float(getattr(count(net, input_shape, inputs, forward, recipe), name)))
    value = float(_guarded(entry.function, net, batch))
    if value != value or abs(value) == float("inf"):
        return Result("", "failed", f"{name} is {value}")
    return Result("", "ok", value=value)


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
        return Score(result.value, None, result.status, result.reason)
    return evaluate(proxy, result.moments, recipe, result.status, result.reason)


def _check_data(measured: Collection[str], batch: Batch | None) -> None:
    if batch is not None:
        return
    for name in measured:
        if (SALIENCIES[name] if name in SALIENCIES else PLAIN[name]).data:
            raise UsageError(f"{name} needs a batch: score(net, (inputs, targets), …), or --data on the command line")
