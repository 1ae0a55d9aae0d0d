"""Functions with derivatives of their own: all of them against differences, in float64."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

import ssnr
from ssnr.interpret import double_backward as twice
from ssnr.interpret.differentiable import Paths

SIZES = {1: (5,), 2: (3, 3), 3: (2, 2, 2)}
CONVOLUTIONS = [f"conv{t}{n}d" for t in ("", "_transpose") for n in (1, 2, 3)]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def answered(function, *args, **kwargs) -> Tensor:
    with Paths(second=True, dropout=False, recurrent=True, channels_last=False):
        out: Tensor = function(*args, **kwargs)
    return out


def kind(value: Tensor) -> str:
    return type(value.grad_fn).__name__


@pytest.mark.parametrize(("name", "groups"), list(itertools.product(CONVOLUTIONS, (1, 2))))
def test_a_convolution_and_both_its_derivatives(name, groups):
    n = int(name[-2])
    x, b = drawn(2, 2, *SIZES[n]), drawn(4, seed=2)
    w = drawn(*((2, 4 // groups) if "transpose" in name else (4, 2 // groups)), *(3, 2, 1)[:n], seed=1)

    def run(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return answered(getattr(F, name), x, w, b, stride=2, padding=(1, 1, 0)[:n], groups=groups)

    assert kind(run(x, w, b)) == "_ConvolutionBackward"
    assert torch.equal(run(x, w, b), getattr(F, name)(x, w, b, stride=2, padding=(1, 1, 0)[:n], groups=groups))
    assert gradcheck(run, (x, w, b)) and gradgradcheck(run, (x, w, b))
    assert gradgradcheck(run, (x, w)) and gradgradcheck(lambda w: run(x.detach(), w), (w,))


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (3, 3, 2, 2), (2, 3, 2, 2, 2)])
def test_batch_norm_and_both_its_derivatives(shape):
    x = (drawn(*shape) * 2 + 1).detach().requires_grad_()
    w, b = drawn(3, seed=1), drawn(3, seed=2)

    def run(x: Tensor, w: Tensor | None = None, b: Tensor | None = None) -> Tensor:
        return answered(F.batch_norm, x, None, None, w, b, training=True)

    assert kind(run(x, w, b)) == "_BatchNormBackward"
    assert torch.allclose(run(x, w, b), F.batch_norm(x, None, None, w, b, True), rtol=1e-14, atol=1e-14)
    assert gradcheck(run, (x, w, b)) and gradgradcheck(run, (x, w, b))
    assert gradgradcheck(run, (x,)) and gradgradcheck(lambda x: run(x, w.detach(), b.detach()), (x,))


def test_batch_norm_updates_its_running_statistics():
    x, ours, theirs = drawn(6, 3), [torch.zeros(3).double(), torch.ones(3).double()], [torch.zeros(3).double()]
    theirs.append(torch.ones(3).double())
    answered(F.batch_norm, x, *ours, training=True, momentum=0.3)
    F.batch_norm(x, *theirs, training=True, momentum=0.3)
    assert torch.equal(torch.stack(ours), torch.stack(theirs))


def test_relu_and_both_its_derivatives():
    x = drawn(4, 3)
    assert kind(answered(F.relu, x)) == kind(answered(torch.relu, x)) == kind(answered(x.relu)) == "_ReluBackward"
    assert gradcheck(lambda x: answered(F.relu, x), (x,))
    assert gradgradcheck(lambda x: answered(F.relu, x) * x, (x,))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 2, 1, 3), (2, 1, 2, 1)])
@pytest.mark.parametrize("padded", [True, False])
def test_an_average_over_three_by_three_and_both_its_derivatives(shape, padded):
    x = drawn(*shape)

    def run(x: Tensor) -> Tensor:
        return answered(F.avg_pool2d, x, 3, 1, 1, count_include_pad=padded)

    assert torch.allclose(run(x), F.avg_pool2d(x, 3, 1, 1, count_include_pad=padded), rtol=1e-13, atol=1e-15)
    assert kind(run(x)) == "MulBackward0"
    assert gradcheck(run, (x,)) and gradgradcheck(lambda x: run(x) * x, (x,))
    flipped = x.detach().contiguous(memory_format=torch.channels_last)
    assert torch.equal(run(flipped), run(x))


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (F.avg_pool2d, (drawn(1, 2, 4, 4), 3, 2, 1)),
        (F.avg_pool2d, (drawn(1, 2, 4, 4), 3, 1, 1, False, True, 2)),  # a divisor of one's own
        (F.conv2d, (drawn(4, 5, 5), drawn(6, 4, 3, 3))),  # no batch
        (F.conv2d, (drawn(1, 4, 5, 5), drawn(6, 4, 3, 3), None, 1, "same")),
        (F.batch_norm, (drawn(4, 3), torch.zeros(3).double(), torch.ones(3).double())),  # running statistics
        (F.relu, (drawn(4, 3) * 1, True)),  # in place
    ],
)
def test_what_is_not_covered_is_left_to_pytorch(function, args):
    out = answered(function, *args)
    assert not kind(out).startswith(("_", "Mul"))


IMAGES, KERNEL = drawn(2, 2, 5, 5), drawn(2, 2, 3, 3)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (F.conv2d, {"input": IMAGES, "weight": KERNEL, "stride": 2, "padding": 1}),
        (F.conv_transpose2d, {"input": IMAGES, "weight": KERNEL, "output_padding": 1, "stride": 2}),
        (F.batch_norm, {"input": IMAGES, "running_mean": None, "running_var": None, "training": True, "eps": 1e-3}),
        (F.relu, {"input": IMAGES}),
        (F.avg_pool2d, {"input": IMAGES, "kernel_size": 3, "stride": 1, "padding": 1}),
        (F.hardsigmoid, {"input": IMAGES}),
        (torch.cdist, {"x1": IMAGES, "x2": IMAGES + 1, "p": 1.0}),
        (F.embedding_bag, {"input": torch.tensor([[0, 1]]), "weight": drawn(3, 2), "mode": "sum"}),
    ],
)
def test_arguments_may_be_given_by_name(function, arguments):
    assert torch.allclose(answered(function, **arguments), function(**arguments), rtol=1e-13, atol=1e-15)


def test_one_value_a_channel_is_refused_as_by_pytorch():
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        answered(F.batch_norm, drawn(1, 3), None, None, training=True)


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("options", [{}, {"padding_idx": 2}, {"padding_idx": -1}, {"include_last_offset": True}])
def test_embedding_bag_written_out_is_embedding_bag(mode, options):
    tokens, weight = torch.tensor([0, 2, 2, 4, 1, 4]), drawn(5, 3)
    bags = [(tokens.view(2, 3), None), (tokens, torch.tensor([0, 2, 2, 6]))]  # the last two bags: empty and full
    for given, offsets in bags[1:] if "include_last_offset" in options else bags:
        run = F.embedding_bag
        expected = run(given, weight, offsets, mode=mode, **options)
        assert torch.allclose(answered(run, given, weight, offsets, mode=mode, **options), expected, rtol=1e-15)
    per_sample = drawn(6, seed=3)
    if mode == "sum" and not options:
        args = (tokens, weight, torch.tensor([0, 2]), None, 2.0, False, "sum", False, per_sample)
        assert torch.allclose(answered(F.embedding_bag, *args), F.embedding_bag(*args), rtol=1e-15)
        assert gradgradcheck(lambda w, p: answered(F.embedding_bag, *args[:1], w, *args[2:8], p), (weight, per_sample))


def test_gradients_of_embeddings_are_dense():
    weight, tokens = drawn(5, 3), torch.tensor([[0, 2], [1, 1]])
    for function in (F.embedding, F.embedding_bag):
        with Paths(second=False, dropout=False, recurrent=False, channels_last=False):
            out = function(tokens, weight, sparse=True)
        (gradient,) = torch.autograd.grad(out.sum(), weight)
        assert gradient.layout is torch.strided


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, float("inf")])
def test_distances_written_out_are_the_distances(p):
    x, y = drawn(2, 4, 3), drawn(2, 5, 3, seed=1)
    assert torch.allclose(answered(torch.cdist, x, y, p), torch.cdist(x, y, p), rtol=1e-12)
    assert torch.allclose(answered(F.pdist, x[0], p), F.pdist(x[0], p), rtol=1e-12)
    assert torch.allclose(answered(F.hardsigmoid, 4 * x), F.hardsigmoid(4 * x), rtol=1e-14)


def test_the_gradient_of_a_strided_pointwise_convolution_of_few_channels_is_not_taken_channels_last(monkeypatch):
    backward, seen = torch.ops.aten.convolution_backward, []

    def watched(g: Tensor, x: Tensor, *rest: object) -> object:
        seen.append(x.is_contiguous())
        return backward(g, x, *rest)

    aten = SimpleNamespace(convolution=torch.ops.aten.convolution, convolution_backward=watched)
    monkeypatch.setattr(twice, "_aten", aten)
    for channels, stride in ((15, 2), (16, 2), (15, 1)):
        x = drawn(2, channels, 4, 4).detach().contiguous(memory_format=torch.channels_last)
        w = drawn(3, channels, 1, 1)
        (found,) = torch.autograd.grad(answered(F.conv2d, x, w, stride=stride).sum(), w)
        (expected,) = torch.autograd.grad(F.conv2d(x, w, stride=stride).sum(), w)
        assert torch.allclose(found, expected, rtol=1e-13)
    assert seen == [True, False, False]


class Mixed(nn.Module):
    """Plain, transposed, strided, grouped and pointwise convolutions, norms, poolings and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(3, 1, 1),
            nn.Conv2d(8, 8, 1, stride=2, bias=False), nn.BatchNorm2d(8, affine=False), nn.ReLU(inplace=True),
            nn.ConvTranspose2d(8, 6, 3, stride=2), nn.BatchNorm2d(6, track_running_stats=False), nn.ReLU(),
            nn.Conv2d(6, 6, 3, groups=3, dilation=2), nn.ReLU(), nn.Flatten(2), nn.Conv1d(6, 32, 1, stride=2),
            nn.BatchNorm1d(32), nn.GELU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 4),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("images", [1, 3])
def test_a_saliency_is_the_same_to_the_last_bit_whether_or_not_another_needs_second_derivatives(dtype, images):
    torch.manual_seed(0)
    net, batch, recipe = Mixed(), (torch.randn(images, 3, 12, 12), torch.arange(images)), f"seed(dtype={dtype})"
    proxies = ["plain/sum", "plain/l2", "snip/ssnr", "snip/layerwise_ssnr"]
    alone = ssnr.score(net, batch, proxies, recipe=recipe)
    beside = ssnr.score(net, batch, [*proxies, "grasp/sum"], recipe=recipe)
    assert beside["grasp/sum"].status == "ok"
    assert [beside[name].value for name in proxies] == [alone[name].value for name in proxies]
