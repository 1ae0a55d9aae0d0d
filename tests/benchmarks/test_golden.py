"""Facts about the published files of the DARTS, TransNAS-Bench-101 and NAS-Bench-101 benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ssnr import benchmarks
from ssnr.benchmarks.facts import TASKS
from ssnr.spaces import get_space


def micro(task: str) -> pd.Series[float]:
    return benchmarks.load(f"transnasbench101-micro/{task}").table["accuracy"]


@pytest.mark.parametrize(("task", "highest"), [("class_scene", 54.936), ("class_object", 45.586), ("jigsaw", 95.372)])
def test_highest_accuracies(needs_data: Path, task: str, highest: float) -> None:
    assert micro(task).max() == pytest.approx(highest, abs=5e-4)


def test_isomorphic_cells_share_results(needs_data: Path) -> None:
    rows = pd.concat([micro(task) for task in TASKS], axis=1)
    assert rows.shape == (4096, 7)
    assert len(rows.drop_duplicates()) == 2994


def test_the_cells_without_a_path_are_those_with_published_synflow_0(needs_data: Path) -> None:
    space = get_space("transnasbench101-micro")
    without = {cell for cell in space.all() if space.counts(cell).reachable_params == 0}
    assert len(without) == 169
    for task in ("class_scene", "class_object", "jigsaw", "room_layout"):
        synflow = benchmarks.published(f"transnasbench101-micro/{task}")["synflow"]
        assert set(synflow.index[synflow == 0]) == without


@pytest.mark.parametrize(
    ("name", "proxy", "rho", "tau"),
    [
        ("transnasbench101-micro/class_object", "synflow", 0.4795, 0.3253),
        ("transnasbench101-micro/class_scene", "synflow", 0.7203, 0.5318),
        ("transnasbench101-micro/jigsaw", "synflow", 0.4664, 0.3192),
        ("transnasbench101-micro/room_layout", "synflow", 0.3057, 0.1776),
        ("nasbench301/cifar10", "params", 0.5173, 0.3614),
        ("nasbench301/cifar10", "synflow", 0.2162, 0.1450),
        ("nasbench101/cifar10", "params", 0.7161, 0.5175),
        ("nasbench101/cifar10", "synflow", 0.6475, 0.4515),
    ],
)
def test_published_correlations(needs_data: Path, name: str, proxy: str, rho: float, tau: float) -> None:
    scores = benchmarks.published(name)[proxy]
    accuracy = benchmarks.load(name).table["accuracy"].reindex(scores.index)
    assert len(scores) == len(benchmarks.load(name))
    assert stats.spearmanr(scores, accuracy).statistic == pytest.approx(rho, abs=5e-5)
    assert stats.kendalltau(scores, accuracy).statistic == pytest.approx(tau, abs=5e-5)


def test_published_synflow_of_the_macro_space(needs_data: Path) -> None:
    frame = benchmarks.published("transnasbench101-macro/jigsaw")
    assert (list(frame.columns), len(frame)) == (["synflow"], 3256)
    assert set(frame.index) == set(get_space("transnasbench101-macro").all())


def test_the_two_files_of_the_surrogate(needs_data: Path) -> None:
    one, other = (benchmarks.load("nasbench301/cifar10", f"naslib-{count}").table for count in (500, 725))
    both = benchmarks.load("nasbench301/cifar10")
    common = one.index.intersection(other.index)
    assert (len(one), len(other), len(common), len(both)) == (500, 725, 7, 1218)
    assert (both.table.loc[one.index] == one).all(axis=None)
    assert both.note.endswith(
        "7 architectures are in several files, up to 0.17 apart: taken from zc_nasbench301.67444cd1.json"
    )
    assert "surrogate" in both.metric
    assert both.family == "darts"


def test_the_published_proxies_of_the_surrogates_files(needs_data: Path) -> None:
    frame = benchmarks.published("nasbench301/cifar10")
    assert frame.shape == (1218, 12)
    assert frame["nwot"].isna().sum() == 500  # the file that decides about the 7 has no nwot
    assert not frame.drop(columns="nwot").isna().any(axis=None)
    first = get_space("darts").parse(
        "[[(0, 0), (1, 5), (1, 1), (0, 1), (1, 3), (0, 3), (1, 3), (3, 2)],"
        " [(1, 0), (0, 2), (1, 3), (0, 3), (3, 0), (0, 1), (2, 0), (3, 6)]]"
    )
    assert frame.at[first, "params"] == 0.856298


def test_real_trainings_of_the_darts_space(needs_data: Path) -> None:
    benchmark = benchmarks.load("darts-swap/cifar10")
    accuracy = benchmark.table["accuracy"]
    assert (round(accuracy.min(), 2), round(accuracy.max(), 2), len(accuracy)) == (10.22, 86.61, 1000)
    assert accuracy.index.str.contains("none").sum() == 644
    assert (benchmark.family, benchmark.epochs) == ("darts", 200)


def test_a_published_json_file_is_read_as_a_release_too(
    needs_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSNR_CACHE", str(tmp_path))
    benchmark = benchmarks.load(needs_data / "zc_nasbench301.4e3528ed.json")
    assert (benchmark.name, benchmark.family, len(benchmark)) == ("nasbench301/cifar10", "darts", 725)
    known = benchmarks.load("nasbench301/cifar10", "naslib-725")
    assert benchmark.metric == known.metric
    np.testing.assert_array_equal(benchmark.table["accuracy"], known.table["accuracy"].reindex(benchmark.table.index))
