"""Per-parameter signals: network and batch → one tensor a layer, of the layer's shape.

Three families, each one set of passes for all of its members:

    weights    magnitude, l2_norm                              no pass
    synflow    synflow                                         1 forward, 1 backward, on ones and |θ|
    gradient   plain, snip, grad_norm, fisher, grasp           1 forward, 1 backward, and for grasp one
                                                               Hessian-vector product

None of them changes the network: weights are handed in through `Model.call`, gradients come from `autograd.grad`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ssnr._errors import ScoringError, UsageError
from ssnr._model import Model, outputs_of
from ssnr.data import Batch, ones
from ssnr.linearize import linear, without_dropout

Named = dict[str, Tensor | None]  # None: no gradient reached the layer, it is unused
Loss = Callable[[Any, Any], Tensor]


class Signal(NamedTuple):
    """One saliency of one network: its tensors, and whether the output ignores the input."""

    tensors: Named
    dead: bool = False


# --- weights --------------------------------------------------------------------------------------------------


def weight_saliencies(model: Model, names: Collection[str]) -> dict[str, Signal]:
    """Magnitude |θ| and l2_norm θ²/‖θ_l‖, whose sum over a layer is its norm ‖θ_l‖."""
    found: dict[str, Signal] = {}
    weights = {name: p.detach().to(torch.float64) for name, p in model.scored.items()}
    if "magnitude" in names:
        found["magnitude"] = Signal({name: w.abs() for name, w in weights.items()})
    if "l2_norm" in names:
        found["l2_norm"] = Signal({name: _share_of_norm(w) for name, w in weights.items()})
    return found


def _share_of_norm(values: Tensor) -> Tensor:
    """v²/‖v‖: what each entry adds to the Euclidean norm; scaled so that squares cannot overflow."""
    peak = values.abs().amax() if values.numel() else values.new_zeros(())
    if peak == 0:
        return torch.zeros_like(values)
    unit = values / peak
    share: Tensor = unit * unit * (peak / torch.linalg.vector_norm(unit))
    return share


# --- synflow --------------------------------------------------------------------------------------------------


def synflow(model: Model, input_shape: tuple[int, ...] | None, inputs: Any = None) -> Signal:
    """S = |θ ⊙ ∂R/∂θ|, R = the sum of all outputs of the network at |θ| on an all-ones input (Tanaka et al., 2020).

    Norms and dropout are passed through, biases and buffers enter by magnitude, activations stay.

    Args:
        model: the network.
        input_shape: of one sample without its batch dimension.
        inputs: what the network takes, instead of `input_shape`; only its shape is used.

    Raises:
        ScoringError: the forward pass raised, or has no floating-point output.
        UsageError: neither `input_shape` nor `inputs`.
    """
    dtype = getattr(torch, model.recipe.synflow_dtype)
    device = next(iter(model.scored.values())).device
    leaf = ones_like(inputs, input_shape).to(device, dtype).requires_grad_()
    weights = model.weights(dtype, torch.abs, statistics=model.recipe.norms != "all")
    leaves = {name: weights[name].requires_grad_() for name in model.scored if name in weights}
    # Bypassed norms have no mode; where a recipe keeps some, they are in the mode that its program leaves them in.
    _set_mode(model, "eval" if model.recipe.norms == "all" else model.recipe.mode)
    with torch.enable_grad(), linear(model.net, model.recipe.norms):
        # A copy, because a network may change its input in place, which a leaf does not allow.
        outputs = outputs_of(model.call(weights, leaf.clone()))
        R = torch.stack([out.sum() for out in outputs]).sum()
    if not R.requires_grad:
        return Signal(dict.fromkeys(model.scored), dead=True)
    *gradients, flow = torch.autograd.grad(R, [*leaves.values(), leaf], allow_unused=True)
    # Not in place: two weights that are added have one gradient tensor between them.
    products = [None if s is None else s.abs_() for s in _products(list(leaves.values()), list(gradients))]
    dead = flow is None or not bool(flow.any())
    return Signal(_spread(model, dict(zip(leaves, products, strict=True))), dead)


def ones_like(inputs: Any, input_shape: tuple[int, ...] | None) -> Tensor:
    """The all-ones input of a network: from the shape of one sample, or from that of the inputs it takes."""
    if input_shape is not None:
        return ones(input_shape)
    if isinstance(inputs, (tuple, list)) and len(inputs) == 1:
        inputs = inputs[0]
    if isinstance(inputs, Tensor):
        return ones(tuple(inputs.shape[1:]))
    raise UsageError("synflow needs the shape of one input: input_shape=(3, 32, 32), or a batch")


# --- gradients ------------------------------------------------------------------------------------------------


def gradient_saliencies(
    model: Model, batch: Batch, names: Collection[str], loss: Loss | None = None
) -> dict[str, Signal]:
    """plain, grad_norm, fisher and grasp from shared passes; g = ∂L/∂θ, L the mean loss on one batch.

        plain      θ ⊙ g                       (Mozer & Smolensky, 1989); snip is its magnitude (Lee et al., 2019)
        grad_norm  g²/‖g_l‖, sum ‖g_l‖         (Abdelfattah et al., 2021)
        fisher     ½ mean_n (Σ_space a ∂L/∂a)² of the output channel, repeated over its weights (Turner et al., 2020)
        grasp      −θ ⊙ Hg                     (Wang, Zhang & Grosse, 2020)

    Args:
        model: the network.
        batch: inputs and targets.
        names: which of the four.
        loss: (output, targets) → scalar; the default is mean cross-entropy, or mean squared error for float targets.

    Raises:
        ScoringError: the forward or backward pass raised, or the loss is not finite.
        UsageError: labels that the network has no output for.
    """
    dtype = getattr(torch, model.recipe.dtype)
    device = next(iter(model.scored.values())).device
    weights = model.weights(dtype)
    leaves = {name: weights[name].requires_grad_() for name in model.scored if name in weights}
    capture = _Channels(leaves) if "fisher" in names else None
    _set_mode(model, model.recipe.mode)
    inputs, sources = _followed(_moved(batch.inputs, device, dtype))
    with torch.enable_grad(), without_dropout() if model.recipe.dropout == "off" else nullcontext():
        with capture or nullcontext():
            output = model.call(weights, inputs)
        value = _loss(output, batch.targets, device, dtype, loss, model.recipe.temperature)
    if not value.requires_grad:
        return {name: Signal(dict.fromkeys(model.scored), dead=True) for name in names}
    dead = bool(sources) and not _reaches(value, sources)
    second = "grasp" in names
    probes = capture.probes if capture else []
    gradients = _grad(value, [*leaves.values(), *probes], create_graph=second)
    first, probed = gradients[: len(leaves)], gradients[len(leaves) :]
    detached = [None if g is None else g.detach() for g in first]
    theta = [leaf.detach() for leaf in leaves.values()]

    def signal(tensors: list[Tensor | None]) -> Signal:
        return Signal(_spread(model, dict(zip(leaves, tensors, strict=True))), dead)

    found: dict[str, Signal] = {}
    if "plain" in names:
        found["plain"] = signal(_products(theta, detached))
    if "grad_norm" in names:
        found["grad_norm"] = signal([None if g is None else _share_of_norm(g) for g in detached])
    if capture:
        found["fisher"] = signal(capture.fisher(leaves, probed))
    if second:
        found["grasp"] = signal(_grasp(list(leaves.values()), first, detached))
    return found


def _grasp(leaves: list[Tensor], first: list[Tensor | None], detached: list[Tensor | None]) -> list[Tensor | None]:
    """−θ ⊙ Hg with Hg = ∂/∂θ Σ stop(g)·g(θ): one product with the Hessian, which is never formed."""
    terms = [
        (g * d).sum()
        for g, d in zip(first, detached, strict=True)
        if g is not None and d is not None and g.requires_grad
    ]
    if not terms:  # the gradient does not depend on the weights: the Hessian is zero
        return [None if g is None else torch.zeros_like(leaf) for g, leaf in zip(first, leaves, strict=True)]
    hessian = _grad(torch.stack(terms).sum(), leaves)
    return [
        None if g is None else torch.zeros_like(leaf) if h is None else -(leaf.detach() * h)
        for g, h, leaf in zip(first, hessian, leaves, strict=True)
    ]


def _grad(value: Tensor, inputs: list[Tensor], *, create_graph: bool = False) -> list[Tensor | None]:
    try:
        return list(torch.autograd.grad(value, inputs, create_graph=create_graph, allow_unused=True))
    except (RuntimeError, NotImplementedError) as error:
        raise ScoringError(
            f"the backward pass raised {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error


def _loss(
    output: Any, targets: Tensor | None, device: torch.device, dtype: torch.dtype, loss: Loss | None, temperature: float
) -> Tensor:
    """The scalar that data-driven saliencies differentiate."""
    moved = _moved(targets, device, dtype)
    if loss is not None:
        value = loss(output, moved)
    else:
        logits = outputs_of(output)[0]
        if moved is None:
            if logits.numel() != 1:
                raise UsageError("this proxy needs labels: batch=(inputs, targets), or loss=lambda output, targets: …")
            value = logits.sum()
        elif moved.is_floating_point():
            value = F.mse_loss(logits / temperature, moved)
        else:
            _check_labels(logits, moved)
            value = F.cross_entropy(logits / temperature, moved)
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise UsageError(f"the loss should be one number, got {getattr(value, 'shape', type(value).__name__)}")
    if not bool(torch.isfinite(value)):
        raise ScoringError(f"the loss is {float(value)}")
    return value.reshape(())


def _check_labels(logits: Tensor, targets: Tensor) -> None:
    if logits.dim() < 2:
        raise UsageError(f"class labels need outputs (N, classes), got shape {tuple(logits.shape)}; pass loss= instead")
    if targets.shape[0] != logits.shape[0]:
        raise UsageError(f"{targets.shape[0]} labels for outputs of shape {tuple(logits.shape)}")
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= logits.shape[1]:
        raise UsageError(
            f"label {high if high >= logits.shape[1] else low} for a network with {logits.shape[1]} outputs"
        )


class _Channels(TorchFunctionMode):
    """Records, for each scored weight, what its convolution or linear layer puts out, and a zero added behind it.

    The zero's gradient is the output's. Adding it also keeps the recorded output safe from an in-place activation
    behind the layer, which would overwrite it before the backward pass reads it.
    """

    _LINEAR = frozenset((F.linear, torch._C._nn.linear))
    _CONV = frozenset(
        getattr(module, f"conv{transposed}{n}d")
        for module in (F, torch)
        for transposed in ("", "_transpose")
        for n in (1, 2, 3)
    )

    def __init__(self, leaves: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._names = {id(leaf): name for name, leaf in leaves.items()}
        self._calls: list[tuple[str, Tensor, int, int]] = []
        self.probes: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func not in self._LINEAR and func not in self._CONV:
            return out
        weight = args[1] if len(args) > 1 else (kwargs or {}).get("weight")
        name = self._names.get(id(weight))
        if name is None:
            return out
        channel = out.dim() - 1 if func in self._LINEAR else 1
        # A transposed convolution keeps its output channels second.
        axis = 1 if getattr(func, "__name__", "").startswith("conv_transpose") else 0
        probe = torch.zeros_like(out, requires_grad=True)
        self._calls.append((name, out.detach(), channel, axis))
        self.probes.append(probe)
        return out + probe

    def fisher(self, leaves: Mapping[str, Tensor], gradients: list[Tensor | None]) -> list[Tensor | None]:
        """Δ_c = ½ mean_n (Σ_space a·g)² of each channel, repeated over the channel's weights.

        Calls of one weight add up before the square: they share the channel's gate.
        """
        gates: dict[str, tuple[Tensor, int]] = {}
        for (name, out, channel, axis), gradient in zip(self._calls, gradients, strict=True):
            if gradient is None:
                continue
            product = (
                (out * gradient.detach()).movedim(channel, 1).flatten(2).sum(-1)
                if out.dim() > 2
                else out * gradient.detach()
            )
            so_far = gates.get(name)
            gates[name] = (product if so_far is None else so_far[0] + product, axis)
        found: list[Tensor | None] = []
        for name, leaf in leaves.items():
            if name not in gates:
                found.append(None)
                continue
            gate, axis = gates[name]
            delta = 0.5 * gate.square().mean(0)
            if axis == 1:  # transposed: (inputs, outputs of the group, …), inputs of a group one after the other
                groups = delta.numel() // leaf.shape[1]
                delta = delta.reshape(groups, 1, -1).expand(-1, leaf.shape[0] // groups, -1).flatten(0, 1)
            found.append(delta.reshape(*delta.shape, *[1] * (leaf.dim() - delta.dim())).expand(leaf.shape))
        return found


# --- helpers --------------------------------------------------------------------------------------------------


def _products(theta: list[Tensor], gradients: list[Tensor | None]) -> list[Tensor | None]:
    with torch.no_grad():
        return [None if g is None else t.detach() * g for t, g in zip(theta, gradients, strict=True)]


def _spread(model: Model, tensors: Named) -> Named:
    """A value for every scored name: where a recipe counts a tied tensor per module, each name shows it."""
    if len(tensors) == len(model.scored):
        return {name: tensors[name] for name in model.scored}
    first = {id(parameter): name for name, parameter in reversed(list(model.scored.items())) if name in tensors}
    return {name: tensors[first[id(parameter)]] for name, parameter in model.scored.items()}


def _set_mode(model: Model, mode: str) -> None:
    if mode != "caller":
        model.net.train(mode == "train")


def _followed(inputs: Any) -> tuple[Any, list[Tensor]]:
    """The inputs as copies of leaves, and the leaves: a copy may be changed in place, a leaf can be looked for."""
    sources: list[Tensor] = []

    def copy(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            sources.append(value.detach().requires_grad_())
            return sources[-1].clone()
        return _mapped(copy, value)

    with torch.enable_grad():
        return copy(inputs), sources


def _reaches(value: Tensor, sources: list[Tensor]) -> bool:
    """Whether any source is in the graph behind a value, whatever its gradient."""
    wanted = {id(source) for source in sources}
    todo, seen = [value.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if id(getattr(node, "variable", None)) in wanted:
            return True
        todo += [before for before, _ in node.next_functions]
    return False


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """A nest of tuples, lists and mappings with `function` applied to its entries; anything else as it is."""
    if isinstance(value, Mapping):
        return {key: function(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(function, value))
    if isinstance(value, (tuple, list)):
        return type(value)(map(function, value))
    return value


def _moved(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Tensors of a nest on the device, floating ones in `dtype`."""
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else None)
    return _mapped(lambda item: _moved(item, device, dtype), value)
