"""The modules of VGG and ResNet; `space.py` says which sizes there are. Imports torch; only `build` imports this."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ssnr.spaces.modules import Conv2d, Linear, fan_out_normal, fill, torch_default, weights_rng
from ssnr.spaces.vgg.layout import VGG_STAGES, VGG_WIDTHS, Plain, blocks


class Vgg(nn.Module):
    """Images (N, 3, 32, 32) → logits (N, classes): `features` halve the size five times, then `classifier`."""

    def __init__(self, plain: Plain, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for times, convs in zip(VGG_WIDTHS, VGG_STAGES[plain.depth], strict=True):
            for _ in range(convs):
                width = times * plain.width
                layers += [
                    Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
                ]  # fmt: skip
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images."""
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits


class Shortcut(nn.Module):
    """Every second pixel, and channels of zeros before and after: He et al.'s option A, without a weight."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.before = (channels_out - channels_in) // 2
        self.after = channels_out - channels_in - self.before

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, channels out, H/2, W/2)."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with batch norm beside a shortcut."""

    def __init__(self, channels: int, width: int, stride: int, *, projection: bool) -> None:
        super().__init__()
        self.conv1 = Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = Shortcut(channels, width)
            if projection:
                conv = Conv2d(channels, width, 1, stride=stride, bias=False)
                self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, width, H/stride, W/stride)."""
        out = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    """Images (N, 3, 32, 32) → logits (N, classes)."""

    def __init__(self, plain: Plain, classes: int) -> None:
        super().__init__()
        channels = plain.width
        self.stem = nn.Sequential(Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
        body = []
        for width, stride, _ in blocks(plain):
            body.append(BasicBlock(channels, width, stride, projection=plain.depth == 18))
            channels = width
        self.blocks = nn.Sequential(*body)
        self.classifier = Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images."""
        logits: Tensor = self.classifier(self.blocks(self.stem(x)).mean((2, 3)))
        return logits


def vgg(plain: Plain, classes: int, seed: int | None, key: str) -> nn.Module:
    """VGG with weights drawn from (seed, key)."""
    return _filled(Vgg(plain, classes), seed, key)


def resnet(plain: Plain, classes: int, seed: int | None, key: str) -> nn.Module:
    """ResNet with weights drawn from (seed, key)."""
    return _filled(ResNet(plain, classes), seed, key)


def _filled(net: nn.Module, seed: int | None, key: str) -> nn.Module:
    rng = weights_rng(seed, "plain", key)
    for module in net.modules():
        if isinstance(module, Conv2d):
            fill(fan_out_normal(module), rng)
        elif isinstance(module, Linear):
            fill(torch_default(module), rng)
    return net
