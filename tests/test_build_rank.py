"""`ssnr build` writes a network that runs without a search; `ssnr rank` sorts one's own under a budget."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from commands import ssnr
from ssnr.spaces import get_space

ARCH = "nasbench201/imagenet16-120:|nor_conv_1x1~0|+|skip_connect~0|none~1|+|none~0|none~1|nor_conv_1x1~2|"
MODELS = """
from torch import nn


class Net(nn.Sequential):
    input_shape = (3, 8, 8)

    def __init__(self, width=4):
        super().__init__(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))
"""


@pytest.fixture
def models(tmp_path):
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path


def built():
    space, _, arch = ARCH.partition(":")
    return get_space(space).build(arch, seed=2)


def test_an_exported_program_is_the_network_for_any_batch(tmp_path):
    run = ssnr("build", ARCH, "-o", "net.pt2", "--seed", 2, cwd=tmp_path)
    assert run.exit_code == 0, run.stderr
    assert run.stdout == "net.pt2\n"
    program, x = torch.export.load(tmp_path / "net.pt2").module(), torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        found, expected = (net(x) for net in (program, built().eval()))
    pairs = zip(found, expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


@pytest.mark.parametrize("name", ["state.pt", "state.safetensors"])
def test_weights_are_those_of_the_seed(tmp_path, name):
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors")
    assert ssnr("build", ARCH, "-o", name, "--seed", 2, cwd=tmp_path).exit_code == 0
    again = ssnr("score", f"{ARCH}@{tmp_path / name}", "-p", "magnitude", "--json", cwd=tmp_path)
    drawn = ssnr("score", ARCH, "-p", "magnitude", "--seed", 2, "--json", cwd=tmp_path)
    values = [json.loads(run.stdout)["targets"][0]["scores"]["magnitude"]["value"] for run in (again, drawn)]
    assert values[0] == values[1]


def test_a_script_builds_the_network(tmp_path):
    assert ssnr("build", ARCH, "-o", "best.py", "--seed", 2, cwd=tmp_path).exit_code == 0
    code = "import best; print(sum(p.numel() for p in best.net.parameters()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout) == sum(p.numel() for p in built().parameters())


SPACE = """
from torch import nn


def build(trial):
    return nn.Sequential(nn.Linear(8, width := trial.suggest_int("width", 4, 8)), nn.ReLU(), nn.Linear(width, 2))
"""


def test_a_search_exports_its_winner_also_of_a_space_of_ones_own(tmp_path):
    (tmp_path / "own.py").write_text(SPACE)
    run = ssnr("search", "own.py:build", "-p", "params", "--input-shape", 8, "--sampler", "random", "--trials", 5,
               "--export", "best.py", "--workers", 1, cwd=tmp_path)  # fmt: skip
    assert run.exit_code == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "best.py"
    code = "import best; print(best.net[0].out_features)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "8\n"


def test_where_a_winner_cannot_be_written_is_said_before_the_search(tmp_path):
    run = ssnr("search", "nasbench201", "--export", "best.onnx", cwd=tmp_path)
    assert run.exit_code == 2
    assert "--export best.onnx: expected a name that ends in .pt2, .pt, .pth, .safetensors or .py" in run.stderr
    assert not (tmp_path / "search.sqlite").exists()


def test_that_safetensors_is_missing_is_said_before_the_search(tmp_path, monkeypatch):
    monkeypatch.setattr("ssnr.cli.exporting.find_spec", lambda name: None)
    run = ssnr("search", "nasbench201", "--export", "best.safetensors", cwd=tmp_path)
    assert run.exit_code == 2
    assert run.stderr == "ssnr: --export best.safetensors: .safetensors needs safetensors: pip install safetensors\n"
    assert not (tmp_path / "search.sqlite").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([ARCH, "-o", "net.onnx"], 2, "-o net.onnx: expected a name that ends in .pt2, .pt, .pth, .safetensors or .py"),
        ([ARCH, "-o", "nowhere/net.pt"], 1, "cannot write nowhere/net.pt"),
        (["models.py:Net", "-o", "net.py"], 2, "models.py:Net: a script is written for architectures of a space"),
        (["nasbench201:seven", "-o", "net.pt"], 2, "seven"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(models, arguments, code, said):
    run = ssnr("build", *arguments, cwd=models)
    assert run.exit_code == code, run.stderr
    assert said in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_networks_are_ranked_by_score_and_those_over_the_budget_are_named_and_not_scored(models):
    targets = [f"models.py:Net({width})" for width in (4, 64, 16)]
    run = ssnr("rank", *targets, "-p", "synflow", "--max-params", "1k", "--json", cwd=models)
    assert run.exit_code == 0, run.stderr
    ranking = json.loads(run.stdout)["ranking"]
    assert [row["target"] for row in ranking][-1] == "models.py:Net(64)"
    assert ranking[-1]["over"] == "params 2,117"
    assert ranking[-1]["scores"] == {}
    first, second = (row["scores"]["synflow"]["value"] for row in ranking[:2])
    assert first >= second
    table = ssnr("rank", *targets, "-p", "synflow", "--max-params", "1k", cwd=models).stdout
    assert "over budget" in table


def test_a_budget_that_is_no_number_is_refused_before_anything_is_scored(models):
    run = ssnr("rank", "models.py:Net", "--max-params", "few", cwd=models)
    assert run.exit_code == 2
    assert "--max-params 'few': expected a number above 0" in run.stderr
