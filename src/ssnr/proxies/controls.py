"""The controls of any network: what counting alone says about it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ssnr.core.errors import ScoringError
from ssnr.core.moments import from_tensors
from ssnr.core.recipes import Recipe, get_recipe
from ssnr.core.results import Counts
from ssnr.networks.calling import Forward
from ssnr.networks.masks import counted, without_pruned
from ssnr.networks.model import Model
from ssnr.networks.preserve import preserved
from ssnr.networks.trees import one_sample, to_device
from ssnr.networks.weights import has_lazy
from ssnr.proxies.shapes import Counted
from ssnr.proxies.shapes import counted as counted_by_shapes
from ssnr.saliencies import WHOLE, ones_like, synflow_of
from ssnr.saliencies.signal import followed, set_mode


def count(
    net: nn.Module,
    input_shape: tuple[int, ...] | None = None,
    inputs: Any = None,
    forward: Forward | None = None,
    recipe: Recipe | None = None,
) -> Counts:
    """Parameters (all, and those that are trained), multiply-accumulates of one image, reachable weights and layers.

    Any network; most are counted from shapes alone, without computing anything.

    Multiply-accumulates are those of convolutions, linear layers, recurrent gates and attention, plus one per output
    element where a convolution or linear layer has a bias (the convention of NATS-Bench). Reachable weights are those
    of the layers through which synflow reaches the output. Weights that `torch.nn.utils.prune` masks count as
    parameters and as multiply-accumulates, which the pruned network still has, and not as reachable.

    Raises:
        ScoringError: the forward pass raised.
        UsageError: neither `input_shape` nor `inputs`.
    """
    chosen = recipe or get_recipe("seed")
    flops, reached = _by_shapes(net, input_shape, inputs, forward, chosen)
    if flops is not None and reached is not None:
        return _counts(net, flops, reached)
    with preserved(net, exposed=False):
        model = Model(net, chosen, forward, lambda: ones_like(inputs, input_shape))
        flops = _flops(model, input_shape, inputs) if flops is None else flops
        reached = _reachable(model, input_shape, inputs) if reached is None else reached
        return _counts(net, flops, reached)


def count_by_shapes(net: nn.Module, input_shape: tuple[int, ...]) -> Counts | None:
    """What `count` gives, where shapes alone tell; None where the network would have to run."""
    flops, reached = _by_shapes(net, input_shape, None, None, get_recipe("seed"))
    return None if flops is None or reached is None else _counts(net, flops, reached)


def _counts(net: nn.Module, flops: int, reached: tuple[int, int]) -> Counts:
    sizes = [(p.numel(), p.requires_grad) for p in net.parameters()]
    return Counts(sum(n for n, _ in sizes), flops, *reached, sum(n for n, trained in sizes if trained))


def control(
    name: str,
    net: nn.Module,
    input_shape: tuple[int, ...] | None,
    inputs: Any,
    forward: Forward | None,
    recipe: Recipe,
) -> tuple[int, tuple[str, ...]]:
    """One of the four alone, with what it needs and no more: `params` and `flops` of networks without values too.

    Returns:
        The count, and notes.

    Raises:
        ScoringError: as in `count`.
        UsageError: as in `count`.
    """
    valued = name in ("reachable_params", "layers")
    if name == "params" and not has_lazy(net):
        return _params(net), ()
    flops, reached = Counted() if name == "params" else _by_shapes(net, input_shape, inputs, forward, recipe)
    if name == "flops" and flops is not None:
        return flops, ()
    if valued and reached is not None:
        return reached[name == "layers"], ()
    with preserved(net, exposed=False):
        model = Model(net, recipe, forward, lambda: ones_like(inputs, input_shape), valued=valued)
        if name == "params":
            return _params(net), tuple(model.notes)
        if name == "flops":
            return _flops(model, input_shape, inputs), tuple(model.notes)
        return _reachable(model, input_shape, inputs)[name == "layers"], tuple(model.notes)


def _params(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def _by_shapes(
    net: nn.Module, input_shape: tuple[int, ...] | None, inputs: Any, forward: Forward | None, recipe: Recipe
) -> Counted:
    """What shapes alone tell, for a network that takes one tensor of numbers."""
    if forward is not None:
        return Counted()
    if input_shape is None and isinstance(inputs, Tensor) and inputs.is_floating_point() and inputs.dim() > 1:
        input_shape = tuple(inputs.shape[1:])
    return Counted() if input_shape is None else counted_by_shapes(net, tuple(input_shape), recipe)


def _reachable(model: Model, input_shape: tuple[int, ...] | None, inputs: Any) -> tuple[int, int]:
    signal = synflow_of(model, input_shape, inputs, whole=False)
    numel = counted(model.scored, model.masks)
    moments = from_tensors(without_pruned(signal.tensors, model.masks), numel, exponent=signal.exponents)
    live = ~moments.dead & (not signal.dead)
    return int(moments.numel[live].sum()), int(live.sum())


def _flops(model: Model, input_shape: tuple[int, ...] | None, inputs: Any) -> int:
    if input_shape is not None or inputs is None:
        return _flops_of(model, ones_like(inputs, input_shape))
    first: ScoringError | None = None
    for candidate in one_sample(inputs):
        try:
            return _flops_of(model, candidate)
        except ScoringError as error:  # perhaps not a list of samples, but of inputs
            first = error
    with suppress(ScoringError):
        found = _flops_of(model, inputs)
        model.notes[WHOLE.format("multiply-accumulates")] = None
        return found
    assert first is not None
    raise first


def _flops_of(model: Model, inputs: Any) -> int:
    set_mode(model, "eval")
    try:
        return _flops_in(model, inputs, gradients=False)
    except ScoringError:  # a network may ask for gradients on its way: forces from an energy, hooks on tensors
        return _flops_in(model, inputs, gradients=True)


def _flops_in(model: Model, inputs: Any, *, gradients: bool) -> int:
    weights = model.weights(torch.float32)
    inputs = to_device(inputs, model.device, torch.float32)
    if gradients:
        inputs, _ = followed(inputs)
        for name in model.scored:
            if name in weights:
                weights[name].requires_grad_()
    counter, biases = _Products(), _BiasAdds()
    gates = _RecurrentGates(model.net, counter)
    as_products = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with torch.set_grad_enabled(gradients), as_products, counter, biases, gates:
        model.call(weights, inputs)
    return counter.total // 2 + biases.total + gates.total


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Floating-point operations of products, by PyTorch's own formulas.

    What its `FlopCounterMode` counts, without the hooks by which that tells modules apart: no network that
    differentiates in its forward runs under them.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = getattr(func, "_overloadpacket", func)
        formula = flop_registry.get(packet)
        if formula is None and isinstance(func, torch._ops.OpOverload) and func not in _OF_ITSELF:
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        if formula is not None:
            self.total += int(formula(*args, **kwargs, out_val=out))
        return out


# Questions about a tensor, which have no parts.
_OF_ITSELF = frozenset((torch.ops.prim.device.default, torch.ops.prim.layout.default))


class _RecurrentGates:
    """Multiply-accumulates of RNN, LSTM and GRU modules, which reach the flop counter as one operation or not at all.

    Each step and direction of a layer multiplies its input and its state with every gate's weights.
    """

    _GATES: ClassVar = {"LSTM": 4, "GRU": 3}

    def __init__(self, net: nn.Module, counter: _Products) -> None:
        self._modules = [m for m in net.modules() if isinstance(m, nn.RNNBase)]
        self._counter = counter
        self._before: list[int] = []
        self.total = 0

    def __enter__(self) -> _RecurrentGates:
        self._handles = [
            handle
            for m in self._modules
            for handle in (m.register_forward_pre_hook(self._enter), m.register_forward_hook(self._leave))
        ]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        self._before.append(self._counter.total)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._counter.total != self._before.pop():
            return  # this build runs it as matrix products, which are counted
        assert isinstance(module, nn.RNNBase)
        data = args[0].data if isinstance(args[0], PackedSequence) else args[0]
        self.total += data.numel() // module.input_size * self._step(module)

    def _step(self, module: nn.RNNBase) -> int:
        directions, state = 2 if module.bidirectional else 1, module.proj_size or module.hidden_size
        total = 0
        for layer in range(module.num_layers):
            width = module.input_size if layer == 0 else state * directions
            gates = self._GATES.get(module.mode, 1) * module.hidden_size * (width + state)
            total += directions * (gates + module.hidden_size * module.proj_size)
        return total


class _BiasAdds(TorchFunctionMode):
    """One addition per output element of every convolution and linear layer that has a bias."""

    _FUNCTIONS = frozenset(
        (F.linear, *(getattr(F, f"conv{kind}{n}d") for kind in ("", "_transpose") for n in (1, 2, 3)))
    )

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in self._FUNCTIONS:
            bias = args[2] if len(args) > 2 else (kwargs or {}).get("bias")
            if isinstance(bias, Tensor):
                self.total += out.numel()
        return out
