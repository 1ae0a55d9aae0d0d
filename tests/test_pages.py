"""Every snippet of every page and of the README runs, in order, in one folder; what a page says comes out comes out."""

from __future__ import annotations

import contextlib
import csv
import doctest
import io
import shutil

import pytest
import torch
import typer.main

import pages
import releases
import ssnr
from commands import _apart
from commands import ssnr as command
from ssnr.cli.app import command_line
from ssnr.core.errors import UsageError
from ssnr.spaces import get_space
from ssnr.store import Store

MODELS = """
from torch import nn

def Net(width):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))

def small():
    return Net(8)

def wide():
    return Net(32)

factory = small
"""
NETS = f"""{MODELS}
from torch import nn

class MyCNN(nn.Module):
    input_shape = (3, 32, 32)

    def __init__(self, width):
        super().__init__()
        self.net = Net(width)

    def forward(self, x):
        return self.net(x)

def make(width):
    return MyCNN(width)

def build(trial):
    width = trial.suggest_int("width", 8, 64, step=8)
    act = trial.suggest_categorical("act", [nn.ReLU, nn.GELU])
    layers = [nn.Conv2d(3, width, 3), act()]
    for _ in range(trial.suggest_int("depth", 0, 2)):
        layers += [nn.Conv2d(width, width, 3), act()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))

build.input_shape = (3, 32, 32)
"""
# Programs that set a machine up or submit jobs; what they start is run, or is what this very run stands on.
OTHERS = {".", "git", "head", "make", "pip", "python3", "ray", "srun"}
STORES = ("s", "data", "cells", "part1", "part2")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A store that pages take as given: a few cells with what they ask for."""
    path = tmp_path_factory.mktemp("pages") / "swept.sqlite"
    space = get_space("nasbench201")
    cells = ["9930", "15624", "77", "1234", "8", "4001", "12000", "6"]
    batch = ssnr.noise(space.input_shape, 10, 4)
    for _ in ssnr.sweep(space, cells, ["synflow", "snip", "grasp_abs", "noise_ssnr"], store=path, workers=1,
                        batch=batch, recipe="seed(dtype=float32)"):  # fmt: skip
        pass
    return path


@pytest.fixture
def folder(swept, tmp_path, monkeypatch):
    """A reader's folder: models, a space, weights, stores, the files of an official release."""
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "pkg").mkdir()
    shutil.copy(tmp_path / "models.py", tmp_path / "pkg" / "mod.py")
    for name in STORES:
        shutil.copy(swept, tmp_path / f"{name}.sqlite")
    monkeypatch.setenv("SSNR_CACHE", str(tmp_path / "cache"))
    with _apart(tmp_path):
        namespace: dict[str, object] = {}
        exec(NETS, namespace)
        torch.save(namespace["make"](64).state_dict(), "state.pt")
    releases.nats_folder(tmp_path).rename(tmp_path / "NATS-tss-v1_0-3ffb9-simple")
    releases.save(tmp_path / "NAS-Bench-201-v1_1-096897.pth", releases.root(), as_zip=True)
    return tmp_path


def accuracies_for(store, path):
    """Made-up accuracies of what a store holds."""
    with Store(store, create=False) as opened, path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["architecture", "accuracy"])
        for space in opened.spaces():
            rows.writerows((row.architecture, 60 + k % 30) for k, row in enumerate(opened.architectures(space)))


def options_of(words):
    """The options that a command has.

    Raises:
        UsageError, or an error of typer's: it is no command, or has other options.
    """
    group = typer.main.get_command(command_line())
    while hasattr(group, "commands"):
        name, *words = words
        if name not in group.commands:
            raise UsageError(f"no command {name}")
        group = group.commands[name]
    with contextlib.redirect_stdout(io.StringIO()):
        group.make_context("ssnr", list(words))
    return {option for parameter in group.params for option in parameter.opts}


def run_command(words, folder):
    if "mine.csv" in words:
        accuracies_for(folder / words[1], folder / "mine.csv")
    words = [name for word in words for name in (sorted(p.name for p in folder.glob(word)) if "*" in word else [word])]
    # One worker: the commands of a page are small, and starting others takes longer than they do.
    alone = ["--workers", "1"] if "--workers" in options_of(words) else []
    done = command(*words, *alone, cwd=folder, SSNR_CACHE=str(folder / "cache"))
    assert done.exit_code == 0, f"ssnr {' '.join(words)}\n{done.stderr}"


def run_python(block, names, folder):
    with _apart(folder), contextlib.redirect_stdout(io.StringIO()) as out:
        if block.code.startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(block.code, names, "page", None, 0)
            assert doctest.DocTestRunner(verbose=False).run(test).failed == 0, out.getvalue()
            return
        exec(compile(block.code, "page", "exec"), names)
    if block.shown is not None:
        assert out.getvalue() == block.shown


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("name", pages.PAGES)
def test_every_snippet_of_a_page_runs(name, folder):
    names: dict[str, object] = {"__name__": "page"}
    for block in pages.blocks(name):
        assert block.language in ("", "sh", "python", "csv", "json"), f"{name}: a block of {block.language}"
        if block.language == "python":
            if block.marked:
                compile(block.code, name, "exec")
            else:
                run_python(block, names, folder)
        if block.language == "sh":
            for words, runs in pages.commands(block.code):
                program, *rest = words
                if program == "srun" and rest[0] == "ssnr":
                    program, *rest = rest
                if program != "ssnr":
                    assert program.split("=")[0] in OTHERS, f"{name}: {program}"
                elif runs and not block.marked:
                    run_command(rest, folder)
                else:
                    options_of([word.replace("$SLURM_ARRAY_TASK_ID", "3").replace("$SLURM_CPUS_PER_TASK", "4")
                                for word in rest])  # fmt: skip


def test_a_command_that_is_not_run_is_parsed_all_the_same():
    with pytest.raises(Exception, match="No such option"):
        options_of(["sweep", "nasbench201", "--no-such-option"])
    with pytest.raises(UsageError, match="no command swep"):
        options_of(["swep"])


@pytest.mark.parametrize(
    ("line", "marked"),
    [
        ("ssnr fetch x  # (minutes)", True),
        ("ssnr fetch x  # all of it (24 min)", True),
        ("ssnr fetch x  # from a library (needs timm)", True),
        ("ssnr fetch x  # a picture (see below)", False),
        ("ssnr fetch 'x(minutes)'", False),
    ],
)
def test_what_a_line_says_of_itself(line, marked):
    assert pages.is_marked(line) is marked
