"""Scoring in threads: they take turns, get the numbers of one after another, and leave the process as it was."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn

import ssnr
from networks import golden
from ssnr.interpret.approximated import Reached

PROXIES = ["synflow/layerwise_ssnr", "snip", "grasp", "noise_ssnr", "params"]


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g


class Own(nn.Module):
    """Every part that makes scoring touch what the process shares: an own function, a checkpoint, random numbers."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.drop = nn.Dropout(0.5)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=draw))

    def forward(self, x):
        x = torch.utils.checkpoint.checkpoint(self.layers[0], x, use_reentrant=True)
        x = Double.apply(F.relu(self.layers[1](x)))
        return self.drop(self.layers[2](x + 0.1 * torch.randn_like(x)))


def scored(net: nn.Module) -> list[tuple[str, float | None, str]]:
    batch = torch.ones(4, 6), torch.tensor([0, 1, 2, 3])
    return [(name, s.value, s.status) for name, s in ssnr.score(net, batch, PROXIES, seed=1).items()]


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_threads_get_the_numbers_of_one_after_another_and_leave_the_process_as_it_was():
    networks = [Own(seed) for seed in range(8)]
    expected = [scored(net) for net in networks]
    shared = (torch.autograd.Function.__dict__["apply"], torch.utils.checkpoint.CheckpointFunction,
              torch.get_default_dtype(), torch.get_rng_state().numpy().tobytes())  # fmt: skip
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(scored, networks))
    assert found == expected
    assert shared == (torch.autograd.Function.__dict__["apply"], torch.utils.checkpoint.CheckpointFunction,
                      torch.get_default_dtype(), torch.get_rng_state().numpy().tobytes())  # fmt: skip


def test_while_a_network_is_scored_autograd_functions_are_pytorch_s_own():
    own, seen = torch.autograd.Function.__dict__["apply"], []

    class Looks(nn.Module):
        def __init__(self, exponent):
            super().__init__()
            self.layers = nn.Sequential(*(nn.Linear(6, 6, bias=False) for _ in range(40)))
            with torch.no_grad():
                for layer in self.layers:
                    layer.weight *= 2.0**exponent

        def forward(self, x):
            seen.append(torch.autograd.Function.__dict__["apply"])
            return Double.apply(self.layers(x))

    for exponent in (0, 40):
        assert ssnr.score(Looks(exponent), input_shape=(6,), proxies=["synflow"])["synflow"].status == "ok"
    assert len(seen) >= 3 and all(apply is own for apply in seen)


def test_one_network_may_be_scored_by_several_threads_at_once():
    net = golden()
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: ssnr.score(net, input_shape=(2,), proxies=["synflow"]), range(8)))
    assert {scores["synflow"].value for scores in found} == {found[0]["synflow"].value}


def test_a_forward_that_scores_again_does_not_wait_for_itself():
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.inner = nn.Linear(2, 2), golden()

        def forward(self, x):
            ssnr.score(self.inner, input_shape=(2,), proxies=["synflow"])
            return self.layer(x)

    done = threading.Event()

    def run() -> None:
        ssnr.score(Nested(), input_shape=(2,), proxies=["synflow"])
        done.set()

    threading.Thread(target=run, daemon=True).start()
    assert done.wait(60)


# --- how a value's sources are looked for -------------------------------------------------------------------------


def test_asking_for_every_value_of_a_chain_looks_at_each_node_once():
    source, weight = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    reached, value = Reached([source]), source.clone()
    values = []
    for _ in range(500):
        value = value * weight
        values.append(value)
    assert all(map(reached, values))
    assert not reached(weight * weight)
    assert reached.visited == 504  # 500 products, the clone, two leaves, and the product of weights


def test_a_source_that_is_named_later_is_found_in_what_is_made_of_it():
    sources: list[torch.Tensor] = []
    reached = Reached(sources)
    first = torch.ones(2, requires_grad=True)
    assert not reached(first * 2)
    second = torch.ones(2, requires_grad=True)
    sources.append(second)
    assert reached(second * first)
    assert not reached(first * 3)
