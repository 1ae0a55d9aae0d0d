from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import torch

import ssnr
from ssnr import engine
from ssnr.core.results import failed
from ssnr.data import noise
from ssnr.spaces import get_space
from ssnr.store import Store

SPACE = get_space("nasbench201/imagenet16-120")  # the smallest networks
ARCHS = [SPACE.sample(random.Random(n)) for n in range(8)]
PROXIES = ["synflow/sum", "synflow/layerwise_ssnr", "snip/layerwise_ssnr", "magnitude", "params", "reachable_params"]


def batch():
    return noise(SPACE.input_shape, SPACE.num_classes, 2, seed=0)


def sweep(path, archs=ARCHS, proxies=PROXIES, **options):
    options.setdefault("workers", 1)
    options.setdefault("batch", batch())
    return {row.architecture: row.scores for row in ssnr.sweep(SPACE, archs, proxies, store=path, **options)}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return sweep(tmp_path_factory.mktemp("reference") / "s.sqlite")


@pytest.mark.parametrize("recipe", ["seed", "seed(init=shared)"])
def test_rows_come_in_the_order_given_and_each_once(tmp_path, recipe):
    options = {"store": tmp_path / "s.sqlite", "workers": 1, "recipe": recipe}
    sweep(tmp_path / "s.sqlite", archs=ARCHS[4:6], proxies=["synflow"], recipe=recipe)
    rows = list(ssnr.sweep(SPACE, [*ARCHS, ARCHS[0]], ["synflow"], **options))
    assert [row.architecture for row in rows] == ARCHS


def test_a_sweep_checks_its_arguments_when_it_is_called(tmp_path):
    with pytest.raises(ssnr.UsageError, match="unknown proxy 'sinflow'"):
        ssnr.sweep(SPACE, ARCHS, ["sinflow"], store=tmp_path / "s.sqlite")
    with pytest.raises(ssnr.UsageError, match="workers 0: expected a whole number, at least 1"):
        ssnr.sweep(SPACE, ARCHS, ["synflow"], store=tmp_path / "s.sqlite", workers=0)
    with pytest.raises(ssnr.UsageError, match="timeout 0: expected seconds above 0"):
        ssnr.sweep(SPACE, ARCHS, ["synflow"], store=tmp_path / "s.sqlite", timeout=0)
    with pytest.raises(ssnr.UsageError, match=r"max_memory 1024: expected at least 268,435,456 bytes \(256 MiB\)"):
        ssnr.sweep(SPACE, ARCHS, ["synflow"], store=tmp_path / "s.sqlite", max_memory=1024)


def test_rows_stream_while_others_are_still_to_be_scored(tmp_path, monkeypatch):
    monkeypatch.setattr(engine.runs, "CHUNK", 1)
    with Store(tmp_path / "s.sqlite") as store:
        rows = ssnr.sweep(SPACE, ARCHS, ["synflow"], store=store, workers=1)
        first = next(rows)
        assert first.scores["synflow"].status == "ok"
        assert sum(len(store.done(group)) for group in store.groups()) == 1
        rows.close()


def test_a_dropped_sweep_closes_its_store(tmp_path):
    path = tmp_path / "s.sqlite"
    rows = ssnr.sweep(SPACE, ARCHS, ["synflow"], store=path, workers=1)
    assert next(rows).architecture == ARCHS[0]
    rows.close()
    path.unlink()  # nobody holds it: Windows would refuse, and a write-ahead log would stay
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [2, 3])
def test_values_do_not_depend_on_the_number_of_workers(tmp_path, reference, workers):
    assert sweep(tmp_path / "s.sqlite", workers=workers) == reference


def test_values_do_not_depend_on_order_chunks_or_other_architectures(tmp_path, reference, monkeypatch):
    monkeypatch.setattr(engine.runs, "CHUNK_WITH_DATA", 1)
    found = sweep(tmp_path / "s.sqlite", archs=ARCHS[::-1][:5])
    assert found == {arch: reference[arch] for arch in found}


def test_values_do_not_depend_on_what_was_asked_before(tmp_path, reference):
    sweep(tmp_path / "s.sqlite", archs=ARCHS[:3], proxies=["grasp", "snip"])
    sweep(tmp_path / "s.sqlite", archs=ARCHS[2:5], proxies=["synflow"])
    assert sweep(tmp_path / "s.sqlite") == reference


def test_a_second_run_scores_nothing(tmp_path, reference, monkeypatch):
    sweep(tmp_path / "s.sqlite")
    monkeypatch.setattr(engine.runs, "timed_chunk", lambda *_: pytest.fail("scored again"))
    assert sweep(tmp_path / "s.sqlite") == reference
    assert set(sweep(tmp_path / "s.sqlite", proxies=["synflow/ssnr", "synflow/layerwise_ssnr(0.75,3)"])) == set(ARCHS)


def test_a_sweep_is_the_score_of_the_network_that_the_space_builds(reference):
    for arch in ARCHS:
        net = SPACE.build(arch, seed=0)
        for proxy, score in ssnr.score(net, batch(), PROXIES, input_shape=SPACE.input_shape).items():
            assert reference[arch][proxy].value == pytest.approx(score.value, rel=1e-12), (arch, proxy)


def test_isomorphic_cells_are_computed_once_and_written_to_each(tmp_path):
    space = get_space("nasbench201/imagenet16-120")
    pair = [
        "|nor_conv_1x1~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|",
        "|none~0|+|nor_conv_1x1~0|none~1|+|none~0|nor_conv_3x3~1|skip_connect~2|",
    ]
    with Store(tmp_path / "s.sqlite") as store:
        layout = engine.plan(space, pair, ["synflow"], store=store)
        assert layout.distinct == 1
        assert [step.done for step in engine.run(layout, store, workers=1)] == [0, 1]
        first, second = engine.read(layout, store)
        assert first.scores == second.scores
        controls = list(store.architectures(space.name))
        assert controls[0].params != controls[1].params
        assert controls[0].reachable_params == controls[1].reachable_params


def test_a_seed_gives_other_weights(tmp_path, reference):
    other = sweep(tmp_path / "s.sqlite", archs=ARCHS[:1], proxies=["synflow"], seed=1)
    assert other[ARCHS[0]]["synflow"].value != reference[ARCHS[0]]["synflow/sum"].value


class Fragile(type(SPACE)):
    """A space one of whose networks cannot be built."""

    def build(self, arch, *, seed=0, variant="default"):
        if self.parse(arch) == self.twin(ARCHS[1]):
            raise MemoryError("too wide")
        return super().build(arch, seed=seed, variant=variant)


def test_a_network_that_cannot_be_built_is_a_failed_row_and_the_others_go_on(tmp_path, reference):
    found = {
        row.architecture: row.scores["synflow/sum"]
        for row in ssnr.sweep(Fragile("imagenet16-120"), ARCHS, ["synflow/sum"], store=tmp_path / "s.sqlite", workers=1)
    }
    assert found[ARCHS[1]] == failed("building it raised MemoryError: too wide")
    assert {a for a, s in found.items() if s.status == "ok"} == {a for a in ARCHS if a != ARCHS[1]}


class Deadly(type(SPACE)):
    """A space one of whose networks takes its worker down with it."""

    def build(self, arch, *, seed=0, variant="default"):
        if self.parse(arch) == self.twin(ARCHS[7]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().build(arch, seed=seed, variant=variant)


def test_a_network_that_kills_its_worker_is_a_failed_row_and_the_others_go_on(tmp_path, reference):
    rows = ssnr.sweep(Deadly("imagenet16-120"), ARCHS, ["synflow/sum"], store=tmp_path / "s.sqlite", workers=2)
    found = {row.architecture: row.scores["synflow/sum"] for row in rows}
    assert found.pop(ARCHS[7]).reason == "its worker process was killed, most likely for lack of memory"
    assert found == {arch: reference[arch]["synflow/sum"] for arch in ARCHS[:7]}


def started_sweep(path, space, archs, *options, **pipes):
    """A sweep in a process group of its own, and the command that does the rest."""
    command = [sys.executable, "-m", "ssnr", "sweep", space, "-p", "synflow", "--archs", archs, "--store", str(path)]
    # A shell that starts the tests in the background has them ignore interrupts; the command is to heed them.
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen([*command, *options], start_new_session=True, preexec_fn=heed, **pipes), command


def kept_in(path) -> int:
    """Results in a store that another process may be about to create."""
    if not path.exists():
        return 0
    with Store(path) as store:
        return sum(len(store.done(group)) for group in store.groups())


def wait_for_results(path) -> None:
    deadline = time.monotonic() + 120
    while kept_in(path) == 0 and time.monotonic() < deadline:
        time.sleep(0.05)


def test_a_killed_sweep_keeps_its_chunks_and_the_same_command_does_the_rest(tmp_path):
    path = tmp_path / "s.sqlite"
    process, command = started_sweep(path, SPACE.name, "150", "--workers", "2", stderr=subprocess.DEVNULL)
    wait_for_results(path)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = kept_in(path)
    assert before > 0
    subprocess.run([*command, "--workers", "1"], check=True, capture_output=True)
    with Store(path) as store:
        (group,) = store.groups()
        networks = {a.network for a in store.architectures(SPACE.name)}
        assert store.done(group) == networks
        assert before < len(networks)


def test_ctrl_c_keeps_what_is_done_and_exits_with_130(tmp_path):
    path = tmp_path / "s.sqlite"
    process, _ = started_sweep(path, "nasbench201", "all", stderr=subprocess.PIPE, text=True)
    wait_for_results(path)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "of 5,260 networks are in" in said.splitlines()[-1]
    assert "the same command does the rest" in said.splitlines()[-1]
    assert "Traceback" not in said


def test_the_number_of_threads_is_restored(tmp_path):
    threads = torch.get_num_threads()
    sweep(tmp_path / "s.sqlite", archs=ARCHS[:1], proxies=["synflow"])
    assert torch.get_num_threads() == threads


def test_the_memory_of_a_sweep_does_not_grow_with_the_number_of_architectures(tmp_path):
    resource = pytest.importorskip("resource")
    sweep(tmp_path / "a.sqlite", archs=ARCHS, proxies=["synflow"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    more = SPACE.sample_many(60, np.random.default_rng(0))
    sweep(tmp_path / "b.sqlite", archs=more, proxies=["synflow"])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 60_000  # KiB: sixty networks held at once would be 200 MB


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"archs": []}, "no architecture to score"),
        ({"archs": ["|nor_conv_3x3~0|"]}, "1 nodes joined by"),
        ({"proxies": ["snip"], "batch": None}, "snip needs a batch: batch=… or --data"),
        ({"executor": "rey"}, "executor 'rey': expected local, ray or ray:ADDRESS"),
        ({"recipe": "tanaka"}, "unknown recipe 'tanaka'"),
    ],
)
def test_wrong_calls_say_what_was_expected(tmp_path, options, said):
    with pytest.raises(ssnr.UsageError, match=said):
        sweep(tmp_path / "s.sqlite", **options)


def test_only_workers_import_torch_where_no_data_is_read(tmp_path):
    code = (
        "import sys, ssnr\n"
        "if __name__ == '__main__':\n"
        "    rows = ssnr.sweep('nasbench201', ['4', '9'], ['synflow/sum'], store=sys.argv[1], workers=2)\n"
        "    assert [row.scores['synflow/sum'].status for row in rows] == ['ok', 'ok']\n"
        "    assert 'torch' not in sys.modules\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    subprocess.run([sys.executable, str(script), str(tmp_path / "s.sqlite")], check=True)


def test_a_shared_initialisation_scores_the_networks_of_one_supernet(tmp_path):
    from ssnr.supernet import Supernet

    found = sweep(tmp_path / "s.sqlite", recipe="seed(init=shared,synflow_dtype=float32)")
    net = Supernet(SPACE)
    for arch in ARCHS:
        alone = ssnr.score(net.network(SPACE.twin(arch)), batch(), PROXIES, input_shape=SPACE.input_shape)
        for proxy in ("synflow/sum", "synflow/layerwise_ssnr", "snip/layerwise_ssnr"):
            assert found[arch][proxy].value == pytest.approx(alone[proxy].value, rel=1e-5), (arch, proxy)


def test_a_shared_sweep_depends_on_workers_and_order_by_float32_rounding_only(tmp_path):
    recipe = "seed(init=shared,synflow_dtype=float32)"
    first = sweep(tmp_path / "a.sqlite", proxies=["synflow/layerwise_ssnr"], recipe=recipe)
    second = sweep(tmp_path / "b.sqlite", ARCHS[::-1], ["synflow/layerwise_ssnr"], recipe=recipe, workers=2)
    for arch in ARCHS:
        assert first[arch]["synflow/layerwise_ssnr"].value == pytest.approx(
            second[arch]["synflow/layerwise_ssnr"].value, rel=1e-6
        )


def test_a_shared_sweep_of_darts_resumes_and_scores_twins_once(tmp_path):
    from ssnr.supernet import Supernet

    space, recipe = get_space("darts"), "seed(init=shared,synflow_dtype=float32)"
    first, second = ([[(0, op), (1, 1)] * 4, [(1, 5), (0, op)] * 4] for op in (2, 3))
    twin = [first[0][::-1], first[1]]
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        for archs, missing in (([first], 1), ([second, twin, first], 1), ([twin], 0)):
            layout = engine.plan("darts", archs, ["synflow/layerwise_ssnr"], store=store, recipe=recipe)
            assert len(layout.missing) == missing
            for _ in engine.run(layout, store, workers=1):
                pass
        rows = {row.architecture: row.scores["synflow/layerwise_ssnr"] for row in engine.read(layout, store)}
    assert list(rows) == [space.parse(twin)]
    net = Supernet(space).network(first)
    alone = ssnr.score(net, None, ["synflow/layerwise_ssnr"], input_shape=space.input_shape)["synflow/layerwise_ssnr"]
    assert rows[space.parse(twin)].value == pytest.approx(alone.value, rel=1e-5)


def test_shared_and_independent_rows_live_side_by_side(tmp_path, reference):
    path = tmp_path / "s.sqlite"
    sweep(path, proxies=["synflow"], recipe="seed(init=shared,synflow_dtype=float32)")
    assert sweep(path) == reference
    with Store(path) as store:
        assert {group.recipe for group in store.groups() if group.measured == "synflow"} == {
            "seed", "seed(synflow_dtype=float32,init=shared)"
        }  # fmt: skip


@pytest.mark.parametrize(
    ("space", "recipe", "said"),
    [
        (
            "nasbench201",
            "seed(init=shared,norms=batch)",
            "a supernet reads networks as recipe seed does, not with other",
        ),
        ("nasbench101", "seed(init=shared)", "no supernet for nasbench101"),
    ],
)
def test_a_supernet_that_is_not_there_is_refused_before_anything_is_scored(tmp_path, space, recipe, said):
    archs = get_space(space).sample_many(1, np.random.default_rng(0))
    with pytest.raises(ssnr.UsageError, match=said):
        list(ssnr.sweep(space, archs, ["synflow"], store=tmp_path / "s.sqlite", recipe=recipe))
