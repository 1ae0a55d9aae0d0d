"""Many architectures, by the simulation that fills the table of docs/reliability.md."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_storing_takes_no_memory_beyond_the_plan_and_a_row_has_its_size():
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.million", "4000"], capture_output=True, text=True, check=True
    )
    found = json.loads(run.stdout)
    assert (found["architectures"], found["networks"]) == (4000, 3000)
    assert found["store, peak MiB"] - found["plan, peak MiB"] < 32
    assert 1000 < found["bytes a row"] < 2000  # twenty layers of seven numbers
