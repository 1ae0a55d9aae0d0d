"""How far a long job is, on stderr: a bar on a terminal, else a line or a JSON object every half minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from ssnr.cli import logs

EVERY = 30.0  # seconds between two lines where stderr is no terminal

LONG = 60.0  # seconds from which a job is worth an estimate


class Notify(Protocol):
    """A function of (part of the job, or ""; steps done; steps in all), with a word on how long it will take."""

    def __call__(self, part: str, done: int, total: int) -> None: ...

    def expect(self, seconds: float, steps: int, seen: int) -> None: ...


@contextmanager
def progress(name: str, clock: Callable[[], float] = time.monotonic) -> Iterator[Notify]:
    """Shows how far a job is. Nothing is shown before its first call."""
    shown = _Bar(name) if sys.stderr.isatty() else _Lines(name, clock)
    try:
        yield shown
    finally:
        shown.close()


def span(seconds: float) -> str:
    """A time in words.

    >>> [span(s) for s in (4.2, 95, 7300)]
    ['4 s', '1 min 35 s', '2 h 1 min']
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def estimate(seconds: float, steps: int, seen: int) -> str:
    """How long it will take, in words.

    >>> estimate(7300, 15000, 32)
    'about 2 h 1 min for 15,000, by the first 32'
    """
    return f"about {span(seconds)} for {steps:,}, by the first {seen:,}"


class _Lines:
    """A line every half minute, and one at the end of each part; objects where stderr takes these."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self.name, self.clock = name, clock
        self.part: str | None = None
        self.start = self.last = 0.0
        self.first = 0

    def __call__(self, part: str, done: int, total: int) -> None:
        now = self.clock()
        if part != self.part:
            self.part, self.start, self.last, self.first = part, now, now, done
        if now - self.last < EVERY and not (done >= total > 1):
            return
        self.last, passed = now, now - self.start
        title = f"{self.name}: {part}" if part else self.name
        fields = [f"{title}: {done:,}/{total:,}"]
        rate = (done - self.first) / passed if passed > 0 else 0.0
        if logs.event("progress", job=self.name, part=part, done=done, total=total, rate=round(rate, 3) or None,
                      seconds=round(passed, 1), left=round((total - done) / rate, 1) if rate else None):  # fmt: skip
            return
        if rate:
            fields.append(f"{rate:.3g}/s")
        if done >= total:
            fields.append(f"in {span(passed)}")
        elif rate:
            fields.append(f"{span((total - done) / rate)} left")
        sys.stderr.write(", ".join(fields) + "\n")

    def expect(self, seconds: float, steps: int, seen: int) -> None:
        if seconds >= LONG and not logs.event(
            "estimate", job=self.name, seconds=round(seconds, 1), total=steps, seen=seen
        ):
            sys.stderr.write(f"{self.name}: {estimate(seconds, steps, seen)}\n")

    def close(self) -> None:
        sys.stderr.flush()


class _Bar:
    """rich's bar: steps, rate, time left."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.part: str | None = None
        self.bar: Any = None
        self.task: Any = None

    def __call__(self, part: str, done: int, total: int) -> None:
        if self.bar is None:
            self.bar = _open_bar()
        if part != self.part:
            if self.part is not None:
                self.bar.remove_task(self.task)
            title = f"{self.name}: {part}" if part else self.name
            self.part, self.task = part, self.bar.add_task(title, total=total, rate="")
        speed = self.bar.tasks[0].finished_speed or self.bar.tasks[0].speed
        self.bar.update(self.task, completed=done, total=total, rate=f"{speed:.3g}/s" if speed else "")

    def expect(self, seconds: float, steps: int, seen: int) -> None:
        if seconds >= LONG and self.bar is not None:
            self.bar.console.print(f"{self.name}: {estimate(seconds, steps, seen)}", highlight=False, markup=False)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()


def _open_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TextColumn("{task.fields[rate]}"), TimeRemainingColumn())  # fmt: skip
    bar = Progress(*columns, console=Console(stderr=True))
    bar.start()
    return bar
