"""Masks on a network and off it again, through `torch.nn.utils.prune`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import prune

from ssnr.core.errors import UsageError
from ssnr.networks.masks import masked, refresh
from ssnr.pruning.result import Masks


def apply(net: nn.Module, masks: Masks | Mapping[str, Tensor]) -> nn.Module:
    """Mask the weights of `net` in place, by `torch.nn.utils.prune.custom_from_mask`.

    Each pruned module keeps its parameter as `weight_orig`, in the place that it had, with the mask as buffer
    `weight_mask`, so that training, `state_dict` and `torch.nn.utils.prune` itself go on working; masked weights stay 0
    in training. A hook of the whole network does the same for weights of modules that are never called, such as
    `MultiheadAttention.out_proj`.

    Args:
        net: the network that the masks were computed for, or one with the same layers.
        masks: `Masks`, or parameter name → tensor that is 0 where a weight goes.

    Returns:
        `net`.

    Raises:
        UsageError: the network is pruned already, or has no such weight, or one of another shape; nothing was changed.
    """
    tensors = masks.tensors if isinstance(masks, Masks) else masks
    refuse_pruned(net)
    places = {name: _place(net, name, mask) for name, mask in tensors.items()}
    for name, (module, key) in places.items():
        order = list(module._parameters)
        prune.custom_from_mask(module, key, tensors[name].to(module._parameters[key].device))  # type: ignore[no-untyped-call, union-attr]
        _in_order(module, [f"{key}_orig" if other == key else other for other in order])
    net.register_forward_pre_hook(refresh)
    return net


def remove(net: nn.Module, *, permanent: bool = True) -> nn.Module:
    """Take the masks off, in place.

    Args:
        net: a network that `apply`, or `torch.nn.utils.prune`, has masked.
        permanent: leave masked weights at 0; if not, they are again what they were (or what training made of them).

    Returns:
        `net`.

    Raises:
        UsageError: the network has no masks.
    """
    entries = list(masked(net))
    if not entries:
        raise UsageError("the network has no masks to remove")
    for entry in entries:
        module, key, original = entry.module, entry.key, entry.original
        order = list(module._parameters)
        value = original.data
        prune.remove(module, key)  # type: ignore[no-untyped-call]
        if not permanent:
            original.data = value
        _in_order(module, [key if other == f"{key}_orig" else other for other in order])
    for handle in [key for key, hook in net._forward_pre_hooks.items() if hook is refresh]:
        del net._forward_pre_hooks[handle]
    return net


@contextmanager
def applied(net: nn.Module, masks: Masks | Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """`net` with masks on; afterwards they are off and its weights as before, or as training in here made them."""
    apply(net, masks)
    try:
        yield net
    finally:
        remove(net, permanent=False)


def refuse_pruned(net: nn.Module) -> None:
    """Raise where a network has masks already."""
    for entry in masked(net):
        raise UsageError(
            f"{entry.name} is pruned already: take the masks off first, ssnr.pruning.remove(net) leaves its zeros, "
            "remove(net, permanent=False) its weights"
        )


def _place(net: nn.Module, name: str, mask: Tensor) -> tuple[nn.Module, str]:
    path, _, key = name.rpartition(".")
    try:
        module = net.get_submodule(path)
    except AttributeError:
        module = None
    parameter: Any = None if module is None else module._parameters.get(key)
    if module is None or parameter is None:
        raise UsageError(f"masks of another network: it has {name!r}, this {type(net).__name__} has no such parameter")
    if parameter.shape != mask.shape:
        raise UsageError(
            f"masks of another network: {name!r} is {tuple(mask.shape)} there and {tuple(parameter.shape)} here"
        )
    return module, key


def _in_order(module: nn.Module, names: list[str]) -> None:
    """Parameters in the order in which optimisers and checkpoints count them."""
    parameters = [(name, module._parameters[name]) for name in names]
    module._parameters.clear()
    module._parameters.update(parameters)
