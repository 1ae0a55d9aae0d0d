"""A sweep of a million architectures that cost nothing to score: what the rest of the way takes.

Architectures are numbers, one in four is another's twin; a layer's moments are drawn from the number. So plan, dedupe,
chunks, store, resume and correlate are those of any sweep.

    python -m benchmarks.million 1000000
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import ssnr
import ssnr.benchmarks
from ssnr import engine
from ssnr.core.moments import Moments
from ssnr.core.results import Counts, Result
from ssnr.engine.local import Done
from ssnr.spaces.base import Space
from ssnr.store import Store

LAYERS = 20
_NAMES = tuple(f"cells.{number}.edges.conv.weight" for number in range(LAYERS))


class Numbers(Space):
    """The numbers from 0; 4n + 3 is the network of 4n + 2."""

    family = name = "numbers"
    input_shape, num_classes = (3, 8, 8), 10

    def __init__(self, size: int) -> None:
        self._size = size

    def parse(self, form: Any) -> str:
        return f"{int(form):09d}"

    canonical = parse

    def twin(self, arch: Any) -> str:
        number = int(arch)
        return self.parse(number - (number % 4 == 3))

    def build(self, arch: Any, *, seed: int | None = 0, variant: str = "default") -> Any:
        raise NotImplementedError("nothing is built here")

    def counts(self, arch: Any, *, variant: str = "default") -> Counts:
        number = int(arch)
        params = number % 1000 + 1
        return Counts(params=params, flops=number % 977 + 1, reachable_params=params, layers=LAYERS, trainable=params)

    def all(self) -> Iterator[str]:
        return map(self.parse, range(self._size))

    def __len__(self) -> int:
        return self._size

    def sample(self, rng: Any) -> str:
        return self.parse(int(rng.integers(self._size)))

    def neighbours(self, arch: Any) -> Iterator[str]:
        yield self.parse((int(arch) + 1) % self._size)


@lru_cache(maxsize=1)
def _drawn() -> Moments:
    """Moments of one network, as scoring makes them."""
    import torch

    from ssnr.core.moments import from_tensors

    draw = torch.Generator().manual_seed(0)
    return from_tensors({name: torch.rand(32, generator=draw, dtype=torch.float64) for name in _NAMES}, {})


@contextmanager
def nothing(workers: int | None) -> Iterator[engine.Pool]:
    """An executor whose networks have moments at once."""

    def each(work: Any, chunks: Any, workers: int, limits: Any) -> Iterator[Done]:
        for chunk in chunks:
            scored = [
                (name, Result(network, "ok", None, _drawn(), None, 0.001)) for network, names in chunk for name in names
            ]
            yield Done(chunk, (0.032, scored))

    yield engine.Pool(2, each)


def peak_mib() -> float:
    """The largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(size: int, folder: Path) -> dict[str, Any]:
    """One row: seconds of processor, memory and bytes of each step."""
    row: dict[str, Any] = {"architectures": size}
    space, path = Numbers(size), folder / "s.sqlite"

    def step(name: str, work: Callable[[], Any]) -> Any:
        started = time.process_time()
        found = work()
        row[f"{name}, CPU s"] = round(time.process_time() - started, 2)
        row[f"{name}, peak MiB"] = round(peak_mib())
        return found

    _drawn()
    row["start, peak MiB"] = round(peak_mib())
    with Store(path) as store:
        layout = step("plan", lambda: engine.plan(space, space.all(), ["synflow"], store=store))
        row["networks"] = layout.distinct
        steps = engine.run(layout, store, executor=nothing)
        del layout  # `steps` has it, and lets it go
        step("store", lambda: deque(steps, maxlen=0))
    row["bytes a row"] = round(sum(file.stat().st_size for file in folder.iterdir()) / row["networks"])
    with Store(path) as store:
        again = step("resume", lambda: engine.plan(space, space.all(), ["synflow"], store=store))
        assert not again.missing
    del again
    table = folder / "accuracies.csv"
    accuracy = np.random.default_rng(0).random(size)
    pd.DataFrame({"architecture": list(space.all()), "accuracy": accuracy}).to_csv(table, index=False)
    ssnr.register_space("numbers")(lambda task: space)
    benchmark = step("read the benchmark", lambda: ssnr.benchmarks.load(table, family="numbers"))
    step("correlate", lambda: ssnr.study(path, benchmark, ["synflow/layerwise_ssnr"]))
    return row


def main() -> None:
    """Measure the sizes of the command line, each in a process of its own."""
    for text in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            if len(sys.argv) == 2:
                print(json.dumps(measure(int(text), Path(folder)), indent=1))
            else:
                subprocess.run([sys.executable, "-m", "benchmarks.million", text], check=True)


if __name__ == "__main__":
    main()
