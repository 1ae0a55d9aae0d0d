"""What a user sees: tables, JSON, progress and notes. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from ssnr.engine.runs import Progress


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


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table; names in the first column stay whole."""
    from rich import box
    from rich.table import Table

    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, overflow="fold", no_wrap=number == 0)
    return made


def show(renderable: Any) -> None:
    """Print on stdout."""
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


def shown(steps: Iterator[Progress], name: str, total: int) -> Iterator[Progress]:
    """The steps of a sweep, with a progress bar on stderr: rate and time left. None where nothing is to do."""
    if not total:
        yield from steps
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TextColumn("{task.fields[rate]}"), TimeRemainingColumn())  # fmt: skip
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total, rate="")
        for step in steps:
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, completed=step.done, total=step.total, rate=f"{speed:.1f}/s" if speed else "")
            yield step


@contextmanager
def jobs(name: str) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr for one job after another, as a function of (what is done, steps done, steps in all)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
               TimeElapsedColumn())  # fmt: skip
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)
        current = name

        def notify(what: str, done: int, total: int) -> None:
            nonlocal current, task
            if what != current:
                bar.remove_task(task)
                current, task = what, bar.add_task(f"{name}: {what}", total=total)
            bar.update(task, completed=done, total=total)

        yield notify


@contextmanager
def counted(name: str, total: int) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr, as a function of (done, total); None where there is but one step."""
    if total < 2:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)
