"""Worker processes through faults: scripts without a guard, parents that end, networks that hang."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

import ssnr
from faulty import ARCHS, SPACE, Crashes, Greedy, Hangs, stored, swept
from ssnr.store import Store

SOURCE = str(Path(ssnr.__file__).parents[1])


def script(folder: Path, text: str) -> Path:
    path = folder / "mine.py"
    path.write_text(textwrap.dedent(text))
    return path


def ran(path: Path, *, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, cwd=path.parent, env=environment)
    assert done.returncode == code, done.stderr
    return done


def test_a_script_without_a_guard_works_and_runs_once(tmp_path):
    path = script(
        tmp_path,
        """
        import ssnr

        print("begin")
        space = ssnr.get_space("nasbench201/imagenet16-120")
        archs = [space.parse(text) for text in list(space.all())[:6]]
        for row in ssnr.sweep(space, archs, ["synflow"], store="s.sqlite", workers=2):
            print(row.scores["synflow"].status)
        """,
    )
    said = ran(path).stdout.splitlines()
    assert said[0] == "begin"
    assert said.count("begin") == 1
    assert len(said) == 7


def test_proxies_and_spaces_of_a_script_are_known_to_its_workers(tmp_path):
    path = script(
        tmp_path,
        """
        import ssnr
        from ssnr.spaces.nasbench201.space import NasBench201

        class Mine(NasBench201):
            def build(self, arch, *, seed=0, variant="default"):
                net = super().build(arch, seed=seed, variant=variant)
                net.mark = 7.0
                return net

        @ssnr.register_proxy(data=False)
        def mark(net, batch):
            return net.mark

        space = Mine("imagenet16-120")
        archs = list(space.all())[:4]
        print(sorted(r.scores["mark"].value for r in ssnr.sweep(space, archs, ["mark"], store="s.sqlite", workers=2)))
        """,
    )
    assert ran(path).stdout == "[7.0, 7.0, 7.0, 7.0]\n"


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The workers, the fork server and what else a process has started."""
    return psutil.Process(process.pid).children(recursive=True)


def started(path: Path) -> subprocess.Popen[str]:
    """A sweep with two workers that have stored something."""
    command = [sys.executable, "-m", "ssnr", "sweep", "nasbench201", "-p", "synflow", "--archs", "all", "--store",
               str(path), "--workers", "2"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    # A shell starts what runs in its background with Ctrl-C ignored, and that is passed on.
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True, env=environment,
                               preexec_fn=heed)  # fmt: skip
    deadline = time.monotonic() + 120
    while not stored(path) and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_no_worker_outlives_its_parent(tmp_path, number, code):
    process = started(tmp_path / "s.sqlite")
    children = family(process)
    assert len(children) >= 3  # two workers and the server that forks them
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    assert stored(tmp_path / "s.sqlite") > 0
    if number != signal.SIGKILL:
        assert "Traceback" not in said
        assert "the same command does the rest" in said.splitlines()[-1]


def test_sigterm_inside_of_an_exec_has_its_own_exit_code(tmp_path):
    """As when a module with data classes is being imported: Python would end itself by SIGINT."""
    (tmp_path / "ends.py").write_text(
        "import os, signal; exec('os.kill(os.getpid(), signal.SIGTERM)\\nwhile True: pass')"
    )
    command = [sys.executable, "-m", "ssnr", "--import", "ends.py", "list", "spaces"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, "PYTHONPATH": SOURCE})  # fmt: skip
    assert (done.returncode, done.stderr) == (143, "ssnr: interrupted\n")


def test_a_worker_that_is_killed_costs_its_chunk_only_until_it_is_scored_again(tmp_path):
    process = started(tmp_path / "s.sqlite")
    workers = [child for child in family(process) if child.memory_info().rss > 50 << 20 and not child.children()]
    workers[0].kill()
    time.sleep(1.0)
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    with Store(tmp_path / "s.sqlite") as store:
        (group,) = store.groups()
        assert {result.status for result in store.results(group)} <= {"ok", "dead"}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_network_that_hangs_is_a_failed_row(tmp_path, workers):
    found = swept(Hangs("imagenet16-120"), tmp_path / "s.sqlite", workers=workers, timeout=6.0)
    assert found[ARCHS[2]].reason == "it took longer than 6 s"
    assert [arch for arch in ARCHS if found[arch].status == "failed"] == [ARCHS[2]]


def test_a_network_that_ends_its_process_is_a_failed_row(tmp_path):
    found = swept(Crashes("imagenet16-120"), tmp_path / "s.sqlite", workers=2)
    assert found[ARCHS[2]].reason == "its worker process ended with exit code 3"
    assert [arch for arch in ARCHS if found[arch].status == "failed"] == [ARCHS[2]]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of a process's data is Linux's")
def test_a_network_that_asks_for_more_than_its_worker_may_have_is_a_failed_row(tmp_path):
    found = swept(Greedy("imagenet16-120"), tmp_path / "s.sqlite", workers=1, max_memory=2 << 30)
    assert found[ARCHS[2]].reason.startswith("building it raised RuntimeError: ")
    assert [arch for arch in ARCHS if found[arch].status == "failed"] == [ARCHS[2]]


def test_the_command_names_what_was_lost_and_exits_with_1(tmp_path):
    module = tmp_path / "deadly.py"
    module.write_text(
        textwrap.dedent(f"""
        import os
        import ssnr
        from ssnr.spaces.nasbench201.space import NasBench201

        class Deadly(NasBench201):
            name = "deadly"

            def build(self, arch, *, seed=0, variant="default"):
                if self.parse(arch) == {SPACE.twin(ARCHS[2])!r}:
                    os._exit(3)
                return super().build(arch, seed=seed, variant=variant)
        """)
    )
    listed = tmp_path / "archs.txt"
    listed.write_text("\n".join(ARCHS))
    program = (
        "import sys; sys.path.insert(0, '.'); import deadly, ssnr; from ssnr.cli.app import main; "
        "ssnr.register_space('deadly')(lambda task: deadly.Deadly('imagenet16-120')); main()"
    )
    command = ["sweep", "deadly", "-p", "synflow", "--archs", str(listed), "--store", "s.sqlite", "--workers", "2"]
    done = subprocess.run([sys.executable, "-c", program, *command, "--json"], capture_output=True, text=True,
                          cwd=tmp_path, env={**os.environ, "PYTHONPATH": SOURCE})  # fmt: skip
    assert done.returncode == 1, done.stderr
    lost = json.loads(done.stdout)["lost"]
    assert lost == [{"network": SPACE.twin(ARCHS[2]), "reason": "its worker process ended with exit code 3"}]
