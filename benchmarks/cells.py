"""Time a NAS-Bench-201 cell: whole process, one thread, set-up included, beside the naive loop.

python -m benchmarks.cells [--archs 1000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMITED = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def seconds(*arguments: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=LIMITED)
    return time.perf_counter() - started


def sweep(count: str, store: Path, *options: str) -> float:
    return seconds("-m", "ssnr", "sweep", "nasbench201", "--archs", count, "--store", str(store), *options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archs", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    count = arguments.archs
    three = ("-p", "synflow/sum", "-p", "synflow/ssnr", "-p", "synflow/layerwise_ssnr", "--workers", "1")
    with tempfile.TemporaryDirectory() as folder:
        ours = sweep(str(count), Path(folder) / "a.sqlite", *three)
        again = sweep(str(count), Path(folder) / "a.sqlite", *three)
    naive_count = max(count // 5, 50)
    naive = seconds("-m", "benchmarks.naive", "--archs", str(naive_count))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    result = {
        "cells": count,
        "ms_a_cell": ours / count * 1e3,
        "ms_a_cell_naive": naive / naive_count * 1e3,
        "ratio": (naive / naive_count) / (ours / count),
        "seconds_second_run": again,
        "seconds_help": min(seconds("-m", "ssnr", "--help") for _ in range(5)),
        "peak_mib": peak,
    }
    for name, value in result.items():
        print(f"{name:20} {value:10.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
