"""A network, and the process, are the same bit for bit after scoring: whatever the forward does, and if it raises."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrizations

import ssnr
from networks import golden, golden_batch
from ssnr import pruning

PROXIES = ["synflow/layerwise_ssnr", "snip", "grasp", "fisher", "magnitude", "params", "flops", "reachable_params"]


def bits(tensor: Tensor) -> object:
    if is_lazy(tensor):
        return "lazy"
    whole = tensor.detach().clone().contiguous().reshape(-1)
    return (tensor.dtype, tuple(tensor.shape), whole.view(torch.uint8).numpy().tobytes() if whole.numel() else b"")


HELD: set[int] = set()  # modules that are being looked at


def held(value: object) -> object:
    """A value as something to compare: tensors by object and bits, containers by what they hold."""
    if isinstance(value, Tensor):
        grad = value.grad if value.is_leaf and not is_lazy(value) else None
        return (id(value), type(value), value.requires_grad, bits(value), None if grad is None else held(grad))
    if isinstance(value, dict):
        return [(key, held(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [held(item) for item in value]
    if isinstance(value, torch.Generator):
        return value.get_state().numpy().tobytes()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.ndarray):
        return (id(value), value.tolist())
    if isinstance(value, Holder):
        return (id(value), held(value.__dict__))
    if isinstance(value, nn.Module) and id(value) not in HELD:
        HELD.add(id(value))
        found = (id(value), held(value.__dict__))
        HELD.discard(id(value))
        return found
    return id(value) if callable(value) or isinstance(value, nn.Module) else repr(value)


def everything(net: nn.Module) -> list[object]:
    modules = list(net.modules())
    found: list[object] = [(id(m), type(m), [(k, held(v)) for k, v in m.__dict__.items()]) for m in modules]
    found += [getattr(m, "slot", None) for m in modules]
    numpy = np.random.get_state(legacy=False)
    return [
        *found,
        torch.get_rng_state().numpy().tobytes(),
        random.getstate(),
        (numpy["state"]["key"].tobytes(), numpy["state"]["pos"]),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
    ]


class Around(nn.Module):
    """The network solved by hand, with something done before it."""

    __slots__ = ("slot",)

    def __init__(self, does: Callable[[Around, Tensor], Tensor | None], prepare: Callable[[Around], None]) -> None:
        super().__init__()
        self.body = golden()
        self.does = does
        prepare(self)

    def forward(self, x: Tensor) -> Tensor:
        y = self.does(self, x)
        out: Tensor = self.body(x if y is None else y)
        return out


def buffer(net: Around) -> None:
    net.register_buffer("b", torch.zeros(3))


def nothing(net: Around) -> None:
    pass


def _replace(net: Around, x: Tensor) -> None:
    net.b = net.b + 1


def _in_place(net: Around, x: Tensor) -> None:
    net.b += 1
    net.b.data.mul_(2)


def _resize(net: Around, x: Tensor) -> None:
    net.b = torch.ones(7)


def _delete(net: Around, x: Tensor) -> None:
    del net.b


def _register(net: Around, x: Tensor) -> None:
    net.register_buffer("new", torch.ones(2))
    net.extra = nn.Linear(2, 2)
    net.register_parameter("made", nn.Parameter(torch.ones(2, 2)))


def _count(net: Around, x: Tensor) -> None:
    net.steps += 1
    net.seen.append(x)
    net.cache["last"] = x
    net.names.add("x")


def _prepare_count(net: Around) -> None:
    net.steps, net.seen, net.cache, net.names = 0, [], {}, set()


def _draw(net: Around, x: Tensor) -> Tensor:
    return (
        x + random.random() * np.random.rand() + torch.rand(2) + torch.rand(2, generator=net.own) + net.numpys.random()
    )


def _prepare_draw(net: Around) -> None:
    net.own, net.numpys = torch.Generator().manual_seed(3), np.random.default_rng(3)


def _modes(net: Around, x: Tensor) -> None:
    net.body.train(not net.body.training)
    net.body[1].inplace = True


def _globals(net: Around, x: Tensor) -> None:
    torch.set_default_dtype(torch.float64)


def _hooks(net: Around, x: Tensor) -> None:
    net.body.register_forward_hook(lambda *_: None)
    net.body[0].register_full_backward_hook(lambda *_: None)


def _plain(net: Around, x: Tensor) -> None:
    net.table += 1
    net.listed[0] += 1


def _prepare_plain(net: Around) -> None:
    net.table, net.listed = torch.zeros(2), [torch.zeros(2)]


class Holder:
    """A plain object of the user's own."""

    def __init__(self, part: object) -> None:
        self.part, self.calls = part, 0


def _deep(net: Around, x: Tensor) -> Tensor:
    net.state["a"]["steps"].append(1)
    net.state["a"]["pair"][0].add_(1)
    net.holder.calls += 1
    net.holder.part[0] += 1
    net.array += 1
    net.slot += 1
    return x + torch.rand(2, generator=net.generators[0]) + net.generators[1].random()


def _prepare_deep(net: Around) -> None:
    net.slot = 0
    net.state = {"a": {"steps": [0], "pair": (torch.zeros(2), None)}}
    net.holder, net.array = Holder([0]), np.zeros(2)
    net.generators = [torch.Generator().manual_seed(3), np.random.default_rng(3)]


def _hidden(net: Around, x: Tensor) -> Tensor:
    out: Tensor = net.holder.part[0](net.lists[0][0](x))
    return out


def _prepare_hidden(net: Around) -> None:
    net.lists, net.holder = [[nn.BatchNorm1d(2)]], Holder([nn.BatchNorm1d(2).eval()])


DOES = {
    "buffer replaced": (_replace, buffer),
    "buffer changed in place": (_in_place, buffer),
    "buffer of another shape": (_resize, buffer),
    "buffer deleted": (_delete, buffer),
    "modules and parameters made": (_register, nothing),
    "counters, lists, dictionaries": (_count, _prepare_count),
    "random numbers of every kind": (_draw, _prepare_draw),
    "modes and attributes": (_modes, nothing),
    "global settings": (_globals, nothing),
    "hooks added": (_hooks, nothing),
    "plain tensors changed": (_plain, _prepare_plain),
    "nests, objects, arrays, slots, generators in lists": (_deep, _prepare_deep),
    "modules that are not registered": (_hidden, _prepare_hidden),
}


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("what", DOES)
def test_whatever_a_forward_does_to_its_network_is_undone(what, raises):
    does, prepare = DOES[what]

    def then_raises(net: Around, x: Tensor) -> Tensor | None:
        does(net, x)
        raise RuntimeError("half-way")

    net = Around(then_raises if raises else does, prepare)
    net.body[0].weight.grad = torch.ones(2, 2)
    net.body[2].eval()
    before = everything(net)
    scores = ssnr.score(net, golden_batch(), PROXIES)
    assert everything(net) == before
    assert {scores[name].status for name in ("magnitude", "params")} == {"ok"}
    assert {scores[name].status for name in ("snip", "flops")} == {"failed" if raises else "ok"}


@pytest.mark.parametrize("what", DOES)
def test_counting_undoes_it_too(what):
    net = Around(*DOES[what])
    net.body[2].eval()
    before = everything(net)
    assert ssnr.count(net, (2,)).layers == 2
    assert everything(net) == before


SETTINGS: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "threads": (torch.get_num_threads, lambda: torch.set_num_threads(torch.get_num_threads() + 1)),
    "determinism": (torch.are_deterministic_algorithms_enabled, lambda: torch.use_deterministic_algorithms(True)),
    "anomalies": (torch.is_anomaly_enabled, lambda: torch.autograd.set_detect_anomaly(True, check_nan=False)),
    "precision": (torch.get_float32_matmul_precision, lambda: torch.set_float32_matmul_precision("medium")),
    "device": (lambda: torch.empty(0).device.type, lambda: torch.set_default_device("cpu")),
    "attention": (torch.backends.cuda.flash_sdp_enabled, lambda: torch.backends.cuda.enable_flash_sdp(False)),
    "fast path": (torch.backends.mha.get_fastpath_enabled, lambda: torch.backends.mha.set_fastpath_enabled(False)),
    "cuDNN": (lambda: torch.backends.cudnn.benchmark, lambda: setattr(torch.backends.cudnn, "benchmark", True)),
    "gradients": (torch.is_grad_enabled, lambda: torch.set_grad_enabled(False)),
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("what", SETTINGS)
def test_what_a_forward_sets_for_the_whole_process_is_put_back(what):
    read, write = SETTINGS[what]
    before, alone = read(), ssnr.score(golden(), golden_batch(), ["snip", "grasp"])
    net = Around(lambda net, x: None, nothing)
    net.register_forward_hook(lambda *_: write() and None)
    scores = ssnr.score(net, golden_batch(), ["snip", "grasp", "synflow"])
    assert read() == before
    assert [scores[name].value for name in alone] == [s.value for s in alone.values()]


def test_a_deleted_buffer_fails_where_the_forward_needs_it_a_second_time_and_is_back():
    net = Around(_delete, buffer)
    assert "b" in dict(net.named_buffers())
    ssnr.score(net, golden_batch(), ["snip"])
    assert net.b.tolist() == [0, 0, 0]


def made(kind: str) -> nn.Module:
    """Networks whose modules themselves change in a forward pass, or keep more than parameters."""
    torch.manual_seed(0)
    net = golden()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        if kind == "old weight_norm":
            torch.nn.utils.weight_norm(net[0])
        elif kind == "old spectral_norm":
            torch.nn.utils.spectral_norm(net[0])
    if kind == "weight_norm":
        parametrizations.weight_norm(net[0])
    elif kind == "spectral_norm":
        parametrizations.spectral_norm(net[0])
    elif kind == "orthogonal":
        parametrizations.orthogonal(net[0])
    elif kind == "lazy":
        net = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(2))
    elif kind == "lstm":
        net = nn.Sequential(
            nn.Unflatten(1, (1, 2)), nn.LSTM(2, 2, batch_first=True, num_layers=2, dropout=0.5), First()
        )
    elif kind == "attention":
        layer = nn.TransformerEncoderLayer(2, 1, 4, batch_first=True)
        net = nn.Sequential(nn.Unflatten(1, (1, 2)), layer, nn.Flatten())
    elif kind == "batch norm":
        net.insert(1, nn.BatchNorm1d(2))
    elif kind == "data parallel":
        net = nn.DataParallel(net)
    elif kind == "compiled":
        net = torch.compile(net, backend="eager")
    elif kind == "half":
        net.half()
    elif kind == "inference":
        with torch.inference_mode():
            net = nn.Sequential(*golden(), nn.BatchNorm1d(2))
    return net


class First(nn.Module):
    def forward(self, pair: tuple[Tensor, object]) -> Tensor:
        return pair[0].flatten(1)


KINDS = (
    "old weight_norm", "old spectral_norm", "weight_norm", "spectral_norm", "orthogonal", "lazy", "lstm", "attention",
    "batch norm", "data parallel", "compiled", "half", "inference",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_module_is_as_it_was(kind):
    net = made(kind)
    before = everything(net)
    keys = [] if kind == "lazy" else list(net.state_dict())
    scores = ssnr.score(net, golden_batch(), ["synflow/layerwise_ssnr", "snip", "params", "flops"])
    assert everything(net) == before
    assert {s.status for s in scores.values()} == {"ok"}
    assert keys == ([] if kind == "lazy" else list(net.state_dict()))


def test_the_users_batch_is_as_it_was():
    class Greedy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(5, 2)

        def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
            tokens += 1
            x.mul_(2)
            return x + self.table(tokens)

    x, tokens = torch.ones(3, 2, requires_grad=True), torch.tensor([0, 1, 2])
    score = ssnr.score(Greedy(), ((x, tokens), torch.tensor([0, 1, 0])), ["snip"])["snip"]
    assert score.status == "ok"
    assert (x.tolist(), x.grad, tokens.tolist()) == ([[1, 1]] * 3, None, [0, 1, 2])


def test_a_users_own_proxy_may_train_the_network_and_leaves_no_trace_either():
    from ssnr.core.catalogue import PLAIN

    @ssnr.register_proxy()
    def loss_after_a_step(net, batch):
        """The loss after one step."""
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(net(batch.inputs), batch.targets)
            loss.backward()
            optimiser.step()
        return float(loss.detach())

    try:
        net = golden()
        before = everything(net)
        assert ssnr.score(net, golden_batch(), ["loss_after_a_step"])["loss_after_a_step"].status == "ok"
        assert everything(net) == before
    finally:
        PLAIN.remove("loss_after_a_step")


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu")])
def test_scores_do_not_depend_on_the_callers_contexts(context):
    with context():
        inside = ssnr.score(golden(), golden_batch(), ["synflow", "grasp"], recipe="seed(dtype=float32)")
    assert inside == ssnr.score(golden(), golden_batch(), ["synflow", "grasp"], recipe="seed(dtype=float32)")


def test_random_numbers_are_seeded_and_reported():
    net = Around(_draw, _prepare_draw)
    first, second = (ssnr.score(net, golden_batch(), ["snip"])["snip"] for _ in range(2))
    assert first == second
    assert first.notes == ("the forward pass draws random numbers (torch, random, numpy): seeded with 0",)
    assert ssnr.score(net, golden_batch(), ["snip"], seed=1)["snip"].value != first.value
    assert ssnr.score(golden(), golden_batch(), ["snip"])["snip"].notes == ()


def test_a_device_that_was_not_used_yet_keeps_the_seed_that_the_caller_noted_for_it(monkeypatch):
    noted: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", noted.append)
    torch.manual_seed(7)
    ssnr.score(golden(), golden_batch(), ["synflow", "snip", "naswot", "zen"], input_shape=(2,))
    pruning.masks(golden(), "random", 0.5)
    assert noted == [7]


def test_a_forward_that_no_seed_repeats_is_found_when_asked_to_check():
    net = Around(lambda net, x: x * float(np.random.default_rng().random()), nothing)
    said = "nondeterministic: two forward passes on the same input with the same seed differ"
    for score in ssnr.score(net, golden_batch(), ["synflow", "snip"], check=True).values():
        assert score.notes == (said,)
    assert ssnr.score(golden(), golden_batch(), ["synflow"], check=True)["synflow"].notes == ()
