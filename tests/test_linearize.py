"""Synflow's reading of a network: what is passed through, what is approximated, and numbers beyond every format."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ssnr
from ssnr.core.recipes import get_recipe
from ssnr.networks.model import Model
from ssnr.saliencies.synflow import synflow

PROXIES = ["synflow/sum", "synflow/ssnr", "synflow/layerwise_ssnr"]
FORMATS = [("seed", 1e-12), ("seed(synflow_dtype=float32)", 1e-6)]


def chain(depth: int, width: int, weight: float = 1.0) -> nn.Sequential:
    net = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(depth)))
    for parameter in net.parameters():
        nn.init.constant_(parameter, weight)
    return net


def alternating(depth: int) -> nn.Sequential:
    net = chain(depth, 10, 0.5)
    with torch.no_grad():
        for layer in net:
            layer.weight[:, 1::2] = 1.5
    return net


def approximated(net: nn.Module, shape: tuple[int, ...]) -> tuple[str, ...]:
    return synflow(Model(net, get_recipe("seed")), shape).approximated


# --- range --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("recipe", "bound"), FORMATS)
def test_forty_layers_of_ones(recipe, bound):
    # zero-cost-nas#23: float32 gives infinity.
    found = ssnr.score(chain(40, 10), input_shape=(10,), proxies=PROXIES, recipe=recipe)
    assert found["synflow/sum"].value == pytest.approx(4e42, rel=bound)
    assert found["synflow/sum"].log_value == pytest.approx(98.0948682668698, rel=bound)
    assert found["synflow/layerwise_ssnr"].value == 0.0
    assert {layer.flag for layer in found["synflow/sum"].layers} == {"degenerate"}


@pytest.mark.parametrize(("recipe", "bound"), FORMATS)
def test_beyond_float64_ratios_and_logarithm_are_exact(recipe, bound):
    # zero-cost-nas#23, Synaptic-Flow#11: Σ = 3.2e323.
    found = ssnr.score(alternating(320), input_shape=(10,), proxies=PROXIES, recipe=recipe)
    assert found["synflow/sum"].value == math.inf
    assert found["synflow/sum"].reason == "beyond float64: see log_value"
    assert found["synflow/sum"].log_value == pytest.approx(744.898135846882, rel=bound)
    assert found["synflow/ssnr"].value == pytest.approx(42703.7519988889, rel=bound)
    assert found["synflow/layerwise_ssnr"].value == pytest.approx(319 * 400 / 3 + 200, rel=bound)


def test_five_layers_of_the_same():
    found = ssnr.score(alternating(5), input_shape=(10,), proxies=PROXIES)
    assert [found[name].value for name in PROXIES] == pytest.approx([5e6, 707.106781186548, 733.333333333333])


@pytest.mark.parametrize(("recipe", "bound"), FORMATS)
@pytest.mark.parametrize("depth", [60, 1000])
def test_what_vanishes_is_not_dead(recipe, bound, depth):
    # Synaptic-Flow#11: every gradient was zero.
    found = ssnr.score(chain(depth, 1, 0.1), input_shape=(1,), proxies=PROXIES, recipe=recipe)
    assert {score.status for score in found.values()} == {"ok"}
    weight = math.log(float(torch.tensor(0.1)))
    assert found["synflow/sum"].log_value == pytest.approx(depth * weight + math.log(depth), rel=bound)
    assert found["synflow/layerwise_ssnr"].value == 0.0


class Residual(nn.Module):
    """Blocks added to what they read, in place or not."""

    def __init__(self, depth: int, width: int, in_place: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(depth))
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            out = norm(F.relu(layer(x)))
            if self.in_place:
                out += x
                x = out
            else:
                x = torch.cat([x + out, x], 1)[:, : x.shape[1]]
        return x


def test_three_hundred_residual_blocks_are_the_same_in_either_format_and_either_way_of_adding():
    values = []
    for in_place in (False, True):
        for recipe, _ in FORMATS:
            net = Residual(300, 16, in_place)
            found = ssnr.score(net, input_shape=(16,), proxies=PROXIES, recipe=recipe)
            values.append([found["synflow/sum"].log_value, *(found[name].value for name in PROXIES[1:])])
    assert values[0] == pytest.approx(values[2], rel=1e-12)
    assert values[1] == pytest.approx(values[0], rel=1e-6) and values[3] == pytest.approx(values[0], rel=1e-6)


def test_a_wide_and_deep_network_that_no_format_holds_matches_one_of_smaller_weights():
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(30)))
    small = [ssnr.score(net, input_shape=(64,), proxies=PROXIES)[name] for name in PROXIES]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= 2.0**60
    large = [ssnr.score(net, input_shape=(64,), proxies=PROXIES)[name] for name in PROXIES]
    assert large[0].log_value == pytest.approx(small[0].log_value + 30 * 60 * math.log(2), rel=1e-13)
    assert [s.value for s in large[1:]] == pytest.approx([s.value for s in small[1:]], rel=1e-12)


class Attention(nn.Module):
    """Attention, a gate and a join behind a deep stack that no format holds."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stack = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(20)))
        self.value = nn.Linear(8, 8, bias=False)
        self.gate = nn.Linear(8, 8, bias=False)
        with torch.no_grad():
            for layer in self.stack:
                layer.weight *= scale

    def forward(self, x: Tensor) -> Tensor:
        x = self.stack(x)
        mixed = torch.softmax(x @ x.transpose(-1, -2), -1) @ self.value(x)
        return torch.cat([mixed, F.gelu(self.gate(x)) * torch.sigmoid(x)], -1)


def test_functions_that_have_long_saturated_do_not_spoil_the_range():
    big = ssnr.score(Attention(2.0**80), input_shape=(3, 8), proxies=PROXIES)
    bigger = ssnr.score(Attention(2.0**90), input_shape=(3, 8), proxies=PROXIES)
    assert {s.status for s in big.values()} == {"ok"}
    step = 20 * 10 * math.log(2)
    assert bigger["synflow/sum"].log_value == pytest.approx(big["synflow/sum"].log_value + step, rel=1e-12)
    assert bigger["synflow/layerwise_ssnr"].value == pytest.approx(big["synflow/layerwise_ssnr"].value, rel=1e-9)


# --- norms --------------------------------------------------------------------------------------------------------


class OwnRMSNorm(nn.Module):
    """A norm as language models write it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class FrozenBatchNorm2d(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.full((channels,), 3.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.reshape(1, -1, 1, 1)


class NormAct2d(nn.BatchNorm2d):
    """Batch norm and activation in one module."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).clamp(max=0.5)


@pytest.mark.parametrize("norm", [OwnRMSNorm(4), nn.LayerNorm(4), nn.RMSNorm(4), nn.BatchNorm1d(4), nn.GroupNorm(2, 4)])
def test_norms_of_every_kind_are_passed_through(norm):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), norm, nn.Linear(4, 2))
    plain = nn.Sequential(net[0], nn.Identity(), net[2])
    one, other = (ssnr.saliency(n, "synflow", input_shape=(3,)) for n in (net, plain))
    assert all(torch.equal(one[name], other[name]) for name in ("0.weight", "2.weight"))
    assert approximated(net, (3,)) == ()


def test_a_frozen_batch_norm_is_a_norm_and_an_activation_inside_a_norm_is_none():
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 3)
    plain = ssnr.saliency(conv, "synflow", input_shape=(2, 4, 4))["weight"]
    frozen = ssnr.saliency(nn.Sequential(conv, FrozenBatchNorm2d(3)), "synflow", input_shape=(2, 4, 4))["0.weight"]
    assert torch.equal(frozen, plain)
    both = nn.Sequential(conv, NormAct2d(3))
    assert not torch.equal(ssnr.saliency(both, "synflow", input_shape=(2, 4, 4))["0.weight"], plain)
    assert approximated(both, (2, 4, 4)) == ("1 (clamp)",)


def test_what_is_changed_in_place_behind_a_norm_does_not_reach_what_went_into_it():
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.norm = nn.Linear(2, 2, bias=False), nn.LayerNorm(2)

        def forward(self, x: Tensor) -> Tensor:
            before = self.fc(x)
            after = self.norm(before)
            after *= 3
            return before + after

    net = Both()
    nn.init.ones_(net.fc.weight)
    assert ssnr.score(net, input_shape=(2,), proxies=["synflow"])["synflow"].value == 4 * 4


# --- what is approximated -----------------------------------------------------------------------------------------


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(3, 3) for _ in range(3))
        self.gamma = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, self.a.weight * 2) * self.gamma
        return self.c(self.b(x) * x)


@pytest.mark.parametrize(
    ("net", "shape", "expected"),
    [
        (nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Dropout(), nn.Linear(3, 3)), (3,), ()),
        (nn.Sequential(nn.Linear(3, 3), nn.GELU(), nn.Linear(3, 3), nn.Sigmoid()), (3,), ("1 (gelu)", "3 (sigmoid)")),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU6(), nn.MaxPool2d(2), nn.Flatten()), (1, 6, 6), ("1 (hardtanh)",)),
        (Gated(), (3,), ("Gated (mul)",)),
        (nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), (5, 4), ("self_attn (multi_head_attention_forward)",)),
    ],
)
def test_modules_of_no_degree_are_named(net, shape, expected):
    assert approximated(net, shape) == expected


# --- tokens -------------------------------------------------------------------------------------------------------


class Words(nn.Module):
    """Embedding, sum over the tokens, linear layer."""

    def __init__(self, bag: bool = False) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(6, 2, mode="sum") if bag else nn.Embedding(6, 2)
        self.head = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.table.weight.copy_(torch.arange(1, 13).reshape(6, 2) / 4)
            self.head.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, -1.0]]))

    def forward(self, tokens: Tensor) -> Tensor:
        found = self.table(tokens)
        return self.head(found.sum(1) if isinstance(self.table, nn.Embedding) else found)


TOKENS = torch.tensor([[0, 1, 1]])


@pytest.mark.parametrize("bag", [False, True])
@pytest.mark.parametrize("scale", [1.0, 2.0**600])
def test_an_embedding_is_the_linear_layer_over_one_hot_vectors(bag, scale):
    net = Words(bag).double()
    with torch.no_grad():
        net.head.weight *= scale
    found = ssnr.score(net, TOKENS, PROXIES)
    assert found["synflow/sum"].log_value == pytest.approx(math.log(405.0) + math.log(scale), rel=1e-12)
    layers = {layer.name: layer.ratio for layer in found["synflow/layerwise_ssnr"].layers}
    rows = torch.arange(1, 13, dtype=torch.float64).reshape(6, 2) / 4 * torch.tensor([12.0, 9.0])
    head = torch.tensor([27.0, 63.0, 81.0, 31.5], dtype=torch.float64)
    for name, expected in (("table.weight", rows), ("head.weight", head)):
        assert layers[name] == pytest.approx(float(expected.sum() / expected.std(unbiased=False)), rel=1e-12)


def test_the_saliency_of_every_row():
    found = ssnr.saliency(Words(), "synflow", TOKENS)
    assert found["table.weight"][:, 0].tolist() == [12.0 * k / 4 for k in range(1, 13, 2)]
    assert found["head.weight"].flatten().tolist() == [27.0, 63.0, 81.0, 31.5]


def test_the_batch_s_own_tokens():
    found = ssnr.score(Words(), TOKENS, PROXIES, recipe="seed(tokens=batch)")
    assert found["synflow/sum"].value == pytest.approx(29.0)
    assert found["synflow/layerwise_ssnr"].value == pytest.approx(16.1139962636, rel=1e-11)


def test_positions_are_looked_up_as_they_are():
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(5, 2), nn.Embedding(7, 2)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.words(tokens) + self.places(torch.arange(tokens.shape[1]))

    found = ssnr.saliency(Positions(), "synflow", torch.tensor([[1, 2, 3]]))
    assert (found["words.weight"] > 0).all()
    assert (found["places.weight"] > 0).all(1).tolist() == [True] * 3 + [False] * 4


def test_an_output_that_ignores_the_tokens_is_dead():
    class Constant(Words):
        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(self.table(tokens).sum(1) * 0)

    assert ssnr.score(Constant(), TOKENS, ["synflow/layerwise_ssnr"])["synflow/layerwise_ssnr"].status == "dead"


def test_a_score_lists_what_is_approximated():
    net = nn.Sequential(nn.Linear(3, 3), nn.GELU(), nn.Linear(3, 3), nn.Sigmoid())
    score = ssnr.score(net, None, ["synflow/layerwise_ssnr"], input_shape=(3,))["synflow/layerwise_ssnr"]
    assert score.approximated == ("1 (gelu)", "3 (sigmoid)")
    assert score.notes == ("approximated, not of degree one at |θ|: 1 (gelu), 3 (sigmoid)",)
    assert (
        ssnr.score(nn.Linear(3, 3), None, ["synflow/layerwise_ssnr"], input_shape=(3,))[
            "synflow/layerwise_ssnr"
        ].approximated
        == ()
    )


@pytest.mark.parametrize("causal", [False, True])
def test_attention_by_the_module_is_attention_by_its_formula_where_no_format_holds_it(causal):
    class Encoder(nn.Module):
        """Self-attention behind a deep stack, by `MultiheadAttention` or by the fused function."""

        def __init__(self, fused: bool) -> None:
            super().__init__()
            torch.manual_seed(2)
            self.stack = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(20)))
            self.attention, self.fused = nn.MultiheadAttention(8, 2, batch_first=True), fused
            with torch.no_grad():
                for layer in self.stack:
                    layer.weight *= 2.0**80

        def forward(self, x: Tensor) -> Tensor:
            x = self.stack(x)
            mask = ~torch.ones(3, 3, dtype=torch.bool).tril() if causal else None
            if not self.fused:
                return self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]
            m = self.attention
            parts = F.linear(x, m.in_proj_weight, m.in_proj_bias).chunk(3, -1)
            heads = [part.unflatten(-1, (2, 4)).transpose(1, 2) for part in parts]
            mixed = F.scaled_dot_product_attention(*heads, is_causal=causal)
            return m.out_proj(mixed.transpose(1, 2).flatten(2))

    one, other = (ssnr.score(Encoder(fused), input_shape=(3, 8), proxies=PROXIES) for fused in (False, True))
    assert {score.status for score in one.values()} == {"ok"}
    for name in PROXIES:
        assert one[name].log_value == pytest.approx(other[name].log_value, rel=1e-12)


def test_a_head_of_zeros_behind_what_no_format_holds_is_dead():
    net = nn.Sequential(*chain(30, 4, 2.0**60), nn.Linear(4, 2))
    nn.init.zeros_(net[-1].weight)
    nn.init.zeros_(net[-1].bias)
    found = ssnr.score(net, None, ["synflow/layerwise_ssnr"], input_shape=(4,))["synflow/layerwise_ssnr"]
    assert (found.value, found.status, found.reason) == (0.0, "dead", "the output does not depend on the input")


@pytest.mark.parametrize("exponent", [4, 5, 6, 7, 24])
def test_what_rounding_leaves_of_a_saturated_softmax_is_no_saliency(exponent):
    class Looks(nn.Module):
        """Attention over equal tokens, whose weights have no gradient but for rounding."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.stack = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(4)))
            self.query, self.value = nn.Linear(8, 8), nn.Linear(8, 8)
            with torch.no_grad():
                for layer in self.stack:
                    layer.weight *= 2.0**exponent

        def forward(self, x: Tensor) -> Tensor:
            x = self.stack(x)
            return F.scaled_dot_product_attention(self.query(x), x, self.value(x))

    layers = {
        layer.name: layer
        for layer in ssnr.score(Looks(), None, ["synflow/layerwise_ssnr"], input_shape=(7, 8))[
            "synflow/layerwise_ssnr"
        ].layers
    }
    assert layers["query.weight"].flag in ("dead", "unused")
    totals = [layers[name].total for name in ("stack.0.weight", "stack.3.weight", "value.weight")]
    assert totals[0] == pytest.approx(totals[1], rel=1e-9) == pytest.approx(totals[2], rel=1e-6)


# --- dropout, lookups and copies of other spellings ---------------------------------------------------------------


def test_a_mask_of_stochastic_depth_is_its_expectation():
    class DropPath(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2, bias=False)
            nn.init.ones_(self.fc.weight)

        def forward(self, x: Tensor) -> Tensor:
            mask = x.new_empty((len(x), 1)).bernoulli_(0.25).div_(0.25)
            return x + self.fc(x) * mask * torch.bernoulli(torch.full((1, 1), 0.5, dtype=x.dtype)) / 0.5

    assert ssnr.score(DropPath(), input_shape=(2,), proxies=["synflow"])["synflow"].value == 4


@pytest.mark.parametrize("as_keyword", [False, True])
def test_dropout_inside_of_attention_is_off(as_keyword):
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4, bias=False)
            nn.init.ones_(self.fc.weight)

        def forward(self, x: Tensor) -> Tensor:
            if as_keyword:
                return F.scaled_dot_product_attention(x, x, self.fc(x), dropout_p=0.5)
            return F.scaled_dot_product_attention(x, x, self.fc(x), None, 0.5)

    # Three positions of four fours.
    found = ssnr.score(Attending(), input_shape=(3, 4), proxies=["synflow"])["synflow"]
    assert found.value == pytest.approx(48, rel=1e-12)


def test_a_network_of_tokens_is_scored_from_the_length_of_a_sequence_alone():
    (by_batch,), (by_shape,) = (
        ssnr.score(Words(), proxies=["synflow"], **given).values()
        for given in ({"batch": TOKENS}, {"input_shape": (3,)})
    )
    assert by_shape.value == by_batch.value == pytest.approx(405)


@pytest.mark.parametrize("choose", ["one_hot", "getitem", "index_select"])
def test_tokens_that_choose_rows_in_other_ways_are_one_hot_vectors_as_well(choose):
    class Other(Words):
        def forward(self, tokens: Tensor) -> Tensor:
            table = self.table.weight
            if choose == "one_hot":
                found = F.one_hot(tokens, 6).to(table.dtype) @ table
            elif choose == "getitem":
                found = table[tokens]
            else:
                found = table.index_select(0, tokens.flatten()).reshape(*tokens.shape, 2)
            return self.head(found.sum(1))

    expected, found = (ssnr.saliency(net, "synflow", TOKENS) for net in (Words(), Other()))
    for name, values in expected.items():
        assert torch.equal(found[name], values), name


def test_categories_and_numbers_of_one_batch_are_cut_to_one_sample():
    class Recommender(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(5, 3), nn.Linear(5, 2)

        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            return self.head(torch.cat([self.table(inputs["item"]), inputs["features"]], -1))

    def value(size: int) -> float | None:
        torch.manual_seed(0)
        net = Recommender()
        batch = {"item": torch.arange(size), "features": torch.randn(size, 2)}
        score = ssnr.score(net, batch, ["synflow"], forward=lambda net, inputs: net(inputs))["synflow"]
        assert score.status == "ok", score.reason
        return score.value

    assert value(1) == value(4)


def test_a_view_that_is_changed_in_place_behind_a_norm_does_not_reach_what_went_into_it():
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.norm = nn.Linear(2, 2, bias=False), nn.LayerNorm(2)
            nn.init.ones_(self.fc.weight)

        def forward(self, x: Tensor) -> Tensor:
            before = self.fc(x)
            after = self.norm(before)
            after.view(-1).mul_(3)
            return before + after

    assert ssnr.score(Both(), input_shape=(2,), proxies=["synflow"])["synflow"].value == 4 * 4


def test_what_leaves_positive_numbers_as_they_are_is_not_approximated():
    class Clamped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.clamp_min(x.clamp(min=0), 0.0).clamp(0)

    net = nn.Sequential(nn.Linear(3, 3), nn.ELU(), nn.Linear(3, 3), Clamped(), nn.CELU(), nn.SELU())
    assert approximated(net, (3,)) == ()

    class Capped(nn.Module):
        def __init__(self, least: object, most: object) -> None:
            super().__init__()
            self.least, self.most = least, most

        def forward(self, x: Tensor) -> Tensor:
            return x.clamp(self.least, self.most)

    for bounds in ((0, 6), (torch.zeros(3), torch.full((3,), 6.0))):
        assert approximated(nn.Sequential(nn.Linear(3, 3), Capped(*bounds)), (3,)) == ("1 (clamp)",)


def test_a_constant_network_in_float32_has_no_overall_ssnr_either():
    found = ssnr.score(chain(40, 10), input_shape=(10,), proxies=PROXIES, recipe="seed(synflow_dtype=float32)")
    assert found["synflow/ssnr"].value == 0.0
