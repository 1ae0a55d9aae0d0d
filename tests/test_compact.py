from __future__ import annotations

import pytest
import torch
from torch import nn

from ssnr.core.errors import UsageError
from ssnr.paper.compact import compact
from ssnr.pruning import apply, masks
from ssnr.spaces import get_space


def pruned(density: float) -> nn.Module:
    net = get_space("vgg").build("11-w16").double()
    return apply(net, masks(net, "synflow", density, input_shape=(3, 32, 32), rounds=10))


def steps(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    for _ in range(3):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net.train()(x), y).backward()
        optimiser.step()
    return net.eval()(x)


def test_a_compact_network_computes_and_learns_the_same():
    net = pruned(0.02)
    small = compact(net)
    x, y = torch.randn(8, 3, 32, 32, dtype=torch.float64), torch.arange(8)
    torch.testing.assert_close(small.eval()(x), net.eval()(x), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(steps(small, x, y), steps(net, x, y), rtol=1e-8, atol=1e-10)


def test_channels_that_nothing_reads_are_gone():
    net = pruned(0.02)
    small = compact(net)
    channels = [m.out_channels for m in small.modules() if isinstance(m, nn.Conv2d)]
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    read = [int(m.weight_mask.transpose(0, 1).flatten(1).any(1).sum()) for m in (*convs[1:], net.classifier)]
    assert channels == read
    assert sum(channels) < sum(m.out_channels for m in convs)


def test_a_dense_network_stays_what_it_is():
    net = get_space("vgg").build("11-w8").eval()
    small = compact(net)
    assert [p.shape for p in small.parameters()] == [p.shape for p in net.parameters()]
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(small(x), net(x))


def test_other_networks_are_refused():
    with pytest.raises(UsageError, match="expected a network of the space vgg, got Linear"):
        compact(nn.Linear(2, 2))
