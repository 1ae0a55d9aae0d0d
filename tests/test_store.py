from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
import torch

from ssnr.core.errors import StoreError
from ssnr.core.moments import from_tensors
from ssnr.core.results import Result
from ssnr.store import Architecture, Group, Store

GROUP = Group("space", "synflow", "seed", 0)


def result(network: str = "net", unit: float = 1.0) -> Result:
    moments = from_tensors({"a": torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64) * unit, "b": None}, {"b": 3})
    return Result(network, "ok", None, moments, None, 0.5)


def test_what_goes_in_comes_out(tmp_path):
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.add_architectures("space", [Architecture("x", "net", 1, 2, 3, 4), Architecture("y", "net", 5, 6, 7, 8)])
        store.add([(GROUP, result()), (GROUP, Result("broken", "failed", "its reason"))])
    with Store(path, create=False) as store:
        assert store.spaces() == ["space"]
        assert store.groups() == [GROUP]
        assert [a.architecture for a in store.architectures("space")] == ["x", "y"]
        assert store.done(GROUP) == {"net", "broken"}
        found = {r.network: r for r in store.results(GROUP)}
        assert found["broken"] == Result("broken", "failed", "its reason")
        assert found["net"].moments.names == ("a", "b")
        assert np.array_equal(found["net"].moments.m2, result().moments.m2)
        assert [r.network for r in store.results(GROUP, ["net"])] == ["net"]


def test_minus_zero_is_zero_and_no_damage(tmp_path):
    with Store(tmp_path / "s.sqlite") as store:
        store.add([(GROUP, Result("dead", "ok", None, None, -0.0, seconds=-0.0))])
        (found,) = store.results(GROUP)
        assert (found.value, found.status) == (0.0, "ok")


def test_the_first_result_stays(tmp_path):
    with Store(tmp_path / "s.sqlite") as store:
        store.add([(GROUP, result(unit=1.0))])
        store.add([(GROUP, result(unit=8.0))])
        (kept,) = store.results(GROUP)
        assert kept.moments.layers()[0].total == 7


def test_a_chunk_is_all_or_nothing(tmp_path):
    with Store(tmp_path / "s.sqlite") as store:

        def chunk():
            yield GROUP, result("one")
            raise RuntimeError("the process dies here")

        with pytest.raises(RuntimeError):
            store.add(chunk())
        assert store.done(GROUP) == set()


def test_keys_tell_recipes_seeds_and_data_apart(tmp_path):
    groups = [GROUP, GROUP._replace(recipe="naslib"), GROUP._replace(seed=1), GROUP._replace(data="noise:64")]
    with Store(tmp_path / "s.sqlite") as store:
        store.add((group, result()) for group in groups)
        assert sorted(store.groups()) == sorted(groups)


def test_a_missing_store_says_how_to_make_one(tmp_path):
    with pytest.raises(StoreError, match=r"no store at .*nowhere.sqlite: run `ssnr sweep … --store .*` first"):
        Store(tmp_path / "nowhere.sqlite", create=False)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(StoreError, match=rf"cannot create .*: there is no folder {tmp_path / 'no'}"):
        Store(tmp_path / "no" / "s.sqlite")


def test_a_store_of_another_version_is_refused(tmp_path):
    path = tmp_path / "s.sqlite"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreError, match="is a store of format 99, this ssnr reads format 1: use the version of ssnr"):
        Store(path)


def test_the_sqlite_file_of_another_program_is_left_alone(tmp_path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="is an SQLite file of another program; name another file"):
        Store(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "text.sqlite"
    path.write_text("hello " * 500)
    with pytest.raises(StoreError, match="it is not a store, or it is damaged"):
        Store(path)


def test_a_locked_store_says_so_and_loses_nothing(tmp_path):
    path = tmp_path / "s.sqlite"
    with Store(path) as first, Store(path, timeout=0.05) as second:
        first.add([(GROUP, result("kept"))])
        first._db.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another process is writing to it"):
            second.add([(GROUP, result("late"))])
        first._db.execute("ROLLBACK")
        second.add([(GROUP, result("late"))])
        assert first.done(GROUP) == {"kept", "late"}


def test_a_full_disk_says_so_and_keeps_what_was_committed(tmp_path):
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.add([(GROUP, result("kept"))])
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StoreError, match="the disk is full; what was committed is kept"):
            store.add((GROUP, result(f"net {n}" * 50)) for n in range(2000))
    with Store(path) as store:
        assert store.done(GROUP) == {"kept"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="the file or its folder cannot be written"):
            Store(tmp_path / "s.sqlite")
    finally:
        tmp_path.chmod(0o700)


def test_a_path_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "folder.sqlite").mkdir()
    with pytest.raises(StoreError, match=r"store .*folder.sqlite: the file or its folder cannot be written"):
        Store(tmp_path / "folder.sqlite")


def test_reading_a_store_imports_no_torch(tmp_path):
    with Store(tmp_path / "s.sqlite") as store:
        store.add([(GROUP, result())])
    code = (
        "import sys; from ssnr.store import Store, Group\n"
        f"store = Store({str(tmp_path / 's.sqlite')!r})\n"
        "assert [r.status for r in store.results(store.groups()[0])] == ['ok']\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
