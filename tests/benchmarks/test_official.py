"""The official releases, from files written in exactly their formats."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import releases
from releases import CELLS, FORMS, MACRO, MICRO, SEEDS, accuracy, refused, single
from ssnr import benchmarks
from ssnr.benchmarks.readers import converted


@pytest.fixture(autouse=True)
def cache(bare: Path) -> Path:
    return bare


# --- NATS-Bench and NAS-Bench-201


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("source", "dataset", "images", "epochs"),
    [
        ("cifar10", "cifar10", "ori-test", 200),
        ("cifar10/test/12", "cifar10", "ori-test", 12),
        ("cifar10/validation", "cifar10-valid", "x-valid", 200),
        ("cifar10-valid/test", "cifar10-valid", "ori-test", 200),
        ("cifar100", "cifar100", "x-test", 200),
        ("validation/cifar100/12", "cifar100", "x-valid", 12),
        ("ImageNet16-120", "ImageNet16-120", "x-test", 200),
        ("imagenet16-120/validation and test", "ImageNet16-120", "ori-test", 200),
    ],
)
def test_every_form_gives_the_mean_over_the_seeds(
    tmp_path: Path, form: str, source: str, dataset: str, images: str, epochs: int
) -> None:
    benchmark = benchmarks.load(single(tmp_path, form), source)
    seeds = SEEDS[epochs]
    assert list(benchmark.table.index) == CELLS
    assert benchmark.table["accuracy"].tolist() == pytest.approx(
        [np.mean([accuracy(index, dataset, images, epochs, seed) for seed in seeds]) for index in range(4)], abs=1e-12
    )
    assert (benchmark.family, benchmark.epochs) == ("nasbench201", epochs)


def test_a_release_says_what_its_accuracies_are(tmp_path: Path) -> None:
    folder = releases.nats_folder(tmp_path)
    benchmark = benchmarks.load(str(folder), "cifar10", epochs=12)
    assert benchmark.label == (
        "nasbench201/cifar10 from NATS-tss-simple: test accuracy (%), 12 epochs, mean over the available seeds"
    )
    assert benchmark.note == (
        "networks trained on the whole training set; 3 of 4 architectures are in it"  # as CELLS are in `meta`
    )
    assert benchmarks.load(folder, "cifar10/validation").note.startswith("networks trained on half of the training set")
    assert benchmark.address == str(folder)


def test_a_release_can_be_the_source_of_a_benchmark(tmp_path: Path) -> None:
    folder = releases.nats_folder(tmp_path)
    assert benchmarks.load("nasbench201/cifar100", folder).dataset == "cifar100"
    assert benchmarks.load("nasbench201/CIFAR100", str(folder), epochs=12).epochs == 12


def test_results_saved_as_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("nas_201_api.api_utils")
    for name in ("ArchResults", "ResultsCount"):
        setattr(module, name, type(name, (), {"__module__": module.__name__}))
    monkeypatch.setitem(sys.modules, "nas_201_api", types.ModuleType("nas_201_api"))
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def as_object(kind: str, state: dict[str, Any]) -> Any:
        record = getattr(module, kind)()
        record.__dict__.update(state)
        return record

    root = releases.root()
    for infos in root["arch2infos"].values():
        for budget, state in infos.items():
            trials = {key: as_object("ResultsCount", trial) for key, trial in state["all_results"].items()}
            infos[budget] = as_object("ArchResults", state | {"all_results": trials})
    path = releases.save(tmp_path / "old.pth", root, as_zip=False)
    monkeypatch.delitem(sys.modules, module.__name__)
    assert len(benchmarks.load(path, "cifar100")) == 4


def test_accuracies_that_are_tensors_or_numpy_numbers(tmp_path: Path) -> None:
    for as_zip in (True, False):
        root = releases.root()
        for infos in root["arch2infos"].values():
            for trial in infos["full"]["all_results"].values():
                trial["eval_acc1es"] = {
                    key: torch.tensor(number, dtype=torch.float64) if "ori" in key else np.float32(number)
                    for key, number in trial["eval_acc1es"].items()
                }
        path = releases.save(tmp_path / f"{as_zip}.pth", root, as_zip=as_zip)
        table = benchmarks.load(path, "cifar10").table
        expected = [
            np.mean([accuracy(index, "cifar10", "ori-test", 200, seed) for seed in (777, 888)]) for index in range(4)
        ]
        assert table["accuracy"].tolist() == pytest.approx(expected, abs=1e-12)
        assert benchmarks.load(path, "cifar100").table["accuracy"].iloc[1] == pytest.approx(
            np.mean([accuracy(1, "cifar100", "x-test", 200, seed) for seed in (777, 888)]), abs=1e-6
        )


# --- TransNAS-Bench-101


@pytest.mark.parametrize("as_zip", [True, False])
def test_transnasbench101(tmp_path: Path, as_zip: bool) -> None:
    path = releases.save(tmp_path / "transnas.pth", releases.transnas(), as_zip=as_zip)
    scene = benchmarks.load("transnasbench101-micro/class_scene", path)
    assert scene.label == (
        "transnasbench101-micro/class_scene from transnas.pth: validation accuracy (%), 25 epochs, one run, last epoch"
    )
    assert scene.table["accuracy"].to_dict() == {arch: releases.value(i, "valid_top1") for i, arch in enumerate(MICRO)}
    room = benchmarks.load(path, "transnasbench101-macro/room_layout/test")
    assert room.metric == "test negative loss (higher is better)"
    assert room.table["accuracy"].to_dict() == {
        arch: releases.value(i, "test_neg_loss") for i, arch in enumerate(MACRO)
    }
    assert benchmarks.load("transnasbench101-micro/autoencoder", path).metric == "validation SSIM (higher is better)"
    assert benchmarks.load("transnasbench101-micro/segmentsemantic", path).metric == "validation pixel accuracy (%)"
    assert benchmarks.load(path, "transnasbench101-micro/segmentsemantic/mean iou").epochs == 30


def test_transnasbench101_of_another_epoch(tmp_path: Path) -> None:
    path = releases.save(tmp_path / "transnas.pth", releases.transnas(), as_zip=True)
    assert refused(benchmarks.load, "transnasbench101-micro/class_scene", path, epochs=10) == (
        f"{path}: accuracies after 25 epochs, 10 were asked for"
    )


# --- NAS-Bench-Suite-Zero


def suite_zero(path: Path, content: Any, name: str = "zc_nasbench201.json") -> Path:
    (path / name).write_text(json.dumps(content))
    return path / name


TUPLES = ("(4, 0, 3, 1, 4, 3)", "(0, 0, 0, 0, 0, 0)")


def records(accuracy: float) -> dict[str, Any]:
    return {arch: {"val_accuracy": accuracy + i, "synflow": 1.0, "arch": arch} for i, arch in enumerate(TUPLES)}


@pytest.mark.parametrize("named", [True, False])
def test_suite_zero_with_and_without_the_spaces_name(tmp_path: Path, named: bool) -> None:
    content: Any = {"cifar10": records(90.0), "ImageNet16-120": records(40.0)}
    path = suite_zero(tmp_path, {"nasbench201": content} if named else content)
    benchmark = benchmarks.load(path, "cifar10")
    assert benchmark.label == (
        "nasbench201/cifar10 from zc_nasbench201.json: validation accuracy (%), 200 epochs, one run, last epoch"
    )
    assert benchmark.table["accuracy"].tolist() == [90.0, 91.0]
    assert benchmarks.load("nasbench201/imagenet16-120", path).table["accuracy"].tolist() == [40.0, 41.0]


def test_the_same_tuples_are_of_the_space_that_the_file_is_named_after(tmp_path: Path) -> None:
    content = {"jigsaw": {"(1, 0, 0, 2, 2, 3)": {"val_accuracy": 90.0}}}
    path = suite_zero(tmp_path, content, "zc_transbench101_micro.json")
    benchmark = benchmarks.load(path)
    assert (benchmark.family, list(benchmark.table.index)) == ("transnasbench101-micro", ["64-41414-1_00_223"])
    path = suite_zero(tmp_path, content, "mine.json")
    assert "can be read as nasbench201 or transnasbench101-micro" in refused(benchmarks.load, path)


# --- conversion


def test_a_release_is_converted_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = releases.nats_folder(tmp_path)
    target = benchmarks.convert(folder)
    assert target.parent == cache / "converted"
    assert list(target.parent.iterdir()) == [target]
    assert benchmarks.fetch(str(folder)) == [target]
    with monkeypatch.context() as patch:
        patch.setattr(converted.official, "read", None)
        assert benchmarks.convert(folder, "nats") == target
        assert len(benchmarks.load(folder, "cifar10")) == 3
        assert len(benchmarks.load(target, "cifar10")) == 3
    releases.write_pickle(
        folder / "000003.pickle.pbz2", {"12": releases.results(3, 12), "200": releases.results(3, 200)}
    )
    assert len(benchmarks.load(folder, "cifar10")) == 4
    assert list(target.parent.iterdir()) == [target]


def test_a_conversion_that_fails_leaves_nothing_and_keeps_what_was_there(tmp_path: Path, cache: Path) -> None:
    folder = releases.nats_folder(tmp_path)
    target = benchmarks.convert(folder)
    before = target.read_bytes()
    (folder / "000001.pickle.pbz2").write_bytes(b"damaged")
    refused(benchmarks.convert, folder)
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert target.read_bytes() == before


def test_a_damaged_table_in_the_cache_is_made_again(tmp_path: Path) -> None:
    folder = releases.nats_folder(tmp_path)
    target = benchmarks.convert(folder)
    target.write_bytes(b"damaged")
    assert refused(benchmarks.load, target, "cifar10").startswith(f"{target}: not a converted benchmark (")
    assert len(benchmarks.load(folder, "cifar10")) == 3


@pytest.mark.parametrize("watched", [True, False])
def test_progress_goes_to_a_terminal_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: watched)
    path = releases.save(tmp_path / "nb201.pth", releases.root(), as_zip=False)
    benchmarks.convert(path)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("nb201.pth" in err) == watched


def test_a_cache_that_cannot_be_written(tmp_path: Path, cache: Path) -> None:
    folder = releases.nats_folder(tmp_path)
    cache.write_text("a file where the folder should be")
    assert refused(benchmarks.convert, folder) == (
        f"{folder}: the table cannot be written to {cache / 'converted'}: Not a directory"
    )
