from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ssnr
from networks import brief, golden, golden_batch, matrices, naive_gradients, naive_synflow, small, small_batch
from ssnr.core.catalogue import SALIENCIES
from ssnr.spaces import get_space

W1 = {
    "synflow": [1.5, 3, 9, 1.5],
    "snip": [0.566311003, 0.566311003, 1.088653660, 0.101713225],
    "plain": [-0.566311003, -0.566311003, 1.088653660, -0.101713225],
    "grasp": [6.462287962, 6.462287962, -16.515404927, 1.322565634],
    "grasp_abs": [6.462287962, 6.462287962, 16.515404927, 1.322565634],
    "magnitude": [1, 2, 3, 0.5],
}
W2 = {
    "synflow": [3, 7, 1.5, 3.5],
    "snip": [0.755081338, 1.973880871, 0.377540669, 0.986940435],
    "plain": [-0.755081338, 1.973880871, -0.377540669, -0.986940435],
    "grasp": [9.109324257, -26.835607932, 4.554662129, 13.417803966],
    "grasp_abs": [9.109324257, 26.835607932, 4.554662129, 13.417803966],
    "magnitude": [1, 2, 0.5, 1],
}


@pytest.mark.parametrize("name", W1)
def test_the_network_solved_by_hand_weight_by_weight(name):
    found = ssnr.saliency(golden(), name, golden_batch())
    assert found["0.weight"].flatten().tolist() == pytest.approx(W1[name], abs=5e-10)
    assert found["2.weight"].flatten().tolist() == pytest.approx(W2[name], abs=5e-10)


@pytest.mark.parametrize(
    ("name", "total", "overall", "layerwise"),
    [
        ("synflow", 30, 11.4939154227, 12.2927965761),
        ("snip", 6.41643220408, 12.0361280043, 13.5860308095),
        ("plain", -0.291363142029, -0.302755622178, -0.338656380371),
        ("grasp", -2.02208094887, -0.155004998587, -0.224644941675),
        ("grasp_abs", 84.6799447677, 11.0998342489, 12.0604193966),
    ],
)
def test_the_network_solved_by_hand_aggregated(name, total, overall, layerwise):
    scores = ssnr.score(golden(), golden_batch(), [name, f"{name}/ssnr", f"{name}/layerwise_ssnr"])
    assert [s.value for s in scores.values()] == pytest.approx([total, overall, layerwise], rel=1e-11)
    assert {s.status for s in scores.values()} == {"ok"}


@pytest.mark.parametrize(
    ("name", "total"),
    [("grad_norm", 2.51498066007), ("l2_norm", 6.27491721764), ("magnitude", 11), ("fisher", 3.06352997017)],
)
def test_sums_of_the_other_saliencies_on_the_network_solved_by_hand(name, total):
    assert ssnr.score(golden(), golden_batch(), [name])[name].value == pytest.approx(total, rel=1e-11)


def test_grasp_divides_the_logits_by_the_temperature():
    scores = ssnr.score(golden(), golden_batch(), ["grasp", "grasp/layerwise_ssnr"], recipe="seed(temperature=200)")
    assert scores["grasp"].value == pytest.approx(-8.80667672e-5, rel=1e-8)
    assert scores["grasp/layerwise_ssnr"].value == pytest.approx(-7.35013335448, rel=1e-11)


def test_the_log_of_a_sum_is_natural_and_there_is_none_of_a_negative_one():
    scores = ssnr.score(golden(), golden_batch(), ["synflow", "grasp"])
    assert scores["synflow"].log_value == pytest.approx(np.log(30), rel=1e-15)
    assert scores["grasp"].log_value is None


@pytest.mark.parametrize("number", range(20))
def test_synflow_is_naive_float64_autograd_on_random_nasbench201_cells(number):
    space = get_space("nasbench201")
    net = space.build(space.sample(random.Random(number)), seed=number)
    found, naive = ssnr.saliency(net, "synflow", input_shape=(3, 32, 32)), naive_synflow(net, (3, 32, 32))
    _same_layers(found, naive)


@pytest.mark.parametrize("number", range(20))
def test_gradient_saliencies_are_naive_float64_autograd_on_random_nasbench201_cells(number):
    space = get_space("nasbench201/imagenet16-120")
    net = space.build(space.sample(random.Random(100 + number)), seed=number)
    generator = torch.Generator().manual_seed(number)
    batch = torch.randn(3, 3, 16, 16, generator=generator), torch.randint(120, (3,), generator=generator)
    naive = naive_gradients(net, batch)
    for name in ("snip", "plain", "grasp"):
        _same_layers(ssnr.saliency(net, name, batch), naive[name])


def _same_layers(found: dict[str, torch.Tensor], naive: dict[str, torch.Tensor]) -> None:
    for name, values in found.items():
        expected = naive.get(name, torch.zeros_like(values))
        scale = max(float(expected.abs().max()), 1e-300)
        assert float((values - expected).abs().max()) <= 1e-9 * scale, name


def test_grasp_is_the_finite_difference_of_the_gradient_along_itself():
    net, batch = small(), small_batch()
    weights = {name: p.detach().double() for name, p in net.named_parameters()}
    buffers = {name: b.clone() for name, b in net.named_buffers()}
    net.train().double()
    net.drop.p = 0.0

    def gradient(at: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        leaves = {name: w.clone().requires_grad_() for name, w in at.items()}
        state = {name: b.double() if b.is_floating_point() else b.clone() for name, b in buffers.items()}
        out = torch.func.functional_call(net, {**leaves, **state}, (batch[0].double(),))
        loss = F.cross_entropy(out, batch[1])
        return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))

    g = gradient(weights)
    scored = {name for name in weights if weights[name].dim() >= 2}
    step = 1e-6
    ahead, back = (gradient({n: w + s * g[n] if n in scored else w for n, w in weights.items()}) for s in (step, -step))
    found = ssnr.saliency(small(), "grasp", batch)
    for name in scored:
        expected = -weights[name] * (ahead[name] - back[name]) / (2 * step)
        assert torch.allclose(found[name], expected, rtol=1e-6, atol=1e-9), name


def test_synflow_reads_a_norm_of_any_kind_as_the_identity():
    norms = [nn.BatchNorm1d(2), nn.GroupNorm(1, 2), nn.LayerNorm(2), nn.Identity()]
    if hasattr(nn, "RMSNorm"):
        norms.append(nn.RMSNorm(2))
    for norm in norms:
        first, last = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            first.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
            last.weight.copy_(torch.tensor([[1.0, 2.0]]))
        score = ssnr.score(nn.Sequential(first, norm, last), input_shape=(2,), proxies=["synflow"])
        assert score["synflow"].value == 34, norm


def test_synflow_sees_functional_norms_too():
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
            with torch.no_grad():
                self.a.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
                self.b.weight.copy_(torch.tensor([[1.0, 2.0]]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.b(F.dropout(F.layer_norm(self.a(x), (2,))))
            return out

    assert ssnr.score(Functional(), input_shape=(2,), proxies=["synflow"])["synflow"].value == 34


def test_the_sum_of_a_chain_is_layers_times_R():
    torch.manual_seed(0)
    net = nn.Sequential(*(m for n in range(5) for m in (nn.Linear(4, 4, bias=False), nn.ReLU())))
    layers = ssnr.score(net, input_shape=(4,), proxies=["synflow"])["synflow"].layers
    assert [layer.total for layer in layers] == pytest.approx([layers[0].total] * 5, rel=1e-12)


class Passes:
    """Counts the forward passes of a network, and the backward passes through its first layer."""

    def __init__(self, net: nn.Module) -> None:
        self.seen: Counter[str] = Counter()
        net.register_forward_hook(self._forward)

    def _forward(self, module: nn.Module, args: object, out: torch.Tensor) -> None:
        self.seen["forward"] += 1
        out.register_hook(lambda g: self.seen.update(["backward with graph" if g.requires_grad else "backward"]))


def test_gradient_saliencies_share_one_forward_one_backward_and_one_hessian_vector_product(monkeypatch):
    net, calls = small(), []
    passes = Passes(net)
    grad = torch.autograd.grad

    def counted(*args, **kwargs):
        calls.append(bool(kwargs.get("create_graph")))
        return grad(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    names = ["snip", "grad_norm", "plain", "fisher", "grasp", "grasp_abs/layerwise_ssnr"]
    scores = ssnr.score(net, small_batch(), names)
    assert {s.status for s in scores.values()} == {"ok"}
    assert passes.seen["forward"] == 1
    assert calls == [True, False]


def test_values_do_not_depend_on_what_else_is_asked_for():
    names = [name for name in SALIENCIES if SALIENCIES[name].family != "custom"]
    together = ssnr.score(small(), small_batch(), [f"{name}/layerwise_ssnr" for name in names])
    for name in names:
        (alone,) = ssnr.score(small(), small_batch(), [f"{name}/layerwise_ssnr"]).values()
        assert alone == together[f"{name}/layerwise_ssnr"], name


def test_fisher_of_a_convolution_is_per_channel_and_safe_from_in_place_activations():
    torch.manual_seed(0)
    conv, head, batch = nn.Conv2d(1, 3, 3), nn.Linear(27, 2), (torch.randn(4, 1, 5, 5), torch.tensor([0, 1, 1, 0]))
    a = conv.double()(batch[0].double()).detach().requires_grad_()
    F.cross_entropy(head.double()(F.silu(a).flatten(1)), batch[1]).backward()
    delta = 0.5 * (a * a.grad).sum((2, 3)).square().mean(0).detach()
    for inplace in (False, True):
        net = nn.Sequential(conv, nn.SiLU(inplace=inplace), nn.Flatten(), head)
        found = ssnr.saliency(net, "fisher", batch)["0.weight"]
        assert torch.allclose(found, delta.reshape(3, 1, 1, 1).expand(3, 1, 3, 3), rtol=1e-12)


def test_an_unused_layer_is_listed_and_changes_nothing():
    net = golden()
    net.idle = nn.Linear(2, 2)
    net.forward = lambda x: net[2](net[1](net[0](x)))  # type: ignore[method-assign]
    scores = ssnr.score(net, input_shape=(2,), proxies=["synflow/ssnr", "synflow/layerwise_ssnr"])
    assert scores["synflow/layerwise_ssnr"].value == pytest.approx(12.2927965761)
    assert scores["synflow/ssnr"].value == pytest.approx(11.4939154227)
    assert [layer.flag for layer in scores["synflow/ssnr"].layers] == [None, None, "unused"]


def test_a_tied_weight_is_one_layer_with_its_whole_gradient():
    a, b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    b.weight = a.weight
    with torch.no_grad():
        a.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    net = nn.Sequential(a, nn.ReLU(), b)
    ours = ssnr.score(net, input_shape=(2,), proxies=["synflow", "synflow/layerwise_ssnr"])
    assert ours["synflow"].value == 108
    assert ours["synflow/layerwise_ssnr"].value == pytest.approx(6.6659047148)
    assert len(ours["synflow"].layers) == 1
    theirs = ssnr.score(net, input_shape=(2,), proxies=["synflow"], recipe="zero-cost-nas")["synflow"]
    assert theirs.value == 216
    assert len(theirs.layers) == 2


def test_all_constant_layers_are_degenerate_and_the_network_is_ok():
    net = nn.Sequential(nn.Linear(7, 7, bias=False), nn.Linear(7, 7, bias=False))
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(0.1)
    scores = ssnr.score(net, input_shape=(7,), proxies=["synflow", "synflow/layerwise_ssnr"])
    assert scores["synflow"].value == pytest.approx(6.86)
    assert brief(scores["synflow/layerwise_ssnr"])[:3] == (0.0, None, "ok")
    other = ssnr.score(net, None, ["synflow/layerwise_ssnr"], input_shape=(7,), recipe="alethiometer")[
        "synflow/layerwise_ssnr"
    ]
    assert other.value == pytest.approx(6.86)


def test_sixty_layers_of_tiny_weights_underflow_nothing():
    net = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(60)))
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(0.1)
    score = ssnr.score(net, input_shape=(1,), proxies=["synflow"])["synflow"]
    assert score.value == pytest.approx(6.0e-59, rel=1e-6)
    assert score.log_value == pytest.approx(-134.06076, rel=1e-6)
    assert score.status == "ok"


def test_a_zero_head_is_dead_to_synflow_and_snip_but_not_to_grasp():
    net = golden()
    with torch.no_grad():
        net[2].weight.zero_()
    scores = ssnr.score(net, golden_batch(), ["synflow", "snip", "grasp"])
    assert [(s.value, s.status) for s in scores.values()] == [(0, "dead"), (0, "dead"), (-2.5, "ok")]
    assert ssnr.saliency(net, "grasp", golden_batch())["0.weight"].flatten().tolist() == [-1, -1, -0.75, 0.25]


class Ignores(nn.Module):
    """Its output does not depend on the input, though weights behind a bias have saliency."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.c(self.b(self.a(x) * 0.0).abs() + 1)
        return out


def test_a_network_that_ignores_its_input_is_dead_and_never_nan():
    score = ssnr.score(Ignores(), None, ["synflow/layerwise_ssnr"], input_shape=(2,))["synflow/layerwise_ssnr"]
    assert brief(score) == (0.0, None, "dead", "the output does not depend on the input")


@pytest.mark.parametrize(
    "pack", [lambda u, v: (u, v), lambda u, v: {"cls": u, "reg": v, "n": 3}, lambda u, v: [u, {"aux": (v,)}]]
)
def test_every_tensor_of_a_nested_output_counts(pack):
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            base = golden()
            self.trunk, self.head, self.other = base[0], base[2], nn.Linear(2, 1, bias=False)
            with torch.no_grad():
                self.other.weight.copy_(torch.tensor([[1.0, 2.0]]))

        def forward(self, x: torch.Tensor) -> object:
            hidden = torch.relu(self.trunk(x))
            return pack(self.head(hidden), self.other(hidden))

    score = ssnr.score(Two(), None, ["synflow/layerwise_ssnr"], input_shape=(2,))["synflow/layerwise_ssnr"]
    # The hidden units are (3, 3.5); ∂R/∂hidden = (1 + ½, 2 + 1) + (1, 2), so the trunk's saliencies are these.
    trunk, head, other = [2.5, 5, 15, 2.5], [3, 7, 1.5, 3.5], [3, 7]
    assert score.value == pytest.approx(sum(np.sum(s) / np.std(s) for s in (trunk, head, other)))
    assert [layer.total for layer in score.layers] == [25, 15, 10]


def test_raw_parameters_are_layers():
    class Raw(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
            self.head = nn.Linear(2, 1, bias=False)
            with torch.no_grad():
                self.head.weight.fill_(1.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.head(x @ self.w)
            return out

    found = ssnr.saliency(Raw(), "synflow", input_shape=(2,))
    assert {name: t.flatten().tolist() for name, t in found.items()} == {"w": [1, 2, 3, 4], "head.weight": [4, 6]}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_precision_networks_are_scored_in_float64(dtype):
    net = golden().to(dtype)
    assert ssnr.score(net, None, ["synflow/layerwise_ssnr"], input_shape=(2,))[
        "synflow/layerwise_ssnr"
    ].value == pytest.approx(12.2927965761)
    assert {p.dtype for p in net.parameters()} == {dtype}


def test_float32_passes_agree_with_float64_to_float32_precision():
    for name in ("snip", "grasp_abs", "fisher"):
        double, single = (
            ssnr.score(small(), small_batch(), [f"{name}/layerwise_ssnr"], recipe=f"seed(dtype={dtype})")
            for dtype in ("float64", "float32")
        )
        assert next(iter(single.values())).value == pytest.approx(next(iter(double.values())).value, rel=1e-4)


def test_frozen_layers_are_scored_like_any_other():
    net = golden()
    net[0].weight.requires_grad_(False)
    assert ssnr.score(net, golden_batch(), ["plain"])["plain"].value == pytest.approx(-0.291363142029)


def test_a_boolean_buffer_is_left_as_it_is():
    net = golden()
    net.register_buffer("mask", torch.tensor([True, False]))
    assert ssnr.score(net, None, ["synflow/layerwise_ssnr"], input_shape=(2,))[
        "synflow/layerwise_ssnr"
    ].value == pytest.approx(12.2927965761)


def test_dropout_is_off_and_scores_repeat():
    first, second = (ssnr.score(small(), small_batch(), ["snip", "grasp"]) for _ in range(2))
    assert first == second


def test_a_loss_of_ones_own_and_a_forward_of_ones_own():
    net, (x, y) = golden(), golden_batch()
    by_hand = ssnr.score(net, (x, y), ["snip"])["snip"].value
    nested = ssnr.score(
        net,
        ({"x": x}, y),
        ["snip"],
        forward=lambda net, batch: net(batch["x"]),
        loss=lambda out, y: F.cross_entropy(out, y),
    )
    assert nested["snip"].value == pytest.approx(by_hand, rel=1e-14)


def test_float_targets_mean_squared_error():
    net, (x, _) = golden(), golden_batch()
    target = torch.zeros(2, 2)
    expected = ssnr.score(net, (x, target), ["plain"], loss=lambda out, y: ((out - y) ** 2).mean())["plain"].value
    assert ssnr.score(net, (x, target), ["plain"])["plain"].value == pytest.approx(expected, rel=1e-14)


def test_a_saliency_and_a_proxy_of_ones_own_work_at_once():
    from ssnr.core.catalogue import PLAIN

    @ssnr.register_saliency(data=False)
    def twice_magnitude(net, batch):
        """2|θ|."""
        return {name: 2 * p.detach().abs() for name, p in matrices(net).items()}

    @ssnr.register_proxy(data=False)
    def answer(net, batch):
        """Always 42."""
        return 42.0

    try:
        scores = ssnr.score(
            golden(), input_shape=(2,), proxies=["twice_magnitude/layerwise_ssnr", "answer", "magnitude/layerwise_ssnr"]
        )
        assert scores["twice_magnitude/layerwise_ssnr"].value == pytest.approx(scores["magnitude/layerwise_ssnr"].value)
        assert scores["answer"].value == 42
    finally:
        SALIENCIES.remove("twice_magnitude")
        PLAIN.remove("answer")


def test_a_network_may_change_its_input_in_place():
    def net(inplace: bool) -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.ReLU(inplace=inplace), nn.Linear(2, 3), nn.ReLU(inplace=inplace), nn.Linear(3, 2))

    names = ["synflow", "snip", "grasp", "fisher"]
    assert ssnr.score(net(True), golden_batch(), names) == ssnr.score(net(False), golden_batch(), names)


def test_a_network_whose_output_never_touches_the_input_is_dead_to_every_saliency():
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p, self.b = nn.Parameter(torch.ones(2)), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.b(self.p.expand(x.shape[0], 2))
            return out

    scores = ssnr.score(Constant(), golden_batch(), ["synflow/layerwise_ssnr", "snip", "grasp", "fisher", "grad_norm"])
    assert {brief(s)[:3] for s in scores.values()} == {(0.0, None, "dead")}


def test_fisher_of_grouped_and_transposed_convolutions_repeats_the_channel_over_its_weights():
    for layer in (nn.Conv2d(4, 6, 3, groups=2), nn.ConvTranspose2d(4, 6, 3, groups=2), nn.ConvTranspose2d(4, 6, 3)):
        torch.manual_seed(0)
        head = nn.Linear(6, 2)
        x, y = torch.randn(3, 4, 5, 5), torch.tensor([0, 1, 0])
        a = layer.double()(x.double()).detach().requires_grad_()
        F.cross_entropy(head.double()(a.mean((2, 3))), y).backward()
        delta = 0.5 * (a * a.grad).sum((2, 3)).square().mean(0).detach()
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        found = ssnr.saliency(nn.Sequential(layer, pool, head), "fisher", (x, y))["0.weight"]
        assert float(found.sum()) == pytest.approx(float(delta.sum()) * layer.weight.numel() / 6, rel=1e-12)
        if isinstance(layer, nn.Conv2d):
            assert torch.allclose(found[:, 0, 0, 0], delta, rtol=1e-12)
        elif layer.groups == 2:  # inputs 0, 1 feed outputs 0 … 2, inputs 2, 3 feed 3 … 5
            assert torch.allclose(found[[0, 2], :, 0, 0].flatten(), delta, rtol=1e-12)


def test_rounding_dust_behind_a_kept_batch_norm_is_dead():
    """An unpadded convolution makes the ones input constant, and batch norm in train mode erases a constant."""
    conv, norm, head = nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Linear(8, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.arange(1, 19).reshape(2, 1, 3, 3) / 10)
        head.weight.copy_(torch.arange(1, 9).reshape(1, 8) / 10)
    net = nn.Sequential(conv, norm, nn.ReLU(), nn.Flatten(), head)
    bypassed = ssnr.score(net, input_shape=(1, 4, 4), proxies=["synflow", "synflow/layerwise_ssnr"])
    assert bypassed["synflow"].value == pytest.approx(74.52, rel=1e-6)
    assert bypassed["synflow/layerwise_ssnr"].value == pytest.approx(32.68191, rel=1e-6)
    kept = ssnr.score(net, input_shape=(1, 4, 4), proxies=["synflow"], recipe="seed(norms=none,mode=eval)")["synflow"]
    assert kept.value == pytest.approx(74.51963, rel=1e-6)
    dust = ssnr.score(
        net, None, ["synflow/layerwise_ssnr"], input_shape=(1, 4, 4), recipe="seed(norms=none,mode=train)"
    )["synflow/layerwise_ssnr"]
    assert (dust.value, dust.status) == (0.0, "dead")


def test_weights_that_are_added_have_one_gradient_between_them():
    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.u = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
            self.v = nn.Parameter(torch.tensor([[5.0, 6.0], [7.0, 8.0]]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ (self.u + self.v)

    found = ssnr.saliency(Added(), "synflow", input_shape=(2,))
    assert {name: t.flatten().tolist() for name, t in found.items()} == {"u": [1, 2, 3, 4], "v": [5, 6, 7, 8]}
