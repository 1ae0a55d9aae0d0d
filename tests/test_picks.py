"""Simulated searches: the pick is the highest score of those drawn, within the budget."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ssnr.paper import picks
from ssnr.paper.evidence import parts
from ssnr.spaces import get_space

ARCHS = get_space("nasbench201").sample_many(60, np.random.default_rng(1))


PART = parts(["nb201-c10"])[0]


@pytest.fixture(scope="module")
def found():
    """Scores that follow accuracy exactly, or not at all."""
    space = get_space("nasbench201")
    accuracy = np.array([50.0 + n / 2 for n in range(60)])
    params = np.array([space.counts(arch).params for arch in ARCHS])
    columns = {"noise_ssnr": accuracy, "rank(noise_ssnr,params)": accuracy, "synflow/layerwise_ssnr": -accuracy,
               "synflow/sum": np.zeros(60), "params": params}  # fmt: skip
    scores = pd.DataFrame(columns, index=ARCHS)
    return pd.DataFrame(picks.simulated(PART, scores, accuracy, 4, 0)), accuracy, params


def test_a_perfect_score_picks_the_best_of_all_and_a_reversed_one_the_worst(found):
    rows, accuracy, _ = found
    everything = rows[(rows["trials"] == 60) & rows["budget"].isna()].groupby("proxy")["accuracy"].unique()
    assert everything["noise_ssnr"].tolist() == [accuracy.max()]
    assert everything["synflow/layerwise_ssnr"].tolist() == [accuracy.min()]


def test_half_of_the_networks_meet_the_budget():
    assert picks.budgets(np.array([100_000, 344_346, 900_000])) == (None, 350_000)
    assert picks.budgets(np.array([340_000])) == (None, 340_000)


def test_a_budget_leaves_out_what_is_larger(found):
    rows, accuracy, params = found
    _, budget = picks.budgets(params)
    within = rows[rows["budget"] == budget]
    assert within["optimum"].unique().tolist() == [accuracy[params <= budget].max()]
    assert within["random"].unique().tolist() == [accuracy[params <= budget].mean()]
    assert within["n"].unique().tolist() == [(params <= budget).sum()]
    assert within["accuracy"].max() <= within["optimum"].max()


def test_scores_of_one_repeat_look_at_the_same_networks(found):
    rows, _, _ = found
    one = rows[(rows["trials"] == 1) & rows["budget"].isna()]
    assert (one.groupby(np.arange(len(one)) // len(picks.PROXIES))["accuracy"].nunique() == 1).all()


def test_the_picture_has_a_panel_a_benchmark_and_budget(found, tmp_path):
    rows, _, _ = found
    result = picks.Picks(picks.summary(rows))
    assert [ax.get_title() for ax in picks.figure(result).axes if ax.axison] == [
        "NB201 CIFAR-10, all networks", "NB201 CIFAR-10, ≤ 380,000 parameters",
    ]  # fmt: skip
    assert [file.suffix for file in picks.write(result, tmp_path)] == [".png", ".pdf", ".csv", ".md"]
    assert "| NB201 CIFAR-10 |" in result.to_markdown()
