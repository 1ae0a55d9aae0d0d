"""Multiply-accumulates of networks that differentiate on their way to the output."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import ssnr


class Differentiates(nn.Module):
    def __init__(self, does: Callable[[Differentiates, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.does = nn.Linear(3, 4), nn.Linear(4, 2), does

    def energy(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(torch.tanh(self.a(x)))
        return out

    def forward(self, x: Tensor) -> Tensor:
        return self.does(self, x)


def forces(net: Differentiates, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(net.energy(x).sum(), x, create_graph=True)[0]


def own_gradient(net: Differentiates, x: Tensor) -> Tensor:
    return torch.autograd.grad(net.energy(x.requires_grad_()).sum(), x, create_graph=True)[0]


def by_functions(net: Differentiates, x: Tensor) -> Tensor:
    out: Tensor = torch.func.grad(lambda x: net.energy(x).sum())(x)
    return out


def hooked(net: Differentiates, x: Tensor) -> Tensor:
    hidden = net.a(x)
    hidden.register_hook(lambda g: g)
    out: Tensor = net.b(torch.tanh(hidden))
    return out


@pytest.mark.parametrize(
    ("does", "expected"), [(forces, 46), (own_gradient, 46), (by_functions, 46), (hooked, 26)]
)  # 12 + 8 there and as many back, 4 + 2 additions of biases
def test_products_on_the_way_back_count(does, expected):
    assert ssnr.score(Differentiates(does), input_shape=(3,), proxies=["flops"])["flops"].value == expected
