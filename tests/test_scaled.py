"""Tensors that carry a power of two: one function after the other, held against passes that no format limits."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ssnr
from networks import brief
from ssnr.core.moments import from_tensors
from ssnr.core.recipes import get_recipe
from ssnr.networks.model import Model
from ssnr.saliencies import synflow as flow

WIDTH = 8


class Stack(nn.Module):
    """Linear layers without bias, each with a function behind it."""

    def __init__(self, function: Callable[[Tensor], Tensor], depth: int, exponent: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(depth))
        with torch.no_grad():
            for layer in self.layers:
                layer.weight.abs_().mul_(2.0**exponent)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.function(layer(x))
        return x


def sliced(x: Tensor) -> Tensor:
    x[:, :4] += x[:, 4:]
    return x


def buffered(x: Tensor) -> Tensor:
    found = torch.zeros(len(x), 2 * WIDTH, dtype=x.dtype)
    found[:, :WIDTH] = x
    found[:, WIDTH:] = 2 * x
    return found[:, ::2]


def seen(x: Tensor) -> Tensor:
    x.view(-1).mul_(3.0)
    return x


def copied(x: Tensor) -> Tensor:
    found = x.new_zeros(len(x), 2 * WIDTH)
    found[:, :WIDTH].copy_(x)
    found.narrow(1, 4, WIDTH).add_(x)
    return found[:, 2:10]


def unfilled(x: Tensor) -> Tensor:
    found = torch.empty(len(x), WIDTH)
    found[:, :3] = x[:, 1:4]
    found[:, 3:] = x[:, 3:]
    return found


def on_the_diagonal(x: Tensor) -> Tensor:
    square = torch.zeros(WIDTH, WIDTH)
    torch.diagonal(square).copy_(x[0])
    square[...] = square + square.flip(0)
    return square.sum(0, keepdim=True)


def spoken(x: Tensor) -> Tensor:
    assert x.shape[0] == 1 and str(x) and f"{x}" and len(x) == 1
    return torch.stack([row * 2 for row in x])


class Rectified(torch.autograd.Function):
    """A function of a network's own, whose backward no mode sees."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.detach().clamp(min=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * (ctx.saved_tensors[0] > 0)


KEPT = Rectified.apply


class Raised(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


GRAPH = (torch.eye(WIDTH, dtype=torch.float64) + torch.eye(WIDTH, dtype=torch.float64).roll(1, 0)).to_sparse()
POWERS = torch.linspace(2, 2.5, WIDTH, dtype=torch.float64)


def image(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: function(x.reshape(-1, 2, 2, 2)).flatten(1)[:, :WIDTH]


OF_DEGREE_ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "slices in place": sliced,
    "a buffer filled in pieces": buffered,
    "a view changed in place": seen,
    "chunk and cat": lambda x: torch.cat([sum(x.chunk(2, -1)), x[:, :4]], -1),
    "stack": lambda x: torch.stack([x, x.flip(-1), 2 * x]).sum(0),
    "where": lambda x: torch.where(x > x.mean(), x, 2 * x),
    "maximum": lambda x: torch.maximum(x, x.flip(-1)),
    "clamp at zero": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: torch.clamp_min(x, 0.0),
    "relu in place": lambda x: F.relu(x, inplace=True),
    "elu": F.elu,
    "selu": F.selu,
    "lerp": lambda x: torch.lerp(x, x.flip(-1), 0.25),
    "addcmul": lambda x: torch.addcmul(x, x, torch.full_like(x, 0.5), value=3.0),
    "addcdiv": lambda x: torch.addcdiv(x, x, torch.full_like(x, 0.5)),
    "vector_norm": lambda x: x + torch.linalg.vector_norm(x, dim=-1, keepdim=True),
    "square root of a product": lambda x: torch.sqrt(x * x.flip(-1)),
    "rsqrt": lambda x: x * x.mean() * torch.rsqrt((x * x).mean()),
    "cumsum": lambda x: x.cumsum(-1),
    "scatter_add": lambda x: torch.zeros_like(x).scatter_add(1, torch.zeros(len(x), 4, dtype=torch.long), x[:, :4]) + x,
    "masked_fill": lambda x: x.masked_fill(torch.arange(WIDTH) % 3 == 0, 0.0) + x,
    "einsum": lambda x: torch.einsum("ni,ni->ni", x, torch.full_like(x, 2.0)),
    "max pooling": image(lambda x: F.interpolate(F.max_pool2d(x, 2), scale_factor=2)),
    "average pooling": image(lambda x: F.avg_pool2d(x, 2, 1, 1)[..., :2, :2]),
    "shuffled pixels": image(lambda x: F.pixel_unshuffle(x, 2)),
    "padding": lambda x: F.pad(x, (1, -1)) + x,
    "views written to": copied,
    "an unfilled buffer": unfilled,
    "a diagonal written to": on_the_diagonal,
    "rows one by one": spoken,
    "other functions in place": lambda x: (x * 1).lerp_(x.flip(-1), 0.25).addcmul_(x, torch.full_like(x, 0.5)),
    "powers in place": lambda x: (x * 1).pow_(2.0).sqrt_(),
    "a generalised mean": lambda x: x + x.clamp(min=0).pow(3.0).mean(-1, keepdim=True).pow(1 / 3),
    "its inverse": lambda x: x + x.pow(-1).mean(-1, keepdim=True) ** -1,
    "powers of a tensor": lambda x: x.pow(POWERS[:1]).pow(1 / POWERS[:1]),
    "large powers": lambda x: x.pow(40).mean(-1, keepdim=True).pow(1 / 40) + x,
    "out=": lambda x: x * torch.add(x.detach(), x.detach(), out=torch.zeros_like(x)) / x.detach().flip(-1),
    "slices scattered": lambda x: torch.slice_scatter(x, x[:, :3], 1, 2, 5),
    "scatter_reduce": lambda x: x.scatter_reduce(1, torch.zeros(1, 2, dtype=torch.long), x[:, 3:5], reduce="amax"),
    "masked_scatter": lambda x: x.masked_scatter(torch.arange(WIDTH)[None] % 3 == 0, x.flip(-1)),
    "masked_select": lambda x: torch.masked_select(x, torch.ones_like(x, dtype=torch.bool))[None],
    "block_diag": lambda x: torch.block_diag(x[:, :4], x[:, 4:]).sum(0, keepdim=True),
    "meshgrid": lambda x: torch.meshgrid(x[0], x[0], indexing="ij")[0].sum(1)[None],
    "differences": lambda x: torch.diff(x.cumsum(-1), dim=-1, prepend=0 * x[:, :1]),
    "cummax": lambda x: x.cummax(-1).values,
    "quantile": lambda x: x + torch.quantile(x, 0.3, dim=-1, keepdim=True),
    "hypot": lambda x: torch.hypot(x, x.flip(-1)),
    "addmm": lambda x: torch.addmm(x, x, torch.eye(WIDTH).flip(0), beta=0.5, alpha=2.0),
    "baddbmm": lambda x: torch.baddbmm(x[None], x[None], torch.eye(WIDTH)[None].flip(1))[0],
    "a Fourier transform": lambda x: torch.fft.irfft(torch.fft.rfft(x) * torch.linspace(1, 2, 5), n=WIDTH),
    "a sparse graph": lambda x: (GRAPH @ x.T).T + torch.sparse.mm(GRAPH, x.T).T,
    "complex numbers": lambda x: torch.complex(x, x.flip(-1)).abs() + torch.view_as_real(torch.complex(x, x))[..., 0],
    "a function of its own": lambda x: Rectified.apply(x),
    "a function kept": lambda x: KEPT(x),
    "vmap": torch.vmap(lambda row: row * 2),
}


@pytest.mark.parametrize("name", OF_DEGREE_ONE)
@pytest.mark.parametrize("exponent", [40, -40])
def test_weights_beyond_every_format_give_the_ratios_and_the_logarithm_of_ordinary_ones(name, exponent):
    depth, scores = 40, []
    for size in (0, exponent):
        net = Stack(OF_DEGREE_ONE[name], depth, size)
        (score,) = ssnr.score(net, input_shape=(WIDTH,), proxies=["synflow"]).values()
        assert score.status == "ok", score.reason
        scores.append(score)
    near, far = scores
    assert far.log_value == pytest.approx(near.log_value + depth * exponent * math.log(2), rel=1e-13)
    assert [row.ratio for row in far.layers] == pytest.approx([row.ratio for row in near.layers], rel=1e-12)
    assert far.approximated == near.approximated


def normalised(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1) * x.sum()


def test_a_scale_invariant_function_is_so_beyond_every_format():
    near, far = (
        ssnr.score(Stack(normalised, 40, size), input_shape=(WIDTH,), proxies=["synflow"])["synflow"]
        for size in (0, 40)
    )
    assert far.log_value == pytest.approx(near.log_value + 1600 * math.log(2), rel=1e-13)


class Attention(nn.Module):
    def __init__(self, **options: object) -> None:
        super().__init__()
        self.attention, self.options = nn.MultiheadAttention(8, 2, batch_first=True), options

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.arange(1, 4, dtype=x.dtype)[:, None]
        found, weights = self.attention(x, x, x, **self.options)
        return found.sum() if weights is None else found.sum() + 3 * weights[..., 0].sum()


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.cells, self.head = kind(8, 3, num_layers=2, batch_first=True, bidirectional=True), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.cells(x)[0])
        return out


MASK = {"key_padding_mask": torch.tensor([[False, False, True]])}
CAUSAL = {"attn_mask": torch.ones(3, 3, dtype=torch.bool).triu(1)}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Attention(),
        lambda: Attention(need_weights=False, **CAUSAL),
        lambda: Attention(average_attn_weights=False, **MASK),
        lambda: Attention(**MASK, **CAUSAL),
        lambda: Recurrent(nn.LSTM),
        lambda: Recurrent(nn.GRU),
        lambda: Recurrent(nn.RNN),
    ],
)
def test_attention_and_recurrence_with_exponents_are_what_they_are_without(make):
    torch.manual_seed(0)
    model, found = Model(make(), get_recipe("seed")), []
    for scaled in (False, True):
        example = flow.ones_like(None, (3, 8))
        found.append(flow._once(model, example, torch.float64, scaled=scaled)[0])
    plain, carried = found
    for name, values in plain.tensors.items():
        bound = 1e-12 * float(values.abs().max())
        assert torch.allclose(carried.tensors[name] * 2.0**carried.exponent, values, rtol=1e-11, atol=bound), name


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_gates_level_off_beyond_every_format(kind):
    class Behind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.grow = Stack(lambda x: x, 40, 40)
            self.cells = kind(WIDTH, 3, batch_first=True)
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            grown = self.grow(x)
            out: Tensor = self.head(self.cells(grown[:, None])[0]).sum() + grown.sum()
            return out

    torch.manual_seed(0)
    net = Behind()
    (score,) = ssnr.score(net, input_shape=(WIDTH,), proxies=["synflow"]).values()
    # What the saturated gates add is nothing beside what grew.
    (grown,) = ssnr.score(net.grow, input_shape=(WIDTH,), proxies=["synflow"]).values()
    assert score.status == "ok", score.reason
    assert score.log_value == pytest.approx(grown.log_value, rel=1e-14)


@pytest.mark.parametrize(
    ("activation", "slope"),
    [(nn.Tanh(), 1.0), (nn.ReLU6(), 1.0), (nn.SiLU(), 0.5), (nn.GELU(), 0.5), (nn.Hardtanh(), 1.0)],
)
def test_an_activation_near_zero_is_the_line_that_it_is_there(activation, slope):
    depth = 600
    found, line = (
        ssnr.score(Stack(f, depth, -6), input_shape=(WIDTH,), proxies=["synflow", "synflow/layerwise_ssnr"])
        for f in (activation, lambda x: x)
    )
    # The first blocks still see the bend.
    assert found["synflow"].log_value == pytest.approx(line["synflow"].log_value + depth * math.log(slope), abs=0.1)
    assert found["synflow/layerwise_ssnr"].value == pytest.approx(line["synflow/layerwise_ssnr"].value, rel=1e-3)


def test_a_function_of_no_degree_is_refused_beyond_the_format_and_never_guessed():
    net = Stack(lambda x: x + x * torch.sin(x), 40, 40)
    (score,) = ssnr.score(net, input_shape=(WIDTH,), proxies=["synflow"]).values()
    assert (score.status, score.value) == ("failed", None)


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], int, str]] = {
    "a sine": (lambda x: x + torch.sinc(x), 40, "sinc of numbers beyond float64: it is not of degree one"),
    "a large number of Python": (
        lambda x: x + float(x.detach().mean()), 40, "item of numbers beyond float64: it is not of degree one",
    ),
    "a small number of Python": (
        lambda x: x + float(x.detach().mean()), -40, "item of numbers beyond float64: it is not of degree one",
    ),
    "numbers for numpy": (
        lambda x: x + torch.from_numpy(x.detach().numpy()), 40,
        "numpy of numbers beyond float64: it is not of degree one",
    ),
    "a tensor of numbers": (
        lambda x: x + torch.tensor([x.detach()[0, 0]]), -40,
        "tensor of numbers beyond float64: it is not of degree one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_followed_beyond_the_format_is_refused_with_the_reason(kind):
    function, exponent, reason = REFUSED[kind]
    (near,) = ssnr.score(Stack(function, 40, 0), input_shape=(WIDTH,), proxies=["synflow"]).values()
    (far,) = ssnr.score(Stack(function, 40, exponent), input_shape=(WIDTH,), proxies=["synflow"]).values()
    assert near.status == "ok", near.reason
    assert brief(far) == (None, None, "failed", reason)


@pytest.mark.parametrize("exponent", [40, -40])
def test_torchscript_is_what_it_is_without(exponent):
    layers = [part for layer in Stack(F.relu, 40, exponent).layers for part in (layer, nn.ReLU())]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        deep = torch.jit.script(nn.Sequential(*layers))
    (score,) = ssnr.score(deep, input_shape=(WIDTH,), proxies=["synflow/layerwise_ssnr"]).values()
    (plain,) = ssnr.score(nn.Sequential(*layers), input_shape=(WIDTH,), proxies=["synflow/layerwise_ssnr"]).values()
    assert brief(score) == brief(plain)
    assert [row.ratio for row in score.layers] == [row.ratio for row in plain.layers]
    assert score.status == "ok"


def test_a_tensor_of_powers_that_is_a_layer_has_its_derivative_beyond_the_format():
    class Mean(nn.Module):
        def __init__(self, exponent: int) -> None:
            super().__init__()
            self.grow = Stack(lambda x: x, 40, exponent)
            self.power = nn.Parameter(torch.tensor([[3.0]], dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return self.grow(x).pow(self.power).mean(-1, keepdim=True)

    # p · ∂/∂p of the mean of x^p is p · mean(x^p ln x): beside R, p times the weighted mean of ln x.
    grown = Stack(lambda x: x, 40, 0).double()
    x = torch.ones(1, WIDTH, dtype=torch.float64)
    values = grown(x).detach() ** 3
    weighted = float((values * (grown(x).detach().log() + 1600 * math.log(2))).sum() / values.sum())
    (score,) = ssnr.score(Mean(40), input_shape=(WIDTH,), proxies=["synflow"]).values()
    # Each of the 40 layers has the sum 3 R, and the power 3 R · weighted.
    log_r = math.log(float(values.mean())) + 3 * 1600 * math.log(2)
    assert score.log_value == pytest.approx(log_r + math.log(3 * 40 + 3 * weighted), rel=1e-13)


@pytest.mark.parametrize("recipe", ["seed", "seed(synflow_dtype=float32)"])
def test_a_living_network_whose_input_is_nothing_beside_its_biases_is_not_dead(recipe):
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(3, 3) for _ in range(300)))
    with torch.no_grad():
        for layer in net:
            layer.weight *= 1e-3
    score = ssnr.score(net, input_shape=(3,), proxies=["synflow"], recipe=recipe)["synflow"]
    # Σ over layers of 1ᵀ W_n … W_l x_l, in a format of its own range.
    x, total, flows = torch.ones(3, dtype=torch.float64), 0.0, []
    for layer in net:
        weight, bias = layer.weight.detach().double().abs(), layer.bias.detach().double().abs()
        flows = [weight @ flow for flow in [*flows, x]]
        x = weight @ x + bias
    total = float(sum(flow.sum() for flow in flows))
    assert (score.status, score.layers[0].flag, score.layers[-1].flag) == ("ok", "dead", None)
    assert score.value == pytest.approx(total, rel=1e-12 if recipe == "seed" else 1e-5)


def test_what_is_all_beneath_a_constant_keeps_its_gradients():
    stack = Stack(lambda x: x, 40, -40)
    beneath, alone = (
        ssnr.score(net, input_shape=(WIDTH,), proxies=["synflow"])["synflow"]
        for net in (nn.Sequential(stack, Raised()), stack)
    )
    assert beneath.status == "ok", beneath.reason
    assert beneath.log_value == alone.log_value
    assert [row.ratio for row in beneath.layers] == [row.ratio for row in alone.layers]


@pytest.mark.parametrize("exponent", [20, 24, 26, 40])
def test_what_is_taken_out_of_a_tensor_of_far_larger_numbers_is_right_or_refused(exponent):
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.grow, self.head = Stack(lambda x: x, 40, exponent), nn.Linear(WIDTH, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.cat([x, self.grow(x)]))[0]

    net = Rows()
    (score,) = ssnr.score(net, input_shape=(WIDTH,), proxies=["synflow"]).values()
    if score.status == "ok":
        assert score.value == pytest.approx(float(net.head.weight.detach().double().abs().sum()), rel=1e-12)
    else:
        assert score.reason == "what flows through every layer is too small beside other numbers for any format"
    assert (score.status == "ok") == (exponent < 26)


def test_behind_a_weight_of_zeros_a_network_is_dead_however_small_it_is_in_front():
    net = nn.Sequential(Stack(lambda x: x, 40, -40), Raised(), nn.Linear(WIDTH, 2))
    nn.init.zeros_(net[2].weight)
    (score,) = ssnr.score(net, input_shape=(WIDTH,), proxies=["synflow"]).values()
    assert brief(score)[2:] == ("dead", "the output does not depend on the input")


def test_digits_lost_at_the_small_end_are_found_where_the_result_itself_is_in_range():
    # Down to 2**-1060, where float64 keeps fourteen bits, and up again to 2**-476.
    def net(down: float, up: float) -> nn.Sequential:
        layers = [nn.Linear(2, 2, bias=False) for _ in range(97 + 58)]
        with torch.no_grad():
            for place, layer in enumerate(layers):
                layer.weight.copy_(torch.tensor([1.0, 1.1]) * (down if place < 97 else up))
        return nn.Sequential(*layers)

    (near,) = ssnr.score(net(2.0**-2, 2.0**-2), input_shape=(2,), proxies=["synflow"]).values()
    (far,) = ssnr.score(net(2.0**-12, 2.0**9), input_shape=(2,), proxies=["synflow"]).values()
    assert far.log_value == pytest.approx(near.log_value + (-10 * 97 + 11 * 58) * math.log(2), abs=1e-12)
    assert [row.ratio for row in far.layers] == pytest.approx([row.ratio for row in near.layers], rel=1e-12)


@pytest.mark.parametrize("make", [lambda: Stack(F.relu, 5, 0), lambda: Stack(F.relu, 40, 40), lambda: Attention()])
def test_moments_taken_as_gradients_arrive_are_those_of_the_whole_saliency(make):
    torch.manual_seed(0)
    net = make()
    shape = (3, WIDTH) if isinstance(net, Attention) else (WIDTH,)
    model = Model(net, get_recipe("seed"))
    streamed, whole = (flow.synflow(model, shape, whole=whole) for whole in (False, True))
    assert streamed.exponent == whole.exponent
    one, other = from_tensors(streamed.tensors), from_tensors(whole.tensors)
    assert np.array_equal(one.total, other.total) and np.array_equal(one.m2, other.m2)
