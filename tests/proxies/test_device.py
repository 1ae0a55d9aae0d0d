"""Latency and memory of a forward pass: by a clock that the test moves, and by adding up tensors by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ssnr
from commands import ssnr as command
from ssnr.proxies import device
from ssnr.searchers.measures import FromTable, OnDevice, measure_of

torch.set_num_threads(1)


class Clock:
    """Stands still until a pass moves it."""

    def __init__(self) -> None:
        self.now, self.passes = 100.0, 0

    def perf_counter(self) -> float:
        return self.now


class Takes(nn.Module):
    """Takes the seconds that a function of the number of the pass says."""

    def __init__(self, clock: Clock, seconds: Any) -> None:
        super().__init__()
        self.layer, self.clock, self.seconds = nn.Linear(2, 2), clock, seconds
        self.seen: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        TAKEN.append((tuple(x.shape), self.training, torch.is_grad_enabled(), torch.get_num_threads()))
        self.clock.now += self.seconds(self.clock.passes)
        self.clock.passes += 1
        out: Tensor = self.layer(x)
        return out


TAKEN: list[Any] = []


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(device, "time", made)
    TAKEN.clear()
    # What a forward changes is put back, the clock too, unless it is no part of the network.
    monkeypatch.setattr("ssnr.networks.preserve.is_plain", lambda value: False)
    return made


def test_latency_is_the_median_of_the_passes_after_the_warm_up(clock):
    net = Takes(clock, lambda k: 9.0 if k < 5 else float(k - 4))  # five to warm up, then 1, 2, 3 …
    found = ssnr.latency(net, (2,), batch_size=3, repeats=11, threads=2)
    assert (found.median, found.p10, found.p90, found.repeats) == (6.0, 2.0, 10.0, 11)
    assert (found.batch, found.threads, found.device) == (3, 2, "cpu")
    assert TAKEN == [((3, 2), False, False, 2)] * 16
    assert net.training and torch.get_num_threads() == 1


@pytest.mark.parametrize(("seconds", "passes"), [(1.0, 11), (0.0101, 30), (0.001, 100)])
def test_there_are_as_many_passes_as_there_is_time_for(clock, seconds, passes):
    assert ssnr.latency(Takes(clock, lambda k: seconds), (2,)).repeats == passes


def test_the_warm_up_ends_when_it_has_lasted(clock):
    ssnr.latency(Takes(clock, lambda k: 0.0051), (2,), repeats=1)
    assert len(TAKEN) == 10 + 1


IMAGE = 4 * 3 * 8 * 8
MAPS = 4 * 5 * 8 * 8  # bytes of what a convolution outputs


def size_of(net: nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers()))


def conv(*others: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), *others)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x)
        return first + self.two(torch.relu(first))


@pytest.mark.parametrize(
    ("net", "working"),
    [
        (conv(), MAPS),
        (conv(nn.BatchNorm2d(5)), 2 * MAPS),  # what goes in, and what comes out
        (conv(nn.ReLU(inplace=True)), MAPS),
        (conv(nn.Flatten()), MAPS),  # a view
        (conv(nn.MaxPool2d(2)), MAPS + 3 * MAPS // 4),  # a quarter of the numbers, and where each was, in 8 bytes
        (conv(nn.ReLU(), nn.ReLU(), nn.ReLU()), 2 * MAPS),
        (Residual(), 3 * MAPS),  # the first, its rectified copy, the second
        (nn.Identity(), 0),
    ],
)
def test_memory_is_what_tensors_hold_at_once(net, working):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for _ in range(2):
        found = ssnr.memory(net, (3, 8, 8))
        assert (found.peak, found.parameters) == (size_of(net) + IMAGE + working, size_of(net))
    four = ssnr.memory(net, (3, 8, 8), batch_size=4)
    assert four.peak == size_of(net) + 4 * (IMAGE + working)
    assert net.training and all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_tied_weights_and_given_inputs_count_once():
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    net[1].weight = net[0].weight
    x = torch.ones(2, 4)
    found = ssnr.memory(net, inputs=x)
    assert (found.parameters, found.peak, found.batch) == (64, 64 + 32 + 2 * 32, None)
    assert ssnr.memory(net, inputs=net[0].weight.detach()).peak == 64 + 2 * 64


@pytest.mark.parametrize("measure", [ssnr.latency, ssnr.memory])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"device": "gpu"}, r"^device 'gpu': expected cpu, cuda, cuda:1 … or mps$"),
        ({"device": "cuda:77"}, r"^device 'cuda:77': "),
        ({"batch_size": 0}, r"^batch_size=0: expected a whole number, at least 1$"),
        ({"input_shape": None}, r"^the shape of one input is needed: input_shape=\(3, 32, 32\), or inputs=…$"),
    ],
)
def test_what_cannot_be_measured_says_so(measure, arguments, said):
    with pytest.raises(ssnr.UsageError, match=said):
        measure(nn.Linear(2, 2), **({"input_shape": (2,)} | arguments))


def test_a_pass_that_raises_says_so():
    with pytest.raises(ssnr.ScoringError, match=r"^the forward pass raised RuntimeError: mat1 and mat2 shapes cannot"):
        ssnr.latency(nn.Linear(2, 2), (3,))
    for name, value in (("threads", 0), ("repeats", 0)):
        with pytest.raises(ssnr.UsageError, match=f"^{name}=0: expected a whole number, at least 1$"):
            ssnr.latency(nn.Linear(2, 2), (2,), **{name: value})


# --- as proxies ---


def test_they_are_scored_like_any_proxy():
    net = conv(nn.Flatten())
    scores = ssnr.score(net, input_shape=(3, 8, 8), proxies=["latency", "memory", "params"])
    assert scores["memory"].value == ssnr.memory(net, (3, 8, 8)).peak
    assert scores["memory"].notes == (f"memory: {ssnr.memory(net, (3, 8, 8))}",)
    assert scores["latency"].status == "ok" and scores["latency"].value > 0
    assert "batch 1, 1 thread, cpu" in scores["latency"].notes[0]
    by_batch = ssnr.score(net, torch.ones(7, 3, 8, 8), ["memory"])
    assert by_batch["memory"].value == scores["memory"].value
    failed = ssnr.score(net, input_shape=(4, 8, 8), proxies=["latency"])["latency"]
    assert failed.status == "failed" and failed.reason.startswith(
        "the forward pass raised RuntimeError: Given groups=1"
    )


def test_a_sweep_measures_one_network_at_a_time(tmp_path):
    archs = ["11-w8", "13-w8"]
    with pytest.raises(ssnr.UsageError, match=r"^memory is measured one network at a time: take one worker, not 2$"):
        ssnr.sweep("vgg", archs, ["memory"], store=tmp_path / "s.sqlite", workers=2)
    rows = list(ssnr.sweep("vgg", archs, ["memory"], store=tmp_path / "s.sqlite"))
    space = ssnr.get_space("vgg")
    assert [row.scores["memory"].value for row in rows] == [
        ssnr.memory(space.build(arch), space.input_shape).peak for arch in archs
    ]
    with ssnr.Store(tmp_path / "s.sqlite") as store:
        assert [group.data for group in store.groups()] == ["batch 1, 1 thread"]


def test_the_command_line_scores_them_and_says_how(tmp_path):
    done = command("score", "vgg:11-w8", "-p", "memory", "-p", "latency")
    assert done.exit_code == 0
    assert "vgg:11-w8: memory: " in done.stderr and "median of " in done.stderr
    done = command("sweep", "vgg", "-p", "latency", "--workers", 2, "--store", tmp_path / "s.sqlite")
    assert (done.exit_code, done.stderr) == (
        2, "ssnr: latency is measured one network at a time: take one worker, not 2\n"
    )  # fmt: skip


# --- in a search ---


def test_a_search_measures_what_it_is_asked_for(tmp_path):
    space = ssnr.space(lambda width: conv(nn.Conv2d(5, width, 1)), name="own-convs", input_shape=(3, 8, 8),
                       width=[1, 2, 3, 4, 5])  # fmt: skip
    size = {arch: ssnr.memory(space.build(arch), space.input_shape).peak for arch in space.all()}
    most = float(np.median(list(size.values())))
    found = ssnr.search(space, ["-memory"], store=tmp_path / "s.sqlite", constraints={"memory": most}, workers=1)
    table = found.table.set_index("architecture")
    assert table["memory"].to_dict() == size
    assert set(table.index[table["status"] == "ok"]) == {arch for arch in size if size[arch] <= most}
    assert found.best["architecture"] == min(size, key=size.__getitem__)
    assert "memory of a forward pass: batch 1, 1 thread, cpu" in found.notes


def test_latencies_can_be_looked_up(tmp_path):
    space = ssnr.get_space("vgg")
    (tmp_path / "ms.csv").write_text("architecture,latency_ms\n11,4.5\n16,9\n")
    table = measure_of(["latency"], space, table=tmp_path / "ms.csv")
    assert table(space, "11", 0) == {"latency": pytest.approx(0.0045)}
    with pytest.raises(ssnr.SsnrError, match=r"ms.csv has no latency of 13$"):
        table(space, "13", 0)
    both = measure_of(["memory", "latency"], space, table=tmp_path / "ms.csv")
    assert both(space, "11", 0) == {"latency": pytest.approx(0.0045), **OnDevice(["memory"])(space, "11", 0)}
    assert both.note == f"latency looked up in {tmp_path / 'ms.csv'}; memory of a forward pass: batch 1, 1 thread, cpu"
    (tmp_path / "none.csv").write_text("architecture,time\n11,4.5\n")
    with pytest.raises(
        ssnr.UsageError, match=r"expected one column of latency, latency_s, .*; columns are architecture, "
    ):
        FromTable(tmp_path / "none.csv", space)
    with pytest.raises(ssnr.UsageError, match=r"gone.csv: there is no such file$"):
        FromTable(tmp_path / "gone.csv", space)


def test_the_command_line_keeps_to_a_latency(tmp_path):
    rows = "\n".join(f"{arch},{k}" for k, arch in enumerate(ssnr.get_space("vgg").all()))
    (tmp_path / "ms.csv").write_text(f"architecture,latency_ms\n{rows}\n")
    options = ("--max-latency", "5ms", "--latency-csv", "ms.csv", "--store", "s.sqlite", "--workers", 1, "--json")
    done = command("search", "vgg", "-p", "params", *options, cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    # Latency k ms is that of the k-th: up to 5 ms the first six widths of depth 11, of which the widest has most.
    best = json.loads(done.stdout)["best"]
    assert [row["architecture"] for row in best] == ["11-w48", "11-w40", "11-w32", "11-w24", "11-w16", "11-w8"]
    assert [row["latency"] for row in best] == pytest.approx([0.005, 0.004, 0.003, 0.002, 0.001, 0.0])
    done = command("search", "vgg", "-p", "-latency", "--device", "cuda:9", "--store", "s.sqlite", cwd=tmp_path)
    assert done.exit_code == 2 and done.stderr.startswith("ssnr: --device 'cuda:9': ")
