from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import ssnr
from networks import brief, golden, golden_batch, small, small_batch, state
from ssnr.core.catalogue import SALIENCIES
from ssnr.core.recipes import get_recipe

ZEROS = torch.zeros(2, 2)
EVERYTHING = [*SALIENCIES, "params", "flops", "reachable_params", "layers"]


class Raises(nn.Module):
    """Changes buffers, modes and gradients' flags, then raises half-way."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.first(x))
        torch.rand(3)
        raise RuntimeError("half-way")


def test_the_network_is_bit_identical_after_every_proxy():
    net = small()
    net.norm.eval()
    net.conv.weight.requires_grad_(False)
    net.head.weight.grad = torch.ones_like(net.head.weight)
    before = state(net)
    scores = ssnr.score(net, small_batch(), EVERYTHING)
    assert {s.status for s in scores.values()} == {"ok"}
    assert state(net) == before


@pytest.mark.parametrize("recipe", ["seed", "zero-cost-nas", "naslib", "alethiometer"])
@pytest.mark.parametrize("proxy", EVERYTHING)
def test_the_network_is_bit_identical_when_its_forward_raises(recipe, proxy):
    net, batch = Raises(), (torch.randn(4, 3), torch.tensor([0, 1, 0, 1]))
    before = state(net)
    two = replace(get_recipe(recipe), images=2)  # what is drawn has to pass the norm before the error
    (score,) = ssnr.score(net, batch, [proxy], recipe=two).values()
    assert state(net) == before
    if proxy not in ("l2_norm", "magnitude", "params"):  # they read weights and run nothing
        assert score.status == "failed"
        assert score.reason is not None
        assert score.reason.startswith("the network (Raises) raised RuntimeError on input (")
        assert score.reason.endswith(", 3): half-way")


def test_a_wrong_input_shape_names_the_layer_and_both_shapes():
    score = ssnr.score(small(), None, ["synflow/layerwise_ssnr"], input_shape=(3, 5, 5))["synflow/layerwise_ssnr"]
    assert score.status == "failed"
    assert score.reason is not None
    assert score.reason.startswith(
        "layer 'conv' (Conv2d) raised RuntimeError on input (1, 3, 5, 5), weight (4, 1, 3, 3): Given groups=1"
    )


def test_a_network_without_weights_fails_with_the_reason():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.PReLU())
    score = ssnr.score(net, None, ["synflow/layerwise_ssnr"], input_shape=(3, 4, 4))["synflow/layerwise_ssnr"]
    reason = "no scored weights: the network has no parameter with two or more dimensions"
    assert brief(score) == (None, None, "failed", reason)


def test_an_integer_output_fails_with_the_reason():
    class Argmax(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = golden()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x).argmax(1)

    score = ssnr.score(Argmax(), None, ["synflow/layerwise_ssnr"], input_shape=(2,))["synflow/layerwise_ssnr"]
    assert score.status == "failed"
    assert score.reason == "the output holds no floating-point tensor (Tensor): nothing to differentiate"


def test_what_is_not_finite_is_a_failure_and_not_a_number():
    net = golden()
    with torch.no_grad():
        net[0].weight[0, 0] = float("nan")
    score = ssnr.score(net, None, ["synflow/layerwise_ssnr"], input_shape=(2,))["synflow/layerwise_ssnr"]
    assert (score.value, score.status) == (None, "failed")
    assert (
        score.reason
        == "layer '0.weight': its saliency is not finite (NaN): the weight '0.weight' holds NaN or infinity"
    )


def test_one_failing_family_leaves_the_others_alone():
    scores = ssnr.score(Raises(), input_shape=(3,), proxies=["synflow", "magnitude"])
    assert [s.status for s in scores.values()] == ["failed", "ok"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ssnr.score("net", input_shape=(2,)), "expected a torch.nn.Module, got str: 'net'"),
        (lambda: ssnr.score(golden(), None, ["synflw"]), "unknown proxy 'synflw': did you mean syn"),
        (lambda: ssnr.score(golden(), input_shape=(2,), proxies=["snip"]), r"plain needs a batch|snip needs a batch"),
        (lambda: ssnr.score(golden(), None, ["synflow"]), "synflow needs the shape of one input: input_shape="),
        (lambda: ssnr.score(golden(), input_shape=(2,), recipe="sed"), "unknown recipe 'sed': did you mean seed?"),
        (lambda: ssnr.score(golden(), ZEROS[:0], ["synflow"]), r"the batch is empty: inputs have shape \(0, 2\)"),
        (lambda: ssnr.score(golden(), (ZEROS, torch.zeros(3)), ["snip"]), "the batch has 2 inputs but 3 targets"),
        (lambda: ssnr.score(golden(), (ZEROS, torch.tensor([0, 5])), ["snip"]), "label 5 for a network with 2 outputs"),
        (lambda: ssnr.score(golden(), ZEROS, ["snip"]), "this proxy needs labels"),
        (lambda: ssnr.score(golden(), input_shape=(2,), proxies=["params/sum"]), "params is one number already"),
        (lambda: ssnr.score(golden(), None, ["l2_norm/layerwise_ssnr(1)"]), r"takes \(p,q,r=0\), got 1 numbers"),
        (lambda: ssnr.score(golden(), input_shape=(2,), proxies=[]), "no proxy asked for"),
        (lambda: ssnr.saliency(golden(), "params"), "params is a plain proxy: it has no saliency by weight"),
    ],
)  # fmt: skip
def test_wrong_calls_say_what_was_expected(call, said):
    with pytest.raises(ssnr.UsageError, match=said):
        call()


def test_controls_of_any_network():
    scores = ssnr.score(small(), small_batch(), ["params", "flops", "reachable_params", "layers"])
    conv, mix, head = 4 * 9 + 4, 16, 4 * 3 + 3
    flops = 25 * 4 * 9 + 25 * 4 + 25 * 16 + 12 + 3
    assert [s.value for s in scores.values()] == [conv + 8 + mix + head, flops, 36 + 16 + 12, 3]


def test_the_same_inputs_give_the_same_scores_with_any_number_of_threads():
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(ssnr.score(golden(), golden_batch(), EVERYTHING))
        assert results[0] == results[1]
    finally:
        torch.set_num_threads(threads)


def test_alethiometers_numbers_on_the_network_solved_by_hand():
    names = ["synflow/layerwise_ssnr", "snip/layerwise_ssnr"]
    scores = ssnr.score(golden(), golden_batch(), names, recipe="alethiometer")
    # Its own numbers are float32 sums.
    assert [s.value for s in scores.values()] == pytest.approx([10.6458740, 11.7658472], rel=1e-7)


def test_zero_cost_nas_and_naslib_numbers_on_the_network_solved_by_hand():
    names = ["synflow", "snip", "grasp", "plain", "grad_norm", "fisher"]
    theirs = [30, 6.4164319, -2.0220819, -0.2913631, 2.5149806, 3.0635302]
    scores = ssnr.score(golden(), golden_batch(), names, recipe="zero-cost-nas")
    assert [s.value for s in scores.values()] == pytest.approx(theirs, rel=1e-6)
    log = ssnr.score(golden(), golden_batch(), ["synflow"], recipe="naslib")["synflow"].value
    assert log == pytest.approx(3.4011973816621555)


def test_norms_kept_by_the_zero_cost_nas_recipe():
    first, last = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        last.weight.copy_(torch.tensor([[1.0, 2.0]]))
    net = nn.Sequential(first, nn.LayerNorm(2), last)
    kept = ssnr.score(net, input_shape=(2,), proxies=["synflow"], recipe="zero-cost-nas")["synflow"].value
    assert kept == pytest.approx(3.0000025, rel=1e-6)
    net[1] = nn.BatchNorm1d(2)
    assert ssnr.score(net, input_shape=(2,), proxies=["synflow"], recipe="zero-cost-nas")["synflow"].value == 34
