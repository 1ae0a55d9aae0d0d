"""`--log json`: everything that goes to stderr as one JSON object a line, for schedulers and log collectors."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, TextIO

from ssnr.cli import anywhere
from ssnr.core.errors import UsageError

KINDS = ("text", "json")


class JsonLines(io.TextIOBase):
    """A stream whose lines become objects: {"time", "event": "note", "text"}; `event` writes others."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._begun = stream, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if line.strip():
                self.event("note", text=line.rstrip())
        return len(text)

    def event(self, kind: str, **fields: Any) -> None:
        """Write one object."""
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self._stream.write(json.dumps({"time": now, "event": kind, **fields}, ensure_ascii=False) + "\n")
        self._stream.flush()

    def flush(self) -> None:
        self._stream.flush()


@contextmanager
def log(kind: str) -> Iterator[None]:
    """Write stderr as text, or as JSON lines, until the end of the body."""
    before = sys.stderr
    if kind == "json":
        sys.stderr = JsonLines(before)
    try:
        yield
    finally:
        sys.stderr = before


def event(kind: str, **fields: Any) -> bool:
    """Write an object, where stderr takes objects."""
    if not isinstance(sys.stderr, JsonLines):
        return False
    sys.stderr.event(kind, **fields)
    return True


def taken(args: list[str]) -> tuple[list[str], str]:
    """The other arguments, and the kind that `--log KIND` or `--log=KIND` names, wherever it stands.

    Raises:
        UsageError: no such kind.

    >>> taken(["sweep", "--log", "json", "vgg"])
    (['sweep', 'vgg'], 'json')
    """
    rest, kinds = anywhere.taken(args, "--log")
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"--log {kind!r}: expected {' or '.join(KINDS)}")
    return rest, kinds[-1] if kinds else "text"
