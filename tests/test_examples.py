"""The examples run as scripts, as spaces and as a notebook; what the page on adding one's own registers is known."""

from __future__ import annotations

import runpy
from pathlib import Path

import nbclient
import nbformat
import optuna
import pytest
import torch
from torch import nn

import pages
import ssnr
from commands import ssnr as command

ROOT = Path(__file__).parents[1]
EXAMPLES = {"mlp_space.py": "space", "cnn_space.py": "build", "transformer_space.py": "ViT"}
NOTEBOOK = "tour.ipynb"
TRAINING = "train_the_best.py"


pytestmark = pytest.mark.usefixtures("forgotten")


def test_every_example_is_tried():
    assert sorted(path.name for path in (ROOT / "examples").iterdir() if path.is_file()) == sorted(
        [*EXAMPLES, NOTEBOOK, TRAINING]
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short_and_runs_as_a_script(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == (24 if name == "mlp_space.py" else 1)
    assert all("=" in line for line in shown)
    assert len((ROOT / "examples" / name).read_text().splitlines()) <= 40
    (store,) = tmp_path.glob("*.sqlite")
    with ssnr.Store(store) as opened:
        assert {group.measured for group in opened.groups()} == {"plain_noise"}


def test_the_best_by_score_are_trained_first_and_what_they_reach_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "examples")
    runpy.run_path(str(ROOT / "examples" / TRAINING), run_name="__main__")
    trained = [line.partition(" ")[0] for line in capsys.readouterr().out.splitlines()]
    found, study = (optuna.load_study(study_name=name, storage="sqlite:///search.db")
                    for name in ("scored", "trained"))  # fmt: skip
    best = sorted((t for t in found.trials if t.values), key=lambda t: -t.value)
    assert trained[:4] == [trial.user_attrs["architecture"] for trial in best[:4]]
    assert len(trained) == len(study.trials) == 8 and all(trial.value > 0.1 for trial in study.trials)


@pytest.mark.parametrize(("name", "what"), EXAMPLES.items())
def test_an_example_is_a_space(name, what, tmp_path):
    options = ("--archs", 3, "--workers", 1, "--store", tmp_path / "s.sqlite")
    done = command("sweep", f"{ROOT / 'examples' / name}:{what}", *options)
    assert done.exit_code == 0, done.stderr
    assert "3 distinct networks, 3 scored now, 0 failed" in done.stdout


def test_the_networks_of_the_convolutional_example_have_ten_thousand_to_a_million_parameters():
    space = ssnr.get_space(f"{ROOT / 'examples' / 'cnn_space.py'}:build")
    few = "width=24,act=ReLU,kernel0=3,depth0=1,wider0=1,kernel1=3,depth1=1,wider1=1,kernel2=3,depth2=1"
    many = "width=32,act=SiLU,kernel0=5,depth0=3,wider0=2,kernel1=5,depth1=3,wider1=2,kernel2=5,depth2=2"
    assert 11_410 == 27 * 24 + 2 * 9 * 24**2 + 3 * 2 * 24 + 24 * 10 + 10
    assert (space.counts(few).params, space.counts(many).params) == (11_410, 926_378)


def outputs(notebook) -> list[list[str]]:
    """The kinds of what each code cell shows."""
    return [
        [kind for shown in cell.outputs for kind in sorted(shown.get("data", {shown.output_type: None}))]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_the_notebook_runs_and_every_result_shows_itself(tmp_path):
    """What is in the repository was run, and runs again with the same kinds of output: no error, no warning."""
    kept = nbformat.read(ROOT / "examples" / NOTEBOOK, as_version=4)
    again = nbformat.read(ROOT / "examples" / NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        again, kernel_name="python3", timeout=300, resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    assert outputs(again) == outputs(kept)
    table, picture = ("text/html", "text/plain"), ("image/png", "text/plain")
    shown = [tuple(kinds) for kinds in outputs(kept) if kinds]
    assert set(shown) == {table, picture}
    assert shown.count(picture) == 4  # layers, scatter, front, masks
    assert not list(tmp_path.iterdir())


def test_what_the_page_on_adding_prints_runs_and_is_known():
    names: dict[str, object] = {"__name__": "page"}
    for block in pages.blocks("adding.md"):
        if block.language == "python":
            exec(block.code, names)
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    torch.manual_seed(0)
    scores = ssnr.score(net, torch.randn(5, 4), ["cubed/largest_ratio", "output_spread"])
    assert {score.status for score in scores.values()} == {"ok"}
    for space, arch, params in (("narrow", "width=5", 63), ("widths", "5", 63)):
        assert ssnr.get_space(space).counts(arch).params == params
        assert [ssnr.get_space(space).build(arch)[0].out_features] == [5]
