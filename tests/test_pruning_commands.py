"""`ssnr prune` as a user meets it: files, table, JSON, one line where something is wrong."""

from __future__ import annotations

import csv
import json

import pytest
import torch

import commands
import ssnr

NETS = """
import torch
from torch import nn
from torch.nn.utils import prune

def chain():
    net = nn.Sequential(*(nn.Linear(i, o, bias=False) for i, o in ((1, 100), (100, 100), (100, 1))))
    for p in net.parameters():
        nn.init.ones_(p)
    return net

def classifier():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

def shaped():
    net = classifier()
    net.input_shape = (4,)
    return net

def pruned():
    net = classifier()
    prune.random_unstructured(net[0], "weight", 0.5)
    return net

def norm():
    return nn.BatchNorm2d(3)
"""


@pytest.fixture
def run(tmp_path):
    """Runs `ssnr prune …` in a folder with `nets.py`: exit code, stdout, stderr."""
    (tmp_path / "nets.py").write_text(NETS)

    def call(*arguments: object) -> tuple[int, str, str]:
        ended = commands.ssnr("prune", *arguments, cwd=tmp_path)
        return ended.exit_code, ended.stdout, ended.stderr

    return call


def test_masks_and_the_table_are_written_and_shown(run, tmp_path):
    code, out, err = run("nets.py:shaped", "--density", 0.25, "--rounds", 1)
    assert (code, err) == (0, "")
    assert out.splitlines()[-2:] == ["masks.pt", "masks.csv"]
    assert ["all", "56", "14", "(0.25)"] in [line.split() for line in out.splitlines()]
    masks = ssnr.Masks.load(tmp_path / "masks.pt")
    assert (masks.kept, masks.how["saliency"], masks.how["density"]) == (14, "synflow", 0.25)
    rows = list(csv.DictReader((tmp_path / "masks.csv").read_text().splitlines()))
    assert list(rows[0]) == ["asked", "name", "numel", "kept", "density", "collapsed"]
    assert [int(row["kept"]) for row in rows] == [int(m.sum()) for m in masks.tensors.values()]


def test_the_default_is_iterative_synflow_at_a_tenth_with_a_bar(run, tmp_path):
    code, _, err = run("nets.py:classifier", "--input-shape", 4)
    assert code == 0
    assert "synflow at density 0.1" in err
    assert "100/100" in err
    masks = ssnr.Masks.load(tmp_path / "masks.pt")
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    ssnr.pruning.apply(net, masks)
    assert sum(int((m.weight != 0).sum()) for m in (net[0], net[2])) == masks.kept == round(5.6)


def test_json_is_one_document_with_everything_that_made_the_masks(run, tmp_path):
    code, out, err = run("nets.py:shaped", "-s", "snip", "-d", 0.5, "-d", 0.25, "--data", "noise", "--batch-size", 8,
                         "--scope", "layer", "-o", "kept.pt", "--json")  # fmt: skip
    assert code == 0
    document = json.loads(out)
    first, second = document.pop("masks")
    fingerprint = document.pop("batch")["fingerprint"]
    assert fingerprint.startswith("noise:8:seed0:")
    assert err == f"batch: {fingerprint}\n"
    assert set(document.pop("versions")) == {"ssnr", "scoring", "torch", "python"}
    document.pop("device")
    assert document == {
        "target": "nets.py:shaped", "saliency": "snip", "scope": "layer", "table": "kept.csv", "recipe": "seed",
        "mode": "train", "seed": 0,
    }  # fmt: skip
    assert [(m["asked"], m["kept"], m["total"], m["rounds"], m["file"]) for m in (first, second)] == [
        (0.5, 28, 56, 1, "kept-0.5.pt"),
        (0.25, 14, 56, 1, "kept-0.25.pt"),
    ]
    assert first["layers"] == [
        {"name": "0.weight", "numel": 32, "kept": 16, "density": 0.5, "collapsed": False},
        {"name": "2.weight", "numel": 24, "kept": 12, "density": 0.5, "collapsed": False},
    ]
    assert ssnr.Masks.load(tmp_path / "kept-0.25.pt").how["batch"] == fingerprint


def test_a_collapsed_layer_is_one_line_on_stderr(run):
    code, out, err = run("nets.py:chain", "--input-shape", 1, "--density", 0.01, "--rounds", 1)
    assert code == 0
    assert err == "density 0.01: layer collapse: 1 of 3 layers has no weight left: 1.weight\n"
    assert "0 (collapsed)" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nets.py:classifier"], 2, "nets.py:classifier: name the shape of one input, such as --input-shape 3,32,32"),
        (["nets.py:shaped", "-d", "0"], 2, "density 0.0: expected the share of weights to keep, above 0 and at most 1"),
        (["nets.py:shaped", "-d", "1.5"], 2, "density 1.5: expected the share"),
        (["nets.py:shaped", "-d", "half"], 2, "Invalid value for '-d' / '--density'"),
        (["nets.py:shaped", "-s", "synflo"], 2, "unknown saliency 'synflo': did you mean synflow?"),
        (["nets.py:shaped", "-s", "flops"], 2, "flops is a plain proxy: it has no saliency by weight"),
        (["nets.py:shaped", "--scope", "local", "-s", "random"], 2, "scope 'local': expected global or layer"),
        (["nets.py:shaped", "--rounds", "0"], 2, "--rounds 0: expected at least 1"),
        (["nets.py:shaped", "--exclude", "3", "-s", "random"], 2, "exclude '3': the network has no layer or module"),
        (["nets.py:shaped", "-o", "no/m.pt"], 1, "cannot write no/m.pt: there is no folder no"),
        (["nets.py:shaped", "-o", "m.csv"], 2, "--out m.csv: the table goes there; name the file of masks"),
        (["nets.py:shaped", "-s", "snip", "--data", "cifar10:."], 2, ". is not CIFAR-10: there is no data_batch_1"),
        (["nets.py:pruned", "--input-shape", "4"], 2, "0.weight is pruned already: take the masks off first"),
        (["nets.py:norm", "-s", "magnitude"], 1, "no scored weights: the network has no parameter with two or more"),
    ],
)
def test_wrong_input_is_one_line(run, arguments, code, said, tmp_path):
    ended, out, err = run(*arguments)
    assert ended == code
    assert err.splitlines()[-1].startswith(f"ssnr: {said}")
    assert out == ""
    assert not (tmp_path / "masks.pt").exists()
