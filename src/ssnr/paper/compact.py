"""A pruned VGG without the channels that nothing reads: the same function, trained in a fraction of the time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssnr.core.errors import UsageError
from ssnr.pruning.attach import apply
from ssnr.spaces.modules import Conv2d, Linear
from ssnr.spaces.vgg.net import Vgg


def compact(net: nn.Module) -> nn.Module:
    """A network of fewer channels that computes what a pruned `vgg` does, before and after the same training.

    A channel is left out where the next layer keeps no weight of it: nothing after it changes, whatever it outputs,
    and its own weights have no gradient. Saliency that is computed in rounds leaves few weights into such channels.

    Args:
        net: a network of the space `vgg` with masks on; it stays as it is.

    Returns:
        A network with copies of its weights, and with masks on.

    Raises:
        UsageError: the network is not of the space `vgg`.
    """
    if not isinstance(net, Vgg):
        raise UsageError(f"expected a network of the space vgg, got {type(net).__name__}")
    convs = [m for m in net.features if isinstance(m, nn.Conv2d)]
    readers = [*convs[1:], net.classifier]
    read = [_columns(reader) for reader in readers]
    kept = [torch.arange(convs[0].in_channels), *read]
    made = Vgg.__new__(Vgg)
    nn.Module.__init__(made)
    layers: list[nn.Module] = []
    masks: dict[str, Tensor] = {}
    stage = 0
    for layer in net.features:
        if isinstance(layer, nn.Conv2d):
            masks[f"features.{len(layers)}.weight"] = _mask(layer)[kept[stage + 1]][:, kept[stage]]
            layers.append(_conv(layer, kept[stage + 1], kept[stage]))
        elif isinstance(layer, nn.BatchNorm2d):
            layers.append(_norm(layer, kept[stage + 1]))
            stage += 1
        else:
            layers.append(layer)
    made.features = nn.Sequential(*layers)
    made.classifier = _linear(net.classifier, kept[-1])
    masks["classifier.weight"] = _mask(net.classifier)[:, kept[-1]]
    return apply(made.train(net.training), masks)


def _mask(layer: nn.Module) -> Tensor:
    mask = getattr(layer, "weight_mask", None)
    return torch.ones_like(_weight(layer)) if mask is None else mask


def _weight(layer: nn.Module) -> Tensor:
    """The parameter behind a weight, masked entries included."""
    original = layer._parameters.get("weight_orig")
    weight = layer._parameters["weight"] if original is None else original
    assert weight is not None
    return weight.detach()


def _columns(layer: nn.Module) -> Tensor:
    """The inputs that a layer reads; one where there are none, for a layer has at least one input."""
    used = _mask(layer).transpose(0, 1).flatten(1).any(1).nonzero().squeeze(1)
    return used if len(used) else torch.zeros(1, dtype=torch.int64)


def _conv(layer: nn.Conv2d, rows: Tensor, columns: Tensor) -> Conv2d:
    made = Conv2d(len(columns), len(rows), 3, padding=1, bias=False)
    made.weight.data = _weight(layer)[rows][:, columns].clone()
    return made


def _norm(layer: nn.BatchNorm2d, rows: Tensor) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(len(rows), device=layer.weight.device, dtype=layer.weight.dtype)
    for name, value in layer.state_dict().items():
        made.state_dict()[name].copy_(value if value.dim() == 0 else value[rows])
    return made


def _linear(layer: nn.Module, columns: Tensor) -> Linear:
    weight, bias = _weight(layer), layer._parameters["bias"]
    made = Linear(len(columns), len(weight))
    made.weight.data = weight[:, columns].clone()
    assert bias is not None
    made.bias.data = bias.detach().clone()
    return made
