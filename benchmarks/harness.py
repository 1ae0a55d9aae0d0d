"""What every suite shares: measurements in fresh processes, ways that take turns, medians, peaks, facts of the machine.

    python -m benchmarks.harness MODULE:FUNCTION [JSON arguments]      (what `call` runs)

Absolute times belong to one machine and one moment; ratios are taken within a run, of ways that took turns.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SEED = 0
Row = dict[str, Any]
_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Measured(NamedTuple):
    """What a function returned in a process of its own, and the largest resident size of that process in MiB."""

    value: Any
    peak_mib: float


def call(function: str, *arguments: Any, threads: int | None = 1) -> Measured:
    """Call `module:function` in a fresh process, with arguments that JSON can write; `threads` None sets no limit."""
    done = subprocess.run(_child(function, arguments), check=True, stdout=subprocess.PIPE, text=True, **_where(threads))
    return Measured(*json.loads(done.stdout.splitlines()[-1]))


def together(function: str, count: int, *arguments: Any) -> float:
    """Mean of what so many processes return that run beside each other, one thread each."""
    running = [
        subprocess.Popen(_child(function, arguments), stdout=subprocess.PIPE, text=True, **_where(1))
        for _ in range(count)
    ]
    return statistics.mean(json.loads(process.communicate()[0].splitlines()[-1])[0] for process in running)


class Taken(NamedTuple):
    """Seconds on the clock, and of processor time, which other work on the machine changes far less."""

    seconds: float
    processor: float


def run(*arguments: str) -> Taken:
    """What `python ARGUMENTS` takes from its start to its end; one thread a process.

    Processor time is of the process itself and of what it waited for, which worker processes are not.
    """
    command, quiet = [sys.executable, *arguments], {"stdout": subprocess.DEVNULL}
    with tempfile.TemporaryFile("w+") as said:
        started = time.perf_counter()
        process = subprocess.Popen(command, stderr=said, **quiet, **_where(1))
        _, status, usage = os.wait4(process.pid, 0)
        taken = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)}: {said.read()}")
    return Taken(taken, usage.ru_utime + usage.ru_stime)


@contextmanager
def stopwatch() -> Iterator[Callable[[], Taken]]:
    """Seconds since the block began, of this process."""
    clock, processor = time.perf_counter(), time.process_time()
    yield lambda: Taken(time.perf_counter() - clock, time.process_time() - processor)


def peaks_mib(*arguments: str) -> list[float] | None:
    """Largest resident sizes of `python ARGUMENTS` and of every process that it starts, largest first.

    None where the system has no /proc. Sizes are looked up ten times a second: what came and went in between is in
    them, for the system keeps each process's largest, but a process that lives for less than that may be missed.
    """
    if not Path("/proc/self/status").exists():
        return None
    found: dict[str, float] = {}
    command = [sys.executable, *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, start_new_session=True, **quiet, **_where(1)) as process:
        while process.poll() is None:
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit() and _session(entry) == process.pid:
                    found[entry.name] = max(found.get(entry.name, 0.0), _peak_of(entry))
            time.sleep(0.1)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return sorted(found.values(), reverse=True)


def taking_turns(ways: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[Any]]:
    """Run each way once, then each once more: a slow minute of the machine is a slow minute for all of them."""
    found: dict[str, list[Any]] = {name: [] for name in ways}
    for turn in range(repeats):
        for name, way in ways.items():
            print(f"  {turn + 1}/{repeats} {name}", file=sys.stderr, flush=True)
            found[name].append(way())
    return found


def spread(name: str, values: Iterable[float]) -> Row:
    """Median, least and largest of repeats, as the columns `name`, `name_lo`, `name_hi`, and their number."""
    listed = sorted(values)
    return {name: statistics.median(listed), f"{name}_lo": listed[0], f"{name}_hi": listed[-1], "repeats": len(listed)}


def taken(found: Iterable[Taken]) -> Row:
    """`spread` of both times."""
    both = [Taken(*one) for one in found]
    clock = spread("seconds", (one.seconds for one in both))
    return clock | spread("processor seconds", (one.processor for one in both))


def machine() -> Row:
    """What the numbers belong to."""
    return {
        "date": date.today().isoformat(),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load": os.getloadavg()[0],
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "numpy")},
        "threads": "one a process",
        "seed": SEED,
    }


def _processor() -> str:
    try:
        return re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())[1]  # type: ignore[index]
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


def _child(function: str, arguments: Iterable[Any]) -> list[str]:
    return [sys.executable, "-m", "benchmarks.harness", function, json.dumps(list(arguments))]


def _where(threads: int | None) -> dict[str, Any]:
    limits = {} if threads is None else dict.fromkeys(_LIMITS, str(threads))
    return {"cwd": ROOT, "env": os.environ | limits}


def _session(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[3])
    except OSError:  # gone meanwhile
        return -1


def _peak_of(process: Path) -> float:
    """Not getrusage, whose peak includes what the process held before it started this program."""
    try:
        match = re.search(r"VmHWM:\s+(\d+) kB", (process / "status").read_text())
    except OSError:
        match = None
    return int(match[1]) / 1024 if match else 0.0


def own_peak_mib() -> float:
    """The largest resident size of this process so far."""
    if Path("/proc/self/status").exists():
        return _peak_of(Path("/proc/self"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes, where there is no /proc


def _main() -> None:
    name, arguments = sys.argv[1], json.loads(sys.argv[2])
    module, _, function = name.partition(":")
    value = partial(getattr(importlib.import_module(module), function), *arguments)()
    print(json.dumps(Measured(value, own_peak_mib())))


if __name__ == "__main__":
    _main()
