"""What every proxy promises, as a test class: derive from it and name the proxy."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import nn

import ssnr


class ProxyContract:
    """The tests; `network` and `batch` may be others.

    Attributes:
        proxy: as it is asked for, such as `mine` or `mine/layerwise_ssnr`.
        shuffles: whether the order of the batch does not matter.
    """

    proxy: ClassVar[str]
    shuffles: ClassVar[bool] = True

    def network(self) -> nn.Module:
        """A small network of convolutions, norms and a linear layer, the same each time."""
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8),
            nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4),
        )  # fmt: skip

    def batch(self) -> Any:
        """Images with labels."""
        return ssnr.noise((3, 8, 8), 4, 8)

    def score(self, net: nn.Module, batch: Any = None, **options: Any) -> ssnr.Score:
        """The proxy of a network."""
        return ssnr.score(net, self.batch() if batch is None else batch, [self.proxy], **options)[self.proxy]

    def test_it_is_a_finite_number(self) -> None:
        score = self.score(self.network())
        assert score.status == "ok", score.reason
        assert score.value is not None and math.isfinite(score.value)

    def test_it_is_the_same_each_time_to_the_last_bit(self) -> None:
        net = self.network()
        assert self.score(net) == self.score(net) == self.score(self.network())

    def test_the_network_is_bit_identical_afterwards(self) -> None:
        net = self.network()
        before = [(name, value.clone(), value.grad) for name, value in net.state_dict().items()]
        modes = [module.training for module in net.modules()]
        self.score(net)
        for (name, value, _), (again, after) in zip(before, net.state_dict().items(), strict=True):
            assert name == again and torch.equal(value, after)
        assert modes == [module.training for module in net.modules()]
        assert all(p.grad is None for p in net.parameters())

    def test_float32_agrees_with_float64(self) -> None:
        single, double = (
            self.score(self.network(), recipe=f"seed(dtype={dtype},synflow_dtype={dtype})").value
            for dtype in ("float32", "float64")
        )
        assert single is not None and double is not None
        assert math.isclose(single, double, rel_tol=1e-3)

    def test_the_order_of_the_batch_does_not_matter_where_that_is_said(self) -> None:
        if not self.shuffles:
            return
        batch = self.batch()
        backwards = (batch.inputs.flip(0), batch.targets.flip(0))
        one, other = self.score(self.network()).value, self.score(self.network(), backwards).value
        assert one is not None and other is not None and math.isclose(one, other, rel_tol=1e-6)
