"""Our scores against those that NASLib published: other initialisations of the same networks, the same ranking."""

from __future__ import annotations

import os

import numpy as np
import pytest
from scipy.stats import spearmanr

import ssnr
from ssnr import benchmarks

pytestmark = pytest.mark.skipif("SSNR_DATA" not in os.environ, reason="SSNR_DATA is not set")


@pytest.mark.parametrize(
    ("benchmark", "space", "count", "least"),
    [
        ("transnasbench101-micro/class_scene", "transnasbench101-micro", 30, 0.97),
        ("transnasbench101-micro/jigsaw", "transnasbench101-micro/jigsaw", 24, 0.97),
        ("nasbench301/cifar10", "darts", 40, 0.98),
        ("nasbench101/cifar10", "nasbench101", 24, 0.97),
    ],
)
def test_log_synflow_agrees_with_the_published_one(benchmark, space, count, least, tmp_path):
    """docs/table1.md compares all architectures; here a sample, with the room that its size needs."""
    published = benchmarks.published(benchmark)["synflow"]
    published = published[published.notna() & (published != 0)]
    chosen = published.iloc[np.random.default_rng(0).choice(len(published), count, replace=False)]
    rows = ssnr.sweep(space, chosen.index, ["synflow"], store=tmp_path / "s.sqlite", recipe="naslib")
    ours = [row.scores["synflow"].value for row in rows]
    assert spearmanr(ours, chosen).statistic >= least
    # Not only the order: the logarithm itself, to the noise of one initialisation.
    assert abs(np.mean(np.array(ours) - chosen.to_numpy())) < 0.5
