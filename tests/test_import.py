"""`--import FILE.py`: what a file of the user's own registers is known to every command, and to worker processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import ssnr
from commands import ssnr as command
from ssnr.core.aggregates import AGGREGATES
from ssnr.core.catalogue import PLAIN, SALIENCIES
from ssnr.spaces import SPACES

FILE = '''
import ssnr
from torch import nn

print("this is no part of any answer")


@ssnr.register_saliency(data=False, reference="me")
def own_cubed(net, batch):
    """|θ|³."""
    print("nor is this")
    return {name: p.detach().abs() ** 3 for name, p in net.named_parameters() if p.dim() >= 2}


@ssnr.register_aggregate()
def own_largest(m):
    """The largest sum of a layer."""
    return float((m.total * 2.0**m.exponent).max())


@ssnr.register_proxy
def own_count(context):
    """Number of modules."""
    return len(list(context.net.modules()))


@ssnr.space(name="own-imported", input_shape=(4,))
def build(trial):
    """Two layers."""
    width = trial.suggest_int("width", 2, 9)
    return nn.Sequential(nn.Linear(4, width), nn.Linear(width, 3))
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(FILE)
    for registry in (AGGREGATES, PLAIN, SALIENCIES, SPACES):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    return tmp_path


def test_what_a_file_registers_is_listed_wherever_the_option_stands(folder):
    for arguments in (("--import", "mine.py", "list", "spaces"), ("list", "spaces", "--import=mine.py")):
        listed = command(*arguments, "--json", cwd=folder)
        assert listed.exit_code == 0, listed.stderr
        names = {row["space"]: row for row in json.loads(listed.stdout)}
        assert names["own-imported"] == {
            "space": "own-imported", "architectures": "not known", "input": "4", "what": "Two layers."
        }  # fmt: skip
        for registry in (AGGREGATES, PLAIN, SALIENCIES, SPACES):
            for name in [name for name in registry if name.startswith("own")]:
                registry.remove(name)


def test_workers_know_what_the_file_registers(folder):
    command_line = [sys.executable, "-m", "ssnr", "sweep", "own-imported", "--import", "mine.py", "-p",
                    "own_cubed/own_largest", "-p", "own_count", "--archs", "8", "--store", "s.sqlite", "--workers", "2",
                    "--json"]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SSNR_")}
    done = subprocess.run(command_line, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["space"], summary["scored"], summary["failed"]) == ("own-imported", 8, 0)
    scored = command("score", "own-imported:width=3", "-p", "own_cubed/own_largest", "-p", "own_count", "--json",
                     "--import", "mine.py", cwd=folder)  # fmt: skip
    assert scored.exit_code == 0, scored.stderr
    shown = {name: s["value"] for name, s in json.loads(scored.stdout)["targets"][0]["scores"].items()}
    net = ssnr.get_space("own-imported").build("width=3")
    largest = max(float((p.detach().double().abs() ** 3).sum()) for p in net.parameters() if p.dim() == 2)
    assert shown == {"own_cubed/own_largest": pytest.approx(largest, rel=1e-6), "own_count": 3}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--import", "none.py"), 2, "--import none.py: there is no such file"),
        (("--import", "notes.txt"), 2, "--import notes.txt: expected a Python file, NAME.py"),
        (("--import",), 2, "--import: expected a Python file after it, --import FILE.py"),
        (("--import", "broken.py"), 1, "--import broken.py: it raised ZeroDivisionError: division by zero"),
        (("--import", "leaves.py"), 1, "--import leaves.py: it raised SystemExit: 3"),
        (("--import", "twice.py"), 1,
         "--import twice.py: it raised UsageError: a proxy named 'snip' is registered already"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_run_says_so_in_one_line(folder, arguments, code, said):
    (folder / "notes.txt").write_text("")
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "leaves.py").write_text("raise SystemExit(3)\n")
    (folder / "twice.py").write_text("import ssnr\n\n@ssnr.register_proxy\ndef snip(context): return 1\n")
    done = command("list", "proxies", *arguments, cwd=folder)
    assert (done.exit_code, done.stderr) == (code, f"ssnr: {said}\n")
