from __future__ import annotations

import os
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ssnr import cli
from ssnr.core.errors import UsageError
from ssnr.paper import curve as curves
from ssnr.paper import plots as paper_plots
from ssnr.paper.fig1 import QUICK, Fig1Config, draw, fig1
from ssnr.paper.pruning_runs import TrainAndPruneConfig
from ssnr.spaces import get_space
from ssnr.studies import plots

FOLDER = os.environ.get("SSNR_CIFAR10", "")
needs_images = pytest.mark.skipif(not FOLDER, reason="SSNR_CIFAR10 is not set")
# The quick figure on a grid that is smaller still.
TINY = replace(
    QUICK, arch="11-w8", densities=(1.0, 0.1, 0.01), init_densities=(1.0, 0.1), train_images=512, test_images=256,
    ways=TrainAndPruneConfig(epochs=2, rounds=10, batch_size=64),
)  # fmt: skip
TABLE = pd.DataFrame(
    [
        (reading, density, int(density * 1000), 1000, 0, 80.0 * density**0.1, density**2, density, density**0.5)
        for reading in curves.READINGS
        for density in (1.0, 0.1, 0.01)
    ],
    columns=list(curves.COLUMNS),
)


@needs_images
def test_the_figure_is_made_once_and_read_afterwards(tmp_path):
    said: list[str] = []
    result = fig1(FOLDER, tmp_path, TINY, notify=lambda what, done, total: said.append(what))
    assert [*dict.fromkeys(said)][:4] == ["training dense", "pruning to 1", "training finetune-1", "pruning to 0.1"]
    assert list(zip(result.table["reading"], result.table["density"], strict=True)) == [
        ("trained", 1.0), ("trained", 0.1), ("trained", 0.01),
        ("finetuned", 1.0), ("finetuned", 0.1), ("finetuned", 0.01),
        ("init", 1.0), ("init", 0.1),
    ]  # fmt: skip
    weights = get_space("vgg").counts("11-w8").reachable_params
    assert list(result.table["kept"][:3]) == [weights, round(0.1 * weights), round(0.01 * weights)]
    assert (result.table["collapsed"] == 0).all()
    assert {file.name for file in result.files} == {"fig1.png", "fig1.pdf", "fig1.csv", "fig1.md"}
    assert pd.read_csv(tmp_path / "fig1.csv")["accuracy"].tolist() == result.table["accuracy"].tolist()

    said.clear()
    again = fig1(FOLDER, tmp_path, TINY, notify=lambda what, done, total: said.append(what))
    assert said == []
    pd.testing.assert_frame_equal(again.table, result.table)
    with pytest.raises(UsageError, match=r"points\.jsonl holds another curve: vgg:11-w8 .* name another folder"):
        fig1(FOLDER, tmp_path, replace(TINY, ways=replace(TINY.ways, seed=1)))


@needs_images
def test_scores_by_snip_read_a_batch(tmp_path):
    ways = TrainAndPruneConfig(epochs=1, finetune_epochs=0, batch_size=64, saliency="snip")
    plan = replace(TINY, densities=(1.0, 0.5), init_densities=(), ways=ways)
    table = fig1(FOLDER, tmp_path, plan).table
    assert table["reading"].tolist() == ["trained", "trained"]
    assert (table["sum"] > 0).all() and table["kept"].tolist()[1] == round(table["kept"].tolist()[0] / 2)


def test_the_page_says_what_the_picture_shows(tmp_path):
    result = draw(TABLE, tmp_path, "Made up.")
    text = (tmp_path / "fig1.md").read_text()
    assert text == result.to_markdown()
    lines = text.splitlines()
    assert lines[:3] == ["# Figure 1: accuracy and scores while a network is pruned", "", "Made up."]
    # Each of the three falls with accuracy; sums 1, .01, .0001 beside accuracies 1, .794, .631 of the dense network's.
    rows = [" ".join(line.split()) for line in lines]
    assert "| train, then prune | sum | 3 | 1.000 | 1.000 | 0.472 | 1 | 100.00% |" in rows
    assert "| 0.1 | 100 | 63.55 | 0.01 | 0.1 | 0.3162 |" in rows


def test_the_picture_has_a_panel_for_each_reading(tmp_path):
    figure = paper_plots.pruning_curve(TABLE)
    above, below, right = figure.axes[:3], figure.axes[3:6], figure.axes[6:]
    said = "accuracy falls with the first pruning,\nand so does every score"
    assert [ax.get_title() for ax in above] == [f"{title.capitalize()}:\n{said}" for title in curves.READINGS.values()]
    assert [ax.get_xscale() for ax in above] == ["log"] * 3
    assert [(ax.get_yscale(), under.get_yscale()) for ax, under in zip(above, below, strict=True)] == [
        ("linear", "log")
    ] * 3
    assert [list(ax.get_lines()[0].get_ydata()) for ax in above] == [TABLE["accuracy"][:3].tolist()] * 3
    for scores in (right[0].get_lines(), below[0].get_lines()[1:]):
        assert [line.get_label() for line in scores] == list(curves.SCORES)
        assert list(scores[0].get_ydata()) == pytest.approx([1.0, 0.01, 0.0001])
    (png, _) = plots.save(figure, tmp_path / "fig1")
    assert np.asarray(Image.open(png)).std() > 10


def test_a_title_says_what_is_left_where_accuracy_holds():
    """At a tenth of the weights accuracy is within a point of the dense network's."""
    table = TABLE.assign(accuracy=TABLE["accuracy"].where(TABLE["density"] < 0.1, 80.0))
    titles = {ax.get_title() for ax in paper_plots.pruning_curve(table).axes[:3]}
    said = "accuracy holds down to 10 % of the weights,\nwith 1 % of the sum, 10 % of the SSNR, 32 % of the layer-wise"
    assert titles == {f"{title.capitalize()}:\n{said}" for title in curves.READINGS.values()}


def test_the_plan_of_the_paper():
    assert Fig1Config().arch == "16" and Fig1Config().ways.epochs >= 20
    assert max(Fig1Config().densities) == 1.0 and min(Fig1Config().densities) == 0.001


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs `ssnr reproduce fig1 …`: exit code, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ssnr", "reproduce", "fig1", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return (int(left.value.code or 0), *capsys.readouterr())

    return call


def test_without_images_the_command_says_where_they_may_be(run, tmp_path, monkeypatch):
    monkeypatch.delenv("SSNR_CIFAR10", raising=False)
    expected = "ssnr: training needs CIFAR-10: --data cifar10:DIR, or set SSNR_CIFAR10 to cifar-10-batches-py\n"
    assert run("--out", str(tmp_path)) == (2, "", expected)
    code, out, err = run("--out", str(tmp_path), "--data", f"cifar10:{tmp_path}", "--json")
    assert (code, out) == (2, "")
    assert f"ssnr: {tmp_path} is not CIFAR-10: there is no data_batch_1" in err


@needs_images
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("-d 0", "density 0.0: expected the share of weights to keep, above 0 and at most 1"),
        ("--precision half", "--precision 'half': expected float32 or bfloat16"),
        ("--epochs 0", "--epochs 0: expected at least 1"),
        ("--saliency snip --saliency grasp", "figure 1 takes one --saliency, got 2"),
        ("--saliency snap", "unknown saliency 'snap': did you mean snip? (`ssnr list proxies` shows all)"),
        ("--saliency random", "a pruning curve needs a saliency that has scores; random masks have none"),
    ],
)
def test_wrong_options_are_one_line(run, tmp_path, options, message):
    code, out, err = run("--quick", "--out", str(tmp_path), *options.split())
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == f"ssnr: {message}"
