"""What a search found: every trial as a table, the best, the front."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssnr.core import views
from ssnr.core.catalogue import CONTROLS
from ssnr.core.errors import SsnrError
from ssnr.searchers.goals import Objective, objectives_of
from ssnr.spaces import Space
from ssnr.store import Store, kept_searches
from ssnr.studies.sheet import Sheet


@dataclass(frozen=True, eq=False, repr=False)
class SearchResult:
    """What a search found.

    Attributes:
        space: the space's name.
        table: one row per trial, in the order of the search: trial, architecture, a column per objective (NaN where
            there is no number), status ("ok", "dead", "failed" or "infeasible"), reason, params, flops,
            reachable_params, layers, and latency and memory where they were measured.
        objectives: what was searched for.
        notes: what a reader has to know: sampler, seed, how many proposals the constraints refused.
        seconds: how long it took.
    """

    space: str
    table: pd.DataFrame
    objectives: tuple[Objective, ...]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @classmethod
    def kept(cls, store: str | Path | Store) -> list[SearchResult]:
        """The searches that a store keeps, each as its last run left it.

        Raises:
            StoreError: the store cannot be read.
        """
        if not isinstance(store, Store):
            with Store(store, create=False) as opened:
                return cls.kept(opened)
        found = []
        for search in kept_searches(store):
            rows = [
                {"trial": number, "architecture": one.architecture, "status": one.status, "reason": one.reason}
                | one.numbers
                for number, one in enumerate(search.trials)
            ]
            objectives = objectives_of(o["text"] for o in search.head["objectives"])
            found.append(cls(search.head["space"], pd.DataFrame(rows), objectives, (how_of(search.head),)))
        return found

    @property
    def ranked(self) -> pd.DataFrame:
        """The trials that have every objective: by front for several, best first, each architecture once.

        Columns `rank` (1 for the front of several objectives, or the position for one), and `rank_NAME` for every
        control: the position of the architecture among these when it is counted by that control, largest first.
        """
        names = [objective.name for objective in self.objectives]
        table = self.table[self.table["status"] == "ok"].drop_duplicates("architecture").dropna(subset=names)
        if table.empty:
            return table.assign(rank=pd.Series(dtype=int))
        losses = losses_of(table, self.objectives)
        rank = fronts(losses) if len(names) > 1 else pd.Series(losses[:, 0]).rank(method="min").to_numpy(dtype=int)
        controls = {
            f"rank_{name}": table[name].rank(method="min", ascending=False).astype(int)
            for name in CONTROLS
            if name in table
        }
        table = table.assign(rank=rank, **controls)
        return table.iloc[np.lexsort((table["trial"], losses[:, 0], rank))].reset_index(drop=True)

    @property
    def best(self) -> dict[str, Any]:
        """The first row of `ranked`.

        Raises:
            SsnrError: no trial has a number.
        """
        ranked = self.ranked
        if ranked.empty:
            raise SsnrError(self._nothing())
        return dict(ranked.iloc[0])

    @property
    def front(self) -> pd.DataFrame:
        """The trials that no other one beats in every objective, by the first objective."""
        ranked = self.ranked
        return ranked[ranked["rank"] == 1].reset_index(drop=True)

    def _nothing(self) -> str:
        reasons = self.table.loc[self.table["status"] != "ok", "reason"].value_counts()
        most = f"; most often: {reasons.index[0]}" if len(reasons) else ""
        return f"no network of {self.space} was found that has a score and meets the constraints{most}"

    def to_frame(self) -> pd.DataFrame:
        """Every trial."""
        return self.table.copy()

    def to_csv(self, path: str | Path) -> None:
        """Every trial as a CSV file.

        Raises:
            SsnrError: the file cannot be written.
        """
        try:
            self.table.to_csv(path, index=False, lineterminator="\n")
        except OSError as error:
            raise SsnrError(f"cannot write {path}: {error.strerror or error}") from error

    def to_optuna(self, storage: str | Path, *, space: str | Space | None = None, name: str | None = None) -> Any:
        """The trials as a study of Optuna (extra `search`): for its dashboard and plots, and to go on with `tell`.

        Trials have the space's parameters where it suggests any (`Space.suggestion`), and the architecture, its counts
        and what was measured as user attributes. What the study has already is not added again.

        Args:
            storage: a file of SQLite, created, or the URL of a database.
            space: the space itself, where it is no registered one.
            name: of the study; default "SPACE: OBJECTIVES".

        Returns:
            The `optuna.Study`.

        Raises:
            UsageError: Optuna is not installed, or a study of that name has other objectives.
            SsnrError: the storage cannot be written.
        """
        from ssnr.searchers import studies

        return studies.to_optuna(self, storage, space, name)

    def to_json(self, top: int = 10) -> dict[str, Any]:
        """The best `top`, the front where there are several objectives, and counts."""

        def rows(table: pd.DataFrame) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = table.astype(object).where(table.notna(), None).to_dict("records")  # type: ignore[assignment]
            return found

        several = {"front": rows(self.front)} if len(self.objectives) > 1 else {}
        return {
            "space": self.space,
            "objectives": [objective.text for objective in self.objectives],
            "trials": len(self.table),
            "status": {str(k): int(v) for k, v in self.table["status"].value_counts().items()},
            "seconds": self.seconds,
            "notes": list(self.notes),
            "best": rows(self.ranked.head(top)),
            **several,
        }

    def sheet(self, top: int = 10) -> Sheet:
        """The best `top` as a table for people."""
        ranked = self.ranked.head(top)
        shown = [
            name
            for name in ("params", "flops", "latency", "memory", "accuracy")
            if name in ranked and ranked[name].notna().any()
        ]
        headings = ["#", "architecture", *(objective.text for objective in self.objectives)]
        headings += [name for name in shown if name not in {objective.name for objective in self.objectives}]
        headings.append("# by reachable_params")
        cells = [
            [str(row["rank"]), row["architecture"], *(_cell(o.name, row[o.name]) for o in self.objectives),
             *(_cell(name, row[name]) for name in shown if name not in {o.name for o in self.objectives}),
             str(row["rank_reachable_params"])]
            for row in ranked.to_dict("records")
        ]  # fmt: skip
        made = Sheet.of(headings, cells, left=("architecture",))
        return Sheet(made.frame, made.columns, f"the best of {len(self.table):,} trials in {self.space}", self.notes)

    def plot(self, *, backend: str = "matplotlib") -> Any:
        """One objective: the best so far over trials; several: the first two with the front.

        Raises:
            UsageError: another backend than matplotlib or plotly (extra `report`).
        """
        from ssnr.core.figures import checked
        from ssnr.searchers import plots

        if checked(backend) == "plotly":
            return plots.interactive(self)
        return (plots.history if len(self.objectives) == 1 else plots.front)(self)

    def __repr__(self) -> str:
        scored = int((self.table["status"] == "ok").sum())
        return f"<search of {self.space}: {len(self.table):,} trials, {scored:,} scored>"

    def _repr_html_(self) -> str:
        sheet = self.sheet()
        return views.html_table([c.heading for c in sheet.columns], [cells for _, cells in sheet.cells()], sheet.title)


def how_of(head: Mapping[str, Any]) -> str:
    """How a search was made, in words."""
    return f"sampler {head['sampler']}, seed {head['seed']}, recipe {head['recipe']}"


def _cell(name: str, value: Any) -> str:
    if pd.isna(value):
        return "–"
    if name in CONTROLS:
        return f"{int(value):,}"
    if name == "latency":
        return f"{1e3 * value:.3g} ms"
    return f"{value / 1e6:.3g} MB" if name == "memory" else views.number(float(value))


def losses_of(table: pd.DataFrame, objectives: tuple[Objective, ...]) -> NDArray[np.float64]:
    """(trials, objectives), smaller is better."""
    columns = [table[o.name].to_numpy(dtype=np.float64) * (-1.0 if o.larger else 1.0) for o in objectives]
    return np.stack(columns, axis=1)


def fronts(losses: NDArray[np.float64]) -> NDArray[np.int64]:
    """The number of the front that each row is on: 1 where no other row is as good in all and better in one.

    Each front is found among those that no earlier one holds (Deb et al., NSGA-II, 2002).

    >>> fronts(np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0], [2.0, 2.0], [3.0, 3.0]])).tolist()
    [1, 1, 1, 2, 3]
    """
    found = np.zeros(len(losses), dtype=np.int64)
    left, number = np.arange(len(losses)), 0
    while len(left):
        number += 1
        own = losses[left]
        beaten = np.zeros(len(left), dtype=bool)
        for at in np.lexsort(own.T[::-1]):  # one that is beaten later in this order is beaten by one before it
            if not beaten[at]:
                beaten |= (own >= own[at]).all(1) & (own > own[at]).any(1)
        found[left[~beaten]] = number
        left = left[beaten]
    return found
