"""What a user sees: tables, JSON and notes. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ssnr._version import SCORING_VERSION, __version__


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(_finite(document), indent=1, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    """JSON has no infinity: such a value is null there, and `log_value` carries the number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def show(renderable: Any) -> None:
    """Print a table or a text on stdout."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        # A pipe or a file has no width of its own: names are not folded there.
        console = Console(highlight=False, width=200)
    console.print(renderable)


def note(text: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"{text}\n")


@contextmanager
def status(text: str) -> Iterator[None]:
    """A spinner on stderr while the body runs."""
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


def versions() -> dict[str, Any]:
    """What the numbers were made with."""
    import torch

    return {"ssnr": __version__, "scoring": SCORING_VERSION, "torch": torch.__version__,
            "python": platform.python_version()}  # fmt: skip
