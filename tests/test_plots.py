from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ssnr.core.errors import SsnrError, UsageError
from ssnr.store import Store
from ssnr.studies import plots
from ssnr.studies.study import study
from sweeps import benchmark, fill, group, total

N = 60
ACCURACY = {f"{k:02}": 10.0 + k for k in range(N)}
CONTROLS = {name: (k % 7, k, k // 2, 1 + k // 9) for k, name in enumerate(ACCURACY)}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Sums over 118 decades; the first architecture is dead, the second failed."""
    outcomes = {name: total(0.7, exponent=20 * k) for k, name in enumerate(ACCURACY)}
    outcomes |= {"00": "dead", "01": "out of memory"}
    with Store(tmp_path_factory.mktemp("plots") / "sweep.sqlite") as store:
        fill(store, outcomes, controls=CONTROLS)
        return study(store, benchmark(ACCURACY), ["synflow/sum", "synflow/ssnr"])


def texts(ax) -> str:
    return "\n".join(text.get_text() for text in ax.texts)


def test_a_panel_a_proxy_with_its_numbers_and_the_benchmark_on_the_axis(found):
    figure = plots.score_vs_accuracy(found, ["synflow/ssnr", "synflow/sum"])
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == ("synflow/ssnr", "synflow/sum")
    row = found.table.set_index("proxy").loc["synflow/sum"]
    expected = f"ρ = {row['spearman']:.3f}\nτ = {row['kendall']:.3f}\nn = 59\ndead (×): 1\nfailed: 1"
    assert texts(right) == expected
    assert left.get_ylabel() == "toy/cifar10\ntest accuracy (%), 200 epochs, source hand"


def test_the_dots_are_the_tidy_table(found):
    (ax,) = plots.score_vs_accuracy(found, ["params"]).axes
    dots = {tuple(map(float, xy)) for dots in ax.collections for xy in dots.get_offsets()}
    points = found.scores[found.scores["proxy"] == "params"]
    assert dots == set(zip(points["score"], points["accuracy"], strict=True))


def test_what_is_dead_by_one_score_is_a_cross_in_the_panel_of_a_control_too(found):
    _, control = plots.score_vs_accuracy(found, ["synflow/sum", "params"]).axes
    assert [tuple(map(float, xy)) for xy in control.collections[1].get_offsets()] == [(0.0, 10.0)]


def test_the_legend_says_what_colours_and_crosses_mean(found):
    (legend,) = plots.score_vs_accuracy(found, ["synflow/sum", "params"]).legends
    said = [text.get_text() for text in legend.get_texts()]
    assert said == ["networks in one spot:", "1", "dead, score 0"]


def test_positive_scores_over_many_decades_are_logarithmic_and_dead_ones_stand_left(found):
    points = found.scores[(found.scores["proxy"] == "synflow/sum") & found.scores["score"].notna()]
    x, logarithmic = plots.coordinates(points)
    assert logarithmic
    exponents = np.arange(2, N) * 20
    assert x[1:] == pytest.approx(np.log10(0.7) + exponents * np.log10(2), rel=1e-12)  # beyond 1e308 too
    assert x[0] == pytest.approx(x[1] - (x[-1] - x[1]) / 20)
    (ax,) = plots.score_vs_accuracy(found, ["synflow/sum"]).axes
    assert ax.get_xlabel() == "score (log scale, × at 0)"
    assert len(ax.collections[0].get_offsets()) == N - 2
    assert len(ax.collections[1].get_offsets()) == 1


@pytest.mark.parametrize("scores", [[1.0, 10.0, 900.0], [-1.0, 1.0, 1e9], [0.0, 1.0, 1e9]])
def test_scores_that_are_close_or_not_all_positive_stay_linear(scores):
    points = pd.DataFrame({"score": scores, "log_score": np.nan, "status": "ok"})
    x, logarithmic = plots.coordinates(points)
    assert not logarithmic
    assert x.tolist() == scores


def test_many_panels_take_several_rows(found):
    figure = plots.score_vs_accuracy(found, ["synflow/sum", "synflow/ssnr", "params", "flops"])
    assert [ax.get_title() for ax in figure.axes if ax.get_visible()] == [
        "synflow/sum", "synflow/ssnr", "params", "flops",
    ]  # fmt: skip
    assert len({round(ax.get_subplotspec().rowspan.start) for ax in figure.axes}) == 2


def test_constant_scores_say_so_in_their_panel(tmp_path):
    with Store(tmp_path / "sweep.sqlite") as store:
        fill(store, dict.fromkeys("abc", 2.0), group("plain", data="noise"))
        constant = study(store, benchmark({"a": 1.0, "b": 2.0, "c": 3.0}), ["plain"])
    (ax,) = plots.score_vs_accuracy(constant).axes
    assert texts(ax) == "constant\nn = 3"
    assert "constant" in texts(plots.correlations(constant).axes[0])


def test_correlations_draw_every_row_with_its_interval_controls_as_squares(found):
    spearman, kendall = plots.correlations(found).axes
    table = found.table.iloc[::-1]
    assert [label.get_text() for label in spearman.get_yticklabels()] == table["proxy"].tolist()
    for ax, name in ((spearman, "spearman"), (kendall, "kendall")):
        dots = [line for line in ax.lines if line.get_marker() in ("o", "s")]
        assert [line.get_xdata()[0] for line in dots] == table[name].tolist()
        assert [line.get_marker() for line in dots] == ["s" if k == "control" else "o" for k in table["kind"]]
        bars = [list(line.get_xdata()) for line in ax.lines if line.get_marker() == "|"]
        assert bars == table[[f"{name}_lo", f"{name}_hi"]].values.tolist()


def test_rows_of_one_name_are_told_apart(tmp_path):
    with Store(tmp_path / "sweep.sqlite") as store:
        for seed in (0, 1):
            fill(store, {"a": 1.0, "b": 2.0, "c": 3.0}, group(seed=seed))
        two = study(store, benchmark({"a": 1.0, "b": 2.0, "c": 3.0}), ["synflow"])
    labels = [label.get_text() for label in plots.correlations(two).axes[0].get_yticklabels()]
    assert sorted(labels) == ["synflow seed 0", "synflow seed 1"]
    assert len(plots.score_vs_accuracy(two).axes) == 2


def test_saved_twice_the_bytes_are_the_same(found, tmp_path):
    first, second = (
        plots.save(plots.score_vs_accuracy(found, ["synflow/sum"]), tmp_path / name / "figure.v1") for name in "ab"
    )
    assert [file.name for file in first] == ["figure.v1.png", "figure.v1.pdf"]
    assert first[0].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert first[1].read_bytes()[:5] == b"%PDF-"
    assert b"CreationDate" not in first[1].read_bytes()
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_many_dots_are_an_image_in_the_pdf(found, tmp_path):
    scores = pd.concat([found.scores[found.scores["proxy"] == "params"]] * 300, ignore_index=True)
    many = type(found)(found.table, scores, found.benchmark)
    _, pdf = plots.save(plots.score_vs_accuracy(many, ["params"]), tmp_path / "many")
    assert pdf.stat().st_size < 200_000


def test_a_folder_that_is_a_file_is_named(found, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(SsnrError, match=r"^cannot write .*taken/figure\.png and \.pdf: "):
        plots.save(plots.correlations(found), tmp_path / "taken" / "figure")


def test_an_unknown_proxy_is_refused_with_what_there_is(found):
    with pytest.raises(UsageError, match=r"^the study holds no 'snip' to draw; it has .*synflow/sum"):
        plots.score_vs_accuracy(found, ["snip"])
