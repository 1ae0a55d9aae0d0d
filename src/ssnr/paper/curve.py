"""The pruning curve: for each density the accuracy, and what the saliency of the weights that are left adds up to.

Three readings of "prune a network and look at its accuracy":

    trained       train the dense network, prune it, and look
    finetuned     the same, with a short training after the pruning
    init          prune at initialisation, then train

Scores are those of the pruned network before whatever training follows: of trained weights in the first two readings,
of first weights in the third.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ssnr.core.errors import SsnrError, UsageError

READINGS = {
    "trained": "train, then prune",
    "finetuned": "train, prune, train a little more",
    "init": "prune at initialisation, then train",
}
SCORES = ("sum", "ssnr", "layerwise_ssnr")
COLUMNS = ("reading", "density", "kept", "total", "collapsed", "accuracy", *SCORES)


class Point(NamedTuple):
    """One network of the curve; a score that is too large for a number is NaN."""

    reading: str
    density: float
    kept: int
    total: int
    collapsed: int
    accuracy: float
    sum: float
    ssnr: float
    layerwise_ssnr: float


class Record:
    """Points in a file of JSON lines, the identity first; a torn last line, from a kill, is dropped."""

    def __init__(self, path: Path | None, identity: str) -> None:
        self.path = path
        self.points: list[Point] = []
        if path is None:
            return
        try:
            lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise SsnrError(f"cannot read {path}: {error}") from error
        documents = [_json(line) for line in lines[:-1]]
        if documents and documents[0] != {"identity": identity}:
            raise UsageError(
                f"{path} holds another curve: {_identity(documents[0])}, not {identity}; name another folder"
            )
        self.points = [Point(**d) for d in documents[1:] if isinstance(d, dict)]
        rows = [json.dumps({"identity": identity}), *(json.dumps(p._asdict()) for p in self.points)]
        self._write("\n".join(rows) + "\n", "w")

    def done(self) -> set[tuple[str, float]]:
        return {(p.reading, p.density) for p in self.points}

    def add(self, point: Point) -> None:
        self.points.append(point)
        if self.path is not None:
            self._write(json.dumps(point._asdict()) + "\n", "a")

    def _write(self, text: str, mode: str) -> None:
        assert self.path is not None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open(mode, encoding="utf-8") as stream:
                stream.write(text)
        except OSError as error:
            raise SsnrError(f"cannot write {self.path}: {error.strerror or error}") from error


def _identity(document: Any) -> str:
    return str(document.get("identity", "something else")) if isinstance(document, dict) else "something else"


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


# --- what the curve says ----------------------------------------------------------------------------------------


def relative(table: pd.DataFrame) -> pd.DataFrame:
    """The table with accuracy and scores divided by those of the densest network of each reading, the first row."""
    found = table.copy()
    for reading in dict.fromkeys(table["reading"]):
        rows = table["reading"] == reading
        for name in ("accuracy", *SCORES):
            values = table.loc[rows, name].to_numpy(dtype=np.float64)
            found.loc[rows, name] = values / values[0] if values[0] else np.nan
    return found


def tracking(table: pd.DataFrame, *, points: float = 1.0) -> pd.DataFrame:
    """How each score follows accuracy along each reading.

    Columns: reading, score, n; spearman and kendall of score and accuracy; gap, the mean over the densities of
    |score − accuracy|, both relative to the dense network; holds, the smallest density whose accuracy is within
    `points` of the dense network's; left, the share of the dense network's score that is left there.

    Where accuracy falls with every pruning, any score that does too has rank correlation 1: gap and left tell them
    apart.

    Args:
        table: of `curve`.
        points: percent points of accuracy.
    """
    from scipy import stats

    shares = relative(table)
    rows: list[dict[str, Any]] = []
    for reading in dict.fromkeys(table["reading"]):
        own, share = table[table["reading"] == reading], shares[shares["reading"] == reading]
        holds = own["density"][own["accuracy"] >= float(own["accuracy"].iloc[0]) - points].idxmin()
        for name in SCORES:
            rho, tau = np.nan, np.nan
            if own[name].nunique() > 1 and own["accuracy"].nunique() > 1:
                rho = float(stats.spearmanr(own[name], own["accuracy"]).statistic)
                tau = float(stats.kendalltau(own[name], own["accuracy"]).statistic)
            gap = float((share[name] - share["accuracy"]).abs().mean())
            rows.append({"reading": reading, "score": name, "n": len(own), "spearman": rho, "kendall": tau, "gap": gap,
                         "holds": own.loc[holds, "density"], "left": share.loc[holds, name]})  # fmt: skip
    return pd.DataFrame(rows)
