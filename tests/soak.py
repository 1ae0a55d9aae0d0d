"""The long form of the tests in `tests/faults`: `make soak` sets SSNR_SOAK to the file that gets the figures."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def times(short: int, long: int) -> int:
    """How often to try: `short` in every run of the tests, `long` by `make soak`."""
    return long if os.environ.get("SSNR_SOAK") else short


def figure(table: str, name: str, **figures: Any) -> None:
    """Write a row of a table of docs/reliability.md."""
    file = os.environ.get("SSNR_SOAK")
    if file:
        with Path(file).open("a") as stream:
            stream.write(json.dumps({"table": table, "name": name, **figures}, ensure_ascii=False) + "\n")
