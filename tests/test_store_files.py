"""Stores as files: merged, checked, repaired; nothing that a disk changed becomes a number."""

from __future__ import annotations

import random
import shutil
import sqlite3

import numpy as np
import pytest

import ssnr
import ssnr.data
from commands import ssnr as command
from soak import figure, times
from ssnr.core.errors import StoreError
from ssnr.core.results import Result
from ssnr.spaces import get_space
from ssnr.store import Architecture, Group, Store, check, merge, repair

SPACE = get_space("nasbench201/imagenet16-120")
ARCHS = SPACE.sample_many(12, np.random.default_rng(0))


def swept(path, archs, **options):
    rows = ssnr.sweep(SPACE, archs, ["synflow", "naswot"], store=path, workers=1,
                      batch=ssnr.data.noise(SPACE.input_shape, 120, 4), **options)  # fmt: skip
    return {row.architecture: row.scores for row in rows}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "s.sqlite"
    return path, swept(path, ARCHS)


def contents(path):
    """Every row as values, whatever the numbers of layouts and the seconds."""
    with Store(path) as store:
        archs = [row for space in store.spaces() for row in store.architectures(space)]
        results = {
            (group, r.network): (r.status, r.reason, r.value, r.notes, None if r.moments is None else (
                r.moments.names, r.moments.total.tolist(), r.moments.exponent.tolist(), r.moments.m2.tolist()))
            for group in store.groups() for r in store.results(group)
        }  # fmt: skip
    return archs, results


# --- notes and kinds ----------------------------------------------------------------------------------------------


def test_notes_and_kinds_of_failures_are_kept(tmp_path):
    group = Group("toy", "synflow", "seed", 0)
    results = [Result("a", "ok", value=1.0, notes=("approximated, not of degree one at |θ|: gate (mul)", "β")),
               Result("b", "failed", "it took longer than 2 s", kind="lost")]  # fmt: skip
    with Store(tmp_path / "s.sqlite") as store:
        store.add((group, result) for result in results)
        assert list(store.results(group, ["a", "b"])) == results


def test_what_a_sweep_says_of_a_network_is_what_scoring_it_says(whole):
    _, scores = whole
    net = SPACE.build(SPACE.twin(ARCHS[0]), seed=0)
    alone = ssnr.score(net, ssnr.data.noise(SPACE.input_shape, 120, 4), ["synflow", "naswot"])
    assert scores[ARCHS[0]]["synflow"] == alone["synflow"]


def test_a_store_of_an_earlier_version_is_read_and_brought_up_to_date(whole, tmp_path):
    path = tmp_path / "old.sqlite"
    shutil.copy(whole[0], path)
    with sqlite3.connect(path) as db:
        for column in ("notes", "kind", "checksum"):
            db.execute(f"ALTER TABLE results DROP COLUMN {column}")
        db.execute("ALTER TABLE architectures DROP COLUMN checksum")
    db.close()
    path.chmod(0o444)
    before = contents(whole[0])
    found = contents(path)
    assert found[0] == before[0]
    assert found[1].keys() == before[1].keys()
    path.chmod(0o644)
    Store(path).close()
    with sqlite3.connect(path) as db:
        assert {"notes", "kind", "checksum"} <= {row[1] for row in db.execute("PRAGMA table_info(results)")}
    assert check(path).unchecked == len(before[1]) + len(before[0])


# --- merging ------------------------------------------------------------------------------------------------------


def test_shards_merged_are_the_sweep_of_all(whole, tmp_path):
    swept(tmp_path / "b.sqlite", ARCHS[6:])  # its layouts get other numbers
    swept(tmp_path / "a.sqlite", ARCHS[:7])
    assert merge([tmp_path / "a.sqlite", tmp_path / "b.sqlite"], tmp_path / "all.sqlite") == []
    assert contents(tmp_path / "all.sqlite") == contents(whole[0])
    merge([tmp_path / "b.sqlite", tmp_path / "a.sqlite"], tmp_path / "all.sqlite")  # again, and nothing changes
    assert contents(tmp_path / "all.sqlite") == contents(whole[0])


def test_two_results_of_one_key_are_named_and_refused_or_the_first_kept(tmp_path):
    group = Group("toy", "synflow", "seed", 0)
    for name, value in (("a", 1.0), ("b", 2.0)):
        with Store(tmp_path / f"{name}.sqlite") as store:
            store.add_architectures("toy", [Architecture("x", "x", 1, 1, 1, 1)])
            store.add([(group, Result("x", "ok", value=value))])
    paths = [tmp_path / "a.sqlite", tmp_path / "b.sqlite"]
    with pytest.raises(StoreError, match=r"disagree on x \(synflow, seed 0\): ok, 1.0 and ok, 2.0: --keep first"):
        merge(paths, tmp_path / "all.sqlite")
    (conflict,) = merge(paths, tmp_path / "all.sqlite", keep="first")
    assert (conflict.kept, conflict.other) == ("ok, 1.0", "ok, 2.0")
    with Store(tmp_path / "all.sqlite") as store:
        (kept,) = store.results(group)
    assert kept.value == 1.0


def test_recipes_seeds_and_versions_stay_apart(tmp_path):
    groups = [
        Group("toy", "synflow", "seed", 0),
        Group("toy", "synflow", "naslib", 0),
        Group("toy", "synflow", "seed", 1),
    ]
    for number, group in enumerate(groups):
        with Store(tmp_path / f"{number}.sqlite") as store:
            store.add([(group, Result("x", "ok", value=float(number)))])
    merge([tmp_path / f"{n}.sqlite" for n in range(3)], tmp_path / "all.sqlite")
    with Store(tmp_path / "all.sqlite") as store:
        assert {group: next(store.results(group)).value for group in store.groups()} == {
            group: float(number) for number, group in enumerate(groups)
        }


def test_a_merge_that_makes_no_sense_is_refused_before_anything_is_written(whole, tmp_path):
    with pytest.raises(ssnr.UsageError, match="is one of the stores to merge: name another file"):
        merge([whole[0]], whole[0])
    (tmp_path / "text.sqlite").write_text("no store")
    with pytest.raises(StoreError):
        merge([whole[0], tmp_path / "text.sqlite"], tmp_path / "all.sqlite")
    assert not (tmp_path / "all.sqlite").exists()


def test_the_command_merges_and_counts(whole, tmp_path):
    shutil.copy(whole[0], tmp_path / "a.sqlite")
    run = command("merge", "a.sqlite", "-o", "all.sqlite", cwd=tmp_path)
    assert run.exit_code == 0, run.stderr
    assert run.stdout == "1 stores: 12 architectures, 23 results → all.sqlite\n"
    assert command("merge", "none.sqlite", "-o", "x.sqlite", cwd=tmp_path).exit_code == 2


# --- damage -------------------------------------------------------------------------------------------------------


def closed_copy(source, path):
    """A store in one file, without a log beside it."""
    shutil.copy(source, path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return path.read_bytes()


def test_two_hundred_flipped_bytes_give_the_right_rows_or_an_error_and_never_another_number(whole, tmp_path):
    path = tmp_path / "s.sqlite"
    content, before = closed_copy(whole[0], path), contents(whole[0])
    known = (dict.fromkeys(before[0]), before[1])
    rng, errors, count = random.Random(0), 0, times(200, 2_000)
    for _ in range(count):
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            archs, results = contents(path)
        except StoreError:
            errors += 1
            continue
        assert set(archs) <= set(known[0])
        assert all(known[1][key] == row for key, row in results.items() if key in known[1])
        assert set(results) <= set(known[1])
    figure("damage", "one bit", tried=count, refused=errors, right=count - errors)
    assert errors > count // 4


def test_truncated_stores_are_damaged_and_say_so(whole, tmp_path):
    path = tmp_path / "s.sqlite"
    content = closed_copy(whole[0], path)
    rng = random.Random(1)
    count = times(20, 1_000)
    refused = 0
    for _ in range(count):
        path.write_bytes(content[: rng.randrange(200, len(content) - 1)])
        with pytest.raises(StoreError):
            contents(path)
        refused += 1
    figure("damage", "cut off", tried=count, refused=refused)


def test_a_changed_number_is_named_dropped_by_repair_and_filled_by_the_same_sweep(whole, tmp_path):
    path = tmp_path / "s.sqlite"
    closed_copy(whole[0], path)
    with sqlite3.connect(path) as db:
        (network,) = db.execute("SELECT network FROM results WHERE measured = 'naswot'").fetchone()
        db.execute("UPDATE results SET value = value + 1 WHERE measured = 'naswot' AND network = ?", (network,))
    db.close()
    with pytest.raises(StoreError, match=r"is damaged \(the row of .*, naswot\): `ssnr check .* --repair`"):
        contents(path)
    run = command("check", "s.sqlite", cwd=tmp_path)
    assert run.exit_code == 1
    assert f"damaged: naswot of {network!r} (recipe seed, seed 0)" in run.stderr
    mended = command("check", "s.sqlite", "--repair", cwd=tmp_path)
    assert mended.exit_code == 0, mended.stderr
    assert "the same sweep fills it again. The old file is s.sqlite.damaged" in mended.stdout
    assert not check(path).any
    swept(path, ARCHS)
    assert contents(path) == contents(whole[0])


def test_a_file_with_a_broken_page_is_repaired_as_far_as_it_can_be_read(whole, tmp_path):
    path = tmp_path / "s.sqlite"
    content = bytearray(closed_copy(whole[0], path))
    size = int.from_bytes(content[16:18], "big")
    content[5 * size : 6 * size] = bytes(size)
    path.write_bytes(content)
    assert check(path).any
    found, kept = repair(path)
    assert found.any
    assert kept.read_bytes()[5 * size : 6 * size] == bytes(size)
    swept(path, ARCHS)
    assert contents(path) == contents(whole[0])


def test_a_whole_store_is_said_to_be_whole(whole, tmp_path):
    shutil.copy(whole[0], tmp_path / "s.sqlite")
    run = command("check", "s.sqlite", cwd=tmp_path)
    assert (run.exit_code, run.stdout) == (0, "s.sqlite: 35 rows as they were written, 0 damaged\n")
    assert command("check", "none.sqlite", cwd=tmp_path).exit_code == 2


# --- shards and tables --------------------------------------------------------------------------------------------


def test_shards_are_disjoint_and_as_large_as_each_other_whatever_the_order(whole, tmp_path):
    from ssnr.engine.shards import Shard, part

    networks = {arch: SPACE.twin(arch) for arch in SPACE.sample_many(200, np.random.default_rng(1))}
    backwards = dict(reversed(networks.items()))
    parts = [part(networks, Shard(number, 7)) for number in range(1, 8)]
    assert sorted(arch for own in parts for arch in own) == sorted(networks)
    sizes = [len(set(own.values())) for own in parts]
    assert max(sizes) - min(sizes) <= 1
    assert [set(part(backwards, Shard(n, 7))) for n in range(1, 8)] == [set(own) for own in parts]


def test_shards_of_a_sweep_merge_into_the_sweep(whole, tmp_path):
    for number in (1, 2, 3):
        swept(tmp_path / f"{number}.sqlite", ARCHS, shard=f"{number}/3")
    merge([tmp_path / f"{number}.sqlite" for number in (1, 2, 3)], tmp_path / "all.sqlite")
    assert contents(tmp_path / "all.sqlite") == contents(whole[0])


@pytest.mark.parametrize("text", ["0/4", "5/4", "three", "1/0"])
def test_a_shard_that_there_is_not_is_refused(tmp_path, text):
    run = command("sweep", SPACE.name, "--shard", text, cwd=tmp_path)
    assert run.exit_code == 2
    assert f"shard {text!r}: expected a part such as 3/16" in run.stderr


def test_the_tables_of_a_store_are_its_scores(whole, tmp_path):
    import pandas as pd

    from ssnr.studies.export import export

    path, scores = whole
    wide = export(path, tmp_path / "w.csv", proxies=["synflow/layerwise_ssnr", "naswot"])
    assert list(wide.columns) == [
        "space", "architecture", "params", "flops", "reachable_params", "layers", "naswot", "synflow/layerwise_ssnr",
    ]  # fmt: skip
    by_arch = pd.read_csv(tmp_path / "w.csv").set_index("architecture")
    assert by_arch["naswot"].to_dict() == {arch: s["naswot"].value for arch, s in scores.items()}
    long = export(path, tmp_path / "l.sqlite", long=True)
    with sqlite3.connect(tmp_path / "l.sqlite") as db:
        query = "SELECT value FROM scores WHERE architecture = ? AND proxy = 'synflow/sum'"
        assert db.execute(query, (ARCHS[0],)).fetchone() == (scores[ARCHS[0]]["synflow"].value,)
    db.close()
    assert len(long) == len(ARCHS) * 4


def test_the_command_exports_parquet_or_says_what_is_missing(whole, tmp_path):
    shutil.copy(whole[0], tmp_path / "s.sqlite")
    run = command("export", "s.sqlite", "-o", "t.parquet", "-p", "naswot", cwd=tmp_path)
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        assert run.exit_code == 2
        assert "t.parquet: .parquet needs pyarrow" in run.stderr
    else:
        assert run.stdout == "12 rows, 7 columns → t.parquet\n"
    refused = command("export", "s.sqlite", "-o", "t.xlsx", cwd=tmp_path)
    assert (refused.exit_code, "expected a name that ends in .csv, .parquet or .sqlite" in refused.stderr) == (2, True)
    nothing = command("export", "s.sqlite", "-o", "t.csv", "-p", "grasp", cwd=tmp_path)
    assert "holds no scores of grasp" in nothing.stderr
