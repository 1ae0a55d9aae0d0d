"""The search itself: ask a sampler, score what it proposes through the engine, tell it, until the budget is spent.

A search keeps no state of its own but the store: run again with the same arguments it makes the same proposals and
finds their scores there, so that a killed search goes on where it was.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ssnr.core.catalogue import CONTROLS, HEADLINE
from ssnr.core.errors import ScoringError, SsnrError, UsageError, failure_of
from ssnr.core.recipes import Recipe, get_recipe, shared
from ssnr.core.registry import unknown
from ssnr.core.results import Score
from ssnr.engine.plans import plan
from ssnr.engine.runs import run, scores_of_all
from ssnr.searchers.goals import MEASURED, Bounds, Objective, bounds_of, meets, objectives_of
from ssnr.searchers.measures import measure_of
from ssnr.searchers.result import SearchResult, how_of
from ssnr.searchers.samplers import AUTO, SAMPLERS, SMALL, Told
from ssnr.spaces import Space, get_space
from ssnr.store import Store, Trial, keep_trials

BATCH = 32  # proposals that are scored together; what a search finds depends on it, so that workers cannot change it
TRIALS = 1000

Notify = Callable[[int, int], None]
Measure = Callable[[Space, str, int], Mapping[str, float]]


@dataclass
class _Search:
    """A search on its way."""

    space: Space
    store: Store
    objectives: tuple[Objective, ...]
    bounds: dict[str, Bounds]
    recipe: Recipe
    seed: int
    batch: Any
    workers: int | None
    measure: Measure | None
    most: int
    notify: Notify
    head: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def allowed(self, arch: str) -> bool:
        """Whether an architecture meets the constraints that need no network."""
        counted = {name: bounds for name, bounds in self.bounds.items() if name in CONTROLS}
        counts = dict(zip(CONTROLS, self.space.controls(arch), strict=True)) if counted else {}
        # What cannot be built is a trial too: it fails with the reason.
        known = {name: count for name, count in counts.items() if count is not None}
        return len(known) < len(counts) or meets(counted, known)

    def score(self, archs: Sequence[str]) -> list[Told]:
        """Score a batch and write its rows."""
        wanted = [o.proxy for o in self.objectives if o.proxy is not None]
        scores: dict[str, Mapping[str, Score]] = {}
        if wanted:
            layout = plan(self.space, archs, wanted, store=self.store, seed=self.seed, batch=self.batch,
                          recipe=self.recipe)  # fmt: skip
            for step in run(layout, self.store, workers=self.workers):
                self.notify(len(self.rows) + step.done * len(archs) // max(step.total, 1), self.most)
            scores = dict(scores_of_all(layout, self.store))
        first = len(self.rows)
        told = [self._told(arch, scores.get(self.space.parse(arch), {})) for arch in archs]
        keep_trials(self.store, self.head, first, [_trial(row) for row in self.rows[first:]])
        return told

    def _told(self, arch: str, scores: Mapping[str, Score]) -> Told:
        counts = dict(zip(CONTROLS, self.space.controls(arch), strict=True))
        measured, broken = self._measured(arch)
        values = {
            o.name: measured.get(o.name) if o.proxy is None else o.of(scores[o.proxy.text]) for o in self.objectives
        }
        worst = next((s for s in scores.values() if s.status != "ok"), None)
        status, reason = "ok", None
        if worst is not None:
            status, reason = str(worst.status), worst.reason
        elif broken is not None:
            status, reason = "failed", broken
        elif not meets({name: b for name, b in self.bounds.items() if name in MEASURED}, measured):
            status, reason = "infeasible", "misses a constraint: " + ", ".join(n for n in self.bounds if n in MEASURED)
        self.rows.append(
            {"trial": len(self.rows), "architecture": arch, **values, "status": status, "reason": reason,
             **counts, **measured}
        )  # fmt: skip
        if status != "ok" or any(value is None for value in values.values()):
            return Told(arch, None)
        return Told(arch, tuple(-values[o.name] if o.larger else values[o.name] for o in self.objectives))  # type: ignore[operator,misc]

    def _measured(self, arch: str) -> tuple[dict[str, float], str | None]:
        """Latency and memory, or why there are none."""
        try:
            return ({} if self.measure is None else dict(self.measure(self.space, arch, self.seed))), None
        except SsnrError as error:
            if not isinstance(error, ScoringError):
                raise
            return {}, str(error)
        except Exception as error:  # of the user's own code: this network fails, the search goes on
            return {}, failure_of(error).reason


def search(
    space: str | Space,
    objectives: str | Iterable[str] = (HEADLINE,),
    *,
    store: str | Path | Store,
    constraints: Mapping[str, object] | None = None,
    trials: int | None = None,
    seconds: float | None = None,
    sampler: str = "auto",
    workers: int | None = None,
    seed: int = 0,
    batch: Any = None,
    recipe: str | Recipe | None = None,
    measure: Measure | None = None,
    notify: Notify | None = None,
) -> SearchResult:
    """The best networks of a space under constraints.

    Args:
        space: a space or its name.
        objectives: proxies, each as large as can be (or small, where its authors want it so); `-NAME` for as small as
            can be; also `params`, `flops`, `latency` and `memory`. Several give a Pareto front.
        store: where scores are kept; what it holds is not scored again.
        constraints: name → largest value, or (smallest, largest), of params, flops, reachable_params, layers, latency
            (seconds) or memory (bytes). Counts are checked before a network is built.
        trials: how many networks to look at; default 1,000, or the whole space where it is searched in full.
        seconds: after which no new batch is begun.
        sampler: "exhaustive", "random", "evolution" (Real et al., 2019), "nsga2" or "tpe" (Optuna); "auto" takes
            exhaustive for spaces of up to 20,000 architectures without `trials`, else evolution.
        workers: as in `sweep`.
        seed: of proposals and of initial weights; a search repeats whatever the workers.
        batch: for objectives that read data.
        recipe: as in `sweep`; by default float32, and the weights of one supernet where the space is searched in full
            and has one.
        measure: (space, architecture, seed) → latency in seconds and memory in bytes; by default, where they are asked
            for, they are measured here, between the batches that workers score.
        notify: called with trials done and in all.

    Raises:
        UsageError: unknown names, bounds between which nothing is, an objective that needs a batch, no budget.
        StoreError: the store cannot be opened or written.
    """
    where, parsed, bounds = get_space(space), objectives_of(objectives), bounds_of(constraints)
    kind = _kind(where, sampler, trials)
    most = _budget(where, kind, trials, seconds)
    measure = measure or measure_of((n for n in (*(o.name for o in parsed), *bounds) if n in MEASURED), where)
    chosen = get_recipe(recipe) if recipe is not None else _recipe(where, kind)
    opened = store if isinstance(store, Store) else Store(store)
    started = time.monotonic()
    try:
        head = head_of(where, parsed, bounds, kind, seed, chosen, batch)
        going = _Search(where, opened, parsed, bounds, chosen, seed, batch, workers, measure, most,
                        notify or _quiet, head)  # fmt: skip
        proposals = SAMPLERS[kind](where, going.allowed, seed, len(parsed))
        # Those that learn nothing from a batch need no small ones, and a supernet is faster in large ones.
        size = 1 << 14 if kind in ("exhaustive", "random") and seconds is None else BATCH
        while len(going.rows) < most and (seconds is None or time.monotonic() - started < seconds):
            archs = proposals.ask(min(size, most - len(going.rows)))
            if not archs:
                break
            proposals.tell(going.score(archs))
            going.notify(len(going.rows), most)
    finally:
        if opened is not store:
            opened.close()
    if not going.rows:
        raise SsnrError(f"no network of {where.name} meets {_said(bounds)}: {proposals.refused:,} were looked at")
    notes = [how_of(going.head)]
    if proposals.refused:
        notes.append(f"{proposals.refused:,} proposals did not meet {_said(bounds)}: not built, not counted as trials")
    if (how := getattr(measure, "note", None)) is not None:
        notes.append(how)
    return SearchResult(where.name, pd.DataFrame(going.rows), parsed, tuple(notes), time.monotonic() - started)


def head_of(
    space: Space, objectives: Sequence[Objective], bounds: Mapping[str, Bounds], sampler: str, seed: int,
    recipe: Recipe, batch: Any,
) -> dict[str, Any]:  # fmt: skip
    """What tells a search from others in a store."""
    return {
        "space": space.name,
        "objectives": [{"text": o.text, "name": o.name, "larger": o.larger} for o in objectives],
        "constraints": {name: list(bound) for name, bound in bounds.items()},
        "sampler": sampler,
        "seed": seed,
        "recipe": str(recipe),
        "data": _fingerprint(batch),
    }


def _fingerprint(batch: Any) -> str:
    if batch is None:
        return ""
    from ssnr.data import batch_of  # loads torch, which a search over a store that is complete does not need

    given = batch_of(batch)
    return "" if given is None else given.fingerprint


def _trial(row: Mapping[str, Any]) -> Trial:
    numbers = {name: value for name, value in row.items() if name not in ("trial", "architecture", "status", "reason")}
    return Trial(row["architecture"], row["status"], row["reason"], numbers)


def _quiet(done: int, most: int) -> None:
    """Nobody is told."""


def _kind(space: Space, sampler: str, trials: int | None) -> str:
    if sampler not in (AUTO, *SAMPLERS):
        raise unknown("sampler", sampler, (AUTO, *SAMPLERS))
    if sampler != AUTO:
        return sampler
    small = space.size is not None and space.size <= (SMALL if trials is None else trials)
    return "exhaustive" if small else "evolution"


def _budget(space: Space, kind: str, trials: int | None, seconds: float | None) -> int:
    for name, value in (("trials", trials), ("seconds", seconds)):
        if value is not None and not value > 0:
            raise UsageError(f"{name} {value}: expected a number above 0")
    if trials is not None:
        return int(trials)
    if kind == "exhaustive":
        if seconds is None and (space.size is None or space.size > 1_000_000):
            shown = "an unknown number of" if space.size is None else f"{space.size:,}"
            raise UsageError(f"{space.name} has {shown} architectures: name trials or a time")
        return space.size or sys.maxsize
    return TRIALS if seconds is None else space.size or sys.maxsize


def _recipe(space: Space, kind: str) -> Recipe:
    """float32; one supernet's weights where everything is scored and the space has one."""
    fast = get_recipe("seed(dtype=float32)")
    if kind == "exhaustive":
        from ssnr.supernet.layouts.base import layout_of

        try:
            layout_of(space)
        except UsageError:
            return fast
        return shared(fast)
    return fast


def _said(bounds: Mapping[str, Bounds]) -> str:
    parts = []
    for name, (low, high) in bounds.items():
        parts.append(" ≤ ".join(p for p in (None if low is None else f"{low:g}", name,
                                             None if high is None else f"{high:g}") if p))  # fmt: skip
    return ", ".join(parts) or "the constraints"
