"""Simulated searches: the pick is the highest score of those drawn, within the budget."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ssnr.paper import picks
from ssnr.spaces import get_space

ARCHS = get_space("nasbench201").sample_many(60, np.random.default_rng(1))


@pytest.fixture(scope="module")
def found():
    """Scores that follow accuracy exactly, or not at all."""
    space = get_space("nasbench201")
    accuracy = np.array([50.0 + n / 2 for n in range(60)])
    scores = pd.DataFrame(
        {"noise_ssnr": accuracy, "synflow/layerwise_ssnr": -accuracy, "synflow/sum": np.zeros(60)}, index=ARCHS
    )
    rows = [row for name in picks.DATASETS for row in picks._simulated(name, scores, accuracy, 4, 0)]
    params = np.array([space.counts(arch).params for arch in ARCHS])
    return pd.DataFrame(rows), accuracy, params


def test_a_perfect_score_picks_the_best_of_all_and_a_reversed_one_the_worst(found):
    rows, accuracy, _ = found
    everything = rows[(rows["trials"] == 15_625) & rows["budget"].isna()].groupby("proxy")["accuracy"].unique()
    assert everything["noise_ssnr"].tolist() == [accuracy.max()]
    assert everything["synflow/layerwise_ssnr"].tolist() == [accuracy.min()]


def test_a_budget_leaves_out_what_is_larger(found):
    rows, accuracy, params = found
    within = rows[rows["budget"] == 300_000]
    assert within["optimum"].unique().tolist() == [accuracy[params <= 300_000].max()]
    assert within["random"].unique().tolist() == [accuracy[params <= 300_000].mean()]
    assert within["accuracy"].max() <= within["optimum"].max()


def test_scores_of_one_repeat_look_at_the_same_networks(found):
    rows, _, _ = found
    one = rows[(rows["trials"] == 1) & rows["budget"].isna()]
    assert (one.groupby(["dataset", np.arange(len(one)) // len(picks.PROXIES)])["accuracy"].nunique() == 1).all()


def test_the_picture_has_a_panel_a_data_set_and_budget(found, tmp_path):
    rows, _, _ = found
    rows = rows.assign(trials=rows["trials"].replace({10: 100}))
    keys = ["dataset", "budget", "proxy", "trials"]
    means = rows.groupby(keys, sort=False, dropna=False).agg(
        accuracy=("accuracy", "mean"), spread=("accuracy", "std"), optimum=("optimum", "first"),
        random=("random", "first"), repeats=("accuracy", "size"),
    )  # fmt: skip
    result = picks.Picks(means.reset_index())
    assert len(picks.figure(result).axes) == 6
    assert [file.suffix for file in picks.write(result, tmp_path)] == [".png", ".pdf", ".csv", ".md"]
    assert "| cifar10" in result.to_markdown()
