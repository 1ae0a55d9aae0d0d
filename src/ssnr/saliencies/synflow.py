"""Synflow: one forward and one backward pass, on ones and |θ|."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ssnr.core.errors import ScoringError, UsageError
from ssnr.core.moments import LayerMoments, reduced
from ssnr.data import ones
from ssnr.interpret.exponents import Exponents, shifted
from ssnr.interpret.reading import linear, mark_tokens
from ssnr.interpret.scaled import scaled_pass
from ssnr.networks.calling import outputs_of
from ssnr.networks.model import Model
from ssnr.networks.trees import mapped, to_device
from ssnr.saliencies.signal import Signal, dense, followed, set_mode, spread

# Where R or a layer's largest saliency is outside of 2^low … 2^high, something may have been lost on the way.
_SAFE = {torch.float64: (-512, 512), torch.float32: (-96, 104)}
# Where a layer outputs x below 2^-this, digits may be lost; some entry of its gradient is at least R/(x · entries).
_SMALLEST = {torch.float64: 600, torch.float32: 88}
SOFTMAX = "the network ends in softmax, whose outputs sum to one whatever the weights: score its logits"


def synflow(
    model: Model, input_shape: tuple[int, ...] | None, inputs: Any = None, *, whole: bool = True, example: Any = None
) -> Signal:
    """S = |θ ⊙ ∂R/∂θ|, R = the sum of all outputs of the network at |θ| on an all-ones input (Tanaka et al., 2020).

    Norms and dropout are passed through, biases and buffers enter by magnitude, activations stay. Integer inputs are
    tokens: their embedding is the linear layer over one-hot vectors, and its all-ones input gives every position the
    sum of all rows. Where numbers leave the range of the format, the pass is repeated with tensors that carry a power
    of two, so that depth and width never overflow: the signal's exponent is that of all its tensors.

    Args:
        model: the network.
        input_shape: of one sample without its batch dimension.
        inputs: what the network takes, instead of `input_shape`; of floating-point tensors only the shape is used.
        whole: the saliency weight by weight; without, layers may be rows of moments, taken as each gradient arrives, so
            that no more than one layer's gradient is held.
        example: what to put ones in the place of, instead of one sample of the inputs.

    Raises:
        ScoringError: the forward pass raised, or has no floating-point output.
        UsageError: neither `input_shape` nor `inputs`.
    """
    dtype = getattr(torch, model.recipe.synflow_dtype)
    own_tokens = model.recipe.tokens == "batch"
    if example is None:
        example = inputs if own_tokens and inputs is not None else ones_like(inputs, input_shape)
    signal, kept = _once(model, example, dtype, scaled=False, whole=whole)
    if kept and _in_range(signal, dtype):
        return signal
    try:
        return _once(model, example, dtype, scaled=True)[0]
    except ScoringError:
        if signal.dead or not kept:  # nothing flows, or less than it should: that may be the range alone
            raise
        return signal


def _once(model: Model, example: Any, dtype: torch.dtype, *, scaled: bool, whole: bool = True) -> tuple[Signal, bool]:
    """The two passes; and whether no output of a layer, nor its gradient, was so small that digits were lost."""
    device = next(iter(model.scored.values())).device
    # Copies, because a network may change its input in place, which a leaf does not allow.
    inputs, sources = followed(to_device(_all_ones(example), device, dtype))
    if model.recipe.tokens == "ones":
        mark_tokens(inputs)
    weights = model.weights(dtype, torch.abs_, statistics=model.recipe.norms != "all")
    leaves = {name: weights[name].requires_grad_() for name in model.scored if name in weights}
    # Bypassed norms have no mode; where a recipe keeps some, they are in the mode that its program leaves them in.
    set_mode(model, "eval" if model.recipe.norms == "all" else model.recipe.mode)
    with scaled_pass(dtype) if scaled else nullcontext() as scale:
        with torch.enable_grad(), linear(model.net, model.recipe.norms, sources, sizes=not scaled) as read:
            outputs = outputs_of(model.call(weights, inputs))
        with torch.enable_grad():
            R = torch.stack([out.sum() for out in outputs]).sum()
        approximated = read.approximated
        if not R.requires_grad:
            return Signal(dict.fromkeys(model.scored), dead=True, approximated=approximated), True
        if all(isinstance(out, Tensor) and _is_softmax(out) for out in outputs):
            nothing = dict.fromkeys(model.scored)
            return Signal(nothing, dead=True, approximated=approximated, rounding=SOFTMAX), True
        if not scaled and (read.saturated or not _kept(R.detach(), read.peaks, dtype)):
            return Signal(dict.fromkeys(model.scored), approximated=approximated), False
        rows: dict[str, LayerMoments] = {}
        reducing = not whole and not scaled and not model.masks
        hooks: list[Any] = []
        for name, leaf in leaves.items() if reducing else ():
            hooks.append(leaf.register_hook(_reducing(rows, name, leaf)))  # type: ignore[no-untyped-call]
        entries = [*sources, *read.gates]
        found = torch.autograd.grad(R, [*leaves.values(), *entries], allow_unused=True)
        for hook in hooks:
            hook.remove()
        gradients: list[Tensor | None] = list(found[: len(leaves)])
        flows = found[len(leaves) :]
        del found
    theta = [leaf.detach() for leaf in leaves.values()]
    exponent = 0
    magnitudes: list[Any]
    if scale is not None:
        magnitudes, exponent = _scaled_magnitudes(scale.exponents, theta, gradients, bool(torch.isfinite(R)))
    else:
        magnitudes = [rows.get(name) for name in leaves] if reducing else _magnitudes(theta, gradients)
    dead = bool(entries) and not any(flow is not None and bool(flow.any()) for flow in flows)
    tensors = spread(model, dict(zip(leaves, magnitudes, strict=True)))
    return Signal(tensors, dead, exponent, approximated), True


@torch.no_grad()
def _scaled_magnitudes(
    exponents: Exponents, theta: list[Tensor], gradients: list[Tensor | None], finite: bool
) -> tuple[list[Tensor | None], int]:
    """`_magnitudes` of a scaled pass, and the one exponent that all of them have.

    Raises:
        ScoringError: something is missing beside far larger numbers.
    """
    factors = [exponents.near(weight) for weight in theta]
    own = [0 if g is None else exponents.of(w) + exponents.of(g) for w, g in zip(factors, gradients, strict=True)]
    found = _magnitudes(factors, gradients)
    peaks = [float(m.amax()) if m is not None and m.numel() else 0.0 for m in found]
    if finite and not all(map(math.isfinite, peaks)):
        raise ScoringError(f"numbers of one tensor are further apart than {exponents.format} holds")
    gone = (m is not None and peak == 0.0 and bool(w.any()) for w, m, peak in zip(theta, found, peaks, strict=True))
    if exponents.lost and any(gone):
        raise ScoringError("what flows through every layer is too small beside other numbers for any format")
    most = max((e + math.frexp(peak)[1] for e, peak in zip(own, peaks, strict=True) if peak), default=0)
    return [None if m is None else shifted(m, e - most) for m, e in zip(found, own, strict=True)], most


def _is_softmax(output: Tensor) -> bool:
    """Whether a softmax gave an output."""
    return output.grad_fn is not None and output.grad_fn.name().startswith("SoftmaxBackward")


def _reducing(rows: dict[str, LayerMoments], name: str, theta: Tensor) -> Callable[[Tensor], Tensor]:
    """A hook that takes the moments of |θ ⊙ g| and lets go of g."""
    weights = theta.detach()

    def hook(gradient: Tensor) -> Tensor:
        rows[name] = reduced(dense(gradient), weights)
        return gradient.new_zeros(()).expand(gradient.shape)

    return hook


@torch.no_grad()
def _magnitudes(theta: list[Tensor], gradients: list[Tensor | None]) -> list[Tensor | None]:
    """|θ ⊙ g| of each weight, in the gradient's own memory where nobody else has it; `gradients` is emptied.

    Two weights that are added have one gradient tensor between them, and that of a sum is one number, expanded.
    """
    holders = Counter(g.untyped_storage().data_ptr() for g in gradients if g is not None and not g.is_sparse)
    found: list[Tensor | None] = []
    for place, weight in enumerate(theta):
        g, gradients[place] = gradients[place], None
        if g is None:
            found.append(None)
            continue
        g = dense(g)
        own = holders[g.untyped_storage().data_ptr()] == 1 and g.untyped_storage().nbytes() == g.nbytes
        found.append(g.mul_(weight).abs_() if own else (g * weight).abs_())
    return found


def _kept(R: Tensor, peaks: list[Tensor], dtype: torch.dtype) -> bool:
    """Whether the outputs of layers and their gradients stayed off the small end of the range, zeros aside."""
    if not bool(torch.isfinite(R)):
        return False
    if not peaks:
        return True
    sizes = torch.stack(peaks).to(torch.float64).view(-1, 2).abs().amax(1)
    sizes = sizes[sizes > 0]
    total = float(R.abs())
    if not len(sizes) or total == 0.0:
        return True
    low, high = float(sizes.amin()), float(sizes.amax())
    smallest = 2.0 ** -_SMALLEST[dtype]
    return low >= smallest and total >= high * smallest


def _in_range(signal: Signal, dtype: torch.dtype) -> bool:
    """Whether nothing can have overflowed or vanished: saliencies are finite, and far from the ends of the range."""
    live = [found for t in signal.tensors.values() if t is not None and (found := _peak(t)) is not None]
    if signal.dead or not live:
        return not live  # nothing flows: because of the network, or because it all vanished
    peaks = torch.stack(live) if isinstance(live[0], Tensor) else torch.tensor(live, dtype=torch.float64)
    present = peaks[peaks > 0]
    if not bool(torch.isfinite(peaks).all()) or not len(present):
        return False
    low, high = _SAFE[dtype]
    exponents = torch.frexp(torch.stack([present.amin(), present.amax()])).exponent
    return bool(exponents[0] >= low) and bool(exponents[1] <= high)


def _peak(saliency: Tensor | LayerMoments) -> Any:
    """The largest magnitude of a layer, None of one without weights."""
    if isinstance(saliency, LayerMoments):
        return saliency.peak if saliency.size else None
    return saliency.amax().to(torch.float64) if saliency.numel() else None


def ones_like(inputs: Any, input_shape: tuple[int, ...] | None) -> Any:
    """What synflow hands to a network: ones of one sample's shape; of a nest of inputs, all of it for one sample.

    Integer and Boolean tensors stay what they are, for they say where, not how much. Those of one dimension are a
    sequence and stay whole, unless all tensors of the nest agree on the size of a batch.
    """
    if input_shape is not None:
        return ones(input_shape)
    if isinstance(inputs, (tuple, list)) and len(inputs) == 1:
        inputs = inputs[0]
    if inputs is None:
        raise UsageError("synflow needs the shape of one input: input_shape=(3, 32, 32), or a batch")
    shapes: list[torch.Size] = []
    _collect(inputs, shapes)
    batched = len({shape[:1] for shape in shapes}) == 1 and any(len(shape) > 1 for shape in shapes)
    return _first(inputs, batched)


def _collect(value: Any, shapes: list[torch.Size]) -> Any:
    if isinstance(value, Tensor):
        shapes.append(value.shape)
        return value
    return mapped(lambda item: _collect(item, shapes), value)


def _first(value: Any, batched: bool) -> Any:
    if not isinstance(value, Tensor):
        return mapped(lambda item: _first(item, batched), value)
    if value.is_floating_point():
        return ones(tuple(value.shape[1:])) if value.dim() else torch.ones(())
    return value[:1] if value.dim() > 1 or batched else value


def _all_ones(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point() and value.layout is not torch.strided:
        return value.to_dense().ne(0).to(value.dtype).to_sparse(layout=value.layout)  # where it has entries
    if isinstance(value, Tensor):
        return torch.ones_like(value) if value.is_floating_point() else value
    return mapped(_all_ones, value)
