"""Scores as one table, for pandas, R, a spreadsheet, DuckDB, datasette."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ssnr.core.catalogue import CONTROLS, NAMED, PLAIN, SALIENCIES, Proxy, parse_proxy
from ssnr.core.errors import SsnrError, UsageError
from ssnr.core.recipes import get_recipe
from ssnr.core.results import score_of
from ssnr.store import Architecture, Group, Store

SUFFIXES = (".csv", ".parquet", ".sqlite")
COLUMNS = (
    "space",
    "architecture",
    "proxy",
    "recipe",
    "seed",
    "data",
    "value",
    "log_value",
    "status",
    "reason",
    "notes",
)


def export(
    store: Store | str | Path,
    path: str | Path | None = None,
    *,
    proxies: Iterable[str] | None = None,
    long: bool = False,
) -> pd.DataFrame:
    """What a store holds, as scores.

    Args:
        store: an open store or the path of one.
        path: where to write it: .csv, .parquet (needs pyarrow) or .sqlite (a table `scores`); None only returns it.
        proxies: which; by default every saliency that was measured as sum, ssnr and layerwise_ssnr, and plain proxies.
        long: one row per architecture and proxy, with the columns space, architecture, proxy, recipe, seed, data,
            value, log_value, status, reason, notes; else one row per architecture, with its
            controls and a column per proxy.

    Raises:
        UsageError: nothing of what is asked for is there; another kind of file; pyarrow is not installed.
        SsnrError: the file cannot be written.
    """
    if path is not None and Path(path).suffix not in SUFFIXES:
        raise UsageError(f"{path}: expected a name that ends in .csv, .parquet or .sqlite")
    if not isinstance(store, Store):
        with Store(store, create=False) as opened:
            return export(opened, path, proxies=proxies, long=long)
    asked = None if proxies is None else [parse_proxy(text) for text in proxies]
    table = pd.DataFrame(_rows(store, asked), columns=list(COLUMNS))
    if table.empty:
        wish = "" if asked is None else f" of {', '.join(proxy.text for proxy in asked)}"
        raise UsageError(f"store {store.path} holds no scores{wish}: run `ssnr sweep` first")
    found = table if long else _wide(store, table)
    if path is not None:
        _write(found, Path(path))
    return found


def _rows(store: Store, asked: list[Proxy] | None) -> Iterator[tuple[Any, ...]]:
    stands: dict[str, dict[str, list[Architecture]]] = {}
    for space in store.spaces():
        for row in store.architectures(space):
            own = stands.setdefault(space, {})
            for name in {row.network, row.architecture}:
                own.setdefault(name, []).append(row)
    for group in store.groups():
        several = _proxies(group, asked)
        recipe = get_recipe(group.recipe)
        for result in store.results(group) if several else ():
            scores = [(proxy, score_of(proxy, result, recipe, with_layers=False)) for proxy in several]
            for row in stands.get(group.space, {}).get(result.network, ()):
                for proxy, s in scores:
                    yield (group.space, row.architecture, proxy.text, group.recipe, group.seed, group.data, s.value,
                           s.log_value, s.status, s.reason, "; ".join(s.notes))  # fmt: skip


def _proxies(group: Group, asked: list[Proxy] | None) -> list[Proxy]:
    """Those that a group can give."""
    if asked is not None:
        return [proxy for proxy in asked if proxy.measured == group.measured]
    names = [name for name in NAMED if parse_proxy(name).measured == group.measured]
    for name in SALIENCIES:
        if SALIENCIES[name].measured == group.measured:
            names += [f"{name}/{aggregate}" for aggregate in ("sum", "ssnr", "layerwise_ssnr")]
    return [parse_proxy(name) for name in (*names, *([group.measured] if group.measured in PLAIN else ()))]


def _wide(store: Store, table: pd.DataFrame) -> pd.DataFrame:
    """One row per architecture: counts, and a column per proxy, whose name tells columns of one proxy apart."""
    label = table["proxy"].astype(str)
    for column in ("recipe", "seed", "data"):
        if (table.groupby(["space", "proxy"])[column].nunique() > 1).any():
            label = label + f" {column} " + table[column].astype(str)
    scores = table.assign(label=label).pivot_table(
        index=["space", "architecture"], columns="label", values="value", aggfunc="first", sort=False
    )
    counts = pd.DataFrame(
        [(space, row.architecture, *(getattr(row, name) for name in CONTROLS))
         for space in store.spaces() for row in store.architectures(space)],
        columns=["space", "architecture", *CONTROLS],
    )  # fmt: skip
    return counts.merge(scores.reset_index(), on=["space", "architecture"], how="inner")


def _write(table: pd.DataFrame, path: Path) -> None:
    try:
        if path.suffix == ".csv":
            table.to_csv(path, index=False, lineterminator="\n")
        elif path.suffix == ".parquet":
            table.to_parquet(path, index=False)
        else:
            path.unlink(missing_ok=True)
            with sqlite3.connect(path) as db:
                table.to_sql("scores", db, index=False)
            db.close()
    except ImportError as error:
        raise UsageError(f"{path}: .parquet needs pyarrow: pip install pyarrow; or take .csv") from error
    except (OSError, sqlite3.Error) as error:
        raise SsnrError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
