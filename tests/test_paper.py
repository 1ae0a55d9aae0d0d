"""The paper's claims on real accuracies: all of NAS-Bench-201 is swept once for this file (a minute or two)."""

from __future__ import annotations

import os

import numpy as np
import pytest
from scipy.stats import spearmanr

from ssnr import benchmarks, engine
from ssnr.paper.fig2 import fig2
from ssnr.spaces import get_space
from ssnr.store import Store
from ssnr.studies.study import study

pytestmark = pytest.mark.skipif("SSNR_DATA" not in os.environ, reason="SSNR_DATA is not set")
PROXIES = ["synflow/sum", "synflow/ssnr", "synflow/layerwise_ssnr"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    space = get_space("nasbench201")
    with Store(tmp_path_factory.mktemp("paper") / "nasbench201.sqlite") as opened:
        layout = engine.plan(space, space.all(), PROXIES, store=opened)
        for _ in engine.run(layout, opened):
            pass
        yield opened


def correlations(store, source: str) -> dict[str, float]:
    found = study(store, benchmarks.load("nasbench201/cifar10", source), PROXIES, ci=False)
    assert found.n == 15_625
    return found.table.set_index("proxy")["spearman"].to_dict()


def test_figure_2_on_test_accuracy(store):
    found = correlations(store, "nats")
    assert found["synflow/sum"] == pytest.approx(0.779, abs=0.012)
    assert found["synflow/ssnr"] == pytest.approx(0.782, abs=0.015)
    assert found["synflow/layerwise_ssnr"] == pytest.approx(0.820, abs=0.010)
    assert found["reachable_params"] == pytest.approx(0.823, abs=0.0005)
    assert found["params"] == pytest.approx(0.7527, abs=0.00005)


def test_figure_2_on_an_independent_training(store):
    found = correlations(store, "analog")
    assert found["synflow/sum"] == pytest.approx(0.776, abs=0.012)
    assert found["synflow/ssnr"] == pytest.approx(0.770, abs=0.015)
    assert found["synflow/layerwise_ssnr"] == pytest.approx(0.812, abs=0.010)


def test_the_341_cells_without_a_path_are_dead_and_nothing_fails(store):
    table = study(store, benchmarks.load("nasbench201/cifar10", "nats"), PROXIES, ci=False).table
    proxies = table[table["kind"] == "proxy"]
    assert set(proxies["dead"]) == {341}
    assert set(proxies["failed"]) == {0}


def test_scores_and_params_agree_with_the_published_ones(store):
    published = benchmarks.published("nasbench201/cifar10")
    scores = study(store, benchmarks.load("nasbench201/cifar10", "nats"), ["synflow/sum"], ci=False).scores
    ours = scores.pivot(index="architecture", columns="proxy", values="score").loc[published.index]
    assert len(ours) == 9_445
    known = published["synflow"].notna()
    assert spearmanr(ours["synflow/sum"][known], published["synflow"][known]).statistic >= 0.999
    assert spearmanr(ours["params"], published["params"]).statistic >= 0.9999
    assert np.array_equal(ours["params"], np.round(published["params"] * 1e6))


def test_figure_2_is_drawn_with_the_paper_beside_it(store, tmp_path):
    found = fig2(store, benchmarks.load("nasbench201/cifar10", "nats"), tmp_path, ci=False)
    assert [file.name for file in found.files] == ["fig2.png", "fig2.pdf", "fig2.csv", "fig2.md"]
    assert all(file.stat().st_size > 300 for file in found.files)
    assert found.table["paper"].dropna().tolist() == [0.7754, 0.7785, 0.8178]
    assert found.table["difference"].dropna().abs().max() < 0.02
