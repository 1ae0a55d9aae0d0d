"""Sweeps that are killed, interrupted, or lose their disk: what is stored is right, and the same command goes on."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

import ssnr
from faulty import SPACE, stored
from soak import figure, times
from ssnr.store import Store, check

SOURCE = str(Path(ssnr.__file__).parents[1])
ENDS = {
    "kill -9 of the group": (times(2, 25), "group", signal.SIGKILL, -9),
    "kill -9 of one worker": (times(1, 25), "worker", signal.SIGTERM, 143),
    "Ctrl-C": (times(1, 10), "group", signal.SIGINT, 130),
    "SIGTERM": (times(1, 10), "parent", signal.SIGTERM, 143),
}


def begun(path: Path, archs: int = 15_625, seed: int = 0, **pipes) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ssnr", "sweep", SPACE.name, "-p", "synflow", "--archs", str(archs), "--store",
               str(path), "--workers", "2", "--seed", str(seed)]  # fmt: skip
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    return subprocess.Popen(command, start_new_session=True, preexec_fn=heed, text=True, env=environment,
                            stderr=subprocess.PIPE, **pipes)  # fmt: skip


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def words_of(child: psutil.Process) -> list[str]:
    try:
        return child.cmdline()
    except psutil.NoSuchProcess:
        return []


def test_whatever_kills_a_sweep_its_store_holds_right_rows_only_and_nobody_is_left(tmp_path):
    path, rng, orphans = tmp_path / "s.sqlite", random.Random(0), 0
    order = [name for name, (count, *_) in ENDS.items() for _ in range(count)]
    rng.shuffle(order)
    lost: dict[str, int] = dict.fromkeys(ENDS, 0)
    for turn, name in enumerate(order):
        _, whom, number, code = ENDS[name]
        before = stored(path) if path.exists() else 0
        # A new seed every 30 turns: something is always left to score.
        process = begun(path, seed=turn // 30, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        if rng.random() < 0.8:  # else it is killed wherever it is, in its start for one
            while stored(path) <= before and time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.02)
        time.sleep(rng.random())
        children = family(process)
        if whom == "worker":
            workers = [child for child in children if not child.children() and child.memory_info().rss > 50 << 20]
            for worker in workers[:1]:
                worker.kill()
            time.sleep(0.5)
            os.killpg(process.pid, number)
        elif whom == "group":
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert process.returncode in (code, -number), said  # or before Python has its handlers
        assert "Traceback" not in said or process.returncode < 0, said
        _, alive = psutil.wait_procs(children, timeout=5)
        orphans += len(alive)
        if path.exists() and stored(path):
            assert not check(path).any
            lost[name] += stored(path) < before
        figure("kills", name, turn=turn, code=process.returncode, orphans=len(alive),
               before=before, after=stored(path))  # fmt: skip
    assert orphans == 0
    assert not any(lost.values())
    rows_are_right(path, rng)


@pytest.mark.parametrize("wait", [0.0, 0.3])
def test_ctrl_c_while_workers_are_imported_is_one_line(tmp_path, wait):
    process = begun(tmp_path / "s.sqlite", stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any("forkserver" in word for child in family(process) for word in words_of(child)):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(wait)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1].startswith("ssnr: ")
    assert "Traceback" not in said


def rows_are_right(path: Path, rng: random.Random) -> None:
    """Rows drawn from what many processes have stored are those of one that nobody disturbed."""
    alone = path.with_name("alone.sqlite")
    with Store(path) as store:
        for group in store.groups():
            done = sorted(store.done(group))
            drawn = rng.sample(done, min(times(10, 50), len(done)))
            assert [row.architecture for row in ssnr.sweep(SPACE, drawn, ["synflow"], store=alone, workers=1,
                                                           seed=group.seed)] == drawn  # fmt: skip
            with Store(alone) as other:
                for kept, expected in zip(store.results(group, drawn), other.results(group, drawn), strict=True):
                    assert (kept.status, kept.reason) == (expected.status, expected.reason)
                    assert (kept.moments is None) == (expected.moments is None)
                    if kept.moments is not None:
                        assert kept.moments.layers() == expected.moments.layers()


def test_a_store_that_is_deleted_meanwhile_is_said_to_be_gone(tmp_path):
    path = tmp_path / "s.sqlite"
    process = begun(path, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not stored(path) and time.monotonic() < deadline:
        time.sleep(0.05)
    for file in tmp_path.iterdir():
        file.unlink()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.splitlines()[-1] == (
        f"ssnr: store {path}: the file was deleted or replaced meanwhile; the same command begins another"
    )


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes; only root may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if (
        not sys.platform.startswith("linux")
        or os.geteuid() != 0
        or subprocess.run(mount, capture_output=True).returncode
    ):
        pytest.skip("a small disk takes root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_a_sweep_with_what_was_committed(small_disk):
    (small_disk / "others").write_bytes(bytes(1500 << 10))
    process = begun(small_disk / "s.sqlite", stdout=subprocess.DEVNULL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "the disk is full; what was committed is kept, and the same command resumes" in said.splitlines()[-1]
    (small_disk / "others").unlink()
    assert not check(small_disk / "s.sqlite").any


def test_a_disk_that_becomes_read_only_is_said(small_disk):
    Store(small_disk / "s.sqlite").close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    _, said = begun(small_disk / "s.sqlite", archs=5, stdout=subprocess.DEVNULL).communicate(timeout=60)
    assert "the file or its folder cannot be written; check its permissions" in said.splitlines()[-1]


@pytest.mark.skipif(times(0, 1) == 0, reason="half a minute of waiting: by make soak")
def test_a_store_that_another_holds_is_said_after_half_a_minute(tmp_path):
    path = tmp_path / "s.sqlite"
    Store(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    process = begun(path, archs=5, stdout=subprocess.DEVNULL)
    _, said = process.communicate(timeout=120)
    other.close()
    assert process.returncode == 1
    assert "another process is writing to it; wait for it, or use another file and merge later" in said
