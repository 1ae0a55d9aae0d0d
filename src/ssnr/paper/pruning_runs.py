"""Prune a network step by step and look at its accuracy: the runs after a pruning curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from ssnr.core.catalogue import SALIENCIES
from ssnr.core.errors import SsnrError, UsageError
from ssnr.core.registry import unknown
from ssnr.paper.curve import COLUMNS, READINGS, SCORES, Point, Record
from ssnr.paper.training import Images, Settings, accuracy, train
from ssnr.pruning import Masks, apply, check_density, masks
from ssnr.scoring import score

Make = Callable[[], nn.Module]
Train = Callable[[nn.Module, str], None]
Evaluate = Callable[[nn.Module], float]
Prune = Callable[[nn.Module, float], Masks]
Notify = Callable[[str, int, int], None]


@dataclass(frozen=True)
class CurveProtocol:
    """What a curve is made with; bring your own functions where your training is not ours.

    Attributes:
        make: → the network with its first weights, the same ones each time.
        train: (network, name of the job) trains in place; the name tells checkpoints apart: "dense", "init-0.1".
        evaluate: network → accuracy in percent.
        prune: (network, density) → masks.
        finetune: as `train`, for the short training after the pruning; None leaves that reading out.
        shrink: network with masks → one that learns and computes the same in less time.
        input_shape: of one input, for synflow.
        saliency: whose scores are measured.
        batch: for saliencies that read data.
    """

    make: Make
    train: Train
    evaluate: Evaluate
    prune: Prune
    finetune: Train | None = None
    shrink: Callable[[nn.Module], nn.Module] | None = None
    input_shape: tuple[int, ...] | None = None
    saliency: str = "synflow"
    batch: Any = None


def curve(
    protocol: CurveProtocol,
    densities: Iterable[float],
    init_densities: Iterable[float] | None = None,
    *,
    record: str | Path | None = None,
    identity: str = "",
    on_point: Callable[[Point, int], None] | None = None,
) -> pd.DataFrame:
    """The curve in tidy form: reading, density, kept, total, collapsed, accuracy, sum, ssnr, layerwise_ssnr.

    Args:
        protocol: how networks are made, trained, pruned and looked at.
        densities: shares of the weights that are left, for the readings that prune a trained network.
        init_densities: those at which a network is trained from its first weights; by default the same, () for none.
        record: file that keeps every point that is done; the same call again does only what is missing.
        identity: of everything that the points depend on, kept in the record.
        on_point: called with each new point and the number of points in all.

    Raises:
        UsageError: a density outside (0, 1], or the record of another curve.
    """
    later = _checked(densities)
    early = later if init_densities is None else _checked(init_densities)
    points = Record(Path(record) if record is not None else None, identity)
    total = len(later) * (2 if protocol.finetune else 1) + len(early)
    for point in _missing(protocol, later, early, points):
        points.add(point)
        if on_point:
            on_point(point, total)
    order = {reading: place for place, reading in enumerate(READINGS)}
    wanted = {("init", d) for d in early} | {(r, d) for r in ("trained", "finetuned") for d in later}
    rows = [p for p in points.points if (p.reading, p.density) in wanted]
    rows.sort(key=lambda p: (order[p.reading], -p.density))
    return pd.DataFrame([p._asdict() for p in rows], columns=list(COLUMNS))


def _checked(densities: Iterable[float]) -> list[float]:
    found = sorted({float(d) for d in densities}, reverse=True)
    for density in found:
        check_density(density)
    return found


def _missing(protocol: CurveProtocol, later: list[float], early: list[float], record: Record) -> Iterator[Point]:
    """The points that the record lacks, dense network first: everything else leans on it."""
    readings = ["trained", "finetuned"] if protocol.finetune else ["trained"]
    todo = {(r, d) for r in readings for d in later} | {("init", d) for d in early}
    todo -= record.done()
    trained: nn.Module | None = None
    if any(reading != "init" for reading, _ in todo) or ("init", 1.0) in todo:
        trained = protocol.make()
        protocol.train(trained, "dense")
    for density in later:
        wanted = [r for r in readings if (r, density) in todo]
        if wanted and trained is not None:
            yield from _of_trained(protocol, trained, density, wanted)
    for density in early:
        if ("init", density) in todo:
            yield _of_init(protocol, trained, density)


def _of_trained(protocol: CurveProtocol, trained: nn.Module, density: float, readings: list[str]) -> Iterator[Point]:
    net = protocol.make()
    net.load_state_dict(trained.state_dict())
    kept = protocol.prune(net, density)
    apply(net, kept)
    scores = measure(protocol, net)
    if "trained" in readings:
        yield Point("trained", density, kept.kept, kept.total, len(kept.collapsed), protocol.evaluate(net), *scores)
    if "finetuned" in readings and protocol.finetune is not None:
        small = protocol.shrink(net) if protocol.shrink else net
        protocol.finetune(small, f"finetune-{density:g}")
        percent = protocol.evaluate(small)
        yield Point("finetuned", density, kept.kept, kept.total, len(kept.collapsed), percent, *scores)


def _of_init(protocol: CurveProtocol, trained: nn.Module | None, density: float) -> Point:
    net = protocol.make()
    kept = protocol.prune(net, density)
    apply(net, kept)
    scores = measure(protocol, net)
    if density == 1.0 and trained is not None:
        net = trained  # the dense network has been trained already
    else:
        net = protocol.shrink(net) if protocol.shrink else net
        protocol.train(net, f"init-{density:g}")
    return Point("init", density, kept.kept, kept.total, len(kept.collapsed), protocol.evaluate(net), *scores)


def measure(protocol: CurveProtocol, net: nn.Module) -> tuple[float, float, float]:
    """Sum, overall SSNR and layer-wise SSNR of the weights that are left; 0 where the network is dead.

    Raises:
        SsnrError: the network cannot be scored.
    """
    names = [f"{protocol.saliency}/{name}" for name in SCORES]
    found = score(net, protocol.batch, names, input_shape=protocol.input_shape)
    for name in names:
        if found[name].status == "failed":
            raise SsnrError(f"{name}: {found[name].reason}")
    values = [found[name].value for name in names]
    first, second, third = (math.nan if v is None or not math.isfinite(v) else v for v in values)
    return first, second, third


# --- on images --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainAndPruneConfig:
    """How `on_images` trains and prunes.

    Attributes:
        epochs: of the training of the dense network, and of one after a pruning at initialisation; 0 for none.
        lr: its peak learning rate.
        finetune_epochs: of the short training after a pruning; 0 leaves that reading out.
        finetune_lr: its peak learning rate.
        batch_size: images a step.
        precision: float32 or bfloat16, of trainings.
        saliency: by which weights are kept, and whose scores are measured.
        scope: of the pruning, global or layer.
        rounds: of the pruning; None is the saliency's own number.
        exclude: layers that stay dense.
        recipe: of the saliency.
        seed: of everything that is drawn.
        device: where to train.
    """

    epochs: int = 20
    lr: float = 0.05
    finetune_epochs: int = 1
    finetune_lr: float = 0.01
    batch_size: int = 128
    precision: str = "float32"
    saliency: str = "synflow"
    scope: str = "global"
    rounds: int | None = None
    exclude: tuple[str, ...] = ()
    recipe: str = "seed"
    seed: int = 0
    device: str = "cpu"


def on_images(
    make: Make, images: Images, ways: TrainAndPruneConfig, folder: Path, *,
    input_shape: tuple[int, ...] | None, batch: Any = None,
    shrink: Callable[[nn.Module], nn.Module] | None = None, notify: Notify | None = None,
) -> CurveProtocol:  # fmt: skip
    """A protocol with this project's own training loop.

    Args:
        make: → the network with its first weights.
        images: to train and to test on.
        ways: how.
        folder: of the checkpoints, one a training.
        input_shape: of one input, for synflow.
        batch: for saliencies that read data.
        shrink: as in `CurveProtocol`.
        notify: called with (what is being done, steps done, steps in all).
    """

    def step(what: str) -> Callable[[int, int], None] | None:
        return None if notify is None else lambda done, total: notify(what, done, total)

    def trainer(epochs: int, lr: float) -> Train:
        settings = Settings(max(epochs, 1), ways.batch_size, lr, precision=ways.precision, seed=ways.seed)

        def run(net: nn.Module, job: str) -> None:
            path = folder / f"{job}.pt"
            if epochs:
                train(net, images, settings, checkpoint=path, device=ways.device, on_step=step(f"training {job}"))

        return run

    def evaluate(net: nn.Module) -> float:
        return accuracy(net, images.test, images.test_labels, device=ways.device, precision=ways.precision)

    def prune(net: nn.Module, density: float) -> Masks:
        return masks(
            net, ways.saliency, density, batch=batch, input_shape=input_shape, scope=ways.scope, rounds=ways.rounds,
            exclude=ways.exclude, recipe=ways.recipe, seed=ways.seed, progress=step(f"pruning to {density:g}"),
        )  # fmt: skip

    finetune = trainer(ways.finetune_epochs, ways.finetune_lr) if ways.finetune_epochs else None
    return CurveProtocol(
        make, trainer(ways.epochs, ways.lr), evaluate, prune, finetune, shrink, input_shape, ways.saliency, batch
    )


def check_saliency(saliency: str) -> bool:
    """Whether the saliency of a curve reads data.

    Raises:
        UsageError: there is no such saliency, or it has no scores.
    """
    if saliency == "random":
        raise UsageError("a pruning curve needs a saliency that has scores; random masks have none")
    if saliency not in SALIENCIES:
        raise unknown("saliency", saliency, SALIENCIES)
    return SALIENCIES[saliency].data
