"""Each proxy beside naive float64 code: hooks on modules, loops over samples, plain autograd."""

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

from ssnr.core.errors import ScoringError
from ssnr.proxies.capture import capture_of
from ssnr.proxies.epe_nas import epe_nas
from ssnr.proxies.gradsign import gradsign, gradsign_score
from ssnr.proxies.jacov import jacov
from ssnr.proxies.meco import meco
from ssnr.proxies.naswot import naswot
from ssnr.proxies.ntk import ntk
from ssnr.proxies.swap import linear_regions, swap
from ssnr.proxies.zen import zen
from ssnr.proxies.zico import zico

Make = Callable[..., Any]
Images = tuple[Tensor, Tensor]
ALL = (naswot, jacov, epe_nas, zen, zico, swap, linear_regions, meco, gradsign, ntk)


def doubled(net: nn.Module) -> nn.Module:
    return copy.deepcopy(net).double().train()


def test_naswot_counts_agreements(conv_net: nn.Module, images: Images, context: Make) -> None:
    net, x = doubled(conv_net), images[0].double()
    h = net.norm(net.stem(x))  # type: ignore[operator]
    a = net.body(h.relu())  # type: ignore[operator]
    b = net.last(net.down(h.relu() + a.relu()))  # type: ignore[operator]
    k = np.zeros((6, 6))
    for z in (h, a, b):
        c = (z > 0).flatten(1).numpy()
        k += np.array([[(c[i] == c[j]).sum() for j in range(6)] for i in range(6)])
    assert naswot(context(conv_net, *images)) == pytest.approx(np.linalg.slogdet(k)[1], rel=1e-12)


def test_jacov_and_epe_nas_correlate_input_gradients(conv_net: nn.Module, images: Images, context: Make) -> None:
    x = images[0].double().requires_grad_()
    (g,) = torch.autograd.grad(doubled(conv_net)(x).sum(), x)
    r = np.corrcoef(g.flatten(1).numpy())
    v = np.linalg.eigvalsh(r) + 1e-5
    here = context(conv_net, *images)
    assert jacov(here) == pytest.approx(-(np.log(v) + 1 / v).sum(), rel=1e-9)
    expected = 0.0
    for label in range(3):
        own = np.corrcoef(g.flatten(1).numpy()[images[1].numpy() == label])
        expected += abs(np.log(np.abs(own) + 1e-5).sum())
    assert epe_nas(here) == pytest.approx(expected, rel=1e-9)


def test_zico_of_two_halves(conv_net: nn.Module, images: Images, context: Make) -> None:
    found = []
    for s in (slice(0, 3), slice(3, 6)):
        net = doubled(conv_net)
        F.cross_entropy(net(images[0][s].double()), images[1][s]).backward()
        found.append([p.grad.flatten().numpy() for p in net.parameters() if p.dim() > 1 and p.grad is not None])
    expected = 0.0
    for one, other in zip(*found, strict=True):
        g = np.stack([one, other])
        spread = g.std(0)
        expected += math.log((np.abs(g).mean(0)[spread > 0] / spread[spread > 0]).sum())
    assert zico(context(conv_net, *images)) == pytest.approx(expected, rel=1e-9)


def test_gradsign_is_that_of_single_images(conv_net: nn.Module, images: Images, context: Make) -> None:
    def alone() -> Any:
        for n in range(6):
            net = doubled(conv_net)
            F.cross_entropy(net(images[0][n : n + 1].double()), images[1][n : n + 1]).backward()
            yield {name: p.grad for name, p in net.named_parameters() if p.dim() > 1 and p.grad is not None}

    here = context(conv_net, *images)
    assert capture_of(here).per_sample(lambda name, rows: None, of_loss=True)
    assert gradsign(here) == gradsign_score(alone())


def test_per_sample_gradients_are_those_of_single_images(conv_net: nn.Module, images: Images, context: Make) -> None:
    capture, found = capture_of(context(conv_net, *images)), {}
    assert capture.per_sample(lambda name, rows: found.update({name: rows}), of_loss=True)
    for n, alone in enumerate(capture.each_sample()):
        assert set(alone) == set(found)
        for name, g in alone.items():
            torch.testing.assert_close(6 * found[name][n], g.flatten(), rtol=1e-9, atol=1e-12)


def test_gradsign_of_layers_that_cannot_be_told_apart_takes_single_passes(images: Images, context: Make) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.ConvTranspose2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(600, 3))
    here = context(net, *images)
    assert not capture_of(here).per_sample(lambda name, rows: None, of_loss=True)
    assert gradsign(here) == gradsign_score(capture_of(here).each_sample())


def test_a_tied_layer_is_one_layer(context: Make) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.fc(self.fc(x).relu()))  # type: ignore[no-any-return]

    torch.manual_seed(1)
    here = context(Tied(), torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
    assert gradsign(here) == gradsign_score(capture_of(here).each_sample())


@pytest.mark.parametrize("recipe", ["seed", "zero-cost-nas(dtype=float64)"])
def test_ntk_with_and_without_gradients_of_statistics_and_of_scales(
    recipe: str, conv_net: nn.Module, images: Images, context: Make
) -> None:
    net, x = doubled(conv_net), images[0].double()
    if recipe == "seed":  # statistics as constants: what a batch norm in eval mode has
        norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = None
            norm.register_forward_pre_hook(_remember)
        net(x)
        net.eval()
        for norm in norms:
            norm._forward_pre_hooks.clear()
    wanted = [p for name, p in net.named_parameters() if p.dim() > 1 or (recipe != "seed" and "weight" in name)]
    rows = []
    for value in net(x).sum(1):
        g = torch.autograd.grad(value, wanted, retain_graph=True)
        rows.append(torch.cat([t.flatten() for t in g]))
    values = torch.linalg.eigvalsh(torch.stack(rows) @ torch.stack(rows).T)
    assert ntk(context(conv_net, *images, recipe=recipe)) == pytest.approx(float(values[-1] / values[0]), rel=1e-8)


def test_ntk_of_a_layer_that_cannot_be_told_apart_takes_statistics_as_constants_too(
    images: Images, context: Make
) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)]
    net = nn.Sequential(*layers)
    turned = nn.ConvTranspose2d(3, 4, 3, padding=2)  # the same layer: kernels turned, channels changed over
    turned.weight.data, turned.bias.data = net[0].weight.flip(2, 3).transpose(0, 1).detach().clone(), net[0].bias.data
    here = context(nn.Sequential(turned, *layers[1:]), *images)
    assert not capture_of(here).per_sample(lambda name, rows: None, of_loss=False)
    assert ntk(here) == pytest.approx(ntk(context(net, *images)), rel=1e-9)


def _remember(module: nn.Module, args: Any) -> None:
    """Puts the biased statistics of the batch in place of the running ones, and has the module use them at once."""
    variance, mean = torch.var_mean(args[0].detach(), (0, 2, 3), correction=0)
    module.running_mean, module.running_var = mean, variance
    module.eval()


def test_swap_and_linear_regions_compare_codes(conv_net: nn.Module, images: Images, context: Make) -> None:
    here = context(conv_net, *images)
    codes = torch.cat(capture_of(here).codes("swap"), 1)
    assert swap(here) == len({tuple(column.tolist()) for column in codes.T})
    assert linear_regions(here) == 6


def test_meco_takes_each_feature_map_once(images: Images, context: Make) -> None:
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3))
    expected, x = 0.0, images[0].double()
    for module in doubled(net):  # type: ignore[attr-defined]
        x = module(x)
        r = np.nan_to_num(np.corrcoef(x[0].flatten(1).detach().numpy()))
        expected += np.linalg.eigvalsh(r)[0]
    assert meco(context(net, *images)) == pytest.approx(expected, rel=1e-9)


def test_zen_by_hand(images: Images, context: Make) -> None:
    """Of a linear map f(x) − f(x + γε) = −γ W ε, with W and ε of the generator."""
    net = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))
    drawn = torch.Generator().manual_seed(0)
    torch.randn(16, 3, 8, 8, generator=drawn, dtype=torch.float64)
    epsilon = torch.randn(16, 3, 8, 8, generator=drawn, dtype=torch.float64)
    w = torch.randn(2, 3, generator=drawn, dtype=torch.float64)
    change = 0.01 * torch.einsum("oc,nchw->nohw", w, epsilon)
    expected = math.log(float(change.abs().sum((1, 2, 3)).mean()))
    assert zen(context(net, *images)) == pytest.approx(expected, rel=1e-9)


def test_zen_reads_batch_variances_of_norms_without_running_statistics(images: Images, context: Make) -> None:
    torch.manual_seed(0)
    first = [nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, track_running_stats=False, affine=False), nn.ReLU()]
    second = [copy.deepcopy(first[0]), nn.BatchNorm2d(4), nn.ReLU()]
    one, other = (nn.Sequential(*layers, nn.Flatten(), nn.Linear(144, 3)) for layers in (first, second))
    assert zen(context(one, *images)) == zen(context(other, *images))


@pytest.mark.parametrize("proxy", [naswot, jacov, epe_nas, zico, gradsign, ntk])
def test_a_batch_of_one_is_refused(proxy: Any, conv_net: nn.Module, images: Images, context: Make) -> None:
    with pytest.raises(ScoringError) as error:
        proxy(context(conv_net, images[0][:1], images[1][:1]))
    assert str(error.value) == f"{proxy.__name__} compares samples: got a batch of 1, expected 2 or more"


@pytest.mark.parametrize("proxy", [naswot, swap, linear_regions])
def test_a_network_without_activations_is_refused(proxy: Any, context: Make) -> None:
    with pytest.raises(ScoringError) as error:
        proxy(context(nn.Linear(3, 2), torch.randn(4, 3)))
    name = proxy.__name__
    assert str(error.value) == f"{name} reads activations (ReLU, GELU, SiLU, …), of which this network has none"


def test_a_network_without_feature_maps_is_refused(context: Make) -> None:
    with pytest.raises(ScoringError, match=r"^meco reads feature maps .* and this network has none$"):
        meco(context(nn.Linear(3, 2), torch.randn(4, 3)))


@pytest.mark.parametrize("proxy", [naswot, ntk])
def test_duplicate_images_are_a_reason_and_no_number(
    proxy: Any, conv_net: nn.Module, images: Images, context: Make
) -> None:
    twice = torch.cat([images[0][:3], images[0][:3]])
    with pytest.raises(ScoringError, match="use distinct samples"):
        proxy(context(conv_net, twice, images[1]))


@pytest.mark.parametrize("proxy", ALL)
def test_half_precision_is_scored_as_the_numbers_that_it_holds(
    proxy: Any, conv_net: nn.Module, images: Images, context: Make
) -> None:
    half = copy.deepcopy(conv_net).half()
    full = copy.deepcopy(half).float()
    found, expected = (proxy(context(net, images[0].half().to(d), images[1])) for net, d in
                       ((half, torch.float16), (full, torch.float32)))  # fmt: skip
    assert found == expected


@pytest.mark.parametrize("proxy", ALL)
def test_the_network_is_left_as_it_was(proxy: Any, conv_net: nn.Module, images: Images, context: Make) -> None:
    before = {name: value.clone() for name, value in conv_net.state_dict().items()}
    proxy(context(conv_net, *images))
    after = conv_net.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(p.grad is None for p in conv_net.parameters())


def test_a_layer_that_does_not_see_the_input_is_not_lost(context: Make) -> None:
    """Its gradient is no part of what goes back to the inputs."""

    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place, self.fc, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head((self.fc(x) + self.place(torch.ones_like(x))).relu())  # type: ignore[no-any-return]

    torch.manual_seed(1)
    here = context(Beside(), torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
    assert set(next(capture_of(here).each_sample())) == {"place.weight", "fc.weight", "head.weight"}
    assert gradsign(here) == gradsign_score(capture_of(here).each_sample())
