"""What is wrong with a file of an official release is one line, and nothing in it is run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

import releases
from releases import CELLS, FORMS, MICRO, refused, single
from ssnr import benchmarks
from ssnr.benchmarks import KINDS
from ssnr.core.errors import UsageError


@pytest.fixture(autouse=True)
def cache(bare: Path) -> Path:
    return bare


def test_which_accuracies_must_be_clear(tmp_path: Path) -> None:
    folder = releases.nats_folder(tmp_path)
    assert refused(benchmarks.load, folder, error=UsageError) == (
        f"{folder}: holds nasbench201/cifar10, nasbench201/cifar10-valid, nasbench201/cifar100, "
        f"nasbench201/imagenet16-120: say which as the source, such as cifar10/test"
    )
    assert refused(benchmarks.load, folder, "cifar1000", error=UsageError) == (
        f"{folder}: no 'cifar1000' in source 'cifar1000': known are 12, 200, accuracy, cifar10, cifar10-valid, "
        f"cifar100, imagenet16-120, nasbench201, test, validation, validation and test"
    )


def test_a_budget_that_is_not_there(tmp_path: Path) -> None:
    folder = releases.nats_folder(tmp_path)
    expected = f"{folder}: accuracies after 12 and 200 epochs, 90 were asked for"
    assert refused(benchmarks.load, folder, "cifar10/90") == expected
    assert refused(benchmarks.load, folder, "cifar10", epochs=90) == expected
    assert refused(benchmarks.load, "nasbench201/cifar10", folder, epochs=90) == expected
    assert refused(benchmarks.load, "nasbench201/cifar10", epochs=12) == (
        "nasbench201/cifar10 from nats has 200 epochs, 12 were asked for: "
        "name a file of the official release that has them as the source"
    )


def test_a_file_of_another_task(tmp_path: Path) -> None:
    path = releases.save(tmp_path / "transnas.pth", releases.transnas(), as_zip=True)
    assert refused(benchmarks.load, "transnasbench101-micro/jigsaw", path).endswith(
        "transnasbench101-micro/segmentsemantic, expected transnasbench101-micro/jigsaw"
    )
    assert refused(benchmarks.load, "nasbench201/cifar10", path).startswith(
        f"{path}: a benchmark file of another task: holds transnasbench101-macro/class_scene, "
    )
    assert refused(benchmarks.convert, path, "nats") == (
        f"{path}: holds {KINDS['transnasbench101']}; expected {KINDS['nats']}"
    )
    assert refused(benchmarks.convert, path, "nasbench102", error=UsageError) == (
        "unknown kind of benchmark file 'nasbench102': known are nats, nasbench201, transnasbench101, suite-zero"
    )


def test_sources_that_disagree_about_an_architecture(tmp_path: Path) -> None:
    folder = releases.nats_folder(tmp_path)
    (folder / "000001.pickle.pbz2").rename(folder / "000003.pickle.pbz2")
    assert refused(benchmarks.convert, folder) == (
        f"{folder / '000003.pickle.pbz2'}: 000003.pickle.pbz2: sources disagree about the architecture: "
        f"{' and '.join(sorted((CELLS[1], CELLS[3])))}"
    )


def test_an_architecture_twice(tmp_path: Path) -> None:
    folder = releases.nats_folder(tmp_path, 2)
    (folder / "meta.pickle.pbz2").unlink()
    (folder / "000007.pickle.pbz2").write_bytes((folder / "000001.pickle.pbz2").read_bytes())
    assert refused(benchmarks.convert, folder) == (
        f"{folder}: 000007.pickle.pbz2: architecture {CELLS[1]} again, first in 000001.pickle.pbz2"
    )


def test_the_size_space(tmp_path: Path) -> None:
    folder = releases.nats_folder(tmp_path, 0)
    (folder / "meta.pickle.pbz2").unlink()
    path = releases.write_pickle(
        folder / "000000.pickle.pbz2", {"200": releases.results(0, 200) | {"arch_str": "8:16:8:8:8"}}
    )
    assert refused(benchmarks.convert, folder) == (
        f"{path}: 000000.pickle.pbz2: 8:16:8:8:8 is of NATS-Bench's size space, expected a topology cell"
    )


def test_a_training_that_stopped(tmp_path: Path) -> None:
    root = releases.root()
    accuracies = root["arch2infos"][2]["less"]["all_results"]["cifar10", 777]["eval_acc1es"]
    del accuracies["ori-test@11"]
    path = releases.save(tmp_path / "nb201.pth", root, as_zip=True)
    assert refused(benchmarks.convert, path) == f"{path}: architecture 2: cifar10 ori-test ends after 11 of 12 epochs"


@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_file(tmp_path: Path, form: str) -> None:
    path = single(tmp_path, form)
    path = path / "000002.pickle.pbz2" if form == "folder" else path
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    text = refused(benchmarks.convert, path.parent if form == "folder" else path)
    assert text.startswith(f"{path}: ")
    assert "truncated" in text or "ended before" in text or "too soon" in text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"state_dict": {}}, "holds state_dict"),
        ([1, 2], "holds a list"),
        ({"arch2infos": {}}, "expected the entry meta_archs, holds arch2infos"),
        ({"arch2infos": {}, "meta_archs": CELLS}, "no accuracies in it"),
        ({"arch2infos": {0: {"less": 1}}, "meta_archs": CELLS}, "architecture 0: unknown layout (TypeError: "),
        (
            {"arch2infos": {0: {"less": {}}}, "meta_archs": CELLS},
            "architecture 0: unknown layout (KeyError: 'arch_str')",
        ),
        ({"data": {"micro": {MICRO[0]: {"jigsaw": {}}}}, "metrics_dict": {}}, "unknown layout (KeyError: 'metrics')"),
    ],
)
def test_an_unknown_layout(tmp_path: Path, content: Any, expected: str) -> None:
    path = releases.save(tmp_path / "other.pth", content, as_zip=True)
    text = refused(benchmarks.convert, path)
    assert text.startswith(f"{path}: ")
    assert expected in text


def test_other_files(tmp_path: Path) -> None:
    assert refused(benchmarks.load, tmp_path) == (
        f"{tmp_path}: unknown layout: expected a folder with 000000.pickle.pbz2, 000001.pickle.pbz2, …"
    )
    missing = tmp_path / "missing.pth"
    assert refused(benchmarks.load, missing) == (
        f"{missing}: no such file or folder; `ssnr list benchmarks` shows the known ones"
    )
    assert refused(benchmarks.convert, missing) == f"{missing}: no such file or folder"
    (tmp_path / "mine.csv").write_text("arch,acc\n0,1\n")
    assert refused(benchmarks.convert, tmp_path / "mine.csv").startswith(f"{tmp_path / 'mine.csv'}: unknown layout: ")


class Calls:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    if form == "folder":
        path = releases.nats_folder(tmp_path)
        releases.write_pickle(path / "000001.pickle.pbz2", {"12": Calls()})
    elif form == "pickle":
        path = releases.write_pickle(tmp_path / "a.pickle.pbz2", {"meta_archs": Calls()})
    else:
        path = releases.save(tmp_path / "a.pth", {"meta_archs": Calls()}, as_zip=form == "zip")
    assert ".print: this file may hold plain data only" in refused(benchmarks.convert, path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "not readable as JSON, or truncated ("),
        ("[]", "not NAS-Bench-Suite-Zero's layout: no record with arch and val_accuracy"),
        ('{"cifar10": {"(0, 0, 0, 0, 0, 0)": {"synflow": 1}}}', "not NAS-Bench-Suite-Zero's layout: "),
        (
            '{"cifar10": {"(0,0,0,0,0,0)": {"val_accuracy": "x"}}}',
            "cifar10 entry 1: accuracy is 'x', expected a finite ",
        ),
        (
            '{"cifar10": {"(0,0,0,0,0,9)": {"val_accuracy": 1}}}',
            "cifar10 entry 1: NAS-Bench-201 tuple (0, 0, 0, 0, 0, 9)",
        ),
        ('{"cifar10": {"(0,0,0,0,0,0)": {"val_accuracy": 1}, "a": {}}}', "cifar10 entry 2 holds no val_accuracy"),
        (
            '{"cifar10": {"(0,0,0,0,0,0)": {"val_accuracy": 1, "arch": "b"}}}',
            "entry 1 is of (0,0,0,0,0,0) but its arch is b",
        ),
    ],
)
def test_a_json_that_is_wrong(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "zc_nasbench201.json"
    path.write_text(content)
    text = refused(benchmarks.load, path)
    assert text.startswith(f"{path}: ")
    assert expected in text


def test_a_pickle_that_is_no_pth(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(pickle.dumps(5, 2) + pickle.dumps(6, 2))
    assert refused(benchmarks.convert, path) == f"{path}: a pickle, but not one that torch.save wrote"
