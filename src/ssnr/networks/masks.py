"""Networks pruned with `torch.nn.utils.prune`, as scoring sees them: the effective weight under its user's name.

Pruning a module's `weight` moves the parameter to `weight_orig`, adds a buffer `weight_mask`, and computes the plain
attribute `weight` = `weight_orig` ⊙ `weight_mask` in a hook before each forward.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod


class Masked(NamedTuple):
    """One pruned parameter: `module.key`, known to users as `name`."""

    name: str
    module: nn.Module
    key: str

    @property
    def original(self) -> nn.Parameter:
        """The parameter, pruned entries included."""
        parameter = self.module._parameters[f"{self.key}_orig"]
        assert parameter is not None
        return parameter

    @property
    def mask(self) -> Tensor:
        """1 where a weight survives, 0 where not."""
        mask = self.module._buffers[f"{self.key}_mask"]
        assert mask is not None
        return mask


def masked(net: nn.Module) -> Iterator[Masked]:
    """Every pruned parameter of a network, in the order of its modules."""
    return masked_in(net.named_modules())


def masked_in(modules: Iterable[tuple[str, nn.Module]]) -> Iterator[Masked]:
    """Every pruned parameter of named modules."""
    for prefix, module in modules:
        for hook in tuple(module._forward_pre_hooks.values()):
            if isinstance(hook, BasePruningMethod):
                key = hook._tensor_name
                if module._parameters.get(f"{key}_orig") is not None:
                    yield Masked(f"{prefix}.{key}" if prefix else key, module, key)


def refresh(net: nn.Module, args: Any = ()) -> None:
    """Recompute the effective weights; as a hook of the whole network it reaches modules that are never called.

    `MultiheadAttention` reads the weight of its `out_proj`, and a network that of a `ParameterList`, without a call.
    """
    for entry in masked(net):
        setattr(entry.module, entry.key, entry.original * entry.mask.to(entry.original.dtype))


@contextmanager
def unhooked(net: nn.Module) -> Iterator[None]:
    """No hook recomputes effective weights in here, and they are afterwards what they were before."""
    hooked = [m for m in net.modules() if any(map(_is_ours, m._forward_pre_hooks.values()))]
    own = [module._forward_pre_hooks for module in hooked]
    for module, hooks in zip(hooked, own, strict=True):
        kept = OrderedDict((key, hook) for key, hook in hooks.items() if not _is_ours(hook))
        module.__dict__["_forward_pre_hooks"] = kept
    try:
        yield
    finally:
        for module, hooks in zip(hooked, own, strict=True):
            module.__dict__["_forward_pre_hooks"] = hooks


def _is_ours(hook: Any) -> bool:
    return hook is refresh or isinstance(hook, BasePruningMethod)


def without_pruned(tensors: Mapping[str, Tensor | None], masks: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    """The entries that are not pruned away, flat where a layer has a mask: a pruned weight is not counted at all."""
    return {
        name: tensor if tensor is None or name not in masks else tensor[masks[name].to(tensor.device)]
        for name, tensor in tensors.items()
    }


def counted(scored: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, int]:
    """Number of weights of each layer that are not pruned away."""
    return {name: int(masks[name].sum()) if name in masks else p.numel() for name, p in scored.items()}


def with_pruned_zero(name: str, values: Tensor, masks: Mapping[str, Tensor]) -> Tensor:
    """The values with 0 where the weight is pruned away."""
    return values if name not in masks else torch.where(masks[name].to(values.device), values, 0)


def users_name(parameter: str, masks: Mapping[str, Tensor]) -> str:
    """`features.0.weight` for the parameter `features.0.weight_orig` of a pruned module; others as they are."""
    name = parameter.removesuffix("_orig")
    return name if name in masks else parameter
