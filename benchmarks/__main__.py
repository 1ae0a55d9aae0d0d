"""Every measurement: tables on the terminal, one JSON document, and the Markdown that docs/speed.md holds.

    python -m benchmarks [--quick] [--only NAME]… [--json FILE] [--markdown [FILE]]

Each suite is a function `rows(quick)` of a module, one dictionary a row; it runs in a process of its own. Columns
`x`, `x_lo`, `x_hi` are the median, the least and the largest of `repeats`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks import harness, tables


class Suite(NamedTuple):
    """A function that measures, and what its table is called."""

    function: str
    title: str


SUITES = {
    "startup": Suite("benchmarks.startup:rows", "Start-up: from the start of the process to its end"),
    "throughput": Suite("benchmarks.throughput:rows", "Architectures a second, one worker, start-up excluded"),
    "scaling": Suite("benchmarks.scaling:rows", "NAS-Bench-201, synflow: process start to stored rows, two workers"),
    "workers": Suite("benchmarks.workers:rows", "Two workers against one"),
    "memory": Suite("benchmarks.memory:rows", "Peak memory of a sweep"),
    "floor": Suite("benchmarks.floor:rows", "NAS-Bench-201, synflow, all networks, one core: how far from the floor"),
    "rates": Suite("benchmarks.floor:rates", "Rates of plain torch convolutions, one core, GFLOP/s"),
    "single": Suite("benchmarks.single:rows", "`score(net)` against a bare forward and backward pass"),
    "one_image": Suite("benchmarks.one_image:rows", "NAS-Bench-201, one image of noise, ms a cell"),
    "gradients": Suite("benchmarks.gradients:rows", "Gradient saliencies"),
}


def present() -> dict[str, Suite]:
    """The suites whose module is here."""
    return {name: suite for name, suite in SUITES.items() if find_spec(suite.function.partition(":")[0])}


def measure(names: list[str], path: Path, *, quick: bool) -> dict[str, Any]:
    """Run suites one after the other; the document is written after each, one that fails leaves the others alone."""
    started = time.perf_counter()
    document: dict[str, Any] = {"machine": harness.machine(), "quick": quick, "suites": {}, "failed": {}}
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        print(f"{name}: {SUITES[name].title}", file=sys.stderr, flush=True)
        begun = time.perf_counter()
        try:
            # The suite starts the processes that it measures, and single-process ones set their own threads.
            rows = harness.call(SUITES[name].function, quick, threads=None).value
        except subprocess.CalledProcessError as error:
            document["failed"][name] = str(error)
        else:
            seconds = time.perf_counter() - begun
            document["suites"][name] = {"title": SUITES[name].title, "seconds": seconds, "rows": rows}
        document["seconds"] = time.perf_counter() - started
        path.write_text(json.dumps(document, indent=1) + "\n")
    return document


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, measure, write."""
    names = list(present())
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer networks and repeats")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--json", type=Path, default=Path("out/benchmarks.json"), metavar="FILE")
    parser.add_argument(
        "--markdown", nargs="?", const="", metavar="FILE", help="print Markdown, or put the tables into this page"
    )
    chosen = parser.parse_args(arguments)
    document = measure(chosen.only or names, chosen.json, quick=chosen.quick)
    if chosen.markdown is None:
        console = Console()
        console.print(tables.facts(document))
        for suite in document["suites"].values():
            console.print(tables.rich_table(suite["title"], suite["rows"]))
    elif chosen.markdown:
        page = Path(chosen.markdown)
        page.write_text(tables.filled(page.read_text(), document))
    else:
        print(tables.markdown(document))
    print(f"{chosen.json}: {document['seconds']:.0f} s", file=sys.stderr)
    if document["failed"]:
        sys.exit("\n".join(f"{name}: {reason}" for name, reason in document["failed"].items()))


if __name__ == "__main__":
    main()
