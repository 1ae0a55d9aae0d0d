from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ssnr import benchmarks
from ssnr.benchmarks import CATALOGUE, FILES, Benchmark, Facts, Source
from ssnr.core.errors import BenchmarkError, UsageError
from ssnr.spaces import get_space
from ssnr.spaces.nasbench201.space import NasBench201, parse_ops, unique_string

SPACE = NasBench201()
NAMES = ("nasbench201/cifar10", "nasbench201/cifar100", "nasbench201/imagenet16-120")
SIZES = {  # of the tables that are not of the whole space
    ("nasbench301/cifar10", "naslib"): 1218,
    ("nasbench301/cifar10", "naslib-725"): 725,
    ("nasbench301/cifar10", "naslib-500"): 500,
    ("darts-swap/cifar10", "swap"): 1000,
    ("nasbench101/cifar10", "naslib"): 500,
}


def identity(row: Source) -> str:
    return f"{row.name}-{row.source}"


def here(row: Source) -> None:
    if not row.here:
        pytest.skip("analog-nasbench is not installed" if row.source == "analog" else "SSNR_DATA is not set")


# --- every row of the table


@pytest.mark.parametrize("row", CATALOGUE, ids=identity)
def test_a_row_says_what_its_accuracy_is(row: Source) -> None:
    assert get_space(row.family).family == row.family
    assert row.name.split("/")[1] == row.dataset
    assert row.name.split("/")[0] in (row.family, "nasbench301", "darts-swap")
    assert all(file in FILES for file in row.files)
    assert row.metric and row.runs
    assert row.split or "split not stated" in row.label
    assert row.epochs or "epochs not stated" in row.label
    assert row.label.startswith(f"{row.name} from {row.source}: {row.metric}")


def test_a_name_and_source_is_one_row() -> None:
    assert len({(row.name, row.source) for row in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize("row", CATALOGUE, ids=identity)
def test_what_loads_is_the_whole_table_and_says_what_it_is(row: Source) -> None:
    here(row)
    benchmark = benchmarks.load(row.name, row.source)
    for fact in dataclasses.fields(Facts):
        if fact.name != "note":
            assert getattr(benchmark, fact.name) == getattr(row, fact.name)
    assert benchmark.note.startswith(row.note)
    assert benchmark.label == row.label
    assert benchmark.address and benchmark.licence
    assert benchmark.table.index.name == "architecture"
    space = get_space(row.family)
    assert len(benchmark) == SIZES.get((row.name, row.source)) or set(benchmark.table.index) == set(space.all())
    assert all(space.parse(architecture) == architecture for architecture in benchmark.table.index)
    assert list(benchmark.table.columns) == ["accuracy"]
    assert (
        benchmark.table["accuracy"].between(-3 if "loss" in row.metric else 0, 1 if "SSIM" in row.metric else 100).all()
    )
    assert ("%" in row.metric) == (row.dataset not in ("room_layout", "autoencoder", "normal"))
    assert benchmark.table.memory_usage(index=False).sum() <= 15_625 * 8


def test_labels_name_metric_budget_and_runs() -> None:
    labels = {identity(row): row.label for row in CATALOGUE}
    assert labels["nasbench201/cifar10-nats"] == (
        "nasbench201/cifar10 from nats: test accuracy (%), 200 epochs, mean over the available seeds"
    )
    assert labels["nasbench201/cifar10-naslib"] == (
        "nasbench201/cifar10 from naslib: validation accuracy (%), 200 epochs, one run, last epoch"
    )
    assert labels["transnasbench101-micro/room_layout-naslib"] == (
        "transnasbench101-micro/room_layout from naslib: validation negative loss (higher is better), 25 epochs, "
        "one run, last epoch"
    )
    assert labels["nasbench301/cifar10-naslib"] == (
        "nasbench301/cifar10 from naslib: surrogate validation accuracy (%) by XGB v1.0, epochs not stated, "
        "predicted, not trained"
    )
    assert labels["darts-swap/cifar10-swap"] == (
        "darts-swap/cifar10 from swap: validation accuracy (%), 200 epochs, trained, runs not stated"
    )
    assert labels["nasbench101/cifar10-naslib"] == (
        "nasbench101/cifar10 from naslib: validation accuracy (%), 108 epochs, one run"
    )
    assert labels["nasbench201/cifar10-analog"] == (
        "nasbench201/cifar10 from analog: accuracy (%) in digital full precision, split not stated, "
        "epochs not stated, runs not stated"
    )


# --- golden facts about the published files


@pytest.mark.parametrize(
    ("name", "source", "highest"),
    [
        (NAMES[0], "nats", 94.3733),
        (NAMES[1], "nats", 73.5133),
        (NAMES[2], "nats", 47.3111),
        (NAMES[0], "naslib", 91.57),
        (NAMES[1], "naslib", 73.26),
        (NAMES[2], "naslib", 47.3333),
    ],
)
def test_highest_accuracies(needs_data: Path, name: str, source: str, highest: float) -> None:
    assert benchmarks.load(name, source).table["accuracy"].max() == pytest.approx(highest, abs=5e-5)


def test_nats_is_in_the_order_of_the_index(needs_data: Path) -> None:
    table = benchmarks.load(NAMES[0], "nats").table
    assert list(table.index) == list(SPACE.all())
    accuracy = table["accuracy"].to_numpy()
    assert np.flatnonzero(accuracy == accuracy.max()).tolist() == [6111, 13714]  # the literature names either


def test_the_spaces_classes_are_those_of_the_published_strings(needs_data: Path) -> None:
    frame = pd.read_csv(needs_data / "nats_bench.csv")
    own = frame["ArchitectureString"].map(lambda cell: unique_string(parse_ops(cell)))
    assert (own == frame["UniqueString"]).all()
    assert own.nunique() == 6466


@pytest.mark.parametrize(
    ("name", "rho", "tau"), [(NAMES[0], 0.9802, 0.8824), (NAMES[1], 0.9943, 0.9400), (NAMES[2], 0.9964, 0.9512)]
)
def test_how_far_the_two_sources_are_apart(needs_data: Path, name: str, rho: float, tau: float) -> None:
    one = benchmarks.load(name, "nats").table["accuracy"]
    other = benchmarks.load(name, "naslib").table["accuracy"].reindex(one.index)
    assert stats.spearmanr(one, other).statistic == pytest.approx(rho, abs=5e-5)
    assert stats.kendalltau(one, other).statistic == pytest.approx(tau, abs=5e-5)


def test_analog_agrees_with_the_benchmark(needs_data: Path, needs_analog: None) -> None:
    analog = benchmarks.load(NAMES[0], "analog").table["accuracy"]
    nats = benchmarks.load(NAMES[0], "nats").table["accuracy"].reindex(analog.index)
    assert analog.max() == pytest.approx(94.07, abs=5e-3)
    assert stats.spearmanr(analog, nats).statistic == pytest.approx(0.991, abs=5e-4)


def test_published_proxies(needs_data: Path) -> None:
    frame = benchmarks.published(NAMES[0])
    assert frame.shape == (9445, 13)
    assert {name: int(count) for name, count in frame.isna().sum().items() if count} == {
        "epe_nas": 1,
        "jacov": 1,
        "nwot": 1,
        "zen": 1,
    }
    accuracy = benchmarks.load(NAMES[0], "nats").table["accuracy"].reindex(frame.index)
    assert stats.spearmanr(frame["synflow"], accuracy).statistic == pytest.approx(0.7778, abs=5e-5)
    assert stats.kendalltau(frame["params"], accuracy).statistic == pytest.approx(0.6231, abs=5e-5)


def test_published_proxies_of_another_benchmark() -> None:
    with pytest.raises(UsageError) as caught:
        benchmarks.published("darts-swap/cifar10")
    assert str(caught.value).startswith("unknown benchmark with published proxies 'darts-swap/cifar10': ")


def test_the_listed_published_proxies_are_those_of_the_files(needs_data: Path) -> None:
    header, rows = benchmarks.published_listing()
    assert header == ("benchmark", "proxies", "file")
    listed: dict[str, dict[str, str]] = {}
    for name, proxies, file in rows:
        listed.setdefault(name, {}).update(dict.fromkeys(proxies.split(", "), file))
    assert len(listed) == 16
    for name in ("nasbench201/cifar10", "nasbench201/cifar100", "nasbench301/cifar10", "nasbench101/cifar10",
                 "transnasbench101-micro/jigsaw", "transnasbench101-micro/normal",
                 "transnasbench101-macro/jigsaw"):  # fmt: skip
        frame = benchmarks.published(name)
        assert frame.attrs["files"] == listed[name]
        assert set(frame.columns) == set(listed[name])


# --- names and sources


def test_names() -> None:
    tasks = ("class_scene", "class_object", "jigsaw", "room_layout", "autoencoder", "normal", "segmentsemantic")
    assert benchmarks.names() == (
        *NAMES,
        *(f"transnasbench101-micro/{task}" for task in tasks),
        *(f"transnasbench101-macro/{task}" for task in tasks[:4]),
        "nasbench301/cifar10",
        "darts-swap/cifar10",
        "nasbench101/cifar10",
    )
    assert benchmarks.load_benchmark is benchmarks.load
    assert benchmarks.sources_of("nasbench201/CIFAR10") == ("nats", "naslib", "analog")
    assert benchmarks.sources_of("nasbench201/ImageNet16-120") == ("nats", "naslib")


def test_the_listing_has_a_row_for_each_source_and_says_what_is_here(bare: Path) -> None:
    header, rows = benchmarks.listing()
    assert [row[:2] for row in rows] == [(row.name, row.source) for row in CATALOGUE]
    assert {len(row) for row in rows} == {len(header)}
    assert {row[header.index("here")] for row in rows} == {"no"}
    bare.mkdir()
    (bare / "nb201_zen.zip").write_text("")
    assert [row[1] for row in benchmarks.listing()[1] if row[header.index("here")] == "yes"] == ["naslib"] * 3


@pytest.mark.parametrize("call", [benchmarks.load, benchmarks.fetch, benchmarks.sources_of])
def test_an_unknown_benchmark_suggests_near_ones(call: object) -> None:
    assert callable(call)
    with pytest.raises(UsageError) as caught:
        call("nasbench201/imagenet")
    assert str(caught.value).startswith("unknown benchmark 'nasbench201/imagenet': did you mean nasbench201/imagenet16")


@pytest.mark.parametrize("call", [benchmarks.load, benchmarks.fetch])
def test_an_unknown_source_suggests_near_ones(call: object) -> None:
    assert callable(call)
    with pytest.raises(UsageError) as caught:
        call("nasbench201/cifar100", "nats12")
    assert str(caught.value) == ("unknown source of nasbench201/cifar100 'nats12': did you mean nats?")
    with pytest.raises(UsageError) as caught:
        call("nasbench201/cifar100", "12 epochs")
    assert str(caught.value) == "unknown source of nasbench201/cifar100 '12 epochs': known are naslib, nats"


def test_nats_is_the_default_where_it_is_here(needs_data: Path) -> None:
    assert benchmarks.load("nasbench201/cifar10").source == "nats"


def test_analog_stands_in_where_only_pip_was_here(
    needs_analog: None, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.delenv("SSNR_DATA", raising=False)
    monkeypatch.setenv("SSNR_CACHE", str(bare))
    assert benchmarks.load("nasbench201/cifar10").source == "analog"


@pytest.mark.parametrize("name", NAMES)
def test_nats_is_downloaded_where_nothing_is_here(bare: Path, name: str) -> None:
    with pytest.raises(BenchmarkError, match=r"^nats_bench\.csv is not on this machine and cannot be downloaded from "):
        benchmarks.load(name)


def test_an_altered_default_is_an_error_and_not_replaced_by_another_source(bare: Path) -> None:
    bare.mkdir()
    (bare / "nats_bench.csv").write_text("altered")
    with pytest.raises(BenchmarkError, match=r"^nats_bench\.csv: .* is truncated or altered"):
        benchmarks.load("nasbench201/cifar10")


def test_fetch_gives_the_paths_of_all_files(needs_data: Path) -> None:
    found = [path.name for path in benchmarks.fetch("nasbench201/cifar10")]
    assert [name for name in found if name != "data.anb"] == ["nats_bench.csv", "nb201_zen.zip", "nb201_zc_proxies.csv"]
    assert [path.name for path in benchmarks.fetch("nasbench201/cifar100")] == ["nats_bench.csv", "nb201_zen.zip"]
    assert benchmarks.fetch("nasbench201/cifar100", "naslib") == [needs_data / "nb201_zen.zip"]


# --- a user's own file


def test_a_users_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("arch,test_acc,val_acc\n0,91.5,90\n1,92.5,89\n")
    benchmark = benchmarks.load(str(path), "val_acc")
    assert (benchmark.name, benchmark.family, benchmark.source) == (str(path), "nasbench201", "val_acc")
    assert benchmark.label == (
        f"{path} from val_acc: val_acc as in the file, split not stated, epochs not stated, runs not stated"
    )
    assert benchmark.table["accuracy"].to_dict() == {SPACE.parse(0): 90.0, SPACE.parse(1): 89.0}
    assert len(benchmarks.load(path, "test_acc")) == 2


def test_a_users_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    with pytest.raises(BenchmarkError) as caught:
        benchmarks.load(str(path))
    assert str(caught.value) == f"{path}: no such file; `ssnr list benchmarks` shows the known ones"


def test_a_users_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "mine.xlsx"
    path.write_text("")
    with pytest.raises(UsageError) as caught:
        benchmarks.load(str(path))
    assert str(caught.value) == f"{path}: a benchmark file ends in .csv, .json, .parquet, .pbz2, .pth, .sqlite, .tsv"


# --- what a benchmark is


def test_a_benchmark_is_frozen_and_prints_without_its_table(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("arch,acc\n0,91.5\n")
    benchmark = benchmarks.load(path)
    assert isinstance(benchmark, Benchmark)
    assert "91.5" not in repr(benchmark)
    with pytest.raises(dataclasses.FrozenInstanceError):
        benchmark.name = "other"  # type: ignore[misc]
    assert benchmark.table["accuracy"].dtype == np.float64


def test_importing_benchmarks_imports_nothing_heavy() -> None:
    code = (
        "import sys, ssnr.benchmarks as b; b.names(); print({'torch', 'pandas', 'pooch', 'scipy'} & set(sys.modules))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert run.stdout == "set()\n"


def test_loading_a_benchmark_never_imports_torch(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("arch,acc\n0,91.5\n")
    code = f"import sys, ssnr.benchmarks as b; b.load({str(path)!r}); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
