"""A search as a study of Optuna, in a file of its own: for its dashboard, its plots, and for going on with `tell`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssnr.core.catalogue import CONTROLS
from ssnr.core.errors import SsnrError, UsageError, one_line
from ssnr.searchers.goals import MEASURED
from ssnr.searchers.samplers import optuna_or_say
from ssnr.spaces import Space, get_space

if TYPE_CHECKING:
    from ssnr.searchers.result import SearchResult


def to_optuna(found: SearchResult, storage: str | Path, space: str | Space | None, name: str | None) -> Any:
    """See `SearchResult.to_optuna`."""
    optuna = optuna_or_say()
    where = get_space(found.space if space is None else space)
    names = [objective.name for objective in found.objectives]
    directions = ["maximize" if objective.larger else "minimize" for objective in found.objectives]
    title = name or f"{found.space}: {', '.join(objective.text for objective in found.objectives)}"
    try:
        study = optuna.create_study(storage=_url(storage), study_name=title, directions=directions, load_if_exists=True)
        if [d.name.lower() for d in study.directions] != directions:
            raise UsageError(f"{storage} has a study {title!r} with other objectives: give it another name")
        with warnings.catch_warnings():  # the names of objectives, which Optuna calls experimental
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(names)
        known = {trial.user_attrs.get("trial") for trial in study.get_trials(deepcopy=False)}
        rows = [row for row in found.table.to_dict("records") if row["trial"] not in known]
        study.add_trials([_trial(optuna, where, {str(k): v for k, v in row.items()}, names) for row in rows])
    except UsageError:
        raise
    except Exception as error:  # of Optuna, SQLAlchemy or a database driver
        raise SsnrError(f"cannot write a study to {storage}: {one_line(error)}") from error
    return study


def _trial(optuna: Any, space: Space, row: Mapping[str, Any], names: list[str]) -> Any:
    """One row as a frozen trial: complete where it has every objective, else failed."""
    parameters = space.suggestion(row["architecture"])
    fixed = optuna.trial.FixedTrial(parameters or {})
    if parameters is not None:
        space.suggest(fixed)
    values = [row[name] for name in names]
    complete = row["status"] == "ok" and not any(value is None or value != value for value in values)
    kept = {"trial": int(row["trial"]), "architecture": row["architecture"], "status": row["status"]}
    kept |= {key: _plain(row[key]) for key in ("reason", *CONTROLS, *MEASURED) if row.get(key) == row.get(key, 0)}
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.COMPLETE if complete else optuna.trial.TrialState.FAIL,
        values=[float(value) for value in values] if complete else None,
        params=fixed.params,
        distributions=fixed.distributions,
        user_attrs={key: value for key, value in kept.items() if value is not None},
    )


def _plain(value: Any) -> Any:
    """A number of NumPy as one of Python."""
    return value.item() if hasattr(value, "item") else value


def _url(storage: str | Path) -> str:
    """The URL of a database; a path is a file of SQLite."""
    text = str(storage)
    return text if "://" in text else f"sqlite:///{Path(text).absolute()}"
