"""Every rule for tensors that carry a power of two, on numbers that float64 holds: there the plain pass is the oracle.

The middle of the range is made so narrow that nearly every tensor carries one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ssnr
from ssnr.core.recipes import get_recipe
from ssnr.interpret import exponents, rules
from ssnr.networks.model import Model
from ssnr.saliencies import synflow as flow

WIDTH = 16
SIGNS = torch.linspace(-2, 2, WIDTH, dtype=torch.float64)
PLACES = torch.rand(1, 4, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Between(nn.Module):
    """A function between two layers."""

    def __init__(self, function: Callable[[Tensor], Tensor], exponent: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.one, self.two = nn.Linear(WIDTH, WIDTH).double(), nn.Linear(WIDTH, WIDTH).double()
        with torch.no_grad():
            for p in self.one.parameters():
                p *= 9 * 2.0**exponent

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.function(self.one(x)))


def image(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: function((x * SIGNS.exp()).reshape(1, 1, 4, 4)).reshape(1, -1)


def square(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Of a matrix that can be inverted, whatever x is."""
    return lambda x: x + function(x.reshape(4, 4) + 9 * x.detach().amax() * torch.eye(4, dtype=x.dtype)).sum()


def changed(change: Callable[[Tensor], Any]) -> Callable[[Tensor], Tensor]:
    def function(x: Tensor) -> Tensor:
        copy = x * 1
        change(copy)
        return copy + x

    return function


def put(place: Any, value: Any) -> Callable[[Tensor], Tensor]:
    return changed(lambda x: x.__setitem__(place(x) if callable(place) else place, value))


def activation(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: function(x * SIGNS / 8) + x


# At every size.
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **{
        name: activation(getattr(F, name))
        for name in (
            "relu", "relu6", "elu", "selu", "celu", "leaky_relu", "gelu", "logsigmoid", "hardshrink", "tanhshrink",
            "softsign", "softplus", "softshrink", "tanh", "sigmoid", "silu", "mish", "hardswish", "hardtanh",
        )
    },
    "gelu by tanh": activation(lambda x: F.gelu(x, approximate="tanh")),
    "a threshold": activation(lambda x: F.threshold(x, 1.0, 2.0)),
    "prelu": activation(lambda x: F.prelu(x, torch.full((1,), 0.3, dtype=x.dtype))),
    "softplus of another slope": activation(lambda x: F.softplus(x, beta=2, threshold=1)),
    "erf": activation(torch.erf),
    "atan": activation(torch.atan),
    "asinh": lambda x: torch.asinh(x),
    "softmax": lambda x: F.softmax(x / x.detach().amax(), -1) * x,
    "log_softmax": lambda x: x - F.log_softmax(x * SIGNS, -1),
    "logsumexp": lambda x: x + torch.logsumexp(x * SIGNS, -1, keepdim=True),
    "logarithms": lambda x: torch.log(x) + torch.log2(x + 1) + torch.log10(x + 3) + torch.log1p(x) + 999,
    "bounds": activation(lambda x: x.clamp(-1, 3) + x.clamp(max=2.0) + x.clamp_min(-2.0) + 9),
    "bounds that are tensors": activation(lambda x: torch.clamp(x, torch.full_like(x, -0.5), torch.full_like(x, 9.0))),
    "maxima": lambda x: torch.maximum(x * SIGNS, x.flip(-1)) + torch.fmin(x * 3, x.flip(-1)),
    "spread": lambda x: x + x.var(-1, keepdim=True).sqrt() + x.std(-1, unbiased=False) + torch.std_mean(x)[1],
    "normalised": lambda x: F.normalize(x * SIGNS, dim=-1) * x + F.cosine_similarity(x, x.flip(-1))[:, None] * x,
    "products of entries": lambda x: x * (x[:, :3] / x[:, 3:6]).prod(-1, keepdim=True) + x[:, :2].cumprod(-1)[:, :1],
    "sums of entries": lambda x: x.cumsum(-1) + x.mean() + x.nanmean() + x.aminmax()[1],
    "powers": lambda x: x.pow(2).sqrt() + x.pow(0.5) ** 2 + x.square() * x.reciprocal() + x.pow(-1) * x * x,
    "powers that are tensors": lambda x: x.pow(SIGNS.abs() + 1).pow(1 / (SIGNS.abs() + 1)),
    "quotients": lambda x: x / (x.flip(-1) + 1) * x + 3 / (1 + x) + x / 7,
    "remainders": lambda x: x + torch.fmod(x * SIGNS, x.flip(-1)),
    "terms": lambda x: torch.add(3 * x - x.flip(-1) / 9, x, alpha=0.5) + (10 - x).abs() + 1,
    "fused terms": lambda x: torch.addcmul(x, x / 99, torch.ones_like(x), value=2.0) + torch.lerp(x, x.flip(-1), 0.3),
    "whole numbers": lambda x: x + torch.arange(WIDTH) + torch.cat([x[:, :8], torch.arange(8)[None]], -1) * x.sum(),
    "choices": lambda x: torch.where(x > x.mean(), x, 2.0) + x.masked_fill(x > x.mean(), 3.0),
    "choices of whole numbers": lambda x: x + torch.where(x > x.mean(), torch.arange(WIDTH), x),
    "ordered": lambda x: x.topk(WIDTH).values + x.sort(-1).values + x.median() + x.kthvalue(3, -1, True).values,
    "quantiles": lambda x: x + torch.quantile(x, 0.3) + x.amax(-1, keepdim=True) + x.min(-1, keepdim=True)[0],
    "chosen entries": lambda x: x.gather(1, torch.arange(WIDTH)[None].flip(-1)) + x.take(torch.arange(WIDTH))[None],
    "entries put": lambda x: x.index_put((PICK * 0, PICK), x[0, 5:7] * 9) + x.index_fill(1, PICK, 2),
    "entries added": lambda x: x.index_add(1, PICK, x[:, :2] * 2).scatter(1, PICK[None], 3.0),
    "a number written": put((slice(None), slice(0, 3)), 1.5),
    "a number written where": put(lambda x: x > x.mean(), 1.5),
    "a part filled": changed(lambda x: x[:, :3].fill_(2.5)),
    "operations in place": changed(lambda x: x.add_(1).mul_(2).sub_(0.5).div_(3)),
    "a random fill": lambda x: x + 0 * (x * 1).uniform_() + torch.zeros_like(x).normal_() * 0,
    "outputs given": lambda x: x + torch.max(x.detach(), 1, keepdim=True, out=(x.new_empty(1, 1), INT.clone()))[0],
    "triangles": lambda x: x + torch.tril(x.T + x).sum(0) + torch.trace(x.reshape(4, 4)) + torch.diag_embed(x).sum(1),
    "products of vectors": lambda x: torch.einsum("bi,bj->bj", x, x / x.sum()) + torch.kron(x[:, :4], x[:, :4]).sqrt(),
    "copies": lambda x: x.repeat(1, 2)[:, ::2] + x.tile(2)[:, 1::2] + x.repeat_interleave(2, -1)[:, :WIDTH],
    "overlapping rows": lambda x: x.unfold(1, 4, 1)[:, :4].reshape(1, -1) + x,
    "expanded rows": lambda x: torch.cartesian_prod(x[0, :4], x[0, 4:8]).sum(-1)[None] + x,
    "padding": image(lambda x: F.pad(x, (1, 0), value=2.0)[..., 1:] + F.pad(x, (1, 1, 0, 0), mode="reflect")[..., 1:5]),
    "more padding": image(lambda x: sum(F.pad(x, (1, 1, 0, 0), mode=m)[..., :4] for m in ("replicate", "circular"))),
    "pooling": image(lambda x: F.interpolate(F.max_pool2d(x, 2) + F.adaptive_avg_pool2d(x, 2), scale_factor=2)),
    "more pooling": image(lambda x: F.avg_pool2d(x, 3, 1, 1) + F.interpolate(F.adaptive_max_pool2d(x, 3), size=(4, 4))),
    "powers pooled": image(lambda x: F.interpolate(F.lp_pool2d(x, 2, 2), scale_factor=2)),
    "unpooling": image(lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2) + x),
    "resizing": image(lambda x: sum(F.interpolate(x, scale_factor=2, mode=m)[..., ::2, ::2] for m in RESIZING)),
    "folds": image(lambda x: F.fold(F.unfold(x, 2), (4, 4), 2)),
    "shuffles": image(lambda x: F.pixel_shuffle(F.channel_shuffle(x.reshape(1, 4, 2, 2), 2), 2)),
    "places": image(lambda x: F.grid_sample(x, PLACES, align_corners=False)),
    "places that depend on x": image(
        lambda x: x + F.grid_sample(x, torch.stack([x[:, 0], x[:, 0]], -1) / x.amax() / 3, align_corners=False)
    ),
    "a convolution": image(lambda x: F.conv2d(x, KERNEL, ONE * 3, padding=1)),
    "a transposed convolution": image(lambda x: F.conv_transpose2d(x, KERNEL, ONE, padding=1)),
    "distances": lambda x: x + torch.dist(x, x.flip(-1), 3) + F.pairwise_distance(x, x.flip(-1)) + x.norm(0),
    "norms": lambda x: x + x.norm(1) + x.norm(3) + x.norm(float("inf")) + torch.linalg.norm(x.reshape(4, 4)),
    "an inverse": square(lambda m: torch.linalg.inv(m) * m.detach().square()),
    "a transform": lambda x: torch.fft.irfft(torch.fft.rfft(x) * 2, n=WIDTH) + torch.fft.fft(x).abs(),
    "complex numbers": lambda x: torch.complex(x, x.flip(-1)).abs() + (torch.complex(x, x).conj() * 1j).real,
    "complex views": lambda x: torch.view_as_real(torch.view_as_complex(x.reshape(8, 2)) * 2j).abs().reshape(1, -1),
    "losses": lambda x: x + F.mse_loss(x, x.flip(-1)) + F.smooth_l1_loss(x, x.flip(-1)) + F.huber_loss(x, x.flip(-1)),
    "cross entropy": lambda x: x + F.cross_entropy(x * SIGNS / 9, torch.tensor([3])),
    "signs": lambda x: x * torch.sign(x * SIGNS) + torch.nan_to_num(x) + x * torch.isclose(x, x),
    "Python's numbers": lambda x: x + float(x.detach().sum()) / 9 + (x if x.sum() > 3 else 2 * x) + x * int(x.argmax()),
    "numpy's": lambda x: x + torch.from_numpy(x.detach().numpy() * 1.0) + x.new_tensor(x.detach().tolist()),
    "tensors of numbers": lambda x: x + torch.tensor([x[0, 0].detach()], dtype=x.dtype),
    "transforms": lambda x: torch.vmap(lambda row: row + row.sum())(x) + torch.func.grad(lambda y: y.square().sum())(x),
    "attention": image(lambda x: F.scaled_dot_product_attention(x / x.detach().amax(), x / x.detach().amax(), x)),
    "masked attention": image(
        lambda x: F.scaled_dot_product_attention(x / x.amax(), x / x.amax(), x, torch.ones(4, 4).double().tril().log())
    ),
    "sparse matrices": lambda x: (torch.eye(WIDTH, dtype=x.dtype).to_sparse() @ x.T).T + x.to_sparse().to_dense(),
    "compressed rows": lambda x: (torch.eye(WIDTH, dtype=x.dtype).to_sparse_csr() @ x.T).T,
    "bags": lambda x: F.embedding_bag(BAG, torch.cat([x, x * 2]), mode="sum", per_sample_weights=x[:, :2] / x.amax()),
    "lookups": lambda x: F.embedding(BAG[0], torch.cat([x, 2 * x])).sum(0) + F.embedding_bag(BAG, torch.cat([x, x])),
}  # fmt: skip
PICK, INT, BAG = torch.tensor([1, 2]), torch.empty(1, 1, dtype=torch.long), torch.tensor([[0, 1]])
RESIZING = ("nearest", "bilinear", "bicubic", "area", "nearest-exact")
KERNEL, ONE = torch.ones(1, 1, 3, 3, dtype=torch.float64), torch.ones(1, dtype=torch.float64)

# Where numbers are near 1 alone.
NEAR_ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "exponentials": lambda x: torch.exp(-x / 99) * x + torch.expm1(x / 9e4) + 2 ** (-x / 99) + torch.sinh(x / 9e3),
    "circles": lambda x: x * (9 + torch.sin(x) + torch.cos(x) + torch.sinc(x) + torch.atan2(x, x + 1)),
    "special functions": lambda x: torch.lgamma(x + 2) + torch.digamma(x + 2) + torch.erfc(x) + torch.xlogy(x, x + 2),
    "rounded": lambda x: x + x.detach().round() + x.detach().floor() + torch.div(x.detach(), 3, rounding_mode="floor"),
    "counted": lambda x: x * (1 + torch.bucketize(x.detach(), torch.tensor([1.0, 10.0, 100.0], dtype=x.dtype))),
    "matrices": square(lambda m: torch.linalg.svdvals(m).sum() + torch.logdet(m) + torch.matrix_exp(m / 9e3)),
    "divergence": lambda x: x + F.kl_div(F.log_softmax(x / 99, -1), F.softmax(x.flip(-1) / 99, -1), reduction="sum"),
}  # fmt: skip
CASES = [(name, e) for name in FUNCTIONS for e in (0, 150, -150)] + [(name, 0) for name in NEAR_ONE]


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
@pytest.mark.parametrize(("name", "exponent"), CASES)
def test_a_pass_with_exponents_is_the_pass_without(name, exponent, monkeypatch):
    own = exponents.format_of
    for module in (exponents, rules):
        monkeypatch.setattr(module, "format_of", lambda dtype: own(dtype)._replace(middle=2))
    net = Between({**FUNCTIONS, **NEAR_ONE}[name], exponent)
    monkeypatch.setattr(flow, "_kept", lambda *_: True)  # a plain pass is one, however small
    found = []
    for scaled in (False, True):
        model = Model(net, get_recipe("seed"))
        found.append(flow._once(model, flow.ones_like(None, (WIDTH,)), torch.float64, scaled=scaled)[0])
    plain, carried = found
    assert carried.approximated == plain.approximated
    for layer, values in plain.tensors.items():
        other = torch.ldexp(carried.tensors[layer], torch.tensor(carried.exponent))
        assert torch.isfinite(values).all()
        assert torch.allclose(other, values, rtol=0, atol=1e-11 * float(values.abs().max())), layer


# The degree of R in all weights, where these are large and where they are small: 12 of ten layers before the function
# and two after it, 2 where it adds or leaves constants. Some entries are far below zero.
FAR: dict[str, tuple[Callable[[Tensor], Tensor], int, int]] = {
    "gelu": (activation(F.gelu), 12, 12),
    "silu": (activation(F.silu), 12, 12),
    "hardswish": (activation(F.hardswish), 12, 12),
    "elu": (activation(F.elu), 12, 12),
    "relu6": (activation(F.relu6), 12, 12),
    "softplus": (activation(F.softplus), 12, 2),
    "a number in some places": (lambda x: x.masked_fill(torch.arange(WIDTH) % 3 == 0, 3.0), 12, 2),
    "a number written": (lambda x: x.scatter(1, PICK[None], 3.0), 12, 2),
    "a convolution and its bias": (image(lambda x: F.conv2d(x, KERNEL, ONE, padding=1)), 12, 2),
    "an interpolation": (lambda x: torch.lerp(x, x.flip(-1), x / (x + 1)), 12, 12),
    "Huber's loss": (lambda x: x + F.huber_loss(x, x.flip(-1)), 12, 12),
    "logarithms": (lambda x: x + torch.log(x).clamp(0, 1), 12, 12),
}  # fmt: skip


@pytest.mark.parametrize("size", [1, -1])
@pytest.mark.parametrize("name", FAR)
def test_far_out_a_network_follows_the_law_that_it_follows_inside_of_the_format(name, size):
    function, above, below = FAR[name]
    degree = above if size > 0 else -below

    class Chain(nn.Module):
        def __init__(self, exponent: int) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.before, self.after = (
                nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(n)) for n in (10, 2)
            )
            self.double()
            with torch.no_grad():
                for p in self.parameters():
                    p.abs_().mul_(2.0**exponent)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.before:
                x = layer(x)
            x = function(x)
            for layer in self.after:
                x = layer(x)
            return x

    near, far = (
        ssnr.score(Chain(size * exponent), input_shape=(WIDTH,), proxies=["synflow"])["synflow"]
        for exponent in (30, 150)
    )
    assert far.status == near.status == "ok", far.reason
    assert far.log_value == pytest.approx(near.log_value + degree * 120 * math.log(2), abs=1e-9)
