"""What an observer of one forward pass sees: activations, layers, feature maps.

Everything is found by what happens and not by module type: a `TorchDispatchMode` sees the operations below autograd, so
`nn.ReLU`, `F.relu(x, inplace=True)`, `torch.relu`, `x.clamp(min=0)` and a TorchScript ReLU are all one operation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ssnr.interpret.batch_norms import OF_BATCH

_aten = torch.ops.aten
_NAMES = (
    "relu relu_ gelu gelu_ silu silu_ leaky_relu leaky_relu_ elu elu_ hardswish hardswish_ mish mish_ softplus "
    "hardtanh hardtanh_ tanh tanh_ _prelu_kernel rrelu_with_noise rrelu_with_noise_"
)
ACTIVATIONS = frozenset(getattr(_aten, name) for name in _NAMES.split())
_CLAMPS = frozenset((_aten.clamp, _aten.clamp_, _aten.clamp_min, _aten.clamp_min_, _aten.threshold, _aten.threshold_))
_WEIGHT_AT = {_aten.convolution: 1, _aten.mm: 1, _aten.addmm: 2, _aten.linear: 1}
_BATCH_NORMS = frozenset((_aten.native_batch_norm, _aten._native_batch_norm_legit, _aten.cudnn_batch_norm))
_NORMS = _BATCH_NORMS | {_aten.native_group_norm, _aten.native_layer_norm}
_MAPS = ACTIVATIONS | _CLAMPS | _BATCH_NORMS | frozenset(
    (
        _aten.convolution, _aten.native_group_norm, _aten.native_layer_norm, _aten.add, _aten.add_, _aten.cat,
        _aten.avg_pool2d, _aten.max_pool2d_with_indices, _aten._adaptive_avg_pool2d, _aten.avg_pool3d,
    )
)  # fmt: skip


@dataclass
class Observed:
    """What one forward pass of N samples showed, in the order in which it ran.

    Attributes:
        samples: N.
        codes: for each activation, input > 0 as Booleans (N, units); in whatever order the units are in memory.
        outputs: for each use of a scored weight in a product, its name and output > 0 as Booleans (N, units).
        maps: for each feature map, that of the first sample (channels, positions).
        blocks: for each output of a layer, norm or activation, C rows of its C channels (`block`).
        variances: for each batch norm in train mode, the mean over channels of the batch variance, and its count.
        features: the last tensor with more than one position per sample, which the network pools before its classifier;
            without any, the input of the last linear layer.
        output: what the network returned.
        sources: the inputs that can be differentiated by.
        numbers: what `layer` made of layers' outputs.
    """

    samples: int
    codes: list[Tensor] = field(default_factory=list)
    outputs: list[tuple[str, Tensor]] = field(default_factory=list)
    maps: list[Tensor] = field(default_factory=list)
    blocks: list[Tensor] = field(default_factory=list)
    variances: list[tuple[float, int]] = field(default_factory=list)
    features: Tensor | None = None
    output: Any = None
    sources: Sequence[Tensor] = ()
    numbers: list[float] = field(default_factory=list)


Layer = Callable[[Tensor], float | None]
KINDS = frozenset(("activations", "layers", "maps", "blocks"))  # of what a pass on the batch can keep


class Watch(TorchDispatchMode):
    """Fills an `Observed` while a forward pass runs.

    Args:
        seen: what is filled.
        names: of the scored weights, by where their memory starts.
        kinds: which of `KINDS` to keep: codes of activations, codes of layers' outputs, maps, blocks.
        generator: draws the rows of blocks.
        layer: makes a number, or None, of what the product of each scored weight put out, as (…, channels).
        features: whether to keep what is pooled before the classifier, and the variances of batch norms.
    """

    def __init__(
        self, seen: Observed, names: dict[int, str], *, kinds: Collection[str], generator: torch.Generator,
        layer: Layer | None = None, features: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen, self._names, self._generator, self._each = seen, names, generator, layer
        self._codes, self._layers, self._maps, self._blocks = (
            kind in kinds for kind in ("activations", "layers", "maps", "blocks")
        )
        self._features = features
        self._pooled = False  # whether `features` is a map
        self._last = True  # whether the channels of the latest layer's output are its last axis

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet: Any = getattr(func, "_overloadpacket", None)
        if self._codes and (packet in ACTIVATIONS or (packet in _CLAMPS and _from_zero(args, kwargs))):
            self._code(args[0])  # before the call, which may be in place
        at = _WEIGHT_AT.get(packet)
        out = func(*args, **kwargs)
        if at is not None:
            self._layer(args, at, out)
        if self._features and packet in _BATCH_NORMS and isinstance(out, tuple):
            self._variance(args, out)
        if packet in _MAPS:
            self._map(out[0] if isinstance(out, tuple) else out)
        if at is not None or packet in _NORMS or packet in ACTIVATIONS or packet in _CLAMPS:
            self._channels(packet, out[0] if isinstance(out, tuple) else out)
        return out

    def _variance(self, args: Any, out: tuple[Tensor, Tensor, Tensor]) -> None:
        """The batch variance of a norm in train mode."""
        if out[1].numel():
            variance = out[2].double() ** -2 - args[-1]
        elif args[-2] == OF_BATCH:
            variance = args[4].double()
        else:
            return
        self._seen.variances.append((float(variance.mean()), args[0].numel() // args[0].shape[1]))

    def _channels(self, packet: Any, out: Tensor) -> None:
        """A block of what a layer, a norm or an activation put out; activations have their layer's order of axes."""
        if packet not in ACTIVATIONS and packet not in _CLAMPS:
            self._last = packet not in _BATCH_NORMS and packet not in (_aten.convolution, _aten.native_group_norm)
        if self._blocks and out.is_floating_point() and out.dim() > 1 and out.numel():
            self._seen.blocks.append(block(out.detach(), self._generator, last=self._last or out.dim() == 2))

    def _rows(self, value: Tensor) -> Tensor | None:
        """One row per sample; None of what is no batch."""
        n = self._seen.samples
        if not value.is_floating_point() or not value.dim() or not value.numel() or value.shape[0] % n:
            return None
        return (_as_stored(value.detach()) > 0).reshape(n, -1)

    def _code(self, value: Any) -> None:
        rows = self._rows(value) if isinstance(value, Tensor) else None
        if rows is not None:
            self._seen.codes.append(rows)

    def _layer(self, args: Any, at: int, out: Tensor) -> None:
        weight = args[at]
        name = self._names.get(weight.untyped_storage().data_ptr())
        if name is None:
            return
        if self._layers and (rows := self._rows(out)) is not None:
            self._seen.outputs.append((name, rows))
        if self._each is not None:
            found = self._each(out.detach() if out.dim() == 2 else out.detach().movedim(1, -1))
            self._seen.numbers += [] if found is None else [found]
        if self._features and weight.dim() == 2 and not self._pooled:
            self._seen.features = args[at - 1].detach()

    def _map(self, out: Tensor) -> None:
        batched = out.is_floating_point() and out.dim() > 2 and out.shape[0] == self._seen.samples
        if not batched:
            return
        if self._features and out[0].numel() > out.shape[1]:
            self._seen.features, self._pooled = out.detach(), True
        if self._maps and out.dim() > 3:
            self._seen.maps.append(out[0].detach().clone(memory_format=torch.contiguous_format).flatten(1))


def _as_stored(value: Tensor) -> Tensor:
    """The samples of a map with the axes of each in the order in which they lie in memory."""
    last = value.dim() == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last)
    return value.permute(0, 2, 3, 1) if last else value


def block(value: Tensor, generator: torch.Generator, *, last: bool) -> Tensor:
    """C rows of C channels, from a place that is drawn: (C, C), or all rows where there are fewer.

    Maps (N, C, height, width) are read as rows of channels, the columns of an image one after the other, and a block
    starts at the top of one. Of (…, C) the rows are as they come.

    >>> block(torch.tensor([[1.0, 2], [3, 4]]), torch.Generator(), last=True).tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    if last:
        rows, line = value.reshape(-1, value.shape[-1]), 1
        start = _start(len(rows), value.shape[-1], line, generator)
        return rows[start : start + value.shape[-1]].clone()
    n, c = value.shape[:2]
    positions, line = value[0, 0].numel(), value.shape[2]
    start = _start(n * positions, c, line, generator)
    first, end = start // positions, -(-(start + c) // positions)
    rows = value[first:end].transpose(1, -1).reshape(-1, c)
    return rows[start - first * positions :][:c].clone()


def _start(rows: int, needed: int, line: int, generator: torch.Generator) -> int:
    """Where a block starts: a line from which there are as many rows as are needed."""
    places = max(rows - needed, 0) // line + 1
    return int(torch.randint(places, (1,), generator=generator)) * line


def _from_zero(args: Any, kwargs: Any) -> bool:
    """Whether a clamp or threshold cuts off at zero."""
    low = args[1] if len(args) > 1 else kwargs.get("min", kwargs.get("threshold"))
    return isinstance(low, (int, float)) and low == 0
