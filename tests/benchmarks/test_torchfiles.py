from __future__ import annotations

import collections
import pickle
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from releases import save
from ssnr.benchmarks.readers import pickles, streaming, torchfiles
from ssnr.benchmarks.readers.torchfiles import Tensor
from ssnr.core.errors import BenchmarkError

both_formats = pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "legacy"])


def refused(path: Path) -> str:
    with pytest.raises(BenchmarkError) as caught:
        torchfiles.load(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


@both_formats
def test_plain_data_and_numpy_numbers(tmp_path: Path, as_zip: bool) -> None:
    content = {
        "a": np.float64(3.5),
        "b": [1, np.float32(2.5), np.int64(-3), np.bool_(True)],
        "c": np.arange(3.0),
        "d": collections.OrderedDict(x=None, y="é"),
        "e": collections.defaultdict(list, {("cifar10", 777): [1]}),
        "f": {1, 2},
    }
    found = torchfiles.load(save(tmp_path / "a.pth", content, as_zip=as_zip))
    assert found == {
        "a": 3.5,
        "b": [1, 2.5, -3, True],
        "c": [0.0, 1.0, 2.0],
        "d": {"x": None, "y": "é"},
        "e": {("cifar10", 777): [1]},
        "f": {1, 2},
    }


@both_formats
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.uint8])
def test_small_tensors(tmp_path: Path, as_zip: bool, dtype: torch.dtype) -> None:
    every = torch.arange(6).to(dtype)
    content = {"one": torch.tensor(7).to(dtype), "some": every[1::2], "same": every, "many": every.reshape(2, 3)}
    found = torchfiles.load(save(tmp_path / "a.pth", content, as_zip=as_zip))
    assert found["one"].numbers() == [7]
    assert found["some"].numbers() == [1, 3, 5]
    assert found["same"].storage is found["some"].storage
    with pytest.raises(ValueError, match=r"a tensor of shape \(2, 3\) where a number was expected"):
        found["many"].numbers()


@both_formats
def test_weights_are_not_read(tmp_path: Path, as_zip: bool) -> None:
    net = torch.nn.Linear(100, 100)
    content = {
        "net": net.state_dict(),
        "weight": net.weight,
        "half": torch.ones(2, dtype=torch.bfloat16),
        "one": torch.ones(1),
    }
    found = torchfiles.load(save(tmp_path / "a.pth", content, as_zip=as_zip))
    assert found["net"]["weight"].storage.raw is None
    assert isinstance(found["weight"], Tensor)
    assert found["one"].numbers() == [1.0]
    with pytest.raises(ValueError, match="where a number was expected"):
        found["half"].numbers()


class Net(torch.nn.Module):
    pass


@both_formats
def test_anything_else_is_refused(tmp_path: Path, as_zip: bool) -> None:
    path = save(tmp_path / "a.pth", {"net": Net()}, as_zip=as_zip)
    assert refused(path).startswith("refused to unpickle ")
    assert refused(path).endswith("Net: this file may hold plain data only")


@pytest.mark.parametrize("part", [0, 1, 20, 200, 0.5, 0.999])
@both_formats
def test_a_truncated_file(tmp_path: Path, as_zip: bool, part: float) -> None:
    path = save(tmp_path / "a.pth", {"a": list(range(300)), "b": torch.ones(50)}, as_zip=as_zip)
    content = path.read_bytes()
    path.write_bytes(content[: part if isinstance(part, int) else int(len(content) * part)])
    assert refused(path)


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a.txt", "")
    assert refused(tmp_path / "a.pth") == "a zip without data.pkl is not a .pth file"


def test_a_persistent_id_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02(U\x05otherK\x01K\x02K\x03K\x04tQ.")
    assert "unknown persistent id ('other', 1, 2, 3, 4)" in refused(tmp_path / "a.pth")


# --- streaming


def stream(content: Any, prune: streaming.Prune = streaming.keep, protocol: int = 2) -> Any:
    return streaming.read(BytesIO(pickle.dumps(content, protocol)), Path("a"), pickles.PLAIN, prune)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_streaming_reads_what_pickle_reads(protocol: int) -> None:
    shared = {"x": [1, 2], "y": ("a", 1.5)}
    content = {
        "one": shared,
        "two": shared,
        "": "",
        "text": ["a", "x", "a"],
        3: {4: {5: None}},
        "od": collections.OrderedDict(a=1),
    }
    assert stream(content, protocol=protocol) == content


def test_what_is_pruned_is_never_put_anywhere() -> None:
    seen = []

    def prune(key: Any, value: Any) -> Any:
        seen.append(key)
        return {"drop": streaming.DROP, "shrink": len(value) if key == "shrink" else None}.get(key, value)

    content = {"a": {"drop": [1], "shrink": {"x": 1, "y": 2}, "keep": 3}, "b": {"drop": [2]}}
    assert stream(content, prune) == {"a": {"shrink": 2, "keep": 3}, "b": {}}
    assert seen.index("shrink") < seen.index("a")


def test_old_containers_are_forgotten_but_strings_and_number_types_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "REMEMBERED", 3)
    old = ["old"]
    content = [old, np.float64(1.0), *([str(i % 7)] for i in range(50)), old, np.float64(2.0), "old"]
    found = stream(content)
    assert isinstance(found[-3], streaming.Forgotten)
    assert (found[0], found[1], found[-2], found[-1]) == (["old"], 1.0, 2.0, "old")
    assert found[2:-3] == content[2:-3]


def test_entries_go_into_dictionaries_only() -> None:
    with pytest.raises(pickle.UnpicklingError, match="entries put into a list"):
        streaming.read(BytesIO(b"\x80\x02](K\x01K\x02u."), Path("a"), {})
    with pytest.raises(pickle.UnpicklingError, match="memo entry 7 before 0"):
        streaming.read(BytesIO(b"\x80\x02K\x01q\x07."), Path("a"), {})
    with pytest.raises(pickle.UnpicklingError, match="Memo value not found at index 7"):
        streaming.read(BytesIO(b"\x80\x02h\x07."), Path("a"), {})
    with pytest.raises(pickle.UnpicklingError, match="a persistent id outside"):
        streaming.read(BytesIO(b"\x80\x02K\x01Q."), Path("a"), {})
