"""grasp, which differentiates twice, on networks whose parts make that hard."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

import ssnr
from networks import golden, golden_batch, naive_gradients
from ssnr.core.recipes import get_recipe
from ssnr.data import batch_of
from ssnr.networks.model import Model
from ssnr.networks.preserve import preserved
from ssnr.saliencies.gradients import second_order_error


def by_differences(net: nn.Module, inputs: object, targets: Tensor, step: float = 1e-5) -> dict[str, Tensor]:
    """−θ ⊙ Hg, H g as the central difference of the gradient along itself: one derivative, float64, train mode."""
    net = copy.deepcopy(net).double().train()
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
            module.dropout = 0.0
        if isinstance(module, Checkpointed):
            module.reentrant = False  # the other kind refuses `autograd.grad`
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            module.sparse = False
    weights = {name: p for name, p in net.named_parameters() if p.dim() >= 2}

    def gradient() -> list[Tensor]:
        loss = F.cross_entropy(net(inputs), targets)
        found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        return [torch.zeros_like(w) if g is None else g for g, w in zip(found, weights.values(), strict=True)]

    start, g = [w.detach().clone() for w in weights.values()], gradient()
    step /= max(float(part.abs().max()) for part in g)
    sides = []
    for sign in (step, -step):
        with torch.no_grad():
            for w, at, along in zip(weights.values(), start, g, strict=True):
                w.copy_(at + sign * along)
        sides.append(gradient())
    return {
        name: -at * (ahead - back) / (2 * step) for name, at, ahead, back in zip(weights, start, *sides, strict=True)
    }


class Attention(nn.Module):
    """Two heads of four channels on (batch, length, 4), then the mean over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.head = nn.Linear(4, 12), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (2, 2)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        out: Tensor = self.head(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2).mean(1))
        return out


class Recurrent(nn.Module):
    def __init__(self, kind: str, **options: object) -> None:
        super().__init__()
        self.rnn, self.head = getattr(nn, kind)(4, 3, batch_first=True, **options), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.rnn(x)[0][:, -1, :3])
        return out


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.body, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x).mean(1))
        return out


class Distances(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.body, self.centres, self.p = nn.Linear(4, 3), nn.Parameter(torch.randn(3, 3)), p

    def forward(self, x: Tensor) -> Tensor:
        return -torch.cdist(self.body(x).mean(1), self.centres, self.p)


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 5), nn.Linear(5, 4), nn.Linear(4, 3)
        self.reentrant = reentrant

    def block(self, x: Tensor) -> Tensor:
        return torch.tanh(self.b(torch.tanh(self.a(x))))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(checkpoint(self.block, x, use_reentrant=self.reentrant).mean(1))
        return out


class Unpool(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mix, self.head = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        pooled, places = F.max_pool2d(torch.tanh(self.conv(x)), 2, return_indices=True)
        out: Tensor = self.head(torch.tanh(self.mix(F.max_unpool2d(pooled, places, 2))).mean((2, 3)))
        return out


class Warped(nn.Module):
    """A spatial transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.place, self.head = nn.Linear(16, 6), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        theta = torch.tanh(self.place(x.flatten(1))).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        out: Tensor = self.head(F.grid_sample(x, grid, align_corners=False).flatten(1))
        return out


class Bag(nn.Module):
    def __init__(self, **options: object) -> None:
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(7, 4, **options), nn.Linear(4, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.bag(tokens)))
        return out


def _conv(*layers: nn.Module, channels: int = 4) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))


SEQUENCES, IMAGES, TOKENS = (5, 6, 4), (5, 1, 4, 4), None
NETWORKS = {
    "fused attention": (Attention, SEQUENCES),
    "transformer encoder": (Encoder, SEQUENCES),
    "LSTM": (lambda: Recurrent("LSTM"), SEQUENCES),
    "GRU, two layers, both ways, dropout": (
        lambda: Recurrent("GRU", num_layers=2, bidirectional=True, dropout=0.5), SEQUENCES),
    "RNN": (lambda: Recurrent("RNN"), SEQUENCES),
    "cdist": (lambda: Distances(2.0), SEQUENCES),
    "cdist, p = 3": (lambda: Distances(3.0), SEQUENCES),
    "checkpoint, reentrant": (lambda: Checkpointed(True), SEQUENCES),
    "checkpoint, not reentrant": (lambda: Checkpointed(False), SEQUENCES),
    "embedding bag, mean": (Bag, TOKENS),
    "embedding bag, sum, padding, sparse": (lambda: Bag(mode="sum", padding_idx=2, sparse=True), TOKENS),
    "embedding, sparse": (
        lambda: nn.Sequential(nn.Embedding(7, 4, sparse=True), nn.Flatten(), nn.Tanh(), nn.Linear(12, 3)), TOKENS),
    "max unpool": (Unpool, IMAGES),
    "grid sample": (Warped, IMAGES),
    "in-place ReLU": (lambda: _conv(nn.BatchNorm2d(4), nn.ReLU(inplace=True)), IMAGES),
    "hard swish and hard sigmoid": (lambda: _conv(nn.Hardswish(), nn.Conv2d(4, 4, 1), nn.Hardsigmoid()), IMAGES),
    "group norm": (lambda: _conv(nn.GroupNorm(2, 4), nn.SiLU()), IMAGES),
    "instance norm": (lambda: _conv(nn.InstanceNorm2d(4), nn.Sigmoid()), IMAGES),
    "local response norm": (lambda: _conv(nn.LocalResponseNorm(2), nn.Tanh()), IMAGES),
    "batch norm without affine": (lambda: _conv(nn.BatchNorm2d(4, affine=False), nn.ReLU()), IMAGES),
    "transposed convolution": (
        lambda: _conv(nn.ReLU(), nn.ConvTranspose2d(4, 6, 3, 2, output_padding=1, groups=2), channels=6), IMAGES),
    "strided, dilated, grouped": (
        lambda: _conv(nn.ReLU(), nn.Conv2d(4, 6, 2, padding=2, dilation=2, stride=2, groups=2), channels=6), IMAGES),
    "padding by name": (lambda: _conv(nn.ReLU(), nn.Conv2d(4, 4, 3, padding="same")), IMAGES),
    "reflected padding": (lambda: _conv(nn.ReLU(), nn.Conv2d(4, 4, 2, padding=1, padding_mode="reflect")), IMAGES),
}  # fmt: skip


def batch_for(shape: tuple[int, ...] | None) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.tensor([[0, 1, 1], [2, 0, 6], [5, 4, 3], [2, 2, 1], [6, 6, 6]])
    return inputs if shape is None else torch.randn(shape, generator=generator), torch.tensor([0, 1, 2, 1, 0])


@pytest.mark.parametrize("name", NETWORKS)
def test_grasp_is_the_difference_of_gradients_on_a_network_with(name):
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    net, (inputs, targets) = make(), batch_for(shape)
    expected = by_differences(net, inputs.double() if shape else inputs, targets)
    found = ssnr.saliency(net, "grasp", (inputs, targets))
    single = ssnr.saliency(net, "grasp", (inputs, targets), recipe="seed(dtype=float32)")
    assert set(found) == set(expected)
    scale = max(float(t.abs().max()) for t in expected.values())
    for layer, values in expected.items():
        assert float((found[layer] - values).abs().max()) <= 1e-7 * scale, layer
        assert float((single[layer] - values).abs().max()) <= 1e-4 * scale, layer
    assert scale > 1e-6


class Once(torch.autograd.Function):
    """x², whose gradient is written with NumPy's freedom: it is not differentiable."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * g


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


class Squares(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = Once.apply(x)
        return out


def test_an_operation_without_a_second_derivative_is_named_and_the_rest_is_scored():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.Tanh(), Squares()), nn.Linear(5, 3))
    batch = torch.randn(5, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 1, 0])
    names = ["snip", "plain", "grad_norm", "fisher", "grasp", "grasp_abs/layerwise_ssnr"]
    scores = ssnr.score(net, batch, names)
    reason = "grasp needs a second derivative, and Once has none (@once_differentiable), in layer '1.1' (Squares)"
    assert [score.reason for score in scores.values()] == [None, None, None, None, reason, reason]
    assert [score.status for score in scores.values()] == ["ok"] * 4 + ["failed"] * 2
    plain = naive_gradients(nn.Sequential(net[0], nn.Tanh(), Square(), net[2]), batch)["plain"]
    assert scores["plain"].value == pytest.approx(sum(float(t.sum()) for t in plain.values()), rel=1e-12)
    with pytest.raises(ssnr.ScoringError, match="grasp needs a second derivative"):
        ssnr.saliency(net, "grasp", batch)


def test_an_operation_of_pytorch_without_a_second_derivative_is_named_with_its_layer():
    torch.manual_seed(0)
    scores = ssnr.score(Bag(mode="max"), batch_for(TOKENS), ["snip", "grasp"])
    assert scores["snip"].status == "ok"
    assert scores["grasp"].reason == (
        "grasp needs a second derivative, and PyTorch has none of embedding_bag, in layer 'bag' (EmbeddingBag)"
    )


def test_a_function_that_no_weight_stands_before_needs_no_second_derivative():
    torch.manual_seed(0)
    net, batch = nn.Sequential(Squares(), nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)), golden_batch()
    found, naive = ssnr.saliency(net, "grasp", batch), naive_gradients(net[1:], (batch[0] ** 2, batch[1]))["grasp"]
    for layer, values in zip(found.values(), naive.values(), strict=True):
        assert torch.allclose(layer, values, rtol=1e-11, atol=0)


def test_a_loss_without_a_second_derivative_is_named_and_belongs_to_no_layer():
    score = ssnr.score(golden(), golden_batch(), ["grasp"], loss=F.multi_margin_loss)["grasp"]
    assert score.reason == "grasp needs a second derivative, and PyTorch has none of multi_margin_loss"
    log_loss = ssnr.score(
        golden(), golden_batch(), ["snip", "grasp"],
        loss=lambda out, y: F.ctc_loss(out.log_softmax(-1)[:, None], y[None, :1] * 0 + 1, [2], [1]),
    )  # fmt: skip
    assert (log_loss["snip"].status, log_loss["grasp"].status) == ("ok", "failed")
    assert log_loss["grasp"].reason == "grasp needs a second derivative, and PyTorch has none of ctc_loss"


class Seen(TorchFunctionMode):
    """Whether cuDNN was on when a recurrent layer ran."""

    def __init__(self) -> None:
        super().__init__()
        self.cudnn: list[bool] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.lstm:
            self.cudnn.append(torch.backends.cudnn.enabled)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "recipe"), [("snip", "seed"), ("snip", "seed(mode=eval)"), ("grasp", "seed")])
def test_recurrent_layers_leave_cudnn_which_cannot_differentiate_them_in_eval_nor_twice(name, recipe):
    net, before = Recurrent("LSTM"), torch.backends.cudnn.enabled
    with Seen() as seen:
        assert ssnr.score(net, batch_for(SEQUENCES), [name], recipe=recipe)[name].status == "ok"
    assert seen.cudnn == [False]
    assert torch.backends.cudnn.enabled is before


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_blocks_count_in_first_order_saliencies_too(reentrant):
    torch.manual_seed(0)
    net, batch = Checkpointed(reentrant), batch_for(SEQUENCES)
    found = ssnr.saliency(net, "snip", batch)
    net.reentrant = False
    naive = naive_gradients(net, batch)["snip"]
    for name, values in naive.items():
        assert torch.allclose(found[name], values, rtol=1e-12, atol=0), name


def test_what_replaces_functions_of_pytorch_is_gone_afterwards_also_where_the_network_raises():
    own = (torch.utils.checkpoint.CheckpointFunction, torch.utils.checkpoint._checkpoint_hook)
    net = golden()
    net.forward = lambda x: (_ for _ in ()).throw(ValueError("no"))  # type: ignore[method-assign]
    assert ssnr.score(net, golden_batch(), ["grasp"])["grasp"].status == "failed"
    assert (torch.utils.checkpoint.CheckpointFunction, torch.utils.checkpoint._checkpoint_hook) == own


def test_a_warp_that_starts_as_the_identity_is_ok_and_its_zero_weights_are_dead():
    torch.manual_seed(0)
    net = Warped()
    with torch.no_grad():
        net.place.weight.zero_()
        net.place.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]).atanh().clamp(-2, 2))
    scores = ssnr.score(net, batch_for(IMAGES), ["snip", "grasp"])
    assert [s.status for s in scores.values()] == ["ok", "ok"]
    assert [layer.flag for layer in scores["snip"].layers] == ["dead", None]


class Detached(torch.autograd.Function):
    """x³, whose gradient is computed from a detached copy: autograd takes 3x² for a constant."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.saved = x.detach()
        return x**3

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, g: Tensor) -> Tensor:
        return 3 * ctx.saved**2 * g


class Cubes(nn.Module):
    def __init__(self, detached: bool) -> None:
        super().__init__()
        self.detached = detached

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = Detached.apply(x) if self.detached else x**3
        return out


class Wrapped(torch.autograd.Function):
    """x², whose backward is decorated, and differentiable."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: torch.autograd.function.FunctionCtx, g: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * g


def test_a_custom_function_with_a_second_derivative_is_like_any_other():
    class Own(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = Wrapped.apply(x)
            return out

    own, plain = (nn.Sequential(golden()[0], part, golden()[2]) for part in (Own(), Square()))
    expected = ssnr.score(plain, golden_batch(), ["grasp"])["grasp"]
    assert ssnr.score(own, golden_batch(), ["grasp"])["grasp"].value == pytest.approx(expected.value, rel=1e-13)


@pytest.mark.parametrize("detached", [True, False])
def test_a_difference_of_gradients_finds_a_backward_with_a_wrong_second_derivative(detached):
    net = nn.Sequential(golden()[0], Cubes(detached), golden()[2])
    with preserved(net):
        error = second_order_error(Model(net, get_recipe("seed")), batch_of(golden_batch()))
    assert (error > 1e-2) if detached else (error < 1e-8)


def test_the_check_of_a_score_notes_a_wrong_second_derivative():
    for detached in (True, False):
        net = nn.Sequential(golden()[0], Cubes(detached), golden()[2])
        scores = ssnr.score(net, golden_batch(), ["snip", "grasp"], check=True)
        assert scores["snip"].notes == ()
        assert [note.split(" of its size")[0][:27] for note in scores["grasp"].notes] == (
            ["second derivatives: Hg is 0"] if detached else []
        )


@pytest.mark.parametrize(
    ("part", "operation", "first"),
    [
        (lambda z: (z * z).sqrt(), "mul", "failed"),
        (lambda z: z.abs() ** 1.5, "pow", "ok"),
        (lambda z: F.cosine_similarity(z[:, :1], z[:, :1], -1)[:, None] + z, "div", "ok"),
    ],
)
def test_a_derivative_that_is_not_a_number_names_the_operation(part, operation, first):
    class Kink(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            out: Tensor = part(z)
            return out

    net = nn.Sequential(golden()[0], Kink(), golden()[2])
    with torch.no_grad():
        net[0].weight[0] = 0
    scores = ssnr.score(net, golden_batch(), ["plain", "grasp"])
    said = f"NaN first comes out of the derivative of {operation} (a root or norm at zero?)"
    assert scores["plain"].status == first
    assert scores["grasp"].reason == f"layer '0.weight': its saliency is not finite (NaN): {said}"


def test_a_hook_on_gradients_is_left_out_and_left_on():
    def net() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8, 2))

    batch, calls = (torch.randn(4, 1, 4, 4), torch.tensor([0, 1, 0, 1])), []
    hooked = net()
    hooked[0].register_full_backward_hook(lambda *_: calls.append(1))
    names = ["snip/layerwise_ssnr", "grasp", "fisher"]
    assert ssnr.score(hooked, batch, names) == ssnr.score(net(), batch, names)
    assert not calls and len(hooked[0]._backward_hooks) == 1


def test_published_values_of_two_small_networks():
    """Naive float64 autograd; other programs sum the means of parts of a batch, and differ by their number."""
    for activation, seed, expected in (
        (nn.Tanh(), None, {"grasp": -0.26342734210344065}),
        (nn.ReLU(), 1, {"snip": 0.2738, "plain": -0.0674, "grasp": -0.0866}),
    ):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 5), activation, nn.Linear(5, 3))
        if seed is not None:
            torch.manual_seed(seed)
        batch = torch.randn(8, 4), torch.randint(3, (8,))
        scores = ssnr.score(net, batch, list(expected))
        tolerance = {"rel": 1e-12} if seed is None else {"abs": 5e-5}
        assert {name: s.value for name, s in scores.items()} == pytest.approx(expected, **tolerance)
