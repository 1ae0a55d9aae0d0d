"""The errors that users see: one line that says what was got, what was expected and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

# Why a network has no score:
#   raised       its own code raised, in building, forward, loss or backward
#   precision    the same, because an operation does not exist in the recipe's dtype
#   nan          a saliency or the loss is NaN
#   infinite     a saliency or the loss is infinite
#   detached     the output is detached from every weight
#   refused      the network is not of the kind that a proxy can read
#   lost         its worker crashed, took too long, or ran out of memory
FailureKind = Literal["raised", "precision", "nan", "infinite", "detached", "refused", "lost"]


@dataclass(frozen=True)
class Failure:
    """Why there is no number: a kind for programs, and a line for people."""

    kind: FailureKind
    reason: str


class SsnrError(Exception):
    """Something went wrong that the message explains in one line. The command line exits with 1."""


class UsageError(SsnrError, ValueError):
    """The call itself was wrong: a name, a value, an option. The command line exits with 2."""


class ArchitectureError(UsageError):
    """A malformed architecture string."""


class ScoringError(SsnrError):
    """This network cannot be scored; the reason becomes the score's `reason`."""

    def __init__(self, reason: str, kind: FailureKind = "refused") -> None:
        super().__init__(reason)
        self.kind = kind

    @property
    def failure(self) -> Failure:
        """The same as a value."""
        return Failure(self.kind, str(self))


class StoreError(SsnrError):
    """The store cannot be opened, read or written."""


class Interrupted(SsnrError):  # noqa: N818 - not an error, and named like KeyboardInterrupt
    """The user stopped it; the message says what is kept. The command line exits with 130."""


class BenchmarkError(SsnrError):
    """A benchmark file is missing, altered or not what it should be."""


class LayerCollapseWarning(UserWarning):
    """Pruning left a layer without a weight; what comes after it does not see the input through it."""


def kind_of(error: BaseException) -> FailureKind:
    """The kind of failure that an exception of a network's own code is.

    >>> kind_of(NotImplementedError("hist is not implemented for Double"))
    'precision'
    """
    said = str(error)
    return "precision" if "Double" in said or "float64" in said else "raised"


def failure_of(error: BaseException) -> Failure:
    """Any exception that a pass raised, as a value."""
    if isinstance(error, ScoringError):
        return error.failure
    return Failure(kind_of(error), f"{type(error).__name__}: {one_line(error)}")


def one_line(error: BaseException, most: int = 300) -> str:
    """What an exception of someone else's says, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    asked = re.search(r"tried to allocate (\d+) bytes", text)
    if asked:  # the allocator names its own source line, which helps nobody
        return f"not enough memory: it asked for {int(asked[1]) / 2**30:,.1f} GiB at once"
    return text if len(text) <= most else text[: most - 1] + "…"
