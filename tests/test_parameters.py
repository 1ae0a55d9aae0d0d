"""Weights of every kind of layer are layers by the user's names, with the gradients that naive autograd gives."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import ssnr
from networks import brief, golden, golden_batch

LAYERWISE = 12.2927965761
GRASP = -2.02208094887


class Pooled(nn.Module):
    """A layer, its output averaged over all places, and two classes."""

    def __init__(self, layer: nn.Module, channels: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        y = y[0] if isinstance(y, tuple) else y
        out: Tensor = self.head(y.flatten(2).mean(2) if isinstance(self.layer, CONVOLUTIONS) else y.mean(1))
        return out


CONVOLUTIONS = (nn.modules.conv._ConvNd,)
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, list[str]]] = {
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3), (4, 9), 6, ["weight"]),
    "Conv3d": (lambda: nn.Conv3d(2, 3, 2), (2, 3, 3, 3), 3, ["weight"]),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), (4, 5, 5), 6, ["weight"]),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4), (4, 5, 5), 4, ["weight"]),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 6, 3, groups=2), (4, 5), 6, ["weight"]),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(2, 3, 2), (2, 3, 3, 3), 3, ["weight"]),
    "RNN": (lambda: nn.RNN(4, 3, batch_first=True), (5, 4), 3, ["weight_ih_l0", "weight_hh_l0"]),
    "GRU": (lambda: nn.GRU(4, 3, batch_first=True), (5, 4), 3, ["weight_ih_l0", "weight_hh_l0"]),
    "LSTM, projected, both ways": (
        lambda: nn.LSTM(4, 3, batch_first=True, bidirectional=True, proj_size=2), (5, 4), 4,
        [f"weight_{part}_l0{way}" for way in ("", "_reverse") for part in ("ih", "hh", "hr")],
    ),
    "attention": (
        lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0.0), (5, 4), 4,
        ["self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"],
    ),
}  # fmt: skip


def naive(net: nn.Module, batch: tuple[object, Tensor]) -> dict[str, Tensor]:
    """Magnitudes |θ ⊙ ∂L/∂θ| from a backward call in float64."""
    net.double().train()
    F.cross_entropy(net(batch[0]), batch[1]).backward()
    return {name: (p * p.grad).abs().detach() for name, p in net.named_parameters() if p.dim() >= 2}


@pytest.mark.parametrize("kind", LAYERS)
def test_every_kind_of_layer_has_naive_autograds_snip(kind):
    make, shape, channels, names = LAYERS[kind]
    torch.manual_seed(0)
    net, x, y = Pooled(make(), channels), torch.randn(3, *shape, dtype=torch.float64), torch.tensor([0, 1, 1])
    found = ssnr.saliency(net, "snip", (x, y))
    wanted = naive(net, (x, y))
    assert set(found) == {*(f"layer.{name}" for name in names), "head.weight"} == set(wanted)
    for name, values in found.items():
        assert torch.allclose(values, wanted[name], rtol=1e-9, atol=1e-15), name


def test_bilinear_layers_embeddings_lists_and_dictionaries_of_parameters():
    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.table = nn.Embedding(6, 3)
            self.mix = nn.Bilinear(3, 3, 2)
            self.listed = nn.ParameterList([torch.randn(2, 2), torch.randn(2)])
            self.named = nn.ParameterDict({"u": torch.randn(2, 2)})
            self.idle = nn.Parameter(torch.randn(2, 2))

        def forward(self, tokens: Tensor) -> Tensor:
            x = self.table(tokens)
            out: Tensor = self.mix(x[:, 0], x[:, 1]) @ self.listed[0] + self.listed[1]
            return out @ self.named["u"]

    net, batch = Many(), (torch.tensor([[0, 1], [2, 2], [5, 0]]), torch.tensor([0, 1, 1]))
    score = ssnr.score(net, batch, ["snip"])["snip"]
    flags = {layer.name: layer.flag for layer in score.layers}
    assert flags == {
        "idle": "unused", "table.weight": None, "mix.weight": None, "listed.0": None, "named.u": None,
    }  # fmt: skip
    found, wanted = ssnr.saliency(net, "snip", batch), None
    net.idle = nn.Parameter(torch.zeros(()))  # no gradient reaches it
    wanted = naive(net, batch)
    for name in wanted:
        assert torch.allclose(found[name], wanted[name], rtol=1e-12), name


def halved(layer: nn.Linear) -> nn.Module:
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / 2

        def right_inverse(self, x: Tensor) -> Tensor:
            return x * 2

    parametrize.register_parametrization(layer, "weight", Half())
    return layer


REPARAMETRISED: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "weight_norm": parametrizations.weight_norm,
    "old weight_norm": torch.nn.utils.weight_norm,
    "a parametrisation of ones own": halved,
}


@pytest.mark.parametrize("kind", REPARAMETRISED)
def test_a_reparametrised_weight_is_one_layer_under_its_own_name(kind):
    net = golden()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        REPARAMETRISED[kind](net[0])
    scores = ssnr.score(net, golden_batch(), ["synflow/layerwise_ssnr", "grasp", "magnitude"])
    assert [layer.name for layer in scores["grasp"].layers] == ["0.weight", "2.weight"]
    wanted = [LAYERWISE, GRASP, 11]
    assert [s.value for s in scores.values()] == pytest.approx(wanted, rel=1e-6)  # the norm is computed in float32


@pytest.mark.parametrize("old", [False, True])
def test_spectral_norm_is_taken_as_it_stands_in_eval(old):
    net = golden()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        (torch.nn.utils.spectral_norm if old else parametrizations.spectral_norm)(net[0])
    effective = net.eval()[0](torch.eye(2)).T
    found = ssnr.saliency(net.train(), "magnitude")["0.weight"]
    assert torch.allclose(found.float(), effective.abs(), rtol=1e-6)


def test_the_weight_is_computed_from_what_its_parts_are_now_not_at_the_last_forward():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        net = torch.nn.utils.weight_norm(nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        net.weight_v.copy_(torch.eye(2))
        net.weight_g.copy_(torch.tensor([[3.0], [4.0]]))
    assert ssnr.saliency(net, "magnitude")["weight"].tolist() == [[3, 0], [0, 4]]


def test_recurrent_layers_with_weight_norm():
    torch.manual_seed(0)
    net = Pooled(nn.LSTM(4, 3, batch_first=True), 3)
    batch = torch.randn(3, 5, 4), torch.tensor([0, 1, 1])
    plain = ssnr.score(net, batch, ["snip"])["snip"].value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.nn.utils.weight_norm(net.layer, "weight_hh_l0")
    assert ssnr.score(net, batch, ["snip"])["snip"].value == pytest.approx(plain, rel=1e-6)


class Aliases(nn.Module):
    """One parameter, read as itself, through a list, and as a view made once."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([[1.0, -2.0], [3.0, 0.5], [-1.0, 2.0], [0.5, 1.0]]))
        self.top = self.w[:2]
        self.listed = [self.w, {"same": self.w}]

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(F.linear(x, self.top))
        return F.linear(hidden, self.listed[1]["same"][2:])


def test_views_and_lists_of_a_parameter_are_the_parameter():
    found = ssnr.saliency(Aliases(), "snip", golden_batch())["w"]
    by_hand = ssnr.saliency(golden(), "snip", golden_batch())
    assert torch.allclose(found, torch.cat([by_hand["0.weight"], by_hand["2.weight"]]), rtol=1e-14)


def test_modules_in_a_plain_list_are_run_and_named_and_not_scored():
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            body = golden()
            self.hidden, self.head = [{"first": (body[0],)}], body[2]

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(torch.relu(self.hidden[0]["first"][0](x)))
            return out

    score = ssnr.score(Listed(), input_shape=(2,), proxies=["synflow"])["synflow"]
    assert (score.value, [layer.name for layer in score.layers]) == (15, ["head.weight"])
    assert score.notes == ("modules in a plain list, dict or object are not scored: hidden.0.first.0",)


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda net: torch.compile(net, backend="eager"),
        torch.optim.swa_utils.AveragedModel,
        lambda net: nn.DataParallel(torch.compile(net, backend="eager")),
    ],
)
def test_wrappers_add_nothing_to_scores_or_names(wrap):
    scores = ssnr.score(wrap(golden()), golden_batch(), ["synflow/layerwise_ssnr", "grasp", "fisher", "params"])
    assert scores == ssnr.score(golden(), golden_batch(), ["synflow/layerwise_ssnr", "grasp", "fisher", "params"])


def test_wrapped_parts_of_a_network_keep_their_names():
    net = golden()
    net[0] = nn.DataParallel(net[0])
    net[2] = torch.compile(net[2], backend="eager")
    score = ssnr.score(net, golden_batch(), ["grasp"])["grasp"]
    assert score.value == pytest.approx(GRASP)
    assert [layer.name for layer in score.layers] == ["0.weight", "2.weight"]


def test_lazy_modules_take_their_shapes_from_the_input_and_their_weights_from_the_seed():
    lazy = nn.Sequential(nn.LazyConv2d(3, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2))
    scores = ssnr.score(lazy, input_shape=(2, 5, 5), proxies=["synflow", "params"])
    torch.manual_seed(0)
    ready = nn.Sequential(nn.LazyConv2d(3, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2))
    ready(torch.ones(2, 2, 5, 5))
    expected = ssnr.score(ready, input_shape=(2, 5, 5), proxies=["synflow", "params"])
    assert [s.value for s in scores.values()] == [s.value for s in expected.values()]
    assert scores["synflow"].notes == ("lazy modules took their shapes from the input, and weights from the seed",)


@pytest.mark.parametrize("options", [{}, {"sparse": True}])
def test_embeddings_with_sparse_gradients_are_scored_densely(options):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(6, 2, **options), nn.Linear(2, 2))
    batch = torch.tensor([0, 1, 1, 5]), torch.tensor([0, 1, 0, 1])
    found = ssnr.saliency(net, "snip", batch)["0.weight"]
    assert (found.sum(1) > 0).tolist() == [True, True, False, False, False, True]


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([[1 + 1j, 2], [0, 1j]]))

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(self.w.dtype) @ self.w).abs()


def quantised() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(golden(), {nn.Linear})


class Packed(nn.Module):
    """Weights in eight bits, as loaders of large models keep them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2, dtype=torch.int8), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.to(x.dtype)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            quantised,
            "layer '0' (Linear): quantised modules have no float weights: score the network before it is quantised",
        ),
        (Packed, "'weight' holds int8, not floats: quantised modules have no float weights"),
        (Complex, "'w' is complex (complex64): saliencies are of real weights"),
        (
            lambda: golden().to("meta"),
            "'0.weight' has no data on the meta device: initialise the network on a real one",
        ),
        (
            lambda: nn.Sequential(nn.BatchNorm1d(2), nn.PReLU()),
            "no scored weights: the network has no parameter with two or more dimensions",
        ),
    ],
)  # fmt: skip
def test_networks_without_real_weights_are_refused_in_one_line(make, reason):
    for score in ssnr.score(make(), golden_batch(), ["synflow", "snip", "magnitude"]).values():
        assert brief(score) == (None, None, "failed", reason)


def test_params_and_flops_need_no_values():
    scores = ssnr.score(golden().to("meta"), input_shape=(2,), proxies=["params", "flops", "layers"])
    assert [s.value for s in scores.values()] == [8, 8, None]
