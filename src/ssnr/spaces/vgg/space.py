"""VGG and ResNet for CIFAR: `vgg:16`, `resnet:56`, and the same networks slimmer or wider, `vgg:16-w16`.

An architecture is a depth, and where it is not the published one, the width of its first stage: `16`, `16-w16`.

    vgg      11, 13, 16, 19   3×3 convolutions with batch norm and ReLU, a 2×2 max pooling after each of the five
                              stages (stage widths 1, 2, 4, 8, 8 times the first), one linear layer
                              (Simonyan & Zisserman, 2015, in the form that the field trains on CIFAR)
    resnet   20, 32, 44, 56, 110   three stages of two-convolution blocks (widths 1, 2, 4 times the first); shortcuts
                              that drop every second pixel and pad channels with zeros (He et al., 2016, section 4.2)
             18               four stages of two blocks (widths 1, 2, 4, 8), projections for shortcuts, no pooling
                              after the 3×3 stem: the ImageNet network as the field trains it on CIFAR

Convolutions have no bias, for a batch norm follows each. Weights of convolutions are drawn from N(0, 2/fan_out)
(He et al., 2015), the linear layer as PyTorch does.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from ssnr.core.errors import ArchitectureError
from ssnr.core.registry import unknown
from ssnr.core.results import Counts
from ssnr.spaces.base import Space, check_variant, draw, register_space
from ssnr.spaces.counting import Tally, conv, counts, linear, total
from ssnr.spaces.vgg.layout import RESNET_BLOCKS, VGG_STAGES, VGG_WIDTHS, WIDTHS, Plain, blocks

if TYPE_CHECKING:
    from torch import nn
_CLASSES = {"cifar10": 10, "cifar100": 100}
_TEXT = re.compile(r"(?P<depth>[0-9]{1,4})(?:-w(?P<width>[0-9]{1,4}))?")


class PlainSpace(Space):
    """What both families share: two numbers stand for a network."""

    depths: ClassVar[tuple[int, ...]]
    input_shape = (3, 32, 32)

    def __init__(self, dataset: str) -> None:
        if dataset not in _CLASSES:
            raise unknown(f"data set of {self.family}", dataset, _CLASSES)
        self.num_classes = _CLASSES[dataset]
        self.name = self.family if dataset == "cifar10" else f"{self.family}/{dataset}"

    @abstractmethod
    def standard(self, depth: int) -> int:
        """The published width of the first stage."""

    @abstractmethod
    def tally(self, plain: Plain) -> Tally:
        """Everything that the network adds up to."""

    @abstractmethod
    def network(self, plain: Plain, seed: int | None) -> nn.Module:
        """The network with its weights."""

    def read(self, form: Any) -> Plain:
        """`16`, `16-w16`, 16 or a `Plain` → depth and width.

        Raises:
            ArchitectureError: another form, depth or width.
        """
        if isinstance(form, Plain):
            form = f"{form.depth}-w{form.width}"
        if isinstance(form, int) and not isinstance(form, bool):
            form = str(form)
        expected = f"expected DEPTH or DEPTH-wWIDTH, such as {self.depths[-1]} or {self.depths[-1]}-w32"
        found = _TEXT.fullmatch(form.strip()) if isinstance(form, str) else None
        if found is None:
            raise ArchitectureError(f"{self.family} {form!r:.60}: {expected}")
        depth = int(found["depth"])
        if depth not in self.depths:
            known = ", ".join(map(str, self.depths))
            raise ArchitectureError(f"{self.family} {form!r}: there is no depth {depth}, expected one of {known}")
        width = int(found["width"] or self.standard(depth))
        if width not in WIDTHS:
            raise ArchitectureError(f"{self.family} {form!r}: width {width}, expected a multiple of 8 from 8 to 128")
        return Plain(depth, width)

    def parse(self, form: Any) -> str:
        """`16` for a network of the published width, else `16-w16`."""
        return self._text(*self.read(form))

    def _text(self, depth: int, width: int) -> str:
        return str(depth) if width == self.standard(depth) else f"{depth}-w{width}"

    def canonical(self, arch: Any) -> str:
        return self.parse(arch)

    def build(self, arch: Any, *, seed: int | None = 0, variant: str = "default") -> nn.Module:
        check_variant(self, variant)
        return self.network(self.read(arch), seed)

    def counts(self, arch: Any, *, variant: str = "default") -> Counts:
        check_variant(self, variant)
        tally = self.tally(self.read(arch))
        return counts(tally, tally)

    def all(self) -> Iterator[str]:
        for depth in self.depths:
            yield from (self._text(depth, width) for width in WIDTHS)

    def __len__(self) -> int:
        return len(self.depths) * len(WIDTHS)

    def sample(self, rng: Any) -> str:
        return self._text(self.depths[draw(rng, len(self.depths))], WIDTHS[draw(rng, len(WIDTHS))])

    def suggest(self, trial: Any) -> str:
        """The depth, categorical, and the width of the first stage."""
        depth = trial.suggest_categorical("depth", list(self.depths))
        return self._text(depth, trial.suggest_int("width", WIDTHS[0], WIDTHS[-1], step=WIDTHS[1] - WIDTHS[0]))

    def suggestion(self, arch: Any) -> dict[str, Any]:
        return dict(zip(("depth", "width"), self.read(arch), strict=True))

    def neighbours(self, arch: Any) -> Iterator[str]:
        """Another depth, or the next width up or down."""
        depth, width = self.read(arch)
        yield from (self._text(other, width) for other in self.depths if other != depth)
        yield from (self._text(depth, other) for other in (width - 8, width + 8) if other in WIDTHS)


class Vgg(PlainSpace):
    """VGG with batch norm for 32 × 32 images: 14,724,042 parameters at depth 16."""

    family = "vgg"
    depths = tuple(VGG_STAGES)

    def standard(self, depth: int) -> int:
        return 64

    def tally(self, plain: Plain) -> Tally:
        parts, channels = [], 3
        for stage, (times, convs) in enumerate(zip(VGG_WIDTHS, VGG_STAGES[plain.depth], strict=True)):
            for _ in range(convs):
                parts.append(conv(channels, times * plain.width, 3, (32 >> stage) ** 2))
                channels = times * plain.width
        return total([*parts, linear(channels, self.num_classes)])

    def network(self, plain: Plain, seed: int | None) -> nn.Module:
        from ssnr.spaces.vgg import net as vgg_net

        return vgg_net.vgg(plain, self.num_classes, seed, f"{self.name}:{self.parse(plain)}")


class ResNet(PlainSpace):
    """ResNet for 32 × 32 images: 269,722 parameters at depth 20, 853,018 at 56, 11,173,962 at 18."""

    family = "resnet"
    depths = tuple(RESNET_BLOCKS)

    def standard(self, depth: int) -> int:
        return 64 if depth == 18 else 16

    def tally(self, plain: Plain) -> Tally:
        parts, channels = [conv(3, plain.width, 3, 32 * 32)], plain.width
        for width, stride, pixels in blocks(plain):
            parts += [conv(channels, width, 3, pixels), conv(width, width, 3, pixels)]
            if plain.depth == 18 and (stride > 1 or channels != width):
                parts.append(conv(channels, width, 1, pixels))
            channels = width
        return total([*parts, linear(channels, self.num_classes)])

    def network(self, plain: Plain, seed: int | None) -> nn.Module:
        from ssnr.spaces.vgg import net as vgg_net

        return vgg_net.resnet(plain, self.num_classes, seed, f"{self.name}:{self.parse(plain)}")


@register_space("vgg")
def vgg(dataset: str) -> Vgg:
    """VGG on cifar10 (default) or cifar100."""
    return Vgg(dataset or "cifar10")


@register_space("resnet")
def resnet(dataset: str) -> ResNet:
    """ResNet on cifar10 (default) or cifar100."""
    return ResNet(dataset or "cifar10")
