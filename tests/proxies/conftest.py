"""A context of one network, as scoring makes it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ssnr.core.recipes import get_recipe
from ssnr.data import batch_of
from ssnr.networks.model import Model


@pytest.fixture
def context() -> Callable[..., Any]:
    """`context(net, inputs, targets)`: what a plain proxy is handed."""

    def make(net: nn.Module, inputs: Any, targets: Any = None, recipe: str = "seed", **more: Any) -> Any:
        chosen = get_recipe(recipe)
        batch = batch_of(inputs if targets is None else (inputs, targets))
        found = {"loss": None, "forward": None, "seed": 0, "input_shape": None, "cache": {}, **more}
        return SimpleNamespace(model=Model(net, chosen), net=net, batch=batch, recipe=chosen, **found)

    return make


@pytest.fixture
def conv_net() -> nn.Module:
    """Convolutions, batch norms, a residual sum, functional and module activations."""
    torch.manual_seed(3)
    return ConvNet()


@pytest.fixture
def images() -> tuple[torch.Tensor, torch.Tensor]:
    """Six images of 3×8×8 and labels of three classes."""
    torch.manual_seed(4)
    return torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])


class ConvNet(nn.Module):
    """A small residual network."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.body = nn.Conv2d(4, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 5, 1, stride=2)
        self.last = nn.BatchNorm2d(5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images to logits."""
        x = self.act(self.norm(self.stem(x)))
        x = x + torch.relu(self.body(x))
        x = torch.nn.functional.relu(self.last(self.down(x)))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]
