"""The controls of any network: what counting alone says about it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from ssnr._masks import counted, survivors
from ssnr._model import Forward, Model, preserved
from ssnr.moments import from_tensors
from ssnr.recipes import Recipe, get_recipe
from ssnr.saliencies import ones_like, synflow
from ssnr.spaces.base import Counts


def count(
    net: nn.Module,
    input_shape: tuple[int, ...] | None = None,
    inputs: Any = None,
    forward: Forward | None = None,
    recipe: Recipe | None = None,
) -> Counts:
    """Parameters, multiply-accumulates of one image, reachable weights and layers of any network.

    Multiply-accumulates are those of convolutions, linear layers and attention, plus one per output element where a
    layer has a bias (the convention of NATS-Bench). Reachable weights are those of the layers through which synflow
    reaches the output. Weights that `torch.nn.utils.prune` masks count as parameters and as multiply-accumulates, which
    the pruned network still has, and not as reachable.

    Raises:
        ScoringError: the forward pass raised.
        UsageError: neither `input_shape` nor `inputs`.
    """
    with preserved(net):
        model = Model(net, recipe or get_recipe("seed"), forward)
        signal = synflow(model, input_shape, inputs)
        moments = from_tensors(survivors(signal.tensors, model.masks), counted(model.scored, model.masks))
        live = ~moments.dead & (not signal.dead)
        return Counts(
            params=sum(p.numel() for p in net.parameters() if p.requires_grad),
            flops=_flops(model, input_shape, inputs),
            reachable_params=int(moments.numel[live].sum()),
            layers=int(live.sum()),
        )


def _flops(model: Model, input_shape: tuple[int, ...] | None, inputs: Any) -> int:
    x = ones_like(inputs, input_shape)
    weights = model.weights(torch.float32)
    model.net.eval()
    counter, biases = FlopCounterMode(display=False), _BiasAdds()
    with torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), counter, biases:
        model.call(weights, x.to(next(iter(model.scored.values())).device))
    return int(counter.get_total_flops()) // 2 + biases.total


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
