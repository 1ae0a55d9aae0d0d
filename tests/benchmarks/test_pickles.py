from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssnr.benchmarks.readers import pickles
from ssnr.core.errors import BenchmarkError


class Calls:
    """Pickles as a call: what an attacker writes."""

    def __init__(self, function: Callable[..., Any], *args: object) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.function, self.args


class Stand:
    """A class that a caller allows."""


def written(path: Path, content: object, protocol: int | None = None) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_is_read(tmp_path: Path, protocol: int) -> None:
    content = {(0, 1): [1.5, "a", None, True], "b": {"c": "d"}}
    assert pickles.load(written(tmp_path / "a.pickle", content, protocol), {}) == content


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_runs_code_is_refused_before_it_runs(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    path = written(tmp_path / "a.pickle", {"a": Calls(exec, f"open({str(trace)!r}, 'w')")}, protocol)
    with pytest.raises(BenchmarkError) as caught:
        pickles.load(path, {"some.Stand": Stand})
    module = "builtins" if protocol >= 3 else "__builtin__"  # its name in Python 2
    assert str(caught.value) == f"{path}: refused to unpickle {module}.exec: this file may hold plain data only"
    assert not trace.exists()


@pytest.mark.parametrize("name", ["getattr", "eval", "__import__", "object"])
def test_no_builtin_is_plain_data(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.pickle"
    path.write_bytes(f"cbuiltins\n{name}\n.".encode())
    with pytest.raises(BenchmarkError, match=f"refused to unpickle builtins.{name}:"):
        pickles.load(path, {})


def test_an_attribute_of_an_allowed_class_is_not_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a.pickle"
    path.write_bytes(b"\x80\x04\x8c\x04some\x8c\x18Stand.__init__.__class__\x93.")
    with pytest.raises(BenchmarkError, match=r"refused to unpickle some\.Stand\.__init__\.__class__:"):
        pickles.load(path, {"some.Stand": Stand})


def test_an_allowed_name_gives_the_stand_in(tmp_path: Path) -> None:
    path = tmp_path / "a.pickle"
    path.write_bytes(b"csome.module\nThing\n.")
    assert pickles.load(path, {"some.module.Thing": Stand}) is Stand


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps([1.0] * 9)[:-9]], ids=["empty", "text", "cut"])
def test_a_damaged_pickle_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pickle"
    path.write_bytes(content)
    with pytest.raises(BenchmarkError) as caught:
        pickles.load(path, {})
    assert str(caught.value).startswith(f"{path}: not a readable pickle (")
    assert "\n" not in str(caught.value)
