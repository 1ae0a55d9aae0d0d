from __future__ import annotations

import json
import random
import zipfile
from collections import Counter

import pytest
import torch
from torch import nn

from spaces.contract import SpaceContract, naslib_flops, outputs, published
from ssnr.proxies.controls import count
from ssnr.spaces import get_space
from ssnr.spaces.transnasbench101.layout import TASKS, blocks, decoder_layers, edge_tallies
from ssnr.spaces.transnasbench101.space import TransNasBench101Macro, TransNasBench101Micro, _function, _micro_network
from ssnr.spaces.transnasbench101.text import parse_macro, parse_micro

MICRO, MACRO = TransNasBench101Micro(), TransNasBench101Macro()
WHERE, EXPECTED = "TransNAS-Bench-101 micro cell", "expected 64-41414-a_bc_def"


class TestMicro(SpaceContract):
    space = MICRO
    archs = (
        "64-41414-1_00_210",
        "64-41414-2_12_001",  # 0→2 and 0→1→2→3 live, nothing else
        "64-41414-2_00_102",  # 0→1 leads nowhere, the convolution on 2→3 has nothing below it
        "64-41414-1_11_000",  # no path
        "64-41414-1_10_011",  # two skips that leave the input, each with weights of its own
    )
    bad = (
        ("64-41414-1_00_24", f"{WHERE} '64-41414-1_00_24': node 3 has 2 digits ('24'), one an input; {EXPECTED}"),
        ("64-41414-1_00", f"{WHERE} '64-41414-1_00': 2 groups of digits joined by '_'; {EXPECTED}"),
        ("32-41414-1_00_210", f"{WHERE} '32-41414-1_00_210': the skeleton is '32-41414'; {EXPECTED}"),
        (
            "64-41414-1_04_210",
            f"{WHERE} '64-41414-1_04_210': edge 1→2 is '4', expected 0 none, 1 skip, 2 conv 1×1 or 3 conv 3×3",
        ),
        ((1, 0, 0, 2, 2), f"{WHERE} (1, 0, 0, 2, 2): expected six digits 0 … 3, or 64-41414-a_bc_def"),
        ((1, 0, 0, 2, 2, 4), f"{WHERE} (1, 0, 0, 2, 2, 4): expected six digits 0 … 3, or 64-41414-a_bc_def"),
    )

    def changes(self, arch, near):
        return sum(a != b for a, b in zip(parse_micro(arch), parse_micro(near), strict=True))

    def small_shape(self):
        return (3, 64, 64)

    def output_shape(self, variant):
        return (63,) if variant == "naslib" else (47,)


class TestJigsaw(TestMicro):
    space = TransNasBench101Micro("jigsaw")
    archs = TestMicro.archs[:4]

    def small_shape(self):
        return (9, 3, 64, 64)

    def output_shape(self, variant):
        return (1000,)


class TestMacro(SpaceContract):
    space = MACRO
    archs = ("64-3231-basic", "64-1123-basic", "64-411113-basic")
    bad = (
        (
            "64-1242",
            "TransNAS-Bench-101 macro network '64-1242': expected 64-<four to six codes 1 … 4>-basic",
        ),
        ("64-124-basic", "TransNAS-Bench-101 macro network '64-124-basic': 3 modules, expected 4 to 6"),
        (
            "64-1252-basic",
            "TransNAS-Bench-101 macro network '64-1252-basic': module 3 has code 5, "
            "expected 1 keep, 2 double the width, 3 halve the size or 4 both",
        ),
        (
            (1, 3, 3, 1, 0, 0),
            "TransNAS-Bench-101 macro network (1, 3, 3, 1, 0, 0): "
            "0 modules double the width (codes 2, 4), expected 1 to 3",
        ),
        (
            "64-333433-basic",
            "TransNAS-Bench-101 macro network '64-333433-basic': "
            "6 modules halve the size (codes 3, 4), expected 1 to 4",
        ),
    )

    def changes(self, arch, near):
        one, other = parse_macro(arch), parse_macro(near)
        if len(one) == len(other):
            return sum(a != b for a, b in zip(one, other, strict=True))
        short, long = sorted((one, other), key=len)
        return 1 if any(long[:at] + long[at + 1 :] == short for at in range(len(long))) else 2

    def small_shape(self):
        return (3, 64, 64)

    def output_shape(self, variant):
        return (63,) if variant == "naslib" else (47,)


# --- micro ----------------------------------------------------------------------------------------------------


def test_the_edge_order_of_the_string_is_that_of_the_tuple():
    assert MICRO.parse((1, 0, 0, 2, 2, 3)) == MICRO.parse("(1, 0, 0, 2, 2, 3)") == "64-41414-1_00_223"
    assert MICRO.parse("1_00_223") == "64-41414-1_00_223"
    assert MICRO.naslib_tuple("64-41414-1_00_223") == (1, 0, 0, 2, 2, 3)


def test_the_published_tables_hold_every_architecture_once():
    for name, member, space in (
        ("all_benchmarks_zen.zip", "zen/benchmark--transbench101_micro--jigsaw--", MICRO),
        ("tnb101_classification_synflow.zip", "synflow/benchmark--transbench101_micro--class_scene--", MICRO),
        ("tnb101_classification_synflow.zip", "synflow/benchmark--transbench101_macro--class_scene--", MACRO),
    ):
        with zipfile.ZipFile(published(name)) as archive:
            members = [m for m in archive.namelist() if m.startswith(member)]
            found = Counter(space.parse(row["arch"]) for m in members for row in json.loads(archive.read(m)))
        assert set(found) == set(space.all())
        assert set(found.values()) == {1}


def test_classes_networks_and_dead_cells():
    digits = [parse_micro(arch) for arch in MICRO.all()]
    assert len({MICRO.canonical(d) for d in digits}) == 1519
    assert sum(_function(d) == "" for d in digits) == 87  # nothing at all reaches the output
    assert sum(MICRO.counts(d).layers == 0 for d in digits) == 169  # no path from the input
    assert len({_micro_network(d).key for d in digits}) == len({MICRO.twin(d) for d in digits}) == 1376


def test_a_skip_from_the_input_is_an_operation_of_its_own():
    # Two skips from the input are two sets of weights; one that is shared is another network.
    assert MICRO.twin("1_00_110") == MICRO.twin("1_10_011") != MICRO.twin("1_01_011")
    # A skip between later nodes is none.
    assert MICRO.twin("3_00_010") == MICRO.twin("0_00_300") == MICRO.twin("0_30_001")


def test_live_weights_do_not_depend_on_dead_operations():
    one = MICRO.build("2_00_120", seed=4).state_dict()
    for arch in ("2_00_122", "2_02_120"):  # 2→3 has nothing below it; 1→2 leads nowhere
        other = MICRO.build(arch, seed=4).state_dict()
        assert set(one) < set(other)
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_edges_add_what_the_reference_says():
    inner, outer = edge_tallies("class_scene")
    assert [tally.params for tally in outer] == [0, 173_824, 685_056, 6_124_544]
    assert [tally.params for tally in inner] == [0, 0, 857_088, 7_672_832]
    assert [tally.flops for tally in outer] == [0, 25_165_824, 142_606_336, 1_283_457_024]
    assert [tally.flops for tally in inner] == [0, 0, 167_772_160, 1_509_949_440]


GOLDEN_TASKS = ("class_scene", "class_object", "room_layout", "jigsaw", "autoencoder", "normal", "segmentsemantic")
GOLDEN = {  # parameters with the published heads
    "1_00_210": (910_687, 929_668, 882_985, 5_487_368, 23_750_227, 23_750_227, 11_902_545),
    "1_00_223": (9_440_607, 9_459_588, 9_412_905, 14_017_288, 32_280_147, 32_280_147, 20_432_465),
    "2_32_323": (22_372_959, 22_391_940, 22_345_257, 26_949_640, 45_212_499, 45_212_499, 33_364_817),
    "3_33_333": (41_443_935, 41_462_916, 41_416_233, 46_020_616, 64_283_475, 64_283_475, 52_435_793),
    "3_11_212": (7_892_319, 7_911_300, 7_864_617, 12_469_000, 30_731_859, 30_731_859, 18_884_177),
    "0_00_000": (51_807, 70_788, 24_105, 4_628_488, 22_891_347, 22_891_347, 11_043_665),
    "1_11_111": (573_279, 592_260, 545_577, 5_149_960, 23_412_819, 23_412_819, 11_565_137),
}


@pytest.mark.parametrize("task", GOLDEN_TASKS)
def test_golden_parameters(task):
    space = get_space(f"transnasbench101-micro/{task}")
    for arch, params in GOLDEN.items():
        counted = space.counts(arch, variant="naslib").params
        assert counted == params[GOLDEN_TASKS.index(task)]
        with torch.device("meta"):
            net = space._assemble(space.parse(arch), space.outputs("naslib"))
        assert sum(p.numel() for p in net.parameters()) == counted


def test_the_benchmark_s_own_heads():
    assert MICRO.counts("3_33_333").params == 41_435_727
    assert get_space("transnasbench101-micro/class_object").counts("3_33_333").params == 41_450_091


GOLDEN_FLOPS = [
    ("1_00_210", "class_scene", 263.299072),
    ("1_00_210", "jigsaw", 21.101056),
    ("1_00_210", "autoencoder", 1885.700096),
    ("1_00_210", "segmentsemantic", 1198.81728),
    ("2_32_323", "class_scene", 4662.861824),
    ("2_32_323", "jigsaw", 296.073728),
    ("2_32_323", "normal", 6285.262848),
    ("2_32_323", "segmentsemantic", 5598.380032),
    ("3_11_212", "class_scene", 1719.86944),
    ("0_00_000", "class_object", 91.843072),
    ("0_00_000", "room_layout", 91.79648),
    ("1_11_111", "autoencoder", 1792.475136),
]


@pytest.mark.parametrize(("arch", "task", "flops"), GOLDEN_FLOPS)
def test_flops_as_naslib_counts_them(arch, task, flops):
    space = get_space(f"transnasbench101-micro/{task}")
    with torch.device("meta"):
        net = space._assemble(space.parse(arch), space.outputs("naslib"))
    assert naslib_flops(net, space.input_shape) == round(flops * 1e6)


def test_nine_tiles_are_counted_nine_times():
    jigsaw = get_space("transnasbench101-micro/jigsaw")
    assert jigsaw.counts("1_00_210").flops == 149_409_792 + 1000  # one for each bias


# --- macro ----------------------------------------------------------------------------------------------------


def test_macro_strings():
    assert MACRO.parse((1, 2, 4, 2, 0, 0)) == MACRO.parse("(1, 2, 4, 2)") == "64-1242-basic"
    assert MACRO.naslib_tuple("64-1242-basic") == (1, 2, 4, 2, 0, 0)
    assert Counter(len(parse_macro(arch)) for arch in MACRO.all()) == {4: 210, 5: 750, 6: 2296}


MACRO_GOLDEN = [
    ("class_object", "331423", 5_550_212, 532.090112),
    ("class_scene", "241113", 12_172_383, 12276.883456),
    ("room_layout", "23111", 2_926_249, 4686.095616),
    ("jigsaw", "412131", 12_690_696, 441.915648),
    ("normal", "31342", 23_609_683, 2078.507008),
    ("segmentsemantic", "22341", 33_931_345, 20955.594752),
    ("autoencoder", "12413", 28_094_035, 13445.562368),
]


@pytest.mark.parametrize(("task", "codes", "params", "flops"), MACRO_GOLDEN)
def test_macro_golden(task, codes, params, flops):
    space = get_space(f"transnasbench101-macro/{task}")
    arch = f"64-{codes}-basic"
    with torch.device("meta"):
        net = space._assemble(arch, space.outputs("naslib"))
    assert space.counts(arch, variant="naslib").params == params == sum(p.numel() for p in net.parameters())
    assert naslib_flops(net, space.input_shape) == round(flops * 1e6)


# --- tasks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["micro", "macro"])
@pytest.mark.parametrize("task", TASKS)
def test_every_task_puts_out_its_shape(space, task):
    found = get_space(f"transnasbench101-{space}/{task}")
    arch = next(iter(found.neighbours(found.sample(random.Random(1)))))
    with torch.device("meta"):
        net = found._assemble(arch, found.outputs()).eval()
        out = net(torch.empty(2, *found.input_shape))
    image = TASKS[task].head in ("image", "pixels")
    assert out.shape == ((2, found.num_classes, 256, 256) if image else (2, found.num_classes))


@pytest.mark.parametrize("task", ["segmentsemantic", "autoencoder"])
def test_counts_of_decoders_are_those_of_the_network(task):
    space = get_space(f"transnasbench101-micro/{task}")
    net = space.build("0_00_100")
    if task == "autoencoder":
        # At synflow's magnitudes the last activation is flat: the gradient, though there is a path, rounds to zero.
        assert isinstance(net.decoder[-1], nn.Tanh)
        net.decoder[-1] = nn.Identity()
    measured = count(net, (3, 64, 64))
    counted = space.counts("0_00_100")
    assert counted._replace(flops=0) == measured._replace(flops=0)
    assert counted.flops == 16 * measured.flops  # everything is convolution


@pytest.mark.parametrize("strides", [1, 2, 3, 4])
def test_decoders_come_back_to_the_image_s_size(strides):
    for head, layers in (("image", 14), ("pixels", 8)):
        made = decoder_layers(head, 256, strides)
        assert len(made) == layers
        assert sum(layer.doubles for layer in made) == strides + 2


def test_jigsaw_s_tiles_have_statistics_of_their_own_in_training():
    space = get_space("transnasbench101-micro/jigsaw")
    net = space.build("1_00_210")
    x = torch.randn((2, 9, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        net.eval()
        together, apart = net(x), net.decoder(torch.cat([net.blocks(net.stem(tile)) for tile in x.unbind(1)], dim=1))
    torch.testing.assert_close(together, apart)
    before = net.stem[1].num_batches_tracked.item()
    with torch.no_grad():
        net.train()(x)
    assert net.stem[1].num_batches_tracked.item() == before + 9


def test_initialisations():
    for init, spread in (("fan_out", (2 / (512 * 9)) ** 0.5), ("torch", (1 / (256 * 9)) ** 0.5 / 3**0.5)):
        net = MICRO.build("0_00_300", init=init)
        weight = net.blocks[8]._modules["0_3"][1].weight
        assert weight.shape == (512, 256, 3, 3)
        assert abs(weight.std().item() / spread - 1) < 0.01
        assert net.decoder[-1].weight.abs().max() <= 512**-0.5
    with pytest.raises(ValueError, match="unknown initialisation 'kaiming'"):
        MICRO.build("0_00_300", init="kaiming")


def test_odd_sizes_pass():
    assert outputs(MICRO.build("1_11_111"), (3, 75, 53)).shape == (1, 47)


def test_blocks_follow_the_codes():
    assert [(b.channels_out, b.stride) for b in blocks((1, 2, 3, 4))] == [
        (64, 1), (64, 1), (128, 1), (128, 1), (128, 2), (128, 1), (256, 2), (256, 1),
    ]  # fmt: skip
