"""Proxies that read a spectrum: near, vkdnw, intrain. Values by hand, and naive float64 code beside what is fast."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ssnr
from ssnr.core.errors import ScoringError
from ssnr.data import noise_labels
from ssnr.proxies.capture import capture_of
from ssnr.proxies.intrain import health, intrain, intrain_score, participation
from ssnr.proxies.near import effective_rank, near, near_score
from ssnr.proxies.vkdnw import covariance_root, decile_entropy, fisher_of, vkdnw, vkdnw_entropy
from ssnr.proxies.watch import block

Make = Callable[..., Any]
Images = tuple[Tensor, Tensor]
PROXIES = (near, vkdnw, vkdnw_entropy, intrain)


def erank(matrix: Any) -> float:
    """exp of the entropy of the singular values, by NumPy."""
    s = np.linalg.svd(np.asarray(matrix, dtype=np.float64), compute_uv=False)
    p = s[s > 0] / s.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def test_effective_rank_of_singular_values_3_and_1() -> None:
    by_hand = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(by_hand, rel=1e-14)
    assert by_hand == pytest.approx(1.7547654, abs=1e-7)


def test_effective_rank_of_one_direction_is_1_and_of_zeros_0() -> None:
    assert effective_rank(torch.ones(3, 2)) == pytest.approx(1.0, rel=1e-12)
    assert effective_rank(torch.zeros(3, 2)) == 0.0
    assert near_score([torch.eye(3), torch.eye(2), torch.zeros(2, 2)]) == pytest.approx(5.0, rel=1e-14)


def test_a_block_holds_as_many_rows_as_channels_down_the_columns_of_an_image() -> None:
    maps = torch.arange(2 * 3 * 2 * 2).view(2, 3, 2, 2)  # image, channel, row, column
    found = {tuple(map(tuple, block(maps, torch.Generator().manual_seed(s), last=False).tolist())) for s in range(20)}
    rows = [[int(maps[n, c, i, j]) for c in range(3)] for n in range(2) for j in range(2) for i in range(2)]
    assert found == {tuple(map(tuple, rows[start : start + 3])) for start in (0, 2, 4)}


def test_near_adds_what_linear_layer_and_activation_put_out(context: Make) -> None:
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU()).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(2))
    x = torch.tensor([[3.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    assert near(context(net, x)) == pytest.approx(1.7547653506033232 + 1.0, rel=1e-12)


def test_near_of_maps_norms_and_activations(conv_net: nn.Module, images: Images, context: Make) -> None:
    """Naive: hooks on modules, all rows as the definition orders them, the block where the generator says."""
    net, drawn, expected = copy.deepcopy(conv_net).double().train(), torch.Generator().manual_seed(0), 0.0

    def score(value: Tensor) -> None:
        nonlocal expected
        channels = value.shape[1]
        whole = value.transpose(1, 3).flatten(0, 2) if value.dim() == 4 else value
        line = value.shape[2] if value.dim() == 4 else 1
        places = max(len(whole) - channels, 0) // line + 1
        start = int(torch.randint(places, (1,), generator=drawn)) * line
        expected += erank(whole[start : start + channels].detach().numpy())

    x: Tensor = images[0].double()
    stem = net.stem(x)  # type: ignore[operator]
    norm = net.norm(stem)  # type: ignore[operator]
    act = norm.relu()
    body = net.body(act)  # type: ignore[operator]
    grown = act + body.relu()
    down = net.down(grown)  # type: ignore[operator]
    last = net.last(down)  # type: ignore[operator]
    logits = net.head(last.relu().mean((2, 3)))  # type: ignore[operator]
    for value in (stem, norm, act, body, body.relu(), down, last, last.relu(), logits):
        score(value)
    assert near(context(conv_net, *images)) == pytest.approx(expected, rel=1e-9)


def test_near_reads_tokens_as_rows(context: Make) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.GELU()).double()
    x = torch.randn(2, 2, 3, dtype=torch.float64)  # four tokens, so that a block is all of them
    z = net[0](x).detach().reshape(4, 4)
    assert near(context(net, x)) == pytest.approx(erank(z.numpy()) + erank(F.gelu(z).numpy()), rel=1e-9)


def test_the_root_of_the_covariance_of_classes() -> None:
    torch.manual_seed(0)
    logits = 5 * torch.randn(4, 6, dtype=torch.float64)
    p = 0.95 * logits.softmax(1) + 0.05 / 6
    root = covariance_root(logits)
    expected = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    torch.testing.assert_close(root @ root.mT, expected, rtol=1e-12, atol=1e-14)


def test_entropy_of_deciles() -> None:
    assert decile_entropy(torch.arange(11.0)) == pytest.approx(
        -sum(k / 45 * math.log(k / 45) for k in range(1, 10)), rel=1e-8
    )


def test_fisher_of_two_classes_by_hand(context: Make) -> None:
    """f = (w x, 0) with w x = 0: p = ½, so that F = ¼ mean x²; the bias of the head adds its own direction."""
    net = nn.Linear(1, 2).double()
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    x = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    found = fisher_of(capture_of(context(net, x)))
    torch.testing.assert_close(found, torch.tensor([[1.25, 0.5], [0.5, 0.25]], dtype=torch.float64))


def naive_fisher(net: nn.Module, x: Tensor, *, train: bool = True) -> Tensor:
    """Σ by autograd: one image and one logit at a time, every gradient whole."""
    net = copy.deepcopy(net).double().train(train)
    parameters = list(net.parameters())[:128]
    total = torch.zeros(len(parameters), len(parameters), dtype=torch.float64)
    for n in range(len(x)):
        (logits,) = net(x[n : n + 1].double())
        rows = []
        for logit in logits:
            found = torch.autograd.grad(logit, parameters, retain_graph=True, allow_unused=True)
            rows.append([0.0 if g is None else float(g.flatten()[0]) for g in found])
        jacobian = torch.tensor(rows, dtype=torch.float64)
        p = 0.95 * logits.detach().softmax(0) + 0.05 / len(logits)
        total += jacobian.T @ (p.diag() - torch.outer(p, p)) @ jacobian
    return total / len(x)


def test_vkdnw_beside_naive_autograd(conv_net: nn.Module, images: Images, context: Make) -> None:
    here, expected = context(conv_net, *images), naive_fisher(conv_net, images[0])
    torch.testing.assert_close(fisher_of(capture_of(here)), expected, rtol=1e-9, atol=1e-15)
    values = np.linalg.svd(expected.numpy(), compute_uv=False)
    deciles = np.quantile(values, np.arange(1, 10) / 10)
    shares = deciles / (deciles.sum() + 1e-10)
    entropy = -(shares * np.log(shares + 1e-10)).sum()
    assert vkdnw_entropy(here) == pytest.approx(entropy, rel=1e-6)
    assert vkdnw(here) == 11 + vkdnw_entropy(here)  # eleven parameter tensors


class Odd(nn.Module):
    """A grouped and a strided convolution, an activation in place right behind a norm, a layer beside the input."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride=2, padding=1, groups=3)
        self.norm, self.beside = nn.BatchNorm2d(6, track_running_stats=False), nn.Linear(2, 6)
        self.tied, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)), inplace=True).mean((2, 3))
        x = x + (self.beside(torch.ones_like(x[:, :2])) if self.training else 0)
        return self.head(self.tied(self.tied(x).relu()))  # type: ignore[no-any-return]


class Apart(Odd):
    """The same without what stands beside the input, so that samples can be told apart."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)), inplace=True).mean((2, 3))
        return self.head(self.tied(self.tied(x).relu()))  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [Odd, Apart])
def test_vkdnw_of_layers_that_are_told_apart_and_of_others(
    kind: type[nn.Module], images: Images, context: Make
) -> None:
    torch.manual_seed(5)
    net = kind()
    found = fisher_of(capture_of(context(net, *images)))
    torch.testing.assert_close(found, naive_fisher(net, images[0]), rtol=1e-9, atol=1e-15)


def test_vkdnw_of_a_layer_norm_takes_passes_of_one_image(context: Make) -> None:
    torch.manual_seed(6)
    net, x = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 3)), torch.randn(3, 4)
    found = fisher_of(capture_of(context(net, x)))
    torch.testing.assert_close(found, naive_fisher(net, x), rtol=1e-9, atol=1e-15)


def test_participation_of_equal_and_of_one_direction() -> None:
    cross = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert participation(cross) == 2.0
    assert participation(torch.tensor([[1.0, 2], [2, 4], [3, 6]])) == pytest.approx(1.0, rel=1e-12)
    assert participation(torch.full((4, 3), 0.1)) is None


def test_intrain_by_hand() -> None:
    """Eigenvalues 3 and 1: PR = 16/10. g = (3, 1): σ/max = 1/3. L = 1."""
    rows = torch.tensor([[3.0, 0], [-3, 0], [0, 3**0.5], [0, -(3**0.5)]], dtype=torch.float64)
    assert participation(rows) == pytest.approx(1.6, rel=1e-12)
    assert health(torch.tensor([3.0, 1.0])) == pytest.approx(1 / 3, rel=1e-9)
    assert health(torch.zeros(3)) == 0.0
    score = intrain_score([1.6], [torch.tensor([3.0, 1.0])])
    assert score == pytest.approx(math.log(1.6) * (4 / 3) / math.log(2), rel=1e-9)


def test_intrain_beside_naive_code(conv_net: nn.Module, images: Images, context: Make) -> None:
    net = copy.deepcopy(conv_net).double().train()
    x = torch.randn(64, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    outputs: list[Tensor] = []
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(lambda m, i, out: outputs.append(out.detach()))
    logits = net(x)
    labels = noise_labels((64,), 3, seed=0)
    F.cross_entropy(logits, labels).backward()
    gamma = 0.0
    for out in outputs:
        rows = out.movedim(1, -1).flatten(0, -2).numpy()
        values = np.linalg.eigvalsh(np.cov(rows, rowvar=False))
        gamma += math.log(values.sum() ** 2 / (values**2).sum())
    found = {name: p.grad.numpy() for name, p in net.named_parameters() if p.grad is not None}
    assert np.abs(found.pop("down.bias")).max() < 1e-14  # a batch norm comes next: nothing but rounding
    o = sum(min(1.0, g.std() / np.abs(g).max()) for g in found.values())
    expected = gamma * (1 + o) / math.log(len(outputs) + 1)
    assert intrain(context(conv_net, *images)) == pytest.approx(expected, rel=1e-6)


def test_intrain_draws_images_of_64_pixels_unless_the_network_takes_none(images: Images) -> None:
    seen: list[tuple[int, ...]] = []

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(192, 3)

        def forward(self, x: Tensor) -> Tensor:
            seen.append(tuple(x.shape))
            return self.head(x.flatten(1))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    score = ssnr.score(Fixed(), None, ("intrain",), input_shape=(3, 8, 8))["intrain"]
    assert score.status == "ok"
    assert (64, 3, 64, 64) in seen
    assert seen[-1] == (64, 3, 8, 8)


def test_a_map_of_classes_is_no_distribution_over_classes(context: Make) -> None:
    with pytest.raises(ScoringError) as error:
        vkdnw(context(nn.Conv2d(3, 2, 1), torch.randn(4, 3, 5, 5)))
    assert str(error.value) == (
        "vkdnw reads the probabilities of classes: got outputs of shape (4, 2, 5, 5), expected (samples, classes)"
    )


def test_one_output_is_no_distribution_over_classes(context: Make) -> None:
    with pytest.raises(ScoringError) as error:
        vkdnw(context(nn.Linear(3, 1), torch.randn(4, 3)))
    assert str(error.value) == (
        "vkdnw reads the probabilities of classes: got 1 output for each sample, expected 2 or more"
    )


def test_near_of_one_sample_is_refused(conv_net: nn.Module, images: Images, context: Make) -> None:
    with pytest.raises(ScoringError, match=r"^near compares samples: got a batch of 1, expected 2 or more$"):
        near(context(conv_net, images[0][:1]))


def test_intrain_in_float32_is_that_in_float64(conv_net: nn.Module, images: Images, context: Make) -> None:
    lower = intrain(context(conv_net, *images, recipe="seed(dtype=float32)"))
    assert lower == pytest.approx(intrain(context(conv_net, *images)), rel=1e-3)


@pytest.mark.parametrize("proxy", PROXIES)
def test_half_precision_is_scored_as_the_numbers_that_it_holds(
    proxy: Any, conv_net: nn.Module, images: Images, context: Make
) -> None:
    half = copy.deepcopy(conv_net).half()
    assert proxy(context(half, images[0].half(), images[1])) == proxy(
        context(copy.deepcopy(half).float(), images[0].half().float(), images[1])
    )


@pytest.mark.parametrize("proxy", PROXIES)
def test_the_network_is_left_as_it_was(proxy: Any, conv_net: nn.Module, images: Images, context: Make) -> None:
    before = {name: value.clone() for name, value in conv_net.state_dict().items()}
    proxy(context(conv_net, *images))
    assert all(torch.equal(value, before[name]) for name, value in conv_net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in conv_net.parameters())


def test_vkdnw_in_eval_mode_reads_running_statistics(conv_net: nn.Module, images: Images, context: Make) -> None:
    for norm in (conv_net.norm, conv_net.last):
        norm.running_mean.uniform_(-1, 1)  # type: ignore[union-attr,operator]
        norm.running_var.uniform_(1, 2)  # type: ignore[union-attr,operator]
    found = fisher_of(capture_of(context(conv_net, *images, recipe="seed(mode=eval)")))
    torch.testing.assert_close(found, naive_fisher(conv_net, images[0], train=False), rtol=1e-9, atol=1e-15)
