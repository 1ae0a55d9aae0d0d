from __future__ import annotations

import json
import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ssnr.benchmarks.readers import tables
from ssnr.core.errors import BenchmarkError, UsageError
from ssnr.spaces.nasbench201.space import NasBench201

SPACE = NasBench201()
CELLS = [SPACE.parse(index) for index in range(3)]


@pytest.fixture(autouse=True)
def three_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of three cells are whole."""
    monkeypatch.setattr(tables, "NASBENCH201_CELLS", 3)
    monkeypatch.setattr(tables, "_PUBLISHED_CELLS", 3)


def message(read: Callable[..., Any], *args: Any, error: type[Exception] = BenchmarkError, **kwargs: Any) -> str:
    with pytest.raises(error) as caught:
        read(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- nats_bench.csv


def nats(path: Path, **changes: Any) -> Path:
    columns = {
        "CIFAR10TestAccuracy200Epochs": [91.0, 92.0, 93.0],
        "CIFAR100TestAccuracy200Epochs": [71.0, 72.0, 73.0],
        "ImageNetTestAccuracy200Epochs": [41.0, 42.0, 43.0],
        "ArchitectureString": CELLS,
        "UniqueString": ["a", "b", "c"],
    }
    pd.DataFrame(columns | changes).to_csv(path / "nats.csv", index=False)
    return path / "nats.csv"


@pytest.mark.parametrize(("dataset", "first"), [("cifar10", 91.0), ("cifar100", 71.0), ("imagenet16-120", 41.0)])
def test_nats_gives_the_data_sets_own_column(tmp_path: Path, dataset: str, first: float) -> None:
    table = tables.read_nats(nats(tmp_path), dataset)
    assert table.index.name == "architecture"
    assert list(table.index) == CELLS
    assert table["accuracy"].tolist() == [first, first + 1, first + 2]


def test_nats_with_another_column(tmp_path: Path) -> None:
    path = nats(tmp_path, Extra=1)
    expected = "CIFAR10TestAccuracy200Epochs, CIFAR100TestAccuracy200Epochs, ImageNetTestAccuracy200Epochs"
    expected += ", ArchitectureString, UniqueString"
    assert message(tables.read_nats, path, "cifar10") == (f"{path}: columns are {expected}, Extra, expected {expected}")


def test_nats_with_an_architecture_twice(tmp_path: Path) -> None:
    path = nats(tmp_path, ArchitectureString=[CELLS[0], CELLS[1], CELLS[0]])
    assert message(tables.read_nats, path, "cifar10") == (
        f"{path}: row 3: architecture {CELLS[0]} again, first in row 1"
    )


def test_nats_with_a_row_missing(tmp_path: Path) -> None:
    path = nats(tmp_path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert message(tables.read_nats, path, "cifar10") == f"{path}: 2 rows, expected 3"


def test_nats_with_an_unknown_operation(tmp_path: Path) -> None:
    path = nats(tmp_path, ArchitectureString=[CELLS[0], CELLS[1].replace("avg_pool_3x3", "max_pool_3x3"), CELLS[2]])
    assert message(tables.read_nats, path, "cifar10").startswith(f"{path}: row 2: NAS-Bench-201 cell: ")


@pytest.mark.parametrize(("value", "shown"), [(float("nan"), "nan"), ("n.a.", "'n.a.'"), (float("inf"), "inf")])
def test_nats_with_an_accuracy_that_is_no_number(tmp_path: Path, value: object, shown: str) -> None:
    path = nats(tmp_path, CIFAR10TestAccuracy200Epochs=[91.0, 92.0, value])
    assert message(tables.read_nats, path, "cifar10") == (
        f"{path}: row 3: accuracy is {shown}, expected a finite number"
    )


@pytest.mark.parametrize("content", [b"", b'a,b\n"', b"a,b\n1,2,3\n1,2,3,4\n", b"\xff\xfe\xfa"])
def test_a_csv_that_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "nats.csv"
    path.write_bytes(content)
    assert message(tables.read_nats, path, "cifar10").startswith(f"{path}: ")


# --- nb201_zen.zip


def naslib(path: Path, **members: Any) -> Path:
    """A zip of NASLib's runs; `cifar10_0=[…]` is the member of that data set and start."""
    with zipfile.ZipFile(path / "zen.zip", "w") as archive:
        archive.writestr("zen/", "")
        for name, records in members.items():
            dataset, _, start = name.rpartition("_")
            member = f"zen/benchmark--nasbench201--{dataset.replace('ImageNet', 'ImageNet16-120')}--{start}.json"
            archive.writestr(member, records if isinstance(records, str) else json.dumps(records))
    return path / "zen.zip"


def record(index: int, accuracy: float) -> dict[str, Any]:
    return {"idx": str(index), "arch": str(SPACE.naslib_tuple(index)), "zen": {"score": 1.0}, "val_accuracy": accuracy}


def test_naslib_joins_the_members_of_one_data_set_in_order(tmp_path: Path) -> None:
    path = naslib(
        tmp_path,
        cifar10_10=[record(2, 93.0)],
        ImageNet_0=[record(2, 43.0), record(1, 42.0), record(0, 41.0)],
        cifar10_2=[record(0, 91.0), record(1, 92.0)],
    )
    assert tables.read_naslib(path, "cifar10")["accuracy"].to_dict() == dict(
        zip(CELLS, (91.0, 92.0, 93.0), strict=True)
    )
    assert tables.read_naslib(path, "imagenet16-120")["accuracy"].tolist() == [43.0, 42.0, 41.0]


def test_naslib_without_the_data_set(tmp_path: Path) -> None:
    path = naslib(tmp_path, cifar10_0=[record(0, 91.0)])
    assert message(tables.read_naslib, path, "cifar100") == (
        f"{path}: no member benchmark--nasbench201--cifar100--N.json: a benchmark file of another task, "
        f"it holds nasbench201 cifar10"
    )


def test_naslib_names_the_member_and_entry(tmp_path: Path) -> None:
    path = naslib(tmp_path, cifar10_0=[record(0, 91.0)], cifar10_1=[record(1, 92.0), record(0, 92.0)])
    member = "zen/benchmark--nasbench201--cifar10"
    assert message(tables.read_naslib, path, "cifar10") == (
        f"{path}: {member}--1.json entry 2: architecture {CELLS[0]} again, first in {member}--0.json entry 1"
    )
    path = naslib(tmp_path, cifar10_0=[record(0, 91.0), {"arch": "(0, 0, 0, 0, 0, 0)"}])
    assert message(tables.read_naslib, path, "cifar10") == (
        f"{path}: {member}--0.json entry 2 holds no arch and val_accuracy"
    )
    path = naslib(tmp_path, cifar10_0=[record(0, 91.0), record(1, 92.0) | {"arch": "(0, 0, 7, 0, 0, 0)"}])
    assert message(tables.read_naslib, path, "cifar10") == (
        f"{path}: {member}--0.json entry 2: NAS-Bench-201 tuple (0, 0, 7, 0, 0, 0): "
        f"expected six codes 0 … 4 (NASLib's order)"
    )


def test_naslib_in_a_file_that_is_no_zip_or_no_json(tmp_path: Path) -> None:
    path = tmp_path / "zen.zip"
    path.write_bytes(b"PK")
    assert message(tables.read_naslib, path, "cifar10") == (
        f"{path}: not a readable zip of JSON files (File is not a zip file)"
    )
    path = naslib(tmp_path, cifar10_0='[{"arch": ')
    assert message(tables.read_naslib, path, "cifar10").startswith(f"{path}: not a readable zip of JSON files (")


# --- analog-nasbench's data.anb


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Classes under the package's names, to write files as it does; reading must not need them."""
    module = types.ModuleType("analognasbench.data")
    for name in ("Architecture", "DriftMeasurement", "Other"):
        setattr(module, name, type(name, (), {"__module__": "analognasbench.data"}))
    monkeypatch.setitem(sys.modules, "analognasbench", types.ModuleType("analognasbench"))
    monkeypatch.setitem(sys.modules, "analognasbench.data", module)
    return module


def analog(path: Path, package: types.ModuleType, cells: dict[int, Any], **extra: Any) -> Path:
    content: dict[Any, Any] = {}
    for index, accuracy in cells.items():
        item = package.Architecture()
        drift = package.DriftMeasurement()
        drift.value = 10.0
        item.__dict__.update(architecture=SPACE.naslib_tuple(index), baseline_accuracy=accuracy, drift=drift, **extra)
        content[SPACE.naslib_tuple(index)] = item
    (path / "data.anb").write_bytes(pickle.dumps(content, 4))
    return path / "data.anb"


def test_analog_is_read_without_its_package(
    tmp_path: Path, package: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = analog(tmp_path, package, {2: 93.0, 0: 91.0, 1: 92.0})
    monkeypatch.delitem(sys.modules, "analognasbench.data")
    monkeypatch.delitem(sys.modules, "analognasbench")
    table = tables.read_analog(path)
    assert table["accuracy"].to_dict() == dict(zip(CELLS, (91.0, 92.0, 93.0), strict=True))
    assert "analognasbench" not in sys.modules


def test_analog_refuses_any_other_global(tmp_path: Path, package: types.ModuleType) -> None:
    path = analog(tmp_path, package, {0: 91.0}, other=package.Other())
    assert message(tables.read_analog, path) == (
        f"{path}: refused to unpickle analognasbench.data.Other: this file may hold plain data only"
    )


def test_analog_with_something_else_inside(tmp_path: Path, package: types.ModuleType) -> None:
    path = tmp_path / "data.anb"
    path.write_bytes(pickle.dumps([1, 2, 3]))
    assert message(tables.read_analog, path) == f"{path}: expected a dictionary of architectures"
    path = analog(tmp_path, package, {0: 91.0, 1: "good", 2: 93.0})
    assert message(tables.read_analog, path) == f"{path}: row 2: accuracy is 'good', expected a finite number"
    path = analog(tmp_path, package, {0: 91.0, 1: 92.0})
    assert message(tables.read_analog, path) == f"{path}: 2 rows, expected 3"
    item = package.Architecture()
    item.noisy_accuracy = 10.0
    path.write_bytes(pickle.dumps({(0, 0, 0, 0, 0, 0): item}))
    assert message(tables.read_analog, path) == f"{path}: not a readable pickle (KeyError: 'baseline_accuracy')"


# --- nb201_zc_proxies.csv


def proxies(path: Path, **changes: Any) -> Path:
    columns: dict[str, Any] = {"net": [str(SPACE.naslib_tuple(cell)) for cell in CELLS], "net_str": CELLS}
    columns |= {name: [1.0, 2.0, -1e8] for name in tables._PUBLISHED_PROXIES}
    pd.DataFrame(columns | changes).to_csv(path / "proxies.csv", index=False)
    return path / "proxies.csv"


def test_published_proxies_mark_failures_as_nan(tmp_path: Path) -> None:
    frame = tables.read_published(proxies(tmp_path, params=[1, 2, 3]))
    assert list(frame.index) == CELLS
    assert list(frame.columns) == tables._PUBLISHED_PROXIES
    np.testing.assert_equal(frame["zen"].to_numpy(), [1.0, 2.0, np.nan])
    assert frame["params"].tolist() == [1.0, 2.0, 3.0]


def test_published_proxies_whose_two_names_disagree(tmp_path: Path) -> None:
    path = proxies(tmp_path, net_str=[CELLS[1], CELLS[0], CELLS[2]])
    assert message(tables.read_published, path) == f"{path}: row 1: net_str is {CELLS[1]} but net is {CELLS[0]}"


def test_published_proxies_that_are_no_numbers(tmp_path: Path) -> None:
    path = proxies(tmp_path, zen=[1.0, "x", 2.0])
    assert message(tables.read_published, path) == f"{path}: row 2: zen is 'x', expected a number"


# --- a user's own table


def user(path: Path, text: str, name: str = "mine.csv") -> Path:
    (path / name).write_text(text)
    return path / name


@pytest.mark.parametrize("architecture", ["architecture", "arch", "Arch Str", "ArchitectureString", "genotype"])
@pytest.mark.parametrize("accuracy", ["accuracy", "test_accuracy", "Val Acc", "valid-acc", "top-1"])
def test_columns_are_found_by_name(tmp_path: Path, architecture: str, accuracy: str) -> None:
    path = user(tmp_path, f"seed,{architecture},{accuracy}\n1,{CELLS[2]},93.5\n1,{CELLS[0]},91\n")
    family, column, table = tables.read_user(path)
    assert (family, column) == ("nasbench201", accuracy)
    assert table["accuracy"].to_dict() == {CELLS[2]: 93.5, CELLS[0]: 91.0}


def test_any_form_of_an_architecture_is_read(tmp_path: Path) -> None:
    _, _, table = tables.read_user(user(tmp_path, 'arch,acc\n"(4, 0, 3, 1, 4, 3)",1\n'))
    assert list(table.index) == [SPACE.parse((4, 0, 3, 1, 4, 3))]
    _, _, table = tables.read_user(user(tmp_path, "arch\tacc\n0\t1\n2\t3\n", "mine.tsv"))
    assert list(table.index) == [CELLS[0], CELLS[2]]


def test_the_accuracy_column_can_be_named(tmp_path: Path) -> None:
    path = user(tmp_path, "arch,test_acc,val_acc,loss\n0,1,2,3\n")
    assert message(tables.read_user, path) == (
        f"{path}: test_acc, val_acc could each be the accuracy: call one of them 'accuracy'"
    )
    assert tables.read_user(path, accuracy="val_acc")[2]["accuracy"].tolist() == [2.0]
    assert message(tables.read_user, path, accuracy="vla_acc", error=UsageError) == (
        f"{path}: no column 'vla_acc'; columns are arch, test_acc, val_acc, loss"
    )


def test_a_column_with_the_plain_name_wins(tmp_path: Path) -> None:
    path = user(tmp_path, "arch,architecture,val_acc,accuracy\n0,1,2,3\n")
    table = tables.read_user(path)[2]
    assert table["accuracy"].to_dict() == {CELLS[1]: 3.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model,acc\n0,1\n", "no architecture column: call one 'architecture'; columns are model, acc"),
        ("arch,score\n0,1\n", "no accuracy column: call one 'accuracy'; columns are arch, score"),
        ("arch,acc\n", "no rows"),
        ("arch,acc\nresnet50,1\n", "row 1: no space reads the architecture 'resnet50' (SPACES)"),
        ("arch,acc\n0,1\n3,\n", "row 2: accuracy is nan, expected a finite number"),
        (f"arch,acc\n0,1\n{CELLS[0]},1\n", f"row 2: architecture {CELLS[0]} again, first in row 1"),
        ("arch,acc\n0,1\n99999,1\n", "row 2: NAS-Bench-201 index 99999: expected 0 … 15,624"),
    ],
)
def test_a_users_table_that_is_wrong(tmp_path: Path, text: str, expected: str) -> None:
    path = user(tmp_path, text)
    assert message(tables.read_user, path) == f"{path}: {expected.replace('SPACES', ', '.join(tables.SPACES))}"


def test_the_family_can_be_named(tmp_path: Path) -> None:
    path = user(tmp_path, "arch,acc\n0,1\n")
    assert tables.read_user(path, family="nasbench201")[0] == "nasbench201"
    with pytest.raises(UsageError, match="unknown space 'nasbench102': did you mean nasbench101 or nasbench201"):
        tables.read_user(path, family="nasbench102")


def test_architectures_that_two_spaces_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SPACES", ["nasbench201", "nasbench201/cifar100"])
    path = user(tmp_path, "arch,acc\n0,1\n")
    assert message(tables.read_user, path) == (
        f"{path}: its architectures can be read as nasbench201 or nasbench201/cifar100: say which with `family`"
    )


def test_parquet_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_parquet(path: Path) -> None:
        raise ImportError("no engine")

    monkeypatch.setattr(pd, "read_parquet", read_parquet)
    path = user(tmp_path, "", "mine.parquet")
    assert message(tables.read_user, path) == (
        f"{path}: reading Parquet needs pyarrow: pip install pyarrow, or save a CSV"
    )


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    path = tmp_path / "mine.parquet"
    pd.DataFrame({"arch": CELLS, "acc": [1.0, 2.0, 3.0]}).to_parquet(path)
    assert tables.read_user(path)[2]["accuracy"].tolist() == [1.0, 2.0, 3.0]


def test_a_compressed_csv(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv.gz"
    pd.DataFrame({"arch": CELLS, "acc": [1.0, 2.0, 3.0]}).to_csv(path, index=False)
    assert tables.read_user(path)[2]["accuracy"].tolist() == [1.0, 2.0, 3.0]
