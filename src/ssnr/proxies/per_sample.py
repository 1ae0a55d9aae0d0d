"""Gradients of each sample of a batch from one backward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ssnr.interpret.batch_norms import normed
from ssnr.networks.diagnose import graph
from ssnr.proxies.taps import gradients_of_samples

CONVOLUTIONS = frozenset((F.conv1d, F.conv2d, F.conv3d))
BATCH_NORMS = frozenset((F.batch_norm, torch.batch_norm))

_LAYER = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_NORM = {
    F.batch_norm: ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    torch.batch_norm: ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps"),
}

Take = Callable[[str, Tensor], None]


class Use(NamedTuple):
    """One call of a layer or a norm: its node in autograd's graph, and the parameters that it was given."""

    node: Any
    names: tuple[str, ...]


class Uses(TorchFunctionMode):
    """While the forward pass runs: sees to it that a backward pass comes by every use of a parameter that is noted.

    Attributes:
        whole: whether everything that ran can be told apart by sample.
        roots: inputs of layers that depend on nothing. A backward pass to these and to the network's inputs comes by
            every layer that the value depends on.
    """

    def __init__(self, names: dict[int, str], samples: int) -> None:
        super().__init__()
        self._names, self._samples = names, samples  # of parameters, by id
        self.whole = True
        self.roots: list[Tensor] = []
        self._uses: list[Use] = []
        self._came: set[int] = set()

    def _rooted(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a layer, its input a root where it depends on nothing."""
        if given["input"].requires_grad or self._names.get(id(given.get("weight"))) is None:
            return given
        self.roots.append(given["input"].detach().requires_grad_())
        return {**given, "input": self.roots[-1]}

    def _note(self, out: Tensor, names: tuple[str, ...], arrived: Callable[[Tensor], None]) -> None:
        """Has `arrived` called with the gradient of what a layer put out."""
        number = len(self._uses)
        self._uses.append(Use(out.grad_fn, names))

        def came(gradient: Tensor) -> None:
            self._came.add(number)
            arrived(gradient)

        out.register_hook(came)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Let go of the graph, whose nodes hold the hooks, which hold this: Python sees no such ring."""
        self._uses.clear()
        self.roots.clear()

    def sees_all(self, value: Tensor, leaves: dict[str, Tensor]) -> bool:
        """Whether the value depends on no parameter but by uses that were noted."""
        seen = {name for use in self._uses for name in use.names}
        unseen = {id(leaf) for name, leaf in leaves.items() if name not in seen}
        return self.whole and not any(id(getattr(node, "variable", None)) in unseen for node in graph([value]))

    def all_came(self, value: Tensor) -> bool:
        """Whether the last backward pass came by every use that the value depends on; the others have no gradient."""
        missed = {use.node for number, use in enumerate(self._uses) if number not in self._came}
        self._came.clear()
        return not missed or not any(node in missed for node in graph([value]))


class PerSample(Uses):
    """While the forward pass runs: remembers each layer's input, so that the backward pass can tell samples apart.

    A layer's gradient is a sum over samples of products of what went in and of the gradient of what came out; each
    sample's own is its summand. Batch norms are what makes one sample's output depend on another's. Here they do not:
    with `alone`, each sample has the statistics it would have in a batch of one; else the batch's statistics are
    constants.
    """

    def __init__(self, names: dict[int, str], samples: int, take: Take, *, alone: bool) -> None:
        super().__init__(names, samples)
        self._take, self._alone = take, alone
        self._sums: dict[str, Tensor] = {}
        self._left: Counter[str] = Counter()

    def finish(self, value: Tensor) -> bool:
        """After the backward pass: whether `take` has got all gradients that are not 0."""
        if not self.all_came(value):
            return False
        for name, rows in self._sums.items():  # of a tied weight that is also used where nothing depends on it
            self._take(name, rows)
        return True

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in BATCH_NORMS:
            return self._norm(func, args, kwargs or {})
        if func is not F.linear and func not in CONVOLUTIONS:
            return func(*args, **(kwargs or {}))
        given = self._rooted(arguments_of(func, args, kwargs or {}))
        out = func(**given)
        self._layer(given, out, convolution=func is not F.linear)
        return out

    def _layer(self, given: dict[str, Any], out: Tensor, *, convolution: bool) -> None:
        x, name = given["input"].detach(), self._names.get(id(given["weight"]))
        if name is None or not out.requires_grad:
            return
        if x.shape[0] != self._samples or (convolution and x.dim() != given["weight"].dim()):
            self.whole = False
            return

        def arrived(gradient: Tensor) -> None:
            product = gradients_of_samples(x, gradient, given) if convolution else _linear(x, gradient)
            self._sums[name] = self._sums[name] + product if name in self._sums else product
            self._left[name] -= 1
            if not self._left[name]:  # a tied weight is complete when all its uses have come by
                self._take(name, self._sums.pop(name))

        self._left[name] += 1
        self._note(out, (name,), arrived)

    def _norm(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        given = arguments_of(func, args, kwargs)
        if running(given):
            return func(*args, **kwargs)
        if not self._alone:
            return _constant(given)
        own = normed_alone(given)
        if own is None:
            self.whole = False
            return func(*args, **kwargs)
        return own


class ConstantNorms(TorchFunctionMode):
    """Gradients take the batch's statistics as constants, as `PerSample`'s do."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in BATCH_NORMS and not running(given := arguments_of(func, args, kwargs or {})):
            return _constant(given)
        return func(*args, **(kwargs or {}))


def _constant(given: dict[str, Any]) -> Tensor:
    return normed(given["input"], given.get("weight"), given.get("bias"), given.get("eps", 1e-5), constant=True)


def running(given: dict[str, Any]) -> bool:
    """Whether a batch norm takes its running statistics."""
    return not given.get("training", False) and given.get("running_mean") is not None


def arguments_of(func: Any, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a linear layer, a convolution or a batch norm was called with, by name."""
    return {**dict(zip(_NORM.get(func, _LAYER), args, strict=False)), **kwargs}


def normed_alone(given: dict[str, Any]) -> Tensor | None:
    """A batch norm that gives each sample the statistics of a batch of one; None where one sample has none."""
    x = given["input"]
    if x.dim() < 3 or x[0, 0].numel() < 2:
        return None
    return normed(x, given.get("weight"), given.get("bias"), given.get("eps", 1e-5), alone=True)


def _linear(x: Tensor, gradient: Tensor) -> Tensor:
    """Σ over positions of δ xᵀ, of each sample: (N, out · in)."""
    n = len(x)
    rows, columns = gradient.reshape(n, -1, gradient.shape[-1]), x.reshape(n, -1, x.shape[-1])
    return torch.bmm(rows.transpose(1, 2), columns).reshape(n, -1)
