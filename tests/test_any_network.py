"""What goes into a network and what comes out of it: one call works on what people have, or says why not."""

from __future__ import annotations

import dataclasses
import sys
from collections import OrderedDict, UserDict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader, TensorDataset

import ssnr
from networks import brief, golden, golden_batch

LAYERWISE = 12.2927965761
SNIP = 6.41643220408


class Two(nn.Module):
    """Two inputs: the network solved by hand on their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.body = golden()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        out: Tensor = self.body(a + b)
        return out


class One(nn.Module):
    """One input of any type, unpacked by a function."""

    def __init__(self, unpack: Callable[[Any], tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.two, self.unpack = Two(), unpack

    def forward(self, batch: Any) -> Tensor:
        out: Tensor = self.two(*self.unpack(batch))
        return out


class Anything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.two = Two()

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        out: Tensor = self.two(*args, **kwargs)
        return out


class OnlyKeywords(Anything):
    def forward(self, *, a: Tensor, b: Tensor) -> Tensor:  # type: ignore[override]
        out: Tensor = self.two(a, b)
        return out


@dataclasses.dataclass(frozen=True)
class Record:
    a: Tensor
    b: Tensor


class Named(NamedTuple):
    a: Tensor
    b: Tensor


class Positions(NamedTuple):
    first: Tensor
    second: Tensor


class Encoding(UserDict):
    """As tokenisers give: a mapping whose entries are attributes."""

    def __getattr__(self, name: str) -> Any:
        return self.data[name]


class Moves:
    """As graph libraries give: no nest, but it can be moved."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self.a, self.b = a, b

    def to(self, device: torch.device) -> Moves:
        return Moves(self.a.to(device).double(), self.b.to(device).double())


(X, Y) = golden_batch()
HALVES = X / 2, X / 2
ENTRIES = {"a": HALVES[0], "b": HALVES[1]}
CALLS = {
    "a tuple of two": (Two(), HALVES),
    "a list of two": (Two(), list(HALVES)),
    "a dictionary of keyword arguments": (Two(), ENTRIES),
    "a mapping with attributes": (Two(), Encoding(ENTRIES)),
    "a dataclass of keyword arguments": (Two(), Record(*HALVES)),
    "a named tuple by name": (Two(), Named(*HALVES)),
    "a named tuple by position": (Two(), Positions(*HALVES)),
    "arguments of any number": (Anything(), HALVES),
    "keywords of any name": (Anything(), ENTRIES),
    "keywords only": (OnlyKeywords(), ENTRIES),
    "one dictionary": (One(lambda batch: (batch["a"], batch["b"])), ENTRIES),
    "one mapping with attributes": (One(lambda batch: (batch.a, batch.b)), Encoding(ENTRIES)),
    "one dataclass": (One(lambda batch: (batch.a, batch.b)), Record(*HALVES)),
    "one pair": (One(lambda batch: batch), HALVES),
    "one list": (One(lambda batch: batch), list(HALVES)),
    "one nest": (One(lambda batch: (batch["in"][0], batch["in"][1]["b"])), {"in": (HALVES[0], ENTRIES)}),
    "one object": (One(lambda batch: (batch.a, batch.b)), Moves(*HALVES)),
    "arrays of numpy": (Two(), tuple(half.numpy() for half in HALVES)),
}


@pytest.mark.parametrize("how", CALLS)
def test_inputs_are_handed_over_as_the_forward_takes_them(how):
    net, inputs = CALLS[how]
    scores = ssnr.score(net, (inputs, Y), ["snip", "grasp", "flops"])
    assert scores["snip"].value == pytest.approx(SNIP, rel=1e-11)
    assert scores["grasp"].value == pytest.approx(-2.02208094887, rel=1e-11)
    if how != "one object":  # one sample of which only its library could take
        assert scores["flops"].value == 8


def test_a_forward_of_ones_own_takes_any_batch():
    batch = {"parts": [HALVES[0], {"rest": HALVES[1]}]}
    score = ssnr.score(Two(), (batch, Y), ["snip"], forward=lambda net, b: net(b["parts"][0], b["parts"][1]["rest"]))
    assert score["snip"].value == pytest.approx(SNIP, rel=1e-11)


def test_a_pair_given_to_a_network_that_needs_two_inputs_is_its_two_inputs():
    class Loss(Two):
        def forward(self, x: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
            return nn.functional.cross_entropy(self.body(x), labels)

    assert ssnr.score(Loss(), (X, Y), ["snip"])["snip"].value == pytest.approx(SNIP, rel=1e-11)


def test_a_packed_sequence_is_one_input():
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.rnn, self.head = nn.GRU(2, 3), nn.Linear(3, 2)

        def forward(self, sequence: Any) -> Tensor:
            out: Tensor = self.head(self.rnn(sequence)[1][0])
            return out

    generator = torch.Generator().manual_seed(0)
    long, short = (torch.randn(n, 2, generator=generator) for n in (3, 2))
    net, batch = Packed(), (pack_sequence([long, short]), torch.tensor([0, 1]))
    found = ssnr.saliency(net, "snip", batch)
    net.double()
    nn.functional.cross_entropy(net(batch[0].to(torch.float64)), batch[1]).backward()
    for name in ("rnn.weight_ih_l0", "rnn.weight_hh_l0", "head.weight"):
        p = net.get_parameter(name)
        assert torch.allclose(found[name], (p * p.grad).abs().detach(), rtol=1e-12), name


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float64, torch.int64])
def test_the_type_of_the_inputs_is_the_networks_business(dtype):
    class Scaled(Two):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            out: Tensor = self.body(x.float() / 2)
            return out

    x = torch.tensor([[2, 4], [6, 8]])
    expected = ssnr.score(golden(), (x / 2, Y), ["snip", "grasp"])
    scores = ssnr.score(Scaled(), (x.to(dtype), Y), ["snip", "grasp"])
    assert [s.value for s in scores.values()] == [s.value for s in expected.values()]


@pytest.mark.parametrize(
    "x", [X.clone().requires_grad_(), torch.stack([X, X], 2)[..., 0], X.numpy(), torch.tensor(X.tolist()).expand(2, 2)]
)
def test_inputs_with_gradients_strides_or_of_numpy_are_inputs(x):
    targets = Y.numpy() if isinstance(x, np.ndarray) else Y
    assert ssnr.score(golden(), (x, targets), ["snip"])["snip"].value == pytest.approx(SNIP, rel=1e-11)


class Model(OrderedDict):
    """As transformers' outputs: an ordered dictionary whose entries are attributes."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


@dataclasses.dataclass
class Output:
    logits: Tensor
    hidden: list[Tensor] | None = None
    past: object = None


class Object:
    def __init__(self, logits: Tensor) -> None:
        self.logits, self.count = logits, 3


class Slots:
    __slots__ = ("logits",)

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


class Gives(nn.Module):
    """The network solved by hand, its output packed by a function."""

    def __init__(self, pack: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body, self.pack = golden(), pack

    def forward(self, x: Tensor) -> Any:
        return self.pack(self.body(x))


OUTPUTS: dict[str, Callable[[Tensor], Any]] = {
    "a tuple": lambda out: (out, out.detach()),
    "a list": lambda out: [out],
    "an ordered dictionary": lambda out: Model(hidden=2 * out.detach(), logits=out, loss=None),
    "a dataclass": lambda out: Output(out),
    "an object": Object,
    "a generator": lambda out: (part for part in (out,)),
    "detections": lambda out: [{"boxes": out, "labels": out.argmax(1)}],
    "an object with slots": Slots,
    "a set": lambda out: {out},
    "a queue": lambda out: deque([out]),
    "values of a dictionary": lambda out: {"out": out}.values(),
    "a sparse tensor": lambda out: out.to_sparse(),
    "a nest": lambda out: {"a": ({"b": [out]},)},
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_outputs_of_every_kind_are_differentiated(kind):
    scores = ssnr.score(Gives(OUTPUTS[kind]), (X, Y), ["synflow/layerwise_ssnr", "snip"])
    assert scores["synflow/layerwise_ssnr"].value == pytest.approx(LAYERWISE)
    assert scores["snip"].value == pytest.approx(SNIP, rel=1e-11)


def test_members_of_an_output_that_are_no_floating_tensors_are_named():
    scores = ssnr.score(
        Gives(lambda out: {"out": out, "best": out.argmax(1), "name": "x", "none": None}), X, ["synflow"]
    )
    assert scores["synflow"].value == 30
    assert scores["synflow"].notes == ("outputs that are no floating-point tensors are ignored: int64 tensor, str",)


@pytest.mark.parametrize(
    ("pack", "reason"),
    [
        (lambda out: None, "the output holds no floating-point tensor (NoneType): nothing to differentiate"),
        (lambda out: out.argmax(1), "the output holds no floating-point tensor (Tensor): nothing to differentiate"),
        (lambda out: out * 1j, "the output holds no floating-point tensor (complex128): nothing to differentiate"),
        (lambda out: "text", "the output holds no floating-point tensor (str): nothing to differentiate"),
        (
            lambda out: out.detach(),
            "the output is detached from every weight (detach or no_grad in the forward): nothing to differentiate",
        ),
    ],
)  # fmt: skip
def test_outputs_without_a_gradient_fail_with_the_reason(pack, reason):
    for score in ssnr.score(Gives(pack), (X, Y), ["synflow", "snip"]).values():
        assert brief(score) == (None, None, "failed", reason)


def test_an_output_of_one_dimension_is_an_output():
    net = Gives(lambda out: out.sum(1))
    assert ssnr.saliency(net, "synflow", input_shape=(2,))["body.0.weight"].flatten().tolist() == [1.5, 3, 9, 1.5]


class Frozen(nn.Module):
    """Its first layer does not learn."""

    def __init__(self, cut: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.cut = golden(), cut

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body[2](torch.relu(self.cut(self.body[0], x)))
        return out


def under_no_grad(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = layer(x)
        return out


@pytest.mark.parametrize("cut", [under_no_grad, lambda layer, x: layer(x).detach(), lambda layer, x: layer(x).data])
def test_what_no_gradient_reaches_is_unused_and_the_rest_is_scored(cut):
    score = ssnr.score(Frozen(cut), input_shape=(2,), proxies=["synflow"])["synflow"]
    assert (score.value, score.status) == (15, "ok")
    assert [layer.flag for layer in score.layers] == ["unused", None]
    assert score.notes == (
        "no gradient reaches the input (detach or no_grad on the way): layers before that point have no saliency",
    )


class Casts(nn.Module):
    """The network solved by hand behind a change of precision of its own."""

    def __init__(self, cast: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.cast = golden(), cast

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(self.cast(x))
        return out


EYE = torch.eye(2)


@pytest.mark.parametrize(
    "cast",
    [
        lambda x: x.float(),
        lambda x: x.half(),
        lambda x: x.to(torch.bfloat16),
        lambda x: x.to(dtype=torch.float32),
        lambda x: x.type(torch.FloatTensor),
        lambda x: x.type("torch.FloatTensor"),
        lambda x: x @ EYE,
        lambda x: x @ torch.eye(2),
        lambda x: x @ torch.eye(2, dtype=torch.float32),
        lambda x: torch.as_tensor(x, dtype=torch.float16),
    ],
)
def test_precisions_written_into_a_forward_give_way_to_the_scorings_own(cast):
    tiny = X * (1 + 1e-9)  # which float32 does not tell from X
    scores = ssnr.score(Casts(cast), (tiny.double() * (1 + 1e-9), Y), ["synflow/layerwise_ssnr", "grasp"])
    expected = ssnr.score(golden(), (tiny.double() * (1 + 1e-9), Y), ["synflow/layerwise_ssnr", "grasp"])
    assert [s.value for s in scores.values()] == [s.value for s in expected.values()]


def test_a_forward_that_is_missing_is_named():
    class Empty(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

    score = ssnr.score(Empty(), None, ["synflow/layerwise_ssnr"], input_shape=(2,))["synflow/layerwise_ssnr"]
    assert score.reason is not None
    assert score.reason.startswith(
        "the network (Empty) raised NotImplementedError on input (1, 2): Module [Empty] is missing"
    )


def test_a_batch_of_one_sample_under_batch_norm_says_what_to_do():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    score = ssnr.score(net, (X[:1], Y[:1]), ["snip"])["snip"]
    assert score.reason is not None
    assert score.reason.startswith(
        "layer '1' (BatchNorm1d) raised ValueError on input (1, 2), weight (2,): Expected more"
    )
    assert score.reason.endswith("; take a batch of two samples or more, or draw two (recipe option images=2)")


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (({"a": X[:0]}, Y), r"the batch is empty: inputs have shape \(0, 2\)"),
        ((X, Y[:1]), "the batch has 2 inputs but 1 targets"),
        (torch.tensor(1.0), r"the batch is empty: inputs have shape \(\)"),
        (DataLoader(TensorDataset(X, Y)), r"the batch is a DataLoader: give one of its batches, next\(iter\(…\)\)"),
        (TensorDataset(X, Y), "the batch is a TensorDataset: give its first samples, stacked"),
    ],
)
def test_batches_that_cannot_be_used_are_refused_before_any_pass(batch, said):
    with pytest.raises(ssnr.UsageError, match=said):
        ssnr.score(golden(), batch, ["snip"])


def test_labels_may_be_a_list_of_numbers():
    assert ssnr.score(golden(), (X, Y.tolist()), ["snip"]) == ssnr.score(golden(), (X, Y), ["snip"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"input_shape": 3}, r"input_shape=3: expected whole numbers such as \(3, 32, 32\), without the batch"),
        ({"input_shape": (-2,)}, r"input_shape=\(-2,\): expected whole numbers"),
        ({"input_shape": (2.0,)}, r"input_shape=\(2.0,\): expected whole numbers"),
        ({"seed": "a"}, "seed='a': expected a whole number of at most 63 bits"),
        ({"seed": 2**64}, "seed=18446744073709551616: expected a whole number of at most 63 bits"),
    ],
)
def test_shapes_and_seeds_are_whole_numbers(options, said):
    with pytest.raises(ssnr.UsageError, match=said):
        ssnr.score(golden(), golden_batch(), ["synflow"], **options)


def test_a_forward_that_exits_is_a_failed_score():
    score = ssnr.score(Gives(lambda out: sys.exit(3)), None, ["synflow/layerwise_ssnr"], input_shape=(2,))[
        "synflow/layerwise_ssnr"
    ]
    assert (score.status, score.reason) == ("failed", "the network (Gives) raised SystemExit on input (1, 2): 3")


class Halved(torch.autograd.Function):
    """An operation of a kernel library: no double precision."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        if x.dtype is torch.float64:
            raise RuntimeError("expected mat_a to be Float32, BFloat16 or Float16 matrix, got Double")
        return x / 2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad / 2


def test_an_operation_without_double_precision_is_scored_in_float32_and_said():
    class Kernel(Two):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            out: Tensor = self.body(Halved.apply(x))
            return out

    scores = ssnr.score(Kernel(), (2 * X, Y), ["synflow/layerwise_ssnr", "snip"])
    assert scores["synflow/layerwise_ssnr"].value == pytest.approx(LAYERWISE, rel=1e-6)
    assert scores["snip"].value == pytest.approx(SNIP, rel=1e-6)
    for score in scores.values():
        (note,) = score.notes
        assert note.startswith("in float32: the network (Kernel) raised RuntimeError on input (")
        assert note.endswith("expected mat_a to be Float32, BFloat16 or Float16 matrix, got Double")


def test_a_forward_may_ask_its_input_for_gradients():
    class Asks(Two):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            x = x[:, [0, 1]]
            x.requires_grad = True
            out: Tensor = self.body(x.requires_grad_())
            return out

    scores = ssnr.score(Asks(), (X, Y), ["synflow/layerwise_ssnr", "snip"])
    assert [s.value for s in scores.values()] == pytest.approx([LAYERWISE, SNIP])
