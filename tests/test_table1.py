from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pytest

import sweeps
from ssnr.core.errors import UsageError
from ssnr.paper import table1
from ssnr.store import Store

ARCHS = [f"arch {n}" for n in range(12)]


@pytest.fixture
def accuracies(monkeypatch):
    """Twelve architectures for every column, accuracy rising with their number."""
    rising = {arch: 50.0 + n for n, arch in enumerate(ARCHS)}

    def load(chosen, *, seed=0):
        return {column.key: sweeps.benchmark(rising, name=f"{column.space}/hand") for column in chosen}

    monkeypatch.setattr(table1, "load", load)
    return rising


def filled(path, spaces, *, seeds=(0,), order=1):
    """A store in which synflow's sum rises (or falls) with the architecture's number."""
    with Store(path) as store:
        for space in spaces:
            for seed in seeds:
                outcomes = {
                    arch: float(1 + order * n + (seed * 5 if n == 3 else 0)) + 20 for n, arch in enumerate(ARCHS)
                }
                counts = {arch: (n + 1, 1, 100 - n, 2) for n, arch in enumerate(ARCHS)}
                sweeps.fill(store, outcomes, sweeps.group(space=space, seed=seed), controls=counts)
    return path


def test_the_columns_print_the_papers_numbers():
    paper = {column.key: column.paper for column in table1.COLUMNS if column.paper}
    assert paper == {
        "nb201-c10": (0.5152, 0.5316, 0.5549),
        "nb201-c100": (0.5615, 0.5252, 0.5943),
        "nb301": (0.1199, 0.2072, 0.3392),
        "jigsaw": (0.3311, 0.3829, 0.3807),
        "class_object": (0.4926, 0.4337, 0.4356),
        "class_scene": (0.5408, 0.5995, 0.5794),
    }


def test_an_unknown_column_is_refused():
    with pytest.raises(UsageError, match="unknown column 'nb302': known are nb201-c10, nb201-c100, nb301"):
        table1.columns(["nb302"])


def test_each_space_is_swept_once_with_all_that_its_columns_ask_for(accuracies):
    chosen = table1.columns(["nb301", "darts-swap", "class_scene"])
    needed = table1.sweeps(chosen, table1.load(chosen))
    assert [(one.space.name, len(one.architectures)) for one in needed] == [
        ("darts", 12),
        ("transnasbench101-micro", 12),
    ]


def test_own_values_stand_beside_the_papers_and_the_best_is_marked(tmp_path, accuracies):
    path = filled(tmp_path / "s.sqlite", ["darts"])
    found = table1.table1(path, tmp_path / "out", keys=["nb301", "darts-swap"])
    rows = found.table.set_index(["column", "proxy"])
    assert rows.loc[("nb301", "synflow/sum"), ["kendall", "paper", "n"]].tolist() == [1.0, 0.1199, 12]
    assert rows.loc[("darts-swap", "synflow/sum"), "paper"] != rows.loc[("darts-swap", "synflow/sum"), "paper"]
    assert rows.loc[("nb301", "params"), "kendall"] == 1.0
    assert rows.loc[("nb301", "reachable_params"), "kendall"] == -1.0
    assert rows["best"].groupby("column").sum().min() >= 1
    assert not rows["best"][rows["kind"] == "control"].any()
    assert [file.name for file in found.files] == ["table1.png", "table1.pdf", "table1.csv", "table1.md", "table1.tex"]
    assert "(0.1199)" in found.to_markdown() and "**1.0000" in found.to_markdown()
    assert r"\textbf{1.0000" in found.to_latex()
    assert len(pd.read_csv(tmp_path / "out" / "table1.csv")) == len(found.table)
    json.dumps(found.to_json(), allow_nan=False)


def test_a_paper_value_outside_the_interval_is_explained_by_protocol(tmp_path, accuracies):
    found = table1.table1(filled(tmp_path / "s.sqlite", ["darts"]), tmp_path / "out", keys=["nb301"])
    assert any(
        note.startswith("NB301 C10: outside the interval: synflow/sum 1.0000 (paper 0.1199)")
        and "surrogate's predictions" in note
        for note in found.notes
    )


def test_a_control_above_every_proxy_is_said(tmp_path, accuracies):
    found = table1.table1(filled(tmp_path / "s.sqlite", ["darts"], order=-1), tmp_path / "out", keys=["nb301"])
    assert "NB301 C10: the control params (1.0000) is above every proxy shown" in found.notes


def test_seeds_are_averaged_and_their_spread_shown(tmp_path, accuracies):
    path = filled(tmp_path / "s.sqlite", ["darts"], seeds=(0, 1))
    each = [table1.table1(path, tmp_path / "out", keys=["nb301"], seeds=[seed]).table for seed in (0, 1)]
    taus = [one.set_index("proxy").loc["synflow/sum", "kendall"] for one in each]
    assert taus[0] != taus[1]
    both = table1.table1(path, tmp_path / "out", keys=["nb301"], seeds=[0, 1]).table.set_index("proxy")
    assert both.loc["synflow/sum", "kendall"] == pytest.approx(np.mean(taus))
    assert both.loc["synflow/sum", "spread"] == pytest.approx(np.std(taus, ddof=1))


@pytest.mark.skipif("SSNR_DATA" not in os.environ, reason="SSNR_DATA is not set")
def test_the_real_columns_have_the_architectures_that_they_say():
    chosen = table1.columns()
    found = {key: len(benchmark.table) for key, benchmark in table1.load(chosen).items()}
    assert found == {
        "nb201-c10": 5000, "nb201-c100": 5000, "nb301": 1218, "jigsaw": 4096, "class_object": 4096, "class_scene": 4096,
        "nb201-c10-test": 15625, "nb201-c100-test": 15625, "darts-swap": 1000,
    }  # fmt: skip
