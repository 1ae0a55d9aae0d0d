"""What users call to score a network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ssnr.core.catalogue import HEADLINE, PLAIN, SALIENCIES, Proxy, parse_proxies
from ssnr.core.errors import UsageError
from ssnr.core.recipes import Recipe, get_recipe
from ssnr.core.results import Scores, scores_of
from ssnr.networks.calling import Forward
from ssnr.networks.masks import with_pruned_zero
from ssnr.networks.preserve import preserved
from ssnr.networks.settings import seed_everything, undisturbed
from ssnr.saliencies import Loss
from ssnr.scoring.job import Job
from ssnr.scoring.measuring import measure
from ssnr.scoring.signals import signal_of


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
) -> Scores:
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
    return scores_of(parsed, results, chosen)


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
    entry = SALIENCIES[name]
    job = Job.of(net, [entry.measured], batch, input_shape, loss, forward, get_recipe(recipe), seed)
    with undisturbed(), preserved(net, exposed=entry.family == "custom"):
        seed_everything(seed)
        model = job.model()
        signal = signal_of(model, entry, job)
    found: dict[str, Tensor] = {}
    for layer, tensor in signal.tensors.items():
        values = torch.zeros_like(model.scored[layer]) if tensor is None else tensor.detach()
        if signal.exponent:
            values = torch.ldexp(values.to(torch.float64), torch.tensor(signal.exponent, device=values.device))
        found[layer] = with_pruned_zero(layer, values.abs() if entry.is_magnitude else values, model.masks)
    return found
