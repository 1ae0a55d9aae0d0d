"""Where a network keeps its tensors, however it keeps them, and what of them are its weights."""

from __future__ import annotations

import warnings
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import ssnr
from networks import golden, golden_batch

LAYERWISE = 12.2927965761
GRASP = -2.02208094887


class Sliced(nn.Module):
    """A slice of columns made once: a view with the strides of the whole."""

    def __init__(self, view: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.w, self.head = nn.Parameter(torch.randn(4, 6)), nn.Linear(4, 2)
        self.left = self.w[:, 1:3] if view else None

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(x @ (self.w[:, 1:3] if self.left is None else self.left).T))
        return out


def test_a_slice_of_columns_follows_its_parameter():
    for name in ("synflow", "plain", "grasp"):
        found, wanted = (ssnr.saliency(Sliced(view), name, golden_batch()) for view in (True, False))
        assert all(torch.equal(found[layer], wanted[layer]) for layer in wanted), name


def scaled_buffer() -> nn.Module:
    net = golden()
    net[0].register_buffer("table", torch.ones(2, 2))
    parametrize.register_parametrization(net[0], "table", Halves())
    return net


def parametrised_twice() -> nn.Module:
    net, through = golden(), Through()
    parametrizations.weight_norm(through.layer)
    parametrize.register_parametrization(net[0], "weight", through)
    return net


def pruned_part() -> nn.Module:
    net = golden()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.nn.utils.weight_norm(net[0])
    torch.nn.utils.prune.identity(net[0], "weight_v")
    return net


class Halves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 2


class Through(nn.Module):
    """A weight that another layer computes, here the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.eye(2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


@pytest.mark.parametrize("make", [scaled_buffer, parametrised_twice, pruned_part])
def test_what_a_weight_is_computed_from_and_computed_buffers_are_no_layers(make):
    scores = ssnr.score(make(), golden_batch(), ["magnitude", "synflow/layerwise_ssnr", "grasp"])
    assert [layer.name for layer in scores["magnitude"].layers] == ["0.weight", "2.weight"]
    assert [s.value for s in scores.values()] == pytest.approx([11, LAYERWISE, GRASP], rel=1e-6)


def _ties(net: nn.Sequential) -> None:
    net[2].weight = net[0].weight


def _freezes(net: nn.Sequential) -> None:
    net.requires_grad_(False)
    net[0].weight.requires_grad = False


def _asks(net: nn.Sequential) -> None:
    assert isinstance(net[0].weight, nn.Parameter)
    assert net[0].weight.decays == "no"


@pytest.mark.parametrize("does", [_ties, _freezes, _asks])
def test_a_forward_may_tie_freeze_or_ask_its_parameters(does):
    net, expected = golden(), golden()
    net[0].weight.decays = "no"
    if does is _ties:
        expected[2].weight = expected[0].weight
    net.register_forward_pre_hook(lambda net, args: does(net))
    scores, wanted = (ssnr.score(n, golden_batch(), ["synflow", "snip", "grasp"]) for n in (net, expected))
    assert [s.value for s in scores.values()] == [s.value for s in wanted.values()]
    assert net[2].weight is not net[0].weight and net[0].weight.requires_grad


@pytest.mark.parametrize(
    "hook",
    [
        lambda layer: layer.register_full_backward_hook(lambda m, inner, outer: tuple(None for _ in inner)),
        lambda layer: layer.register_full_backward_pre_hook(lambda m, outer: tuple(7 * g for g in outer)),
        lambda layer: nn.modules.module.register_module_full_backward_pre_hook(lambda m, outer: (7 * outer[0],)),
    ],
)
def test_hooks_on_gradients_change_no_saliency(hook):
    net, names = golden(), ["synflow/layerwise_ssnr", "snip", "grasp"]
    handle = hook(net[2])
    try:
        assert ssnr.score(net, golden_batch(), names) == ssnr.score(golden(), golden_batch(), names)
    finally:
        handle.remove()


def test_references_to_what_is_elsewhere_are_followed_nowhere():
    class Child(nn.Module):
        def __init__(self, parent: nn.Module, gone: nn.Module) -> None:
            super().__init__()
            self.layer = golden()[0]
            self.parents = [weakref.proxy(parent), weakref.ref(parent), weakref.proxy(gone)]
            self.__dict__["parent"] = weakref.proxy(parent)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x)
            return out

    net = golden()
    net[0] = Child(net, nn.Linear(2, 2))
    score = ssnr.score(net, golden_batch(), ["grasp"])["grasp"]
    assert (score.value, score.notes) == (pytest.approx(GRASP), ())


ELSEWHERE = nn.Linear(2, 2, bias=False)


class Outside(nn.Module):
    """Its first layer is made in the forward, or is none of its own."""

    def __init__(self, makes: bool) -> None:
        super().__init__()
        self.makes, self.head = makes, golden()[2]

    def forward(self, x: Tensor) -> Tensor:
        layer = nn.Linear(2, 2, bias=False) if self.makes else ELSEWHERE
        out: Tensor = self.head(torch.relu(layer(x)))
        return out


@pytest.mark.parametrize("makes", [True, False])
def test_parameters_from_outside_of_the_network_are_noted(makes):
    said = "parameters from outside of the network, or made in its forward, are not scored: (2, 2)"
    for score in ssnr.score(Outside(makes), golden_batch(), ["synflow", "snip"]).values():
        assert ([layer.name for layer in score.layers], score.notes[0]) == (["head.weight"], said)


def test_a_network_that_runs_on_detached_copies_of_its_weights_is_not_dead():
    class Copies(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = golden()[0]

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.state_dict()["layer.weight"].T

    reason = "the output is detached from every weight (detach or no_grad in the forward): nothing to differentiate"
    for score in ssnr.score(Copies(), golden_batch(), ["synflow", "snip"]).values():
        assert (score.status, score.reason) == ("failed", reason)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
def test_sparse_weights_are_refused_and_sparse_buffers_are_not(layout):
    class Spread(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = golden()
            self.register_buffer("neighbours", torch.eye(2).to_sparse(layout=layout))

        def forward(self, x: Tensor) -> Tensor:
            return torch.sparse.mm(self.neighbours, self.body(x))

    scores = ssnr.score(Spread(), (golden_batch()[0], golden_batch()[1]), ["snip", "grasp"])
    assert scores["grasp"].value == pytest.approx(GRASP)
    net = golden()
    net[0].weight = nn.Parameter(net[0].weight.detach().to_sparse(layout=layout))
    for score in ssnr.score(net, golden_batch(), ["synflow", "snip", "magnitude"]).values():
        assert score.reason == f"'0.weight' is sparse ({layout}): make it dense".replace("torch.", "")
