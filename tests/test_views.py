"""Studies and rows show themselves in a notebook; pictures by command; noise and CIFAR-10 from Python."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ssnr
from commands import ssnr as command
from ssnr.spaces import get_space

SPACE = get_space("nasbench201/imagenet16-120")
DEAD = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
ARCHS = [*SPACE.sample_many(10, np.random.default_rng(0)), DEAD]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    for _ in ssnr.sweep(SPACE, ARCHS, ["synflow"], store=folder / "s.sqlite", workers=1):
        pass
    rows = "".join(f'"{arch}",{10.0 if arch == DEAD else 60.0 + n}\n' for n, arch in enumerate(ARCHS))
    (folder / "table.csv").write_text(f"architecture,accuracy\n{rows}")
    return folder


@pytest.fixture(scope="module")
def study(folder):
    return ssnr.study(folder / "s.sqlite", str(folder / "table.csv"), ["synflow/layerwise_ssnr"])


def test_a_study_is_a_table_in_a_notebook(study):
    html = study._repr_html_()
    assert "<td>synflow/layerwise_ssnr</td>" in html
    assert "<td>params (control)</td>" in html


def test_a_study_is_a_figure_in_either_library(study):
    axes = study.plot().axes[0]
    assert axes.get_title() == "synflow/layerwise_ssnr"
    pytest.importorskip("plotly")
    (trace,) = study.plot(backend="plotly").data
    assert sorted(trace.text) == sorted(ARCHS)
    with pytest.raises(ssnr.UsageError, match="backend 'bokeh': expected matplotlib or plotly"):
        study.plot(backend="bokeh")


def test_dead_networks_far_below_all_others_stand_in_a_strip_and_do_not_squash_them(study):
    axes = study.plot().axes[0]
    low, _ = axes.get_ylim()
    assert low == pytest.approx(60 - 0.14 * 9)
    assert any(text.get_text() == "dead, at 10 (axis broken)" for text in axes.texts)


def test_a_row_of_a_sweep_is_a_table_in_a_notebook(folder):
    row = next(iter(ssnr.sweep(SPACE, ARCHS[:1], ["synflow"], store=folder / "s.sqlite", workers=1)))
    assert row._repr_html_().startswith(f"<p>{ARCHS[0].replace('~', '~')}</p><table>")


@pytest.fixture(scope="module")
def results(folder, study):
    """One of each kind of result, by name, with the number of rows of its table."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    scores = ssnr.score(net, input_shape=(4,), proxies=["synflow", "params"])
    row = next(iter(ssnr.sweep(SPACE, ARCHS[:1], ["synflow"], store=folder / "s.sqlite", workers=1)))
    one, two = (
        ssnr.search(SPACE, goals, store=folder / "s.sqlite", trials=5, sampler="random", workers=1, recipe="seed")
        for goals in (["synflow"], ["synflow", "-params"])
    )
    masks = ssnr.pruning.masks(net, "magnitude", 0.5)
    return {"Score": (scores["synflow"], 2), "Scores": (scores, 2), "Row": (row, 1), "Study": (study, 5),
            "SearchResult": (one, 5), "SearchResult, a front": (two, 5), "Masks": (masks, 2)}  # fmt: skip


KINDS = ["Score", "Scores", "Row", "Study", "SearchResult", "SearchResult, a front", "Masks"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_result_has_a_line_a_table_a_frame_and_a_picture_in_both_libraries(results, kind):
    result, rows = results[kind]
    assert len(repr(result)) < 250
    assert "<table>" in result._repr_html_()
    assert len(result.to_frame()) == rows
    assert result.plot()._repr_png_()[:4] == b"\x89PNG"  # a notebook shows it, without pyplot
    pytest.importorskip("plotly")
    assert type(result.plot(backend="plotly")).__module__.startswith("plotly.")


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_refuses_another_library(results, kind):
    with pytest.raises(ssnr.UsageError, match=r"^backend 'bokeh': expected matplotlib or plotly$"):
        results[kind][0].plot(backend="bokeh")


def test_a_row_of_a_sweep_is_one_line(results):
    assert repr(results["Row"][0]).startswith(f"Row('{ARCHS[0]}', synflow ")
    assert repr(results["Row"][0]).endswith(" layers)")


def test_noise_is_the_batch_that_the_command_line_draws():
    batch = ssnr.noise((3, 8, 8), 10, 4, seed=1)
    assert (batch.inputs.shape, batch.targets.shape) == ((4, 3, 8, 8), (4,))
    assert torch.equal(batch.inputs, ssnr.noise((3, 8, 8), 10, 4, seed=1).inputs)


def test_the_commands_write_pictures(folder):
    run = command("plot", "s.sqlite", "--benchmark", "table.csv", "-o", "p.png", cwd=folder)
    assert (run.exit_code, run.stdout) == (0, "p.png\n"), run.stderr
    again = command("plot", "s.sqlite", "--benchmark", "table.csv", "-o", "c.pdf", "--kind", "correlations", cwd=folder)
    assert again.exit_code == 0, again.stderr
    layers = command("score", f"{SPACE.name}:{ARCHS[0]}", "-p", "synflow", "--plot", "l.png", cwd=folder)
    assert layers.exit_code == 0, layers.stderr
    assert all((folder / name).stat().st_size > 5000 for name in ("p.png", "c.pdf", "l.png"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["s.sqlite", "--benchmark", "table.csv", "-o", "p.xls"], "-o p.xls: expected a name that ends in .png"),
        (["none.sqlite", "--benchmark", "table.csv"], "none.sqlite: no such store"),
        (["s.sqlite", "--benchmark", "table.csv", "--kind", "pie"], "--kind"),
    ],
)
def test_bad_input_gets_one_line(folder, arguments, said):
    run = command("plot", *arguments, cwd=folder)
    assert run.exit_code == 2
    assert said in run.stderr
