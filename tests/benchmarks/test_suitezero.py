from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ssnr.benchmarks.readers import suitezero, tables
from ssnr.core.errors import BenchmarkError

CELLS = ("(0, 0, 0, 0, 0, 0)", "(1, 0, 2, 1, 2, 3)")


def written(path: Path, accuracies: dict[str, float], name: str = "a.json", **proxies: Any) -> Path:
    content = {cell: {"val_accuracy": accuracy, **proxies} for cell, accuracy in accuracies.items()}
    (path / name).write_text(json.dumps({"transbench101_micro": {"jigsaw": content}}))
    return path / name


def read(*paths: Path) -> pd.DataFrame:
    return suitezero.read_json(*paths, space="transbench101_micro", dataset="jigsaw")


def test_two_files_are_joined_and_the_first_decides(tmp_path: Path) -> None:
    one = written(tmp_path, {CELLS[0]: 90.0})
    other = written(tmp_path, {CELLS[1]: 80.0, CELLS[0]: 90.3}, "b.json")
    table = read(one, other)
    assert table["accuracy"].to_dict() == {"64-41414-0_00_000": 90.0, "64-41414-1_02_123": 80.0}
    assert table.attrs["note"] == "1 architectures are in several files, up to 0.30 apart: taken from a.json"
    assert "note" not in read(one).attrs


def test_two_files_that_disagree(tmp_path: Path) -> None:
    one = written(tmp_path, {CELLS[0]: 90.0})
    other = written(tmp_path, {CELLS[1]: 80.0, CELLS[0]: 85.2}, "b.json")
    with pytest.raises(BenchmarkError) as caught:
        read(one, other)
    assert str(caught.value) == (
        "a.json and b.json disagree about 64-41414-0_00_000: 90 and 85.2; expected at most 0.5 apart: "
        "load one of them alone"
    )


def test_a_file_of_another_task(tmp_path: Path) -> None:
    path = written(tmp_path, {CELLS[0]: 90.0})
    with pytest.raises(BenchmarkError) as caught:
        suitezero.read_json(path, space="nasbench301", dataset="cifar10")
    assert str(caught.value) == (
        f"{path}: a benchmark file of another task: holds transbench101_micro jigsaw, expected nasbench301 cifar10"
    )


def test_proxies_are_numbers_or_scores_and_failures_are_nan(tmp_path: Path) -> None:
    path = written(tmp_path, {CELLS[0]: 90.0, CELLS[1]: 80.0}, zen={"score": 2.5, "time": 9.0}, snip=-1e8, idx="0")
    frame = suitezero.read_json_proxies(path, space="transbench101_micro", dataset="jigsaw")
    assert list(frame.columns) == ["snip", "zen"]
    assert frame["zen"].tolist() == [2.5, 2.5]
    assert frame["snip"].isna().all()


def test_a_proxy_that_is_no_number(tmp_path: Path) -> None:
    path = written(tmp_path, {CELLS[0]: 90.0}, zen={"score": "x"})
    with pytest.raises(BenchmarkError) as caught:
        suitezero.read_json_proxies(path, space="transbench101_micro", dataset="jigsaw")
    assert str(caught.value) == f"{path}: jigsaw entry 1: zen is 'x', expected a number"


def test_a_zip_of_another_task(tmp_path: Path) -> None:
    path = tmp_path / "zen.zip"
    with zipfile.ZipFile(path, "w") as archive:
        records = [{"arch": CELLS[0], "val_accuracy": 1.0, "zen": {"score": 3.0}}]
        archive.writestr("zen/benchmark--transbench101_micro--jigsaw--0.json", json.dumps(records))
    table = suitezero.read_zip(path, "transbench101_micro", "jigsaw", 1)
    assert table["accuracy"].tolist() == [1.0]
    assert suitezero.read_zip_proxies(path, "transbench101_micro", "jigsaw", 1)["zen"].tolist() == [3.0]
    with pytest.raises(BenchmarkError) as caught:
        suitezero.read_zip(path, "transbench101_micro", "normal", 1)
    assert str(caught.value) == (
        f"{path}: no member benchmark--transbench101_micro--normal--N.json: a benchmark file of another task, "
        f"it holds transbench101_micro jigsaw"
    )


def genotype(op: str) -> str:
    pairs = [(op, source) for source in (0, 1)] * 4
    return f"Genotype(normal={pairs}, normal_concat=[2, 3, 4, 5], reduce={pairs}, reduce_concat=[2, 3, 4, 5])"


def test_swaps_table_has_no_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SWAP_GENOTYPES", 2)
    path = tmp_path / "swap.csv"
    path.write_text(f'"{genotype("none")}",10.0\n"{genotype("skip_connect")}",85.5\n')
    assert tables.read_swap(path)["accuracy"].tolist() == [10.0, 85.5]
    for text, expected in [
        (f'"{genotype("none")}",10.0,1\n', "3 columns, expected two: genotype and accuracy, no header"),
        (f'"{genotype("none")}",10.0\n', "1 rows, expected 2"),
        (f'"{genotype("conv")}",10.0\n', "row 1: "),
        ("", "not a readable table ("),
    ]:
        path.write_text(text)
        with pytest.raises(BenchmarkError) as caught:
            tables.read_swap(path)
        assert str(caught.value).startswith(f"{path}: {expected}")
