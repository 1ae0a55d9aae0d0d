"""Our scores against those that NASLib published: other initialisations of the same networks, the same ranking."""

from __future__ import annotations

import os

import numpy as np
import pytest
from scipy.stats import spearmanr

import ssnr
from ssnr import benchmarks
from ssnr.core.errors import UsageError
from ssnr.spaces import get_space
from ssnr.store import Store
from ssnr.studies.study import study
from sweeps import fill, group

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


# --- published columns as rows of a study ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def three_hundred(tmp_path_factory):
    """Some cells of NAS-Bench-201, 20 of them not in the published file, with a score that is made up."""
    space, known = get_space("nasbench201"), benchmarks.published("nasbench201/cifar10").index
    rng = np.random.default_rng(0)
    outside = [arch for arch in space.all() if space.idle_operations(arch)][:20]
    archs = [*(known[at] for at in rng.choice(len(known), 280, replace=False)), *outside]
    with Store(tmp_path_factory.mktemp("published") / "s.sqlite") as opened:
        fill(opened, {arch: float(at) for at, arch in enumerate(archs)}, group(space="nasbench201"))
        yield opened


def test_published_columns_are_rows_that_say_their_file(three_hundred):
    found = study(three_hundred, "nasbench201/cifar10", ["synflow"], published=["naswot", "zen", "synflow"], ci=False)
    rows = found.table[found.table["kind"] == "published"].set_index("proxy")
    accuracy = benchmarks.load("nasbench201/cifar10", "nats").table["accuracy"]
    frame = benchmarks.published("nasbench201/cifar10")
    here = frame.index.intersection([row.architecture for row in three_hundred.architectures("nasbench201")])
    for name, column in (("naswot", "nwot"), ("zen", "zen"), ("synflow", "synflow")):
        expected = spearmanr(frame.loc[here, column], accuracy[here]).statistic
        assert rows.loc[name, "spearman"] == pytest.approx(expected, abs=1e-12)
        assert rows.loc[name, ["n", "failed", "published_in"]].tolist() == [280, 0, "nb201_zc_proxies.csv"]
    assert "published, not measured here: naswot, zen, synflow from nb201_zc_proxies.csv" in found.notes
    assert "20 architectures not in nb201_zc_proxies.csv" in found.notes
    both = found.table[found.table["proxy"] == "synflow"]
    assert sorted(both["kind"]) == ["proxy", "published"]
    assert sorted(both["n"]) == [280, 300]
    assert "zen (published)" in str(found)
    json_rows = {(row["proxy"], row["kind"]): row["published_in"] for row in found.to_json()["rows"]}
    assert json_rows["zen", "published"] == "nb201_zc_proxies.csv"
    assert json_rows["synflow", "proxy"] is None


def test_a_published_failure_is_counted_and_stays_without_a_number(tmp_path):
    frame = benchmarks.published("nasbench201/cifar10")
    failed = frame.index[frame["nwot"].isna()]
    archs = [*failed, *frame.index[:9]]
    with Store(tmp_path / "s.sqlite") as opened:
        fill(opened, {arch: float(at) for at, arch in enumerate(archs)}, group(space="nasbench201"))
        found = study(opened, "nasbench201/cifar10", ["synflow"], published="nwot", ci=False)
    row = found.table[found.table["kind"] == "published"].iloc[0]
    assert (row["n"], row["failed"]) == (9, 1)
    assert "nwot: 1 failed (the file holds no number for it)" in found.notes
    assert found.scores.query("kind == 'published' and status == 'failed'")["score"].isna().all()


def test_all_are_all(three_hundred):
    found = study(three_hundred, "nasbench201/cifar10", ["synflow"], published="all", top=[0.1], ci=False)
    assert (found.table["kind"] == "published").sum() == 13
    assert len(found.top) == len(found.table)


def test_an_unknown_published_proxy_is_refused_with_near_names(three_hundred):
    with pytest.raises(UsageError) as caught:
        study(three_hundred, "nasbench201/cifar10", published=["zenn"])
    assert str(caught.value) == "unknown published proxy of nasbench201/cifar10 'zenn': did you mean zen?"
