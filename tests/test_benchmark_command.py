"""`python -m benchmarks` as a user meets it, without measuring anything: nothing is timed in a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT)


def test_it_names_its_suites_and_refuses_others():
    run = python("-m", "benchmarks", "--help")
    assert run.returncode == 0, run.stderr
    for name in ("startup", "throughput", "scaling", "workers", "memory", "floor", "rates"):
        assert name in run.stdout
    wrong = python("-m", "benchmarks", "--only", "speed")
    assert wrong.returncode == 2
    assert "invalid choice: 'speed'" in wrong.stderr


def test_rows_become_a_table_with_medians_and_ends_and_a_page_keeps_what_is_around_it():
    code = """
from benchmarks import tables
rows = [
    {"way": "supernet", "s": 1.25, "s_lo": 1.0, "s_hi": 2.0, "repeats": 3},
    {"way": "naive", "s": 1234.5, "repeats": 1, "ratio": 8.125},
]
machine = {"date": "2026-01-01", "cores": 2, "processor": "P", "memory_gib": 4.0, "load": 0.5, "python": "3.11",
           "torch": "2.6", "numpy": "2.0", "threads": "one", "seed": 0}
document = {"machine": machine, "quick": False, "suites": {"speed": {"title": "Speed", "rows": rows}}}
print(tables.filled("before\\n<!-- speed -->\\nold\\n<!-- /speed -->\\nafter <!-- other -->", document))
"""
    run = python("-c", code)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [
        "before",
        "<!-- speed -->",
        "| way | s | repeats | ratio |",
        "| --- | ---: | ---: | ---: |",
        "| supernet | 1.25 [1, 2] | 3 | – |",
        "| naive | 1,234 | 1 | 8.12 |",
        "",
        "2026-01-01: 2 cores of P, 4.0 GiB, load 0.5 at the start; Python 3.11, torch 2.6, numpy 2.0; "
        "threads: one; seed 0",
        "<!-- /speed -->",
        "after <!-- other -->",
    ]


def test_the_page_of_speed_has_a_place_for_every_table():
    page = (ROOT / "docs" / "speed.md").read_text()
    code = "from benchmarks.__main__ import SUITES; print(*SUITES)"
    for name in python("-c", code).stdout.split():
        assert f"<!-- {name} -->\n" in page
        assert f"\n<!-- /{name} -->" in page


def test_the_shapes_of_the_floor_are_all_convolutions_of_a_cell():
    code = """
from benchmarks.floor import PASSES, convolutions, networks
from ssnr.spaces import get_space
space = get_space("nasbench201")
for arch in networks(500):
    macs = sum(count * shape.gflop for shape, count in convolutions(arch).items()) / (2e-9 * PASSES)
    assert round(macs) == space.counts(arch).flops - 64 * 10 - 10, arch
print(len(networks(1)))
"""
    run = python("-c", code)
    assert (run.stdout, run.returncode) == ("5260\n", 0), run.stderr


def test_a_suite_that_fails_leaves_what_the_others_measured(tmp_path, monkeypatch):
    (tmp_path / "made_up.py").write_text("def works(quick):\n    return [{'s': 1.5}]\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    code = """
import sys
from benchmarks import __main__ as command
command.SUITES = {name: command.Suite(f"made_up:{name}", name) for name in ("fails", "works")}
command.main(["--json", sys.argv[1], "--markdown"])
"""
    run = python("-c", code, str(tmp_path / "out" / "b.json"))
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("fails: ")
    assert "| 1.5 |" in run.stdout
    document = json.loads((tmp_path / "out" / "b.json").read_text())
    assert document["suites"]["works"]["rows"] == [{"s": 1.5}]
    assert list(document["failed"]) == ["fails"]
