"""What each layer outputs and what comes back to it, for fisher."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Channels(TorchFunctionMode):
    """Records, for each scored weight, what its convolution or linear layer outputs, and a zero added after it.

    The zero's gradient is the output's. Adding it also keeps the recorded output safe from an in-place activation
    after the layer, which would overwrite it before the backward pass reads it.
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
        self._batched: set[str] = set()  # called inside of vmap, jvp or grad: what they output is not to be kept
        self.probes: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func not in self._LINEAR and func not in self._CONV:
            return out
        weight = args[1] if len(args) > 1 else (kwargs or {}).get("weight")
        name = self._names.get(id(weight))
        if name is None:
            return out
        if torch._C._functorch.is_functorch_wrapped_tensor(out):
            self._batched.add(name)
            return out
        channel = out.dim() - 1 if func in self._LINEAR else 1
        # A transposed convolution keeps its output channels second.
        axis = 1 if getattr(func, "__name__", "").startswith("conv_transpose") else 0
        probe = torch.zeros_like(out, requires_grad=True)
        self._calls.append((name, out.detach(), channel, axis))
        self.probes.append(probe)
        return out + probe

    def unseen(self, used: Iterable[str]) -> list[str]:
        """Of the weights in use, those of which no call was recorded, or not every one."""
        seen = {name for name, *_ in self._calls} - self._batched
        return [name for name in used if name not in seen]

    def fisher(self, leaves: Mapping[str, Tensor], gradients: list[Tensor | None]) -> list[Tensor | None]:
        """Δ_c = ½ mean_n (Σ_space a·g)² of each channel, repeated over the channel's weights.

        Calls of one weight add up before the square: they share the channel's gate.
        """
        gates: dict[str, tuple[Tensor, int]] = {}
        for (name, out, channel, axis), gradient in zip(self._calls, gradients, strict=True):
            if gradient is None or name in self._batched:
                continue
            product, channel = out * gradient.detach(), channel % out.dim()
            space = [axis for axis in range(1, out.dim()) if axis != channel]
            if space:
                product = product.sum(space)
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
