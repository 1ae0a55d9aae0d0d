"""Options that may stand anywhere in a command: they are taken out before the command reads the rest."""

from __future__ import annotations

from collections.abc import Sequence


def taken(args: Sequence[str], option: str) -> tuple[list[str], list[str]]:
    """The other arguments, and every value of `--option VALUE` or `--option=VALUE`; "" where none follows.

    >>> taken(["sweep", "--log", "json", "vgg", "--log=text"], "--log")
    (['sweep', 'vgg'], ['json', 'text'])
    """
    rest: list[str] = []
    values: list[str] = []
    given = iter(args)
    for arg in given:
        name, equals, value = arg.partition("=")
        if name == option:
            values.append(value if equals else next(given, ""))
        else:
            rest.append(arg)
    return rest, values
