"""Networks from public bug reports of similar tools, small, each with what its reporter would have expected."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

import ssnr
from networks import brief, golden, golden_batch, naive_synflow

LAYERWISE = 12.2927965761


def layerwise(net: nn.Module, batch: object = None, **options: object) -> float | None:
    return ssnr.score(net, batch, ["synflow/layerwise_ssnr"], **options)["synflow/layerwise_ssnr"].value


def naive_layerwise(net: nn.Module, shape: tuple[int, ...]) -> float:
    """Σ_l S_l/σ_l from float64 autograd."""
    return sum(float(s.sum() / s.std(correction=0)) for s in naive_synflow(net, shape).values())


def test_in_place_activations_change_nothing():
    """NASLib#113 and pytorch#61519: full backward hooks and an in-place ReLU do not go together."""

    def net(inplace: bool) -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=inplace), nn.Flatten(), nn.Linear(8, 2))

    batch = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 0, 1])
    names = ["synflow", "snip", "grasp", "fisher"]
    assert ssnr.score(net(True), batch, names) == ssnr.score(net(False), batch, names)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(*self.qkv(x).chunk(3, -1))


def test_multiply_accumulates_of_fused_attention():
    """pytorch#195460: the flop counter misses the fused kernel on a CPU; 5·4·12 and twice 5·5·4."""
    assert ssnr.score(Attention(), input_shape=(5, 4), proxies=["flops"])["flops"].value == 240 + 200


def test_multiply_accumulates_of_recurrent_layers():
    """fvcore#143 and flops-counter#100: an LSTM counts as 0; four steps of 12 gates of 2 + 3 numbers."""
    net = nn.LSTM(2, 3, batch_first=True)
    assert ssnr.score(net, input_shape=(4, 2), proxies=["flops"])["flops"].value == 240
    deep = nn.GRU(2, 3, num_layers=2, bidirectional=True, batch_first=True)
    steps = 2 * 9 * (2 + 3) + 2 * 9 * (6 + 3)
    assert ssnr.score(deep, input_shape=(4, 2), proxies=["flops"])["flops"].value == 4 * steps


def test_multiply_accumulates_of_bare_matrices_and_of_layers_that_never_run():
    """fvcore#129 and svit#5: a matrix without a module, and a module that is not called."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Linear(4, 5)
            self.w, self.idle = nn.Parameter(torch.randn(5, 6)), nn.Linear(7, 7)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head.forward(self.conv.forward(x).mean((2, 3))) @ self.w
            return out

    scores = ssnr.score(Mixed(), input_shape=(3, 8, 8), proxies=["params", "flops", "reachable_params"])
    biases = 5
    assert [s.value for s in scores.values()] == [219, 6962 + biases, 108 + 20 + 30]


def test_lstm_on_a_cpu():
    """pytorch#5261 and captum#564: recurrent layers have their own list of weights, and one backward at most."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.rnn, self.head = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.rnn(x)[0][:, -1])
            return out

    assert layerwise(Last(), input_shape=(4, 2)) == pytest.approx(naive_layerwise(Last(), (4, 2)))
    batch = torch.randn(3, 4, 2), torch.tensor([0, 1, 1])
    assert ssnr.score(Last(), batch, ["grasp"])["grasp"].status == "ok"


def test_a_fully_masked_attention_row_names_the_module_that_makes_nan():
    """pytorch#41508: softmax over nothing."""

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
            out: Tensor = self.attend(x, x, x, key_padding_mask=mask)[0]
            return out.mean(1)

    scores = ssnr.score(Masked(), (torch.randn(2, 3, 4), torch.tensor([0, 1])), ["synflow", "snip"])
    for score in scores.values():
        assert score.status == "failed"
        assert score.reason is not None
        assert score.reason.endswith("layer 'attend' (MultiheadAttention) outputs NaN")


def test_packed_and_uncalled_weights_of_attention_are_layers():
    """pytorch#69353 and Torch-Pruning#196: hooks never fire on `out_proj`, and `in_proj_weight` is no Linear."""
    net = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    score = ssnr.score(net, None, ["synflow/layerwise_ssnr"], input_shape=(3, 4))["synflow/layerwise_ssnr"]
    assert {layer.name: layer.flag for layer in score.layers} == dict.fromkeys(
        ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight")
    )


@pytest.mark.parametrize("norm", [nn.LayerNorm(4), nn.GroupNorm(1, 4)])
def test_norms_of_large_numbers_are_computed_in_double_precision(norm):
    """pytorch#40711: the variance of 3e30 overflows float32."""
    head = nn.Linear(4, 2, bias=False)
    x = torch.tensor([[3e30, 1e30, 1e30, 1e30]])
    found = ssnr.saliency(nn.Sequential(norm, head), "plain", (x, torch.tensor([0])))["1.weight"]
    ratio = found[0] / head.weight[0].double()
    assert torch.allclose(ratio / ratio[0], torch.tensor([1, -1 / 3, -1 / 3, -1 / 3], dtype=torch.float64))


def test_networks_that_cannot_be_copied():
    """pytorch#28594 and deq#23: a deep copy raises."""

    class Uncopied(nn.Sequential):
        def __deepcopy__(self, memo: object) -> Uncopied:
            raise RuntimeError("only leaf tensors can be copied")

    net = Uncopied(*golden())
    with pytest.raises(RuntimeError):
        copy.deepcopy(net)
    assert layerwise(net, golden_batch()) == pytest.approx(LAYERWISE)


def test_a_patched_forward_runs_on_the_weights_it_is_scored_with():
    """fairscale#816: a closure over the old bound method answers with the original's weights in a copy."""
    net = golden()
    old = net.forward
    net.forward = lambda x: old(x)  # type: ignore[method-assign]
    net[0].forward = (lambda forward: lambda x: forward(x))(net[0].forward)  # type: ignore[method-assign]
    assert layerwise(net, input_shape=(2,)) == pytest.approx(LAYERWISE)
    assert ssnr.score(net, golden_batch(), ["grasp"])["grasp"].value == pytest.approx(-2.02208094887)


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(golden())


def test_torchscript_networks_have_parameters_but_show_no_layers():
    """pytorch#19348 and pytorch-lightning#6481: no module is an nn.Linear, hooks raise."""
    net = scripted()
    scores = ssnr.score(net, golden_batch(), ["synflow/layerwise_ssnr", "snip", "grasp", "fisher"])
    values = [s.value for s in scores.values()]
    assert values[:3] == pytest.approx([LAYERWISE, 6.41643220408, -2.02208094887])
    assert brief(scores["fisher"])[2:] == (
        "failed",
        "fisher reads what each layer outputs, which TorchScript does not show",
    )
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert torch.equal(net(golden_batch()[0]), golden()(golden_batch()[0]))


def test_a_module_that_is_called_twice_is_one_layer():
    """captum#200 and torchinfo#396."""
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    score = ssnr.score(nn.Sequential(layer, nn.ReLU(), layer), input_shape=(2,), proxies=["synflow"])["synflow"]
    assert (score.value, [layer.name for layer in score.layers]) == (108, ["0.weight"])


def test_a_spatial_transformer_with_zero_weights():
    """pytorch#34704: the localisation starts at the identity, its weights at zero."""

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.where, self.conv = nn.Linear(16, 6), nn.Conv2d(1, 2, 4)
            with torch.no_grad():
                self.where.weight.zero_()
                self.where.bias.copy_(torch.tensor([0.9, 0.1, 0, 0, 0.9, 0.1]))

        def forward(self, x: Tensor) -> Tensor:
            grid = F.affine_grid(self.where(x.flatten(1)).reshape(-1, 2, 3), list(x.shape), align_corners=False)
            return self.conv(F.grid_sample(x, grid, align_corners=False)).flatten(1)

    batch = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0])
    score = ssnr.score(Transformer(), batch, ["snip"])["snip"]
    assert (score.status, [layer.flag for layer in score.layers]) == ("ok", ["dead", None])


@pytest.mark.parametrize("mode", [True, False])
def test_dropout_is_off_whatever_the_mode_of_the_network(mode):
    """sparseml#756: two runs of one network gave 22.73 and 15.19."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 8, bias=False), nn.Dropout(0.5), nn.Linear(8, 2, bias=False)).train(mode)
    batch = golden_batch()
    bare = nn.Sequential(net[0], net[2])
    assert layerwise(net, batch) == pytest.approx(naive_layerwise(bare, (2,)))
    (dropped,), (plain,) = (ssnr.score(n, batch, ["snip"]).values() for n in (net, bare))
    assert dropped.value == plain.value


class StochasticDepth(nn.Module):
    """Drops its input of a whole sample, as libraries of image networks do."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand(x.shape[0], 1) > 0.5) / 0.5 if self.training else x


def test_stochastic_depth_is_off_whatever_the_mode_of_the_network():
    """timm#2118 and keras-cv#130."""
    net = nn.Sequential(golden()[0], StochasticDepth(), *golden()[1:])
    score = ssnr.score(net.train(), golden_batch(), ["snip"])["snip"]
    assert score.value == pytest.approx(6.41643220408)
    assert score.notes == ()


def test_dropout_inside_of_attention_and_recurrent_layers_is_off_too():
    class Inside(nn.Module):
        def __init__(self, p: float) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.p = p
            self.rnn = nn.GRU(4, 4, num_layers=2, dropout=p, batch_first=True)
            self.attend = nn.MultiheadAttention(4, 2, dropout=p, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            x, _ = self.rnn(x)
            x, _ = self.attend(x, x, x, need_weights=False)
            return F.scaled_dot_product_attention(x, x, x, dropout_p=self.p if self.training else 0.0).mean(1)

    batch = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2])
    with_dropout, without = (ssnr.score(Inside(p), batch, ["snip"])["snip"] for p in (0.5, 0.0))
    assert with_dropout == without


def test_a_buffer_named_like_a_counters_own():
    """pytorch-OpCounter#82 and thop#151: counting leaves or takes buffers named total_ops."""
    net = golden()
    net.register_buffer("total_ops", torch.zeros(1))
    keys = list(net.state_dict())
    for _ in range(2):
        assert ssnr.score(net, input_shape=(2,), proxies=["flops"])["flops"].value == 8
    assert list(net.state_dict()) == keys == ["total_ops", "0.weight", "2.weight"]


def test_channels_last_is_a_layout_and_no_number():
    """pytorch/examples#836 and mmpretrain#104: views of what is not contiguous."""

    def net() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))

    x, y = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1])
    names = ["synflow/layerwise_ssnr", "snip", "grasp", "fisher"]
    plain = [s.value for s in ssnr.score(net(), (x, y), names).values()]
    last = net().to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    assert [s.value for s in ssnr.score(last[0], (last[1], y), names).values()] == pytest.approx(plain, rel=1e-12)


def test_what_a_user_runs_around_the_scoring_still_sees_it():
    """A function mode of the user's own, such as a profiler, is not in the way."""

    class Count(TorchFunctionMode):
        seen = 0

        def __torch_function__(self, func, types, args=(), kwargs=None):
            Count.seen += 1
            return func(*args, **(kwargs or {}))

    with Count():
        assert layerwise(golden(), golden_batch()) == pytest.approx(LAYERWISE)
    assert Count.seen > 0


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_blocks_run_on_the_weights_they_are_scored_with(reentrant):
    """Checkpointing runs a block again in the backward pass, when the network has its own weights back."""

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = golden()

        def forward(self, x: Tensor) -> Tensor:
            hidden = checkpoint(lambda y: torch.relu(self.body[0](y)), x, use_reentrant=reentrant)
            out: Tensor = self.body[2](hidden)
            return out

    scores = ssnr.score(Checkpointed(), golden_batch(), ["synflow/layerwise_ssnr", "grasp"])
    assert [s.value for s in scores.values()] == pytest.approx([LAYERWISE, -2.02208094887])


def test_a_network_that_differentiates_inside_of_its_forward():
    """Forces are gradients of energies: the forward needs autograd itself, also where only its output is looked at."""

    class Forces(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = golden()

        def forward(self, x: Tensor) -> Tensor:
            x = x.detach().requires_grad_()
            energy = self.body(x).square().sum()
            return torch.autograd.grad(energy, x, create_graph=True)[0]

    net, (x, _) = Forces(), golden_batch()
    found = ssnr.saliency(net, "snip", (x, torch.zeros(2, 2)))
    net.double()(x.double()).square().mean().backward()
    for name, p in net.named_parameters():
        assert torch.allclose(found[name], (p * p.grad).abs(), rtol=1e-12), name
