"""The errors that users see: one line that says what was got, what was expected and what to do."""

from __future__ import annotations

import re


class SsnrError(Exception):
    """Something went wrong that the message explains in one line. The command line exits with 1."""


class UsageError(SsnrError, ValueError):
    """The call itself was wrong: a name, a value, an option. The command line exits with 2."""


class ArchitectureError(UsageError):
    """A malformed architecture string."""


class ScoringError(SsnrError):
    """This network cannot be scored; the reason becomes the score's `reason`."""


class StoreError(SsnrError):
    """The store cannot be opened, read or written."""


class Interrupted(SsnrError):  # noqa: N818 - not an error, and named like KeyboardInterrupt
    """The user stopped it; the message says what is kept. The command line exits with 130."""


class BenchmarkError(SsnrError):
    """A benchmark file is missing, altered or not what it should be."""


class LayerCollapseWarning(UserWarning):
    """Pruning left a layer without a weight; nothing behind it sees the input through it."""


def one_line(error: BaseException, most: int = 300) -> str:
    """What an exception of someone else's says, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    asked = re.search(r"tried to allocate (\d+) bytes", text)
    if asked:  # the allocator names its own source line, which helps nobody
        return f"not enough memory: it asked for {int(asked[1]) / 2**30:,.1f} GiB at once"
    return text if len(text) <= most else text[: most - 1] + "…"
