"""Searches in a store: what was looked for, and every trial in its order.

    searches  search → what it was after and how, as JSON
    trials    (search, trial) → architecture, status, reason, numbers as JSON: objectives, counts, latency, memory

The tables are made by the first search. A search that is run again writes its trials anew, batch by batch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from ssnr.store.file import Store, checksum

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS searches (search TEXT PRIMARY KEY, head TEXT NOT NULL, checksum INTEGER) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS trials (search TEXT NOT NULL, trial INTEGER NOT NULL, architecture TEXT NOT NULL, "
    "status TEXT NOT NULL, reason TEXT, numbers TEXT NOT NULL, checksum INTEGER, PRIMARY KEY (search, trial)) "
    "WITHOUT ROWID",
)
SEARCHES = "SELECT search, head, checksum FROM searches"
TRIALS = "SELECT search, trial, architecture, status, reason, numbers, checksum FROM trials"


class Trial(NamedTuple):
    """One network that a search looked at."""

    architecture: str
    status: str
    reason: str | None
    numbers: dict[str, float | None]


class KeptSearch(NamedTuple):
    """A search as a store keeps it.

    Attributes:
        head: space, objectives (text, name, larger), constraints, sampler, seed, recipe, data.
        trials: in the order of the search.
    """

    head: dict[str, Any]
    trials: list[Trial]


def keep_trials(store: Store, head: dict[str, Any], first: int, trials: Sequence[Trial]) -> None:
    """Keep a batch of a search, the first of which is its trial number `first`, in one transaction.

    What an earlier run of the same search wrote from there on is dropped.

    Raises:
        StoreError: the store cannot be written.
    """
    text = json.dumps(head, ensure_ascii=False, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    rows = [
        (name, first + at, one.architecture, one.status, one.reason, json.dumps(one.numbers, ensure_ascii=False))
        for at, one in enumerate(trials)
    ]
    with store._transaction():
        for statement in _SCHEMA:
            store._db.execute(statement)
        store._db.execute("INSERT OR REPLACE INTO searches VALUES (?,?,?)", (name, text, checksum(name, text)))
        store._db.execute("DELETE FROM trials WHERE search = ? AND trial >= ?", (name, first))
        store._db.executemany("INSERT INTO trials VALUES (?,?,?,?,?,?,?)", ((*row, checksum(*row)) for row in rows))


def kept_searches(store: Store) -> list[KeptSearch]:
    """The searches of a store, by space and what they were after.

    Raises:
        StoreError: a row is not what was written.
    """
    with store._explained():
        if not store._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'trials'").fetchone():
            return []
        found: dict[str, KeptSearch] = {}
        for *values, expected in store._db.execute(f"{SEARCHES} ORDER BY head"):
            store._held(f"the search {values[0]}", values, expected)
            found[values[0]] = KeptSearch(json.loads(values[1]), [])
        for *values, expected in store._db.execute(f"{TRIALS} ORDER BY search, trial"):
            store._held(f"trial {values[1]} of a search", values, expected)
            if values[0] in found:
                found[values[0]].trials.append(trial_of(values))
    return list(found.values())


def trial_of(row: Sequence[Any]) -> Trial:
    """A row of `TRIALS` as a value."""
    _, _, architecture, status, reason, numbers, *_ = row
    return Trial(architecture, status, reason, json.loads(numbers))
