"""Spaces by name: those that are registered, and those of a user's own file or module."""

from __future__ import annotations

import re

from ssnr.core.errors import UsageError
from ssnr.spaces import user_code
from ssnr.spaces.base import SPACES, Space
from ssnr.spaces.functions.making import of_function

FUNCTION = re.compile(r"(?P<where>.+\.py|[\w.]+):(?P<what>[\w.]+)")


def get_space(name: str | Space) -> Space:
    """A space by name, such as `nasbench201` or `nasbench201/cifar100`, or of your own, `file.py:build`.

    Raises:
        UsageError: unknown space or data set, with near names; no such file, or no function that builds networks.
        ScoringError: the file raised.
    """
    if isinstance(name, Space):
        return name
    family, _, dataset = name.partition("/")
    if family not in SPACES and ":" in name:
        return find(name)
    return SPACES[family](dataset)


def find(text: str) -> Space:
    """The space of `file.py:build` or `pkg.mod:build`, where `build` is a function or a space.

    Raises:
        UsageError: no such file, module or name, or it builds no networks from a trial.
        ScoringError: running the file raised.
    """
    match = FUNCTION.fullmatch(text)
    if match is None:
        raise UsageError(f"space {text!r}: expected a name (`ssnr list spaces`), file.py:build or pkg.mod:build")
    made = user_code.load(match["where"], match["what"], kind="space", known=SPACES)
    if isinstance(made, Space):
        return made
    if not callable(made):
        raise UsageError(f"space {text}: {match['what']} is a {type(made).__name__}, expected a function of a trial")
    return of_function(made)
