"""Tables, samples and correlations on which other tools were reported to go wrong.

Where a case was reported in public, its docstring names the report.
"""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ssnr
from commands import ssnr as command
from ssnr import benchmarks
from ssnr.core.errors import ArchitectureError, BenchmarkError, UsageError
from ssnr.spaces import get_space
from ssnr.store import Store
from ssnr.studies import stats
from ssnr.studies.study import study
from sweeps import benchmark, fill, group

ABC = {"a": 1.0, "b": 2.0, "c": 3.0}


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "sweep.sqlite") as opened:
        yield opened


@pytest.fixture
def published() -> Path:
    folder = os.environ.get("SSNR_DATA")
    if folder is None or not (Path(folder) / "nats_bench.csv").is_file():
        pytest.skip("nats_bench.csv is not in $SSNR_DATA")
    return Path(folder)


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


# --- ranks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["seed", "naslib"])
def test_a_dead_network_ranks_below_a_weak_one(store, recipe):
    """NASLib writes ln of the sum, and 0 for a dead network, which so beats a sum of ½."""
    fill(store, {"a": 0.5, "b": 2.0, "c": "dead"}, group(recipe=recipe))
    found = study(store, benchmark({"a": 2.0, "b": 3.0, "c": 1.0}), ["synflow"], ci=False)
    scores = [0.5, 2.0, 0.0] if recipe == "seed" else [pytest.approx(np.log(0.5)), pytest.approx(np.log(2)), 0.0]
    assert found.scores["score"].tolist() == scores
    assert found.table["spearman"].tolist() == [1.0]
    assert found.table["dead"].tolist() == [1]


def test_correlations_have_a_sign():
    """SamsungLabs/zero-cost-nas#4: the absolute value of ρ hides a proxy that ranks backwards."""
    found = stats.correlate([5, 4, 3, 2, 1], [90, 91, 92, 93, 94])
    assert (found.spearman.value, found.kendall.value) == (-1.0, -1.0)


def test_nan_is_neither_propagated_nor_omitted_without_a_word():
    """scipy#628, #5755: what NaN does to a rank correlation depends on the version and on an option."""
    x, y = [1, 2, 3, 4, np.nan], [1, 2, 3, 4, 5]
    with pytest.raises(UsageError, match=r"^1 of 5 values are NaN: leave failed scores out before ranking$"):
        stats.correlate(x, y)


def test_failures_are_in_the_denominator_of_coverage(store):
    """Thiswycf/zcp-test: failed rows of three seeds left out of the count."""
    fill(store, {"a": 1.0, "b": 2.0, "c": "its saliency is not finite (NaN)", "d": 4.0})
    found = study(store, benchmark({"a": 1, "b": 2, "c": 3, "d": 4}), ["synflow"], ci=False)
    (line,) = [row for row in found.to_json()["rows"] if row["kind"] == "proxy"]
    assert (found.n, line["n"], line["failed"], line["coverage"], line["spearman"]) == (4, 3, 1, 0.75, 1.0)


# --- which accuracy -------------------------------------------------------------------------------------------


def test_every_row_names_data_set_metric_split_budget_and_runs(store):
    """SamsungLabs/zero-cost-nas#8, D-X-Y/NATS-Bench#38: which of a cell's many accuracies is this?"""
    fill(store, ABC)
    facts = {"source": "hand", "metric": "test accuracy (%)", "split": "test", "epochs": 200, "runs": "one run"}
    found = study(store, benchmark(ABC), ["synflow/sum", "synflow/mean"], ci=False)
    table = pd.read_csv(io.StringIO(found.to_csv()))
    assert table[["benchmark", *facts]].to_dict("records") == [{"benchmark": "toy/cifar10", **facts}] * 2
    assert facts.items() <= found.to_json().items()


def test_the_best_cell_of_two_tables(published):
    """D-X-Y/NATS-Bench#35, #39: 94.37 is the test accuracy of networks trained on the whole training set."""
    cell = get_space("nasbench201").parse(13714)
    nats, naslib = (benchmarks.load("nasbench201/cifar10", source) for source in ("nats", "naslib"))
    assert nats.table["accuracy"][cell] == pytest.approx(94.3733, abs=5e-5)
    assert (nats.split, nats.epochs, nats.runs) == ("test", 200, "mean over the available seeds")
    assert naslib.table["accuracy"][cell] == 91.32
    assert (naslib.epochs, naslib.runs) == (200, "one run, last epoch")
    assert "validation" in naslib.metric


def test_a_loss_is_called_a_negative_loss():
    """automl/NASLib#188: room_layout has a "val_accuracy" of −1.09."""
    (row,) = [r for r in benchmarks.CATALOGUE if r.name == "transnasbench101-micro/room_layout"]
    assert row.metric == "validation negative loss (higher is better)"


def test_a_budget_that_a_table_does_not_have_is_refused():
    """D-X-Y/AutoDL-Projects#97: asking for 12 epochs gave another number."""
    with pytest.raises(UsageError, match="unknown source of nasbench201/cifar10 '12 epochs'"):
        benchmarks.load("nasbench201/cifar10", "12 epochs")


def test_a_benchmark_that_is_nowhere_is_one_line_with_address_and_hash(tmp_path, monkeypatch):
    """yawen-d/TransNASBench#6: dead links."""
    monkeypatch.delenv("SSNR_DATA", raising=False)
    monkeypatch.setenv("SSNR_CACHE", str(tmp_path))
    monkeypatch.setenv("SSNR_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(BenchmarkError) as caught:
        benchmarks.load("transnasbench101-micro/class_scene")
    said = str(caught.value)
    assert "\n" not in said
    for part in ("all_benchmarks_zen.zip is not on this machine", "http://127.0.0.1:9/automl/NASLib/", "SHA-256",
                 "SSNR_DATA"):  # fmt: skip
        assert part in said, said


def test_the_whole_of_nas_bench_201_is_read_in_less_than_200_mb(published):
    """D-X-Y/AutoDL-Projects#78, NATS-Bench#25: reading the table takes more memory than the machine has."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak memory of a process is read from /proc")
    code = (
        "import re, ssnr.benchmarks as b\n"
        "assert len(b.load('nasbench201/cifar10', 'nats')) == 15625\n"
        # Not getrusage: its peak includes what the process held before it became this one.
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])"
    )
    assert int(run_python(code)) < 200_000


# --- which architectures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["nasbench201", "transnasbench101-micro"])
def test_a_sample_holds_no_architecture_twice(space):
    """SLDGroup/ZiCo#1: NASLib draws with replacement, and its 5,000 cells are 4,279 (2,887) distinct ones."""
    where = get_space(space)
    with_replacement = {"nasbench201": 4279, "transnasbench101-micro": 2887}[space]
    expected = len(where) * (1 - (1 - 1 / len(where)) ** 5000)
    assert expected == pytest.approx(with_replacement, abs=25)
    drawn = where.sample_many(4000, np.random.default_rng(0))
    assert len(set(drawn)) == 4000
    assert drawn == where.sample_many(4000, np.random.default_rng(0))


def test_a_sweep_of_a_sample_says_of_how_many_with_which_seed_and_without_replacement(tmp_path):
    run = command("sweep", "nasbench201", "-p", "params", "--archs", "5", "--seed", "7", "--store", "s.sqlite",
                  "--json", cwd=tmp_path)  # fmt: skip
    assert run.exit_code == 0, run.stderr
    assert json.loads(run.stdout)["drawn"] == {"of": 15625, "seed": 7, "replacement": False}


def test_a_list_with_repeats_is_scored_once_and_the_repeats_are_counted(tmp_path):
    (tmp_path / "archs.txt").write_text("(4, 0, 3, 1, 4, 3)\n2631\n0\n0\n")
    run = command("sweep", "nasbench201", "-p", "params", "--archs", "archs.txt", "--store", "s.sqlite", "--json",
                  cwd=tmp_path)  # fmt: skip
    assert run.exit_code == 0, run.stderr
    summary = json.loads(run.stdout)
    assert (summary["architectures"], summary["repeats"], summary["drawn"]) == (2, 2, None)
    assert run.stderr == "2 of 4 architectures are repeats: scored once, kept once\n"


def test_the_order_of_a_mappings_keys_does_not_matter():
    """microsoft/nni#2721: the same cell, its edges in another order."""
    space, rng = get_space("nasbench201"), random.Random(0)
    edges = ("0_1", "0_2", "1_2", "0_3", "1_3", "2_3")
    ops = ("nor_conv_3x3", "none", "skip_connect", "nor_conv_1x1", "avg_pool_3x3", "none")
    cell = dict(zip(edges, ops, strict=True))
    shuffled = [dict(rng.sample(list(cell.items()), 6)) for _ in range(10)]
    assert {space.parse(form) for form in [cell, *shuffled]} == {space.parse(cell)}
    assert space.parse(cell) == "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|avg_pool_3x3~1|none~2|"


def test_a_string_of_the_size_space_is_refused_with_what_was_expected():
    """D-X-Y/NATS-Bench#48: an architecture that is not in the table has index −1."""
    with pytest.raises(ArchitectureError, match=r"^NAS-Bench-201 cell '8:16:8:8:8': 1 nodes joined by '\+', expected"):
        get_space("nasbench201").parse("8:16:8:8:8")


def test_a_transnas_cell_is_read_by_target_node():
    """`64-41414-a_bc_def` is 0→1, then 0→2 and 1→2, then 0→3, 1→3 and 2→3; read by source, 5.9 % of cells differ."""
    space = get_space("transnasbench101-micro")
    assert space.counts("64-41414-0_00_300").reachable_params > 0  # 0→3
    assert space.counts("64-41414-0_03_000").reachable_params == 0  # 1→2, which leads nowhere


# --- what is not needed ---------------------------------------------------------------------------------------


def test_nothing_of_nas_bench_301s_stack_is_needed():
    """automl/nasbench301#11, #17; NASLib#140: an import fails on ConfigSpace, TensorFlow or the surrogate."""
    absent = ("nasbench301", "ConfigSpace", "tensorflow", "torchvision", "timm", "naslib")
    code = (
        f"import sys\nfor name in {absent}: sys.modules[name] = None\n"
        "import ssnr, numpy as np\nfrom ssnr import benchmarks\nfrom ssnr.spaces import get_space\n"
        "space = get_space('darts')\narch = space.sample_many(1, np.random.default_rng(0))[0]\n"
        "space.build(arch)\nprint(len(benchmarks.names()) > 10)"
    )
    assert run_python(code) == "True\n"


def test_a_space_without_a_table_is_scored_and_the_same_seed_draws_the_same_subset(tmp_path):
    """automl/NASLib#133, #167: the evaluator needs a stored table of the space."""
    space = get_space("nasbench201/imagenet16-120")
    first, again = (space.sample_many(2, np.random.default_rng(3)) for _ in range(2))
    assert first == again
    (row, _) = ssnr.sweep(space, first, ["synflow/layerwise_ssnr"], store=tmp_path / "s.sqlite", workers=1)
    assert row.scores["synflow/layerwise_ssnr"].value > 0


def test_a_score_says_recipe_seed_init_batch_mode_and_versions(tmp_path):
    """VITA-Group/TENAS#21, cvlab-yonsei/AZ-NAS#8: a number whose settings nobody wrote down."""
    run = command("score", "nasbench201:0", "-p", "snip", "--batch-size", "2", "--seed", "3", "--data", "noise",
                  "--recipe", "seed(temperature=2)", "--json", cwd=tmp_path)  # fmt: skip
    assert run.exit_code == 0, run.stderr
    document = json.loads(run.stdout)
    (target,) = document["targets"]
    assert (document["recipe"], document["seed"]) == ("seed(temperature=2.0)", 3)
    assert set(document["versions"]) == {"ssnr", "scoring", "torch", "python"}
    assert (target["mode"], target["device"], target["init"]) == ("train", "cpu", "drawn from (seed 3, space, network)")
    assert target["batch"]["fingerprint"].startswith("noise:2:seed3:")
