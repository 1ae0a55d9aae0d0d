"""Sweeps on Ray: the rows of one process, also where workers and nodes go away in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import ssnr
from faulty import ARCHS, SPACE, Hangs, stored, swept
from ssnr.testing import ExecutorContract

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'ssnr[ray]')")

# What Ray's own code does is not ours to judge.
pytestmark = [pytest.mark.filterwarnings("ignore")]
SOURCE = str(Path(ssnr.__file__).parents[1])


@pytest.mark.parametrize(
    ("executor", "gpus", "said"),
    [
        ("ray", 1.5, "gpus 1.5: expected a share of one GPU, above 0, at most 1"),
        ("local", 0.5, "gpus 0.5: only Ray shares GPUs out, take executor ray"),
        ("ray:head", 0, "executor 'ray:head': expected ray:auto or ray:HOST:PORT, such as ray:head:6379"),
        (
            "ray:127.0.0.1:1",
            0,
            "no Ray cluster at 127.0.0.1:1: .*refused; `ray start --head` on one machine starts one",
        ),
    ],
)
def test_a_cluster_that_there_is_not_is_said_at_once(tmp_path, executor, gpus, said):
    with pytest.raises(ssnr.SsnrError, match=said):
        swept(SPACE, tmp_path / "s.sqlite", executor=executor, gpus=gpus)


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one CPU each, besides a head that computes nothing."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    store = {"object_store_memory": 80 << 20}
    try:  # nothing of ours runs yet
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **store})
        nodes = [made.add_node(num_cpus=1, num_gpus=1, **store) for _ in range(2)]
        made.wait_for_nodes()
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        pytest.skip(f"Ray cannot start a cluster on this machine: {error}")
    yield made, nodes
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return swept(SPACE, tmp_path_factory.mktemp("reference") / "s.sqlite", workers=1)


@pytest.mark.usefixtures("cluster")
class TestRay(ExecutorContract):
    options = {"executor": "ray"}  # noqa: RUF012


def test_a_network_that_hangs_is_named_as_on_one_machine_and_workers_share_gpus(cluster, tmp_path, reference):
    found = swept(Hangs("imagenet16-120"), tmp_path / "s.sqlite", executor="ray", timeout=6.0, gpus=0.5)
    assert found.pop(ARCHS[2]).reason == "it took longer than 6 s"
    assert found == {arch: score for arch, score in reference.items() if arch != ARCHS[2]}


def test_another_cluster_than_the_one_joined_is_refused(cluster, tmp_path):
    with pytest.raises(ssnr.UsageError, match="executor 'ray:head:6379': this process has joined the Ray cluster at"):
        list(ssnr.sweep(SPACE, ARCHS, ["synflow"], store=tmp_path / "s.sqlite", executor="ray:head:6379"))


def test_a_chunk_is_put_on_no_more_than_two_for_each_cpu(cluster):
    from ssnr.engine.executors import executor_of
    from ssnr.engine.local import Limits

    taken = iter(range(40))
    with executor_of("ray")(None) as pool:
        assert pool.size == 2
        answers = pool.each(len, ([n] for n in taken), pool.size, Limits())
        first = next(answers)
        answers.close()
    assert first.answer == 1
    assert next(taken) <= 4  # the first and those that stood behind it, of forty


def test_an_executor_of_ones_own_gives_the_same_rows(tmp_path, reference):
    from contextlib import contextmanager

    from ssnr.engine import Pool
    from ssnr.engine.local import Done

    @contextmanager
    def here(workers):
        yield Pool(3, lambda work, chunks, workers, limits: (Done(chunk, work(chunk)) for chunk in chunks))

    assert swept(SPACE, tmp_path / "s.sqlite", executor=here) == reference


def test_a_worker_and_then_a_node_that_are_killed_cost_their_chunks_which_run_again(cluster, tmp_path):
    made, nodes = cluster
    archs = SPACE.sample_many(64, np.random.default_rng(1))
    rows = ssnr.sweep(SPACE, archs, ["synflow"], store=tmp_path / "a.sqlite", workers=1)
    alone = {row.architecture: row.scores for row in rows}
    found = {}
    for number, row in enumerate(ssnr.sweep(SPACE, archs, ["synflow"], store=tmp_path / "b.sqlite", executor="ray")):
        found[row.architecture] = row.scores
        if number == 2:
            ours = psutil.Process().children(recursive=True)
            next(process for process in ours if process.name().startswith("ray::_there")).kill()
        if number == 20:
            made.remove_node(nodes.pop(), allow_graceful=False)
    assert found == alone
    assert list(found) == list(alone)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_ray_of_ones_own_ends_with_the_command(tmp_path, number):
    path = tmp_path / "s.sqlite"
    command = [sys.executable, "-m", "ssnr", "sweep", SPACE.name, "-p", "synflow", "--archs", "400", "--store",
               str(path), "--workers", "1", "--executor", "ray"]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {"PYTHONPATH": SOURCE}
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 120
    while not stored(path) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    # Ray's two agents look for their parent at leisure: they compute nothing, and are gone within two minutes.
    children = [p for p in psutil.Process(process.pid).children(recursive=True) if "Agent" not in p.name()]
    assert stored(path) > 0
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    if number == signal.SIGTERM:
        assert process.returncode == 143
        assert said.splitlines()[-1].endswith("the same command does the rest"), said
