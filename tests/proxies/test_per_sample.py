"""Gradients of each sample from one backward pass, beside a pass for each sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssnr.proxies import vkdnw
from ssnr.proxies.capture import capture_of

Make = Callable[..., Any]
LABELS = torch.tensor([0, 1, 2, 0, 1])
LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "depthwise": (nn.Conv2d(6, 6, 3, padding=1, groups=6), (7, 8)),
    "depthwise, dilated and strided": (nn.Conv2d(6, 6, 5, stride=2, padding=4, dilation=2, groups=6), (9, 8)),
    "depthwise with a multiplier": (nn.Conv2d(6, 12, 3, groups=6, bias=False), (5, 5)),
    "groups": (nn.Conv2d(6, 9, (3, 1), groups=3, stride=(2, 1)), (7, 4)),
    "uneven": (nn.Conv2d(6, 5, (2, 3), stride=(3, 2), padding=(1, 0), dilation=(2, 1)), (11, 9)),
    "pointwise, strided": (nn.Conv2d(6, 5, 1, stride=2), (5, 6)),
    "pointwise, padded": (nn.Conv2d(6, 5, 1, padding=1), (3, 3)),
    "same": (nn.Conv2d(6, 5, (4, 3), padding="same", dilation=(1, 2)), (6, 7)),
    "valid": (nn.Conv2d(6, 5, 2, padding="valid", stride=2), (6, 7)),
    "one axis": (nn.Conv1d(6, 4, 3, padding=1, stride=2, groups=2), (11,)),
    "three axes": (nn.Conv3d(6, 4, (1, 2, 3), padding=(0, 1, 1)), (3, 4, 5)),
    "linear": (nn.Linear(7, 4), (3, 7)),
}


class Around(nn.Module):
    """A layer behind another one, and a head."""

    def __init__(self, layer: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        torch.manual_seed(0)
        kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(shape)]
        self.first, self.layer = kind(2, 6, 1), layer
        out = layer(torch.zeros(1, 6, *shape))
        self.head = nn.Linear(out.numel(), 3)

    def forward(self, x: Tensor) -> Tensor:
        """Samples to logits."""
        return self.head(torch.tanh(self.layer(torch.tanh(self.first(x)))).flatten(1))  # type: ignore[no-any-return]


def check(here: Any) -> None:
    """Gradients and first entries of a batch in one way and the other."""
    capture, found = capture_of(here), {}
    assert capture.per_sample(lambda name, rows: found.update({name: rows.clone()}), of_loss=True)
    for n, alone in enumerate(capture.each_sample()):
        for name in here.model.scored:
            mine = found.get(name)
            row = torch.zeros(here.model.scored[name].numel(), dtype=torch.float64) if mine is None else 5 * mine[n]
            expected = alone.get(name, torch.zeros_like(here.model.scored[name], dtype=torch.float64))
            torch.testing.assert_close(row, expected.flatten(), rtol=1e-9, atol=1e-12)
    names = here.model.parameters()
    batch, each = vkdnw._of_batch(capture, names), [vkdnw._of_sample(capture, names, n) for n in range(5)]
    assert batch is not None
    torch.testing.assert_close(batch.T @ batch, torch.cat(each).T @ torch.cat(each), rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("order", ["as it comes", "channels last"])
def test_every_kind_of_layer_is_told_apart_by_sample(kind: str, order: str, context: Make) -> None:
    layer, shape = LAYERS[kind]
    x = torch.randn(5, 2, *shape, generator=torch.Generator().manual_seed(1))
    if order == "channels last" and len(shape) == 2:
        x = x.contiguous(memory_format=torch.channels_last)
    check(context(Around(layer, shape), x, LABELS))


class Branches(nn.Module):
    """A chain with a branch on the side."""

    def __init__(self, branch: Callable[[Branches, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.side, self.then = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.norm, self.act = nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.branch, self.head = branch, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        x = self.stem(x)
        return self.head((torch.tanh(x) + self.branch(self, x)).mean((2, 3)))  # type: ignore[no-any-return]


def dropped(net: Branches, x: Tensor) -> Tensor:
    net.then(net.act(net.norm(net.side(x))))
    return torch.zeros_like(x)


BRANCHES: dict[str, Callable[[Branches, Tensor], Tensor]] = {
    "nothing depends on it": dropped,
    "its end is lost": lambda net, x: 0 * net.then(net.act(net.side(x))) + net.side(x).detach(),
    "it starts from a constant": lambda net, x: net.act(net.then(net.act(net.side(torch.zeros_like(x) + 0.3)))),
    "it starts from what is detached": lambda net, x: net.then(net.act(net.side(x.detach()))),
    "tied, and once for nothing": lambda net, x: net.act(net.side(x)) + 0 * net.side(x + 1).detach(),
    "a norm of a constant": lambda net, x: net.norm(x.detach()),
}


@pytest.mark.parametrize("kind", BRANCHES)
def test_branches_that_lead_nowhere_or_come_from_nowhere(kind: str, context: Make, images: Any) -> None:
    check(context(Branches(BRANCHES[kind]), images[0][:5], LABELS))


def test_the_whole_network_may_be_cut_off_from_the_images(context: Make, images: Any) -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.then, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            dead = torch.zeros_like(self.stem(x)) + 1
            return self.head(self.then(dead).relu().mean((2, 3)))  # type: ignore[no-any-return]

    torch.manual_seed(3)
    check(context(Cut(), images[0][:5], LABELS))


class Otherwise(nn.Module):
    """A weight that is a layer's, and also used in another way."""

    def __init__(self, way: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.head, self.own, self.way = nn.Linear(4, 4), nn.Linear(4, 3), nn.Parameter(torch.randn(4, 4)), way

    def forward(self, x: Tensor) -> Tensor:
        """Rows to logits."""
        return self.head(self.way(self.fc(x).relu(), self.own))  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", [lambda x, w: x @ w, lambda x, w: x + torch.linalg.norm(w)])
def test_a_weight_that_no_layer_has_takes_single_passes(way: Any, context: Make) -> None:
    here = context(Otherwise(way), torch.randn(5, 4), LABELS)
    assert not capture_of(here).per_sample(lambda name, rows: None, of_loss=True)
    assert vkdnw._of_batch(capture_of(here), here.model.parameters()) is None


def test_a_layer_that_mixes_samples_takes_single_passes(context: Make) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Unflatten(1, (2, 2)), Rows(), nn.Linear(2, 2), Back(), nn.Linear(4, 3))
    here = context(net, torch.randn(5, 4), LABELS)
    assert not capture_of(here).per_sample(lambda name, rows: None, of_loss=True)


class Rows(nn.Module):
    """(N, 2, 2) → (2 N, 2)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, 2)


class Back(nn.Module):
    """(2 N, 2) → (N, 4)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, 4)


class Many(nn.Module):
    """Many classes of few features."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.head, self.way = nn.Linear(4, 9, bias=way != "no bias"), way

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        x = self.head(torch.tanh(self.norm(self.stem(x))).mean((2, 3)))
        if self.way == "in place":
            return x.mul_(2)
        return 2 * x if self.way == "scaled" else x


@pytest.mark.parametrize("way", ["bias", "no bias", "in place", "scaled"])
def test_of_many_classes_the_gradients_of_features_are_enough(
    way: str, context: Make, images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, passes = context(Many(way), images[0][:5], LABELS), []
    names, own = here.model.parameters(), vkdnw.gradients
    monkeypatch.setattr(vkdnw, "gradients", lambda *args, **kwargs: passes.append(1) or own(*args, **kwargs))
    batch = vkdnw._of_batch(capture_of(here), names)
    assert batch is not None
    assert len(passes) == (4 if "bias" in way else 8)
    each = torch.cat([vkdnw._of_sample(capture_of(here), names, n) for n in range(5)])
    torch.testing.assert_close(batch.T @ batch, each.T @ each, rtol=1e-9, atol=1e-12)
