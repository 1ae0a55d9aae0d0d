"""Places where a network is of no degree are named, by a table or by what a function does to twice its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssnr.core.recipes import get_recipe
from ssnr.networks.model import Model
from ssnr.saliencies.synflow import synflow


class Trunk(nn.Module):
    """A function of two branches of one trunk."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.trunk, self.a, self.b = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.trunk(x))
        return self.function(self.a(x), self.b(x))


class OfWeights(nn.Module):
    """A layer whose weight is computed from two others."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.u, self.v = (nn.Parameter(torch.rand(4, 4) + torch.eye(4)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.function(self.u, self.v))


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.detach()
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return grad * s * (1 + x * (1 - s))


def approximated(net: nn.Module) -> tuple[str, ...]:
    return synflow(Model(net, get_recipe("seed")), (4,)).approximated


NO_DEGREE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mul": lambda a, b: torch.mul(input=a, other=b),
    "outer": lambda a, b: torch.outer(a[0], b[0]),
    "kron": torch.kron,
    "tensordot": lambda a, b: torch.tensordot(a, b, dims=([0], [0])),
    "einsum": lambda a, b: torch.einsum("bi,ij,bj->b", a, torch.eye(4), b),
    "linalg_cross": lambda a, b: torch.linalg.cross(a[:, :3], b[:, :3]),
    "linalg_multi_dot": lambda a, b: torch.linalg.multi_dot([a, b.T, b]),
    "addcmul": lambda a, b: torch.addcmul(a, a, b),
    "addcdiv": lambda a, b: torch.addcdiv(a, a, b + 1),
    "addmm": lambda a, b: torch.addmm(a, a.T[:1, :1], b),
    "lerp": lambda a, b: torch.lerp(a, b, b),
    "conv_transpose2d": lambda a, b: F.conv_transpose2d(a.reshape(1, 1, 2, 2), b.reshape(1, 1, 2, 2)),
    "div": lambda a, b: a / (b + 1),
    "rdiv": lambda a, b: 1 / a,
    "polar": lambda a, b: torch.polar(a, b).real,
    "atan2": torch.atan2,
    "sinc": lambda a, b: torch.sinc(a),
    "lgamma": lambda a, b: torch.lgamma(a + 1),
    "logaddexp": torch.logaddexp,
    "logcumsumexp": lambda a, b: torch.logcumsumexp(a, -1),
    "special_expit": lambda a, b: torch.special.expit(a),
    "float_power": lambda a, b: torch.float_power(a, 2),
    "renorm": lambda a, b: torch.renorm(a, 2, 0, 0.1),
    "mse_loss": F.mse_loss,
    "cross_entropy": lambda a, b: F.cross_entropy(a, torch.zeros(1, dtype=torch.long)),
    "grid_sample": lambda a, b: F.grid_sample(a.reshape(1, 1, 2, 2), b.reshape(1, 1, 2, 2) / 4, align_corners=False),
    "sinc_": lambda a, b: torch.sinc_(a * 1),
    "Swish": lambda a, b: Swish.apply(a),
}


@pytest.mark.parametrize("name", NO_DEGREE)
def test_functions_of_no_degree_are_named(name):
    assert approximated(Trunk(NO_DEGREE[name])) == (f"Trunk ({name.strip('_')})",)


OF_DEGREE_ONE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sums": lambda a, b: a - b / 2,
    "hypot": torch.hypot,
    "a median": lambda a, b: torch.quantile(a, 0.5, dim=-1),
    "a transform": lambda a, b: torch.fft.rfft(a).abs(),
    "differences": lambda a, b: torch.diff(a),
    "a fold": lambda a, b: torch.cummax(a, -1).values,
    "an affine map": lambda a, b: torch.addmm(torch.ones(1, 4), a, torch.eye(4)),
    "copies in place": lambda a, b: torch.zeros(1, 4).copy_(a) + torch.zeros(1, 4).index_copy_(0, torch.tensor([0]), b),
    "parts": lambda a, b: torch.masked_select(a, torch.ones(1, 4, dtype=torch.bool)),
    "a sparse tensor": lambda a, b: a.to_sparse(),
    "vmap": lambda a, b: torch.vmap(lambda row: 2 * row)(a),
}


@pytest.mark.parametrize("name", OF_DEGREE_ONE)
def test_functions_of_degree_one_are_not_named(name):
    assert approximated(Trunk(OF_DEGREE_ONE[name])) == ()


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda u, v: u @ v, ()),
        (lambda u, v: torch.kron(u[:2, :2], v[:2, :2]), ()),
        (lambda u, v: torch.tril(u) + v.T, ()),
        (lambda u, v: u / u.norm(dim=1, keepdim=True), ("OfWeights (div)",)),
        (lambda u, v: (u - u.mean()) / (u.std() + 1e-5), ("OfWeights (div)",)),
        (lambda u, v: v / u, ("OfWeights (div)",)),
        (lambda u, v: torch.linalg.inv(u), ("OfWeights (linalg_inv)",)),
        (lambda u, v: torch.matrix_exp(u - u.T), ("OfWeights (matrix_exp)",)),
        (lambda u, v: v * torch.det(u), ("OfWeights (det)",)),
        (lambda u, v: torch.linalg.solve(u, v), ("OfWeights (linalg_solve)",)),
    ],
)
def test_weights_computed_from_weights_are_named_where_they_are_of_no_degree_in_one(function, named):
    assert approximated(OfWeights(function)) == named
