"""From saliency to masks: the rounds, and the selection in each."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ssnr.core.catalogue import PLAIN, SALIENCIES, Saliency
from ssnr.core.errors import LayerCollapseWarning, ScoringError, UsageError
from ssnr.core.recipes import Recipe, get_recipe
from ssnr.core.registry import unknown
from ssnr.data import batch_of
from ssnr.networks.calling import Forward
from ssnr.networks.model import Model
from ssnr.networks.preserve import preserved
from ssnr.networks.settings import seed_everything
from ssnr.pruning.attach import applied, refuse_pruned
from ssnr.pruning.result import Masks
from ssnr.saliencies import Loss
from ssnr.scoring import signal_of
from ssnr.scoring.job import Job

SCOPES = ("global", "layer")
RANDOM = "random"
Progress = Callable[[int, int], None]


def masks(
    net: nn.Module,
    saliency: str = "synflow",
    density: float = 0.1,
    *,
    batch: Any = None,
    input_shape: tuple[int, ...] | None = None,
    scope: str = "global",
    rounds: int | None = None,
    exclude: Iterable[str] = (),
    loss: Loss | None = None,
    forward: Forward | None = None,
    recipe: str | Recipe = "seed",
    seed: int = 0,
    progress: Progress | None = None,
) -> Masks:
    """Which weights to keep, so that round(density · N) of N weights are left; `net` stays as it is.

    N counts the parameters with two or more dimensions that take part in the forward pass; magnitude and random run
    none and count all of them. Biases and norms are never pruned. Of equal saliencies the first are kept, in the order
    of the parameters.

    Args:
        net: a network without masks.
        saliency: one of `ssnr list proxies` that is by weight, or "random".
        density: the share of the weights that is left, in (0, 1].
        batch: as in `ssnr.score`; needed by saliencies that read data.
        input_shape: of one input without the batch dimension, for synflow; else taken from the batch.
        scope: "global" compares weights across layers, "layer" leaves round(density · N_l) in each.
        rounds: how often the saliency is computed; by default 100 for synflow, once for the others.
        exclude: layers to leave dense and out of N, by the name of the parameter or of a module that holds it.
        loss: as in `ssnr.score`.
        forward: as in `ssnr.score`.
        recipe: as in `ssnr.score`.
        seed: of random masks, and of whatever the forward pass draws.
        progress: called with (rounds done, rounds) after each.

    Raises:
        UsageError: the call is wrong: an unknown name, a density that is not in (0, 1] or keeps no weight, a network
            that is pruned already, a weight that two modules share, no batch or shape where one is needed.
        ScoringError: the network cannot be scored; the message says why.

    Warns:
        LayerCollapseWarning: a layer has no weight left.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))
    >>> with torch.no_grad():
    ...     _ = net[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.5]]))
    ...     _ = net[2].weight.copy_(torch.tensor([[-1.0, 2.0], [0.5, 1.0]]))
    >>> masks(net, "synflow", 0.5, input_shape=(2,)).tensors["0.weight"]
    tensor([[False,  True],
            [ True, False]])
    """
    chosen, given = get_recipe(recipe), batch_of(batch)
    rule = rule_of(saliency)
    density, rounds = _check(saliency, density, scope, rounds)
    if rule is not None and rule.data and given is None:
        raise UsageError(f"{saliency} needs a batch: masks(…, batch=(inputs, targets)), or --data on the command line")
    job = Job.of(net, [], given, input_shape, loss, forward, chosen, seed)
    with preserved(net):
        model = Model(net, chosen, forward)
        refuse_pruned(net)
        names = _prunable(model, exclude)
        kept: dict[str, Tensor] = {}
        steps = rounds if density < 1 else 1  # where all are kept, one pass tells which take part
        for step in range(1, steps + 1):
            seed_everything(seed)
            scores = _scores(model, names, rule, kept, job)
            if not kept:
                kept = {name: torch.ones(s.shape, dtype=torch.bool, device=s.device) for name, s in scores.items()}
                _check_count(density, sum(s.numel() for s in scores.values()), scope)
            keep_largest(scores, kept, density ** (step / steps), scope)
            if progress is not None:
                progress(step, steps)
    how = {
        "saliency": saliency, "density": density, "scope": scope, "rounds": rounds, "recipe": str(chosen),
        "seed": seed, "batch": None if given is None else given.fingerprint,
    }  # fmt: skip
    found = Masks({name: mask.cpu() for name, mask in kept.items()}, how)
    if found.collapsed:
        warnings.warn(collapse(found), LayerCollapseWarning, stacklevel=2)
    return found


def rounds_of(saliency: str) -> int:
    """How often a saliency is computed where nothing else is asked for."""
    return 100 if saliency == "synflow" else 1


def check_density(density: float) -> None:
    """Raise where it is no share of weights to keep."""
    if isinstance(density, bool) or not isinstance(density, (int, float)) or not 0 < density <= 1:
        raise UsageError(f"density {density!r}: expected the share of weights to keep, above 0 and at most 1")


def collapse(found: Masks) -> str:
    """The line that says which layers are empty.

    >>> collapse(Masks({"a": torch.tensor([True]), "b": torch.tensor([False])}))
    'layer collapse: 1 of 2 layers has no weight left: b'
    """
    names = found.collapsed
    more = f" and {len(names) - 3} more" if len(names) > 4 else ""
    listed = ", ".join(names[:3] if more else names)
    have = "has" if len(names) == 1 else "have"
    return f"layer collapse: {len(names)} of {len(found.tensors)} layers {have} no weight left: {listed}{more}"


def keep_largest(scores: Mapping[str, Tensor], kept: Mapping[str, Tensor], share: float, scope: str) -> None:
    """Of the weights that are kept, keep those of largest score, until `share` of all is left.

    A threshold alone cannot do that: "all above" keeps none of equal scores, "all from" too many. Of those equal to the
    threshold the last ones go, in the order of the layers.

    >>> kept = {"a": torch.tensor([True, True]), "b": torch.tensor([True, True])}
    >>> keep_largest({"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([1.0, 1.0])}, kept, 0.5, "global")
    >>> kept
    {'a': tensor([True, True]), 'b': tensor([False, False])}
    """
    for group in [list(kept)] if scope == "global" else [[name] for name in kept]:
        count = round(share * sum(kept[name].numel() for name in group))
        values = torch.cat([scores[name][kept[name]] for name in group])
        if count >= values.numel():
            continue
        threshold = _smallest(values, values.numel() - count) if count else float("inf")
        for name in group:
            kept[name].logical_and_(scores[name] >= threshold)
        surplus = sum(int(kept[name].sum()) for name in group) - count
        for name in reversed(group) if surplus else ():
            equal = (kept[name] & (scores[name] == threshold)).reshape(-1).nonzero().squeeze(1)
            gone = equal[max(len(equal) - surplus, 0) :]
            kept[name].view(-1)[gone] = False
            surplus -= len(gone)


def _smallest(values: Tensor, rank: int) -> float:
    """The value that `rank` others stand before, smallest first; on a CPU NumPy selects several times faster."""
    if values.is_cuda:
        return float(values.kthvalue(rank + 1).values)
    array = values.numpy()
    array.partition(rank)
    return float(array[rank])


def _scores(
    model: Model, names: list[str], rule: Saliency | None, kept: dict[str, Tensor], job: Job
) -> dict[str, Tensor]:
    """How much each weight is to be kept, given those that are; layers that take no part are left out."""
    if rule is None:
        draw = torch.Generator().manual_seed(job.seed)
        return {n: torch.rand(model.scored[n].shape, generator=draw, dtype=torch.float64) for n in names}
    if kept and rule.family == "custom":
        # A user's function reads the network itself.
        with applied(model.net, kept):
            signal = signal_of(Model(model.net, model.recipe), rule, job)
    else:
        model.masks = kept
        signal = signal_of(model, rule, job)
    if kept:
        names = list(kept)
    elif signal.rounding:
        raise ScoringError(signal.rounding)
    elif signal.dead:
        raise ScoringError("the output does not depend on the input: no weight is worth more than another")
    scores = {n: _worth(rule, t) for n in names if (t := signal.tensors[n]) is not None}
    for name, values in scores.items():
        if not bool(torch.isfinite(values).all()):
            raise ScoringError(f"layer {name!r}: its {rule.name} saliency is not finite")
    if not kept and not any(bool(values.any()) for values in scores.values()):
        raise ScoringError(f"no weight has any {rule.name} saliency: none is worth more than another")
    return scores


def _worth(rule: Saliency, values: Tensor) -> Tensor:
    """A value for each weight, of which the largest are kept.

    It is −S of grasp and grasp_noise, which is how much the gradient flow loses with the weight; |S| of any other.
    """
    values = values.detach()
    if values.dtype not in (torch.float32, torch.float64):
        values = values.to(torch.float64)
    return -values if rule.name in ("grasp", "grasp_noise") else values.abs()


def rule_of(saliency: str) -> Saliency | None:
    """The catalogue's entry of a saliency, None for random.

    Raises:
        UsageError: there is none by that name.
    """
    if saliency == RANDOM and RANDOM not in SALIENCIES:
        return None
    if saliency in PLAIN:
        raise UsageError(f"{saliency} is a plain proxy: it has no saliency by weight")
    if saliency not in SALIENCIES:
        raise unknown("saliency", saliency, [*SALIENCIES, RANDOM])
    return SALIENCIES[saliency]


def _check(saliency: str, density: float, scope: str, rounds: int | None) -> tuple[float, int]:
    check_density(density)
    if scope not in SCOPES:
        raise UsageError(f"scope {scope!r}: expected {' or '.join(SCOPES)}")
    if rounds is None:
        rounds = rounds_of(saliency)
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise UsageError(f"rounds {rounds!r}: expected a whole number, at least 1")
    return float(density), rounds


def _check_count(density: float, total: int, scope: str) -> None:
    if scope == "global" and round(density * total) == 0:
        raise UsageError(f"density {density:g} of {total:,} weights keeps none: expected at least {1 / total:.2g}")


def _prunable(model: Model, exclude: Iterable[str]) -> list[str]:
    """The scored names that are not excluded, none of them in two places."""
    excluded = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    modules = [name for name, _ in model.net.named_modules() if name]
    for name in excluded:
        if name not in modules and name not in dict(model.net.named_parameters(remove_duplicate=False)):
            near = difflib.get_close_matches(name, [*modules, *model.scored], n=2, cutoff=0.5)
            hint = f": did you mean {' or '.join(near)}?" if near else ""
            raise UsageError(f"exclude {name!r}: the network has no layer or module of that name{hint}")
    places: dict[int, list[str]] = {}
    for name, parameter in model.places():
        places.setdefault(id(parameter), []).append(name)
    chosen = []
    for name, parameter in model.scored.items():
        own = places[id(parameter)]
        if any(place == e or place.startswith(f"{e}.") for place in own for e in excluded):
            continue
        if len(own) > 1:
            raise UsageError(
                f"{' and '.join(own)} are one tensor, which a mask in one place would part: "
                f"leave it dense with exclude=({own[0]!r},), or untie it"
            )
        chosen.append(name)
    if not chosen:
        raise UsageError("no weight to prune: every scored weight is excluded")
    return chosen
