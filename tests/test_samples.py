"""Networks whose inputs are not one sample after the other along the first axis."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import ssnr

NOTE = "the network does not take one sample of the batch: {} on the whole batch"


class Detects(nn.Module):
    """Takes a list of images, as networks for detection do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [{"boxes": self.head(self.conv(image[None]).mean((2, 3)))} for image in images]


def test_of_a_list_of_images_the_first_is_the_sample():
    images = [torch.rand(3, 5, 5), torch.rand(3, 4, 7)]
    scores = ssnr.score(Detects(), (images, None), ["synflow/layerwise_ssnr", "synflow", "reachable_params", "flops"])
    net = Detects()
    plain = nn.Sequential(net.conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), net.head)
    expected = ssnr.score(plain, input_shape=(3, 5, 5), proxies=list(scores))
    assert [s.value for s in scores.values()] == pytest.approx([s.value for s in expected.values()], rel=1e-12)
    assert scores["synflow"].notes == ()


class Graph(nn.Module):
    """Two rounds of messages between neighbours."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)

    def forward(self, nodes: Tensor, neighbours: Tensor) -> Tensor:
        return neighbours @ self.b(torch.relu(neighbours @ self.a(nodes)))


@pytest.mark.parametrize("sparse", [False, True])
def test_a_graph_is_read_as_a_whole_and_said_so(sparse):
    neighbours = torch.tensor([[1.0, 1, 0], [0, 1, 0], [1, 0, 1]])
    inputs = torch.rand(3, 3), neighbours.to_sparse() if sparse else neighbours
    score = ssnr.score(Graph(), (inputs, None), ["synflow"])["synflow"]
    net = Graph()
    edges = neighbours if sparse else torch.ones(3, 3)  # a dense tensor says nothing but its shape
    weights = net.a.weight.detach().abs().T @ net.b.weight.detach().abs().T
    total = (edges @ edges @ torch.ones(3, 3) @ weights).sum()
    assert score.value == pytest.approx(2 * float(total), rel=1e-6)
    assert score.notes[0] == NOTE.format("synflow")


def test_a_state_of_fixed_size_takes_the_batch_it_is_made_for():
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 3, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x).view(4, 3)
            return out

    scores = ssnr.score(Fixed(), torch.rand(4, 2), ["synflow", "flops"])
    assert scores["flops"].value == 4 * 6
    assert [s.notes for s in scores.values()] == [(NOTE.format(w),) for w in ("synflow", "multiply-accumulates")]


def test_what_fails_on_every_input_fails_with_the_reason_of_one_sample():
    class Raises(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("always")

    for score in ssnr.score(Raises(), torch.rand(4, 2), ["synflow", "flops"]).values():
        assert score.reason == "the network (Raises) raised ValueError on input (1, 2): always"
