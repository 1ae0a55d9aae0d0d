"""Counting from shapes: never another answer than that of the network that runs, and no trace of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ssnr
from random_nets import Net
from ssnr.core.recipes import get_recipe
from ssnr.core.results import Counts
from ssnr.proxies import controls
from ssnr.proxies.shapes import Counted, counted
from ssnr.spaces import get_space

torch.set_num_threads(1)
SEED = get_recipe("seed")


def by_running(net: nn.Module, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> Counts:
    """The counts of a network that runs."""
    with monkeypatch.context() as context:
        context.setattr(controls, "_by_shapes", lambda *_: Counted())
        return ssnr.count(net, shape)


class Does(nn.Module):
    """Layers a, b and c, and whatever a function makes of them and the input (1, 4, 8, 8)."""

    def __init__(self, does: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 6, 1, bias=False), nn.Linear(6, 3)
        self.gain, self.table = nn.Parameter(torch.rand(6, 1, 1) + 0.5), nn.Parameter(torch.randn(64, 6))
        self.zeros, self.shift = nn.Parameter(torch.zeros(1, 6, 1, 1)), nn.Parameter(torch.randn(1, 6, 1, 1))
        self.does = does

    def forward(self, x: Tensor) -> Any:
        return self.does(self, x)


def head(net: Does, x: Tensor) -> Tensor:
    return net.c(x.mean((2, 3)))


SURE = {
    "convolution, norm, rectifier, pooling": lambda n, x: head(n, F.max_pool2d(F.relu(n.a(x)), 2)),
    "average pooling that rounds up": lambda n, x: head(n, F.avg_pool2d(n.a(x), 3, 2, padding=1, ceil_mode=True)),
    "pooling to a size": lambda n, x: n.c(F.adaptive_avg_pool2d(n.b(n.a(x)), 1).flatten(1)),
    "a residual": lambda n, x: head(n, n.a(x) + n.b(n.a(x))),
    "a residual in place": lambda n, x: head(n, n.b(n.a(x)).add_(n.a(x))),
    "branches that join": lambda n, x: head(n, torch.cat([n.a(x), n.b(n.a(x))], 2)),
    "a stack": lambda n, x: head(n, torch.stack([n.a(x), n.b(n.a(x))]).sum(0)),
    "an input twice": lambda n, x: head(n, n.a(x * 0.5 + x / 3 + 1)),
    "a layer that nobody uses": lambda n, x: head(n, n.a(x)),
    "a layer whose output nobody uses": lambda n, x: (n.b(n.a(x)), head(n, n.a(x)))[1],
    "a convolution that is shared": lambda n, x: head(n, n.b(n.b(n.a(x)))),
    "raw parameters": lambda n, x: head(n, n.a(x) * n.gain + n.shift),
    "tokens of patches": lambda n, x: n.c((n.a(x).flatten(2).transpose(1, 2) + n.table).mean(1)),
    "a product of two": lambda n, x: n.c((n.a(x).flatten(2) @ n.b(n.a(x)).flatten(2).mT).sum(1)),
    "parts of one output": lambda n, x: head(n, n.a(x)[:, :, ::2, 1:]),
    "a chunk of one output": lambda n, x: head(n, n.a(x).chunk(2, 2)[0]),
    "resizing": lambda n, x: head(n, F.interpolate(n.a(x), scale_factor=2, mode="bilinear")),
    "transposed": lambda n, x: n.c(F.conv_transpose2d(n.a(x), n.b.weight, stride=2, output_padding=1).mean((2, 3))),
    "strides and dilation": lambda n, x: head(n, F.conv2d(x, n.a.weight, n.a.bias, 2, 2, 2)),
    "padding by name": lambda n, x: head(n, F.conv2d(x, n.a.weight, padding="same")),
    "padding of zeros": lambda n, x: head(n, n.a(F.pad(x, (0, 1, 2, 0)))),
    "several outputs": lambda n, x: {"one": head(n, n.a(x)), "other": [n.b(n.a(x))]},
    "attention, through its values": lambda n, x: n.c(F.scaled_dot_product_attention(
        x.flatten(2)[:, :1], x.flatten(2)[:, :1], x.flatten(2)[:, :1]).expand(1, 64, 64)[..., :6]),
    "an output that ignores the input": lambda n, x: n.c(n.table),
    "sizes that decide": lambda n, x: head(n, n.a(x) if x.shape[-1] == 8 and x.size(1) == 4 and x.dim() == 4 else x),
}  # fmt: skip
PRODUCTS_ONLY = {
    "a sigmoid": lambda n, x: head(n, torch.sigmoid(n.a(x))),
    "a gate, and beside it": lambda n, x: head(n, n.a(x) * torch.sigmoid(n.b(n.a(x)))),
    "a softmax of scores": lambda n, x: n.c((n.a(x).flatten(2).mT @ n.b(n.a(x)).flatten(2)).softmax(-1) @ n.table),
    "a part of branches that join": lambda n, x: head(n, torch.cat([n.a(x), n.b(n.a(x))], 1)[:, :6]),
    "a product with zeros": lambda n, x: head(n, n.a(x) * n.zeros),
    "a factor of zero": lambda n, x: head(n, n.a(x) + n.b(n.a(x)) * 0.0),
    "a negative factor": lambda n, x: head(n, n.a(x) * -1.0),
    "more padding than kernel": lambda n, x: head(n, F.conv2d(n.a(x), n.b.weight, padding=1)),
}
NOTHING = {
    "a difference": lambda n, x: head(n, n.a(x) - n.b(n.a(x))),
    "numbers made on the way": lambda n, x: head(n, n.a(x) + torch.ones(6, 1, 1)),
    "a question about numbers": lambda n, x: head(n, n.a(x) if x.sum() > 0 else n.b(n.a(x))),
    "a number": lambda n, x: head(n, n.a(x) * x.mean().item()),
    "random numbers": lambda n, x: head(n, F.dropout(n.a(x)) + torch.rand(6, 1, 1)),
    "a write to a view": lambda n, x: head(n, n.a(x)[:, 0].add_(1)[:, None].expand(1, 6, 8, 8)),
    "a copy without gradients": lambda n, x: head(n, n.a(x).detach() + n.a(x)),
    "what it tries": lambda n, x: head(n, trying(n, x)),
}


def trying(net: Does, x: Tensor) -> Tensor:
    try:
        return net.a(x.cumsum(1))
    except Exception:
        return net.b(net.a(x))


@pytest.mark.parametrize(
    ("what", "answered"),
    [
        *((what, (True, True)) for what in SURE),
        *((what, (True, False)) for what in PRODUCTS_ONLY),
        *((what, (False, False)) for what in NOTHING),
    ],
)  # fmt: skip
def test_each_operation_is_counted_as_it_runs_or_not_at_all(what, answered, monkeypatch):
    net = Does((SURE | PRODUCTS_ONLY | NOTHING)[what])
    found = counted(net, (4, 8, 8), SEED)
    assert (found.flops is not None, found.reachable is not None) == answered
    expected = by_running(net, (4, 8, 8), monkeypatch)
    assert found.flops in (None, expected.flops)
    assert found.reachable in (None, (expected.reachable_params, expected.layers))
    assert ssnr.count(net, (4, 8, 8)) == expected


def test_random_networks_are_counted_as_they_run(monkeypatch):
    answered = 0
    for seed in range(60):
        net = Net(seed)
        found, expected = counted(net, (2, 6, 6), SEED), by_running(net, (2, 6, 6), monkeypatch)
        assert found.flops in (None, expected.flops), seed
        assert found.reachable in (None, (expected.reachable_params, expected.layers)), seed
        answered += None not in found
    assert answered == 60


@pytest.mark.parametrize("name", ["nasbench201", "nasbench101", "darts", "transnasbench101-macro", "resnet"])
def test_networks_of_spaces_are_counted_as_by_arithmetic(name):
    space = get_space(name)
    arch = space.sample(random.Random(4))
    found, expected = counted(space.build(arch), space.input_shape, SEED), space.counts(arch)
    assert found.flops == expected.flops
    assert found.reachable in (None, (expected.reachable_params, expected.layers))


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_transformer_is_counted_as_it_runs(norm_first, bias, monkeypatch):
    layer = nn.TransformerEncoderLayer(8, 2, 12, 0.1, batch_first=True, norm_first=norm_first, bias=bias)
    net = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Flatten(2), layer, layer, nn.Flatten(), nn.Linear(32, 5))
    net = nn.Sequential(net[0], net[1], Turned(), *net[2:])
    expected = by_running(net, (3, 8, 8), monkeypatch)
    assert counted(net, (3, 8, 8), SEED) == (expected.flops, (expected.reachable_params, expected.layers))


class Turned(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


@pytest.mark.parametrize(
    ("wanted", "given"), [((5, 3), {"need_weights": False}), ((5, 3), {"average_attn_weights": False}), ((3, 5), {})]
)
def test_attention_across_two_sequences_is_counted_as_it_runs(wanted, given, monkeypatch):
    class Across(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.a, self.b = (
                nn.MultiheadAttention(8, 2, batch_first=True),
                *(nn.Linear(6, 8) for _ in "ab"),
            )

        def forward(self, x: Tensor) -> Any:
            one, other = self.a(x[:, : wanted[0]]), self.b(x[:, : wanted[1]])
            return self.attention(one, other, other, **given)[0]

    net = Across()
    found, expected = counted(net, (9, 6), SEED), by_running(net, (9, 6), monkeypatch)
    assert (found.flops, found.reachable) == (expected.flops, None)  # the queries come through a softmax alone


class Modal(nn.Module):
    """A second head while it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.aside = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Any:
        hidden = self.body(x)
        return (self.head(hidden), self.aside(hidden)) if self.training else self.head(hidden)


@pytest.mark.parametrize("training", [False, True])
def test_counts_are_those_of_a_network_that_is_used(training, monkeypatch):
    net = Modal().train(training)
    assert ssnr.count(net, (4,)) == by_running(net, (4,), monkeypatch) == Counts(65, 4 * 6 + 6 + 6 * 3 + 3, 42, 2, 65)
    assert counted(net, (4,), SEED) == (51, (42, 2))
    assert net.training is training and net.head.training is training


def test_a_frozen_network_has_its_parameters_and_none_that_are_trained():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).requires_grad_(False)
    assert ssnr.count(net, (3,)) == Counts(26, 26, 20, 2, 0)
    net[2].bias.requires_grad_()
    assert ssnr.count(net, (3,)).trainable == 2
    assert ssnr.score(net, input_shape=(3,), proxies=["params"])["params"].value == 26


def test_weights_of_zeros_are_not_reached(monkeypatch):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    nn.init.zeros_(net[2].weight)
    assert counted(net, (3,), SEED) == (26, None)
    assert ssnr.count(net, (3,)) == by_running(net, (3,), monkeypatch) == Counts(26, 26, 0, 0, 26)


@pytest.mark.parametrize("option", ["norms=none", "norms=batch", "scored=conv2d+linear", "ties=per-module"])
def test_a_recipe_that_reads_weights_in_its_own_way_is_run(option):
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    assert counted(net, (3,), get_recipe(f"seed({option})")) == (26, None)


def test_a_network_that_raises_says_so_as_ever():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 2))
    assert counted(net, (3,), SEED) == (None, None)
    with pytest.raises(ssnr.ScoringError, match=r"mat1 and mat2 shapes cannot be multiplied \(1x4 and 5x2\)"):
        ssnr.count(net, (3,))
