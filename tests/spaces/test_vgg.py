from __future__ import annotations

import pytest
from torch import nn

import ssnr
from spaces.contract import SpaceContract
from ssnr.spaces import get_space
from ssnr.spaces.vgg.space import ResNet, Vgg

FORMS = "expected DEPTH or DEPTH-wWIDTH, such as"


def steps(space: Vgg | ResNet, arch: str, near: str) -> int:
    one, other = space.read(arch), space.read(near)
    return (one.depth != other.depth) + abs(one.width - other.width) // 8


class TestVgg(SpaceContract):
    space = Vgg("cifar10")
    archs = ("11-w8", "16-w16", "19-w8")
    bad = (
        ("17", "vgg '17': there is no depth 17, expected one of 11, 13, 16, 19"),
        ("16-w20", "vgg '16-w20': width 20, expected a multiple of 8 from 8 to 128"),
        ("sixteen", f"vgg 'sixteen': {FORMS} 19 or 19-w32"),
    )

    def changes(self, arch: str, near: str) -> int:
        return steps(self.space, arch, near)


class TestResNet(SpaceContract):
    space = ResNet("cifar10")
    archs = ("20-w8", "18-w8", "32-w8")
    bad = (
        ("50", "resnet '50': there is no depth 50, expected one of 18, 20, 32, 44, 56, 110"),
        ("20-w0", "resnet '20-w0': width 0, expected a multiple of 8 from 8 to 128"),
        (None, f"resnet None: {FORMS} 110 or 110-w32"),
    )

    def changes(self, arch: str, near: str) -> int:
        return steps(self.space, arch, near)


@pytest.mark.parametrize(
    ("name", "arch", "params"),
    [
        # He et al. (2016), table 6: 0.27, 0.46, 0.66, 0.85, 1.7 million.
        ("resnet", "20", 269_722),
        ("resnet", "32", 464_154),
        ("resnet", "44", 658_586),
        ("resnet", "56", 853_018),
        ("resnet", "110", 1_727_962),
        ("resnet", "18", 11_173_962),
        # With biases on its 13 convolutions, as some code has it, 14,728,266.
        ("vgg", "16", 14_728_266 - 4_224),
        ("vgg", "11", 9_231_114 - 2_752),
    ],
)
def test_parameters_are_those_of_the_published_networks(name, arch, params):
    assert get_space(name).counts(arch).params == params


def test_a_width_that_is_the_published_one_is_not_written():
    assert get_space("vgg").parse("16-w64") == "16"
    assert get_space("resnet").parse("56-w16") == "56"
    assert get_space("resnet").parse("18-w64") == "18"
    assert get_space("vgg").parse(16) == "16"


def test_cifar100_has_its_own_head():
    net = get_space("vgg/cifar100").build("11-w8")
    assert isinstance(net.classifier, nn.Linear) and net.classifier.out_features == 100


def test_synaptic_flow_is_conserved_from_layer_to_layer():
    # No bias, no padding with anything but zeros: every layer's saliency sums to R (Tanaka et al., 2020). The linear
    # layer's bias is the one thing that adds to R behind the layers before it.
    net = get_space("vgg").build("11-w8")
    nn.init.zeros_(net.classifier.bias)
    layers = ssnr.score(net, None, ["synflow/layerwise_ssnr"], input_shape=(3, 32, 32))["synflow/layerwise_ssnr"].layers
    assert len(layers) == 9
    assert [layer.total for layer in layers] == pytest.approx([layers[0].total] * 9, rel=1e-12)
