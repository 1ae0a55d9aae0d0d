from __future__ import annotations

import csv
import random

import numpy as np
import pytest
import torch
from torch import nn

from spaces.contract import SpaceContract, naslib_flops, outputs, published
from ssnr.core.errors import UsageError
from ssnr.spaces import get_space
from ssnr.spaces.nasbench201.space import OPERATIONS, NasBench201, live_edges, network_key, parse_ops

SPACE = NasBench201()
ALL_3X3 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
EXPECTED = "expected |op~0|+|op~0|op~1|+|op~0|op~1|op~2|"


class TestNasBench201(SpaceContract):
    space = SPACE
    archs = (
        "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|nor_conv_1x1~0|avg_pool_3x3~1|nor_conv_1x1~2|",
        "|nor_conv_1x1~0|+|none~0|nor_conv_3x3~1|+|avg_pool_3x3~0|skip_connect~1|none~2|",
        "|none~0|+|none~0|none~1|+|nor_conv_1x1~0|nor_conv_1x1~1|nor_conv_3x3~2|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        "|none~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|nor_conv_3x3~1|none~2|",
    )
    bad = (
        ("", f"NAS-Bench-201 cell '': 1 nodes joined by '+', {EXPECTED}"),
        ("|none~0|+none", f"NAS-Bench-201 cell '|none~0|+none': 2 nodes joined by '+', {EXPECTED}"),
        (
            "|none~0|+|none~0|none~1|+|none~0|none~1|",
            f"NAS-Bench-201 cell: node 3 is '|none~0|none~1|' with 2 inputs; {EXPECTED}",
        ),
        (
            "|none~0|+none~0|none~1|+|none~0|none~1|none~2|",
            f"NAS-Bench-201 cell: node 2 is 'none~0|none~1|', without | at both ends; {EXPECTED}",
        ),
        (
            "|none~0|+|none~0|none~0|+|none~0|none~1|none~2|",
            "NAS-Bench-201 cell: input 1 of node 2 is 'none~0', expected op~1",
        ),
        (
            "|none~0|+|none~0|nor_conv_5x5~1|+|none~0|none~1|none~2|",
            "NAS-Bench-201 cell: input 1 of node 2: unknown operation 'nor_conv_5x5': "
            "did you mean nor_conv_3x3 or nor_conv_1x1?",
        ),
        (15_625, "NAS-Bench-201 index 15625: expected 0 … 15,624"),
        ((0, 1, 2, 3, 4), "NAS-Bench-201 tuple (0, 1, 2, 3, 4): expected six codes 0 … 4 (NASLib's order)"),
        ((0, 1, 2, 3, 4, 5), "NAS-Bench-201 tuple (0, 1, 2, 3, 4, 5): expected six codes 0 … 4 (NASLib's order)"),
        ({"0_4": "none"}, "NAS-Bench-201 cell: no edge '0_4'; expected one of 0_1, 0_2, 1_2, 0_3, 1_3, 2_3"),
        ({"0_1": "none", "1_3": "none"}, "NAS-Bench-201 cell: no operation for edge 0_2, 1_2, 0_3, 2_3"),
    )

    def changes(self, arch, near):
        return sum(a != b for a, b in zip(parse_ops(arch), parse_ops(near), strict=True))


def test_the_example_of_the_three_encodings():
    string = "|avg_pool_3x3~0|+|skip_connect~0|none~1|+|nor_conv_1x1~0|avg_pool_3x3~1|nor_conv_1x1~2|"
    assert SPACE.parse((4, 0, 3, 1, 4, 3)) == SPACE.parse("(4, 0, 3, 1, 4, 3)") == SPACE.parse(2631) == string
    assert SPACE.index(string) == 2631
    assert SPACE.naslib_tuple(string) == (4, 0, 3, 1, 4, 3)


def test_other_forms_of_one_cell():
    ops = ("nor_conv_3x3", "skip_connect", "none", "nor_conv_1x1", "avg_pool_3x3", "nor_conv_1x1")
    arch = SPACE.parse(ops)
    edges = ("0_1", "0_2", "1_2", "0_3", "1_3", "2_3")
    assert SPACE.parse(dict(zip(edges, ops, strict=True))) == arch
    assert SPACE.parse(dict(zip([(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)], ops, strict=True))) == arch
    nodes = [[(ops[0], 0)], [(ops[1], 0), (ops[2], 1)], [(ops[3], 0), (ops[4], 1), (ops[5], 2)]]
    assert SPACE.parse(nodes) == arch
    assert SPACE.parse(arch.replace("nor_", "")) == arch
    assert SPACE.parse(np.int64(SPACE.index(arch))) == arch


def test_every_cell_round_trips():
    for position, arch in enumerate(SPACE.all()):
        assert SPACE.index(arch) == position
        assert SPACE.parse(SPACE.naslib_tuple(arch)) == arch


def test_isomorphism_classes_and_networks():
    networks: dict[str, set[str]] = {}
    dead = 0
    for arch in SPACE.all():
        networks.setdefault(SPACE.canonical(arch), set()).add(network_key(parse_ops(arch)))
        dead += not live_edges(parse_ops(arch))
    assert len(networks) == 6466
    assert dead == 341  # no path from input to output
    assert len(set().union(*networks.values())) == 5260
    assert sum(len(keys) > 1 for keys in networks.values()) == 430


def test_canonical_classes_are_the_published_ones():
    with published("nats_bench.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    first: dict[str, str] = {}
    for position, row in enumerate(rows):
        arch = SPACE.parse(row["ArchitectureString"])
        assert SPACE.index(arch) == position
        assert SPACE.canonical(arch) == first.setdefault(row["UniqueString"], arch)
    assert len(first) == 6466


def test_published_parameter_counts():
    matched = 0
    with published("nb201_zc_proxies.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            assert SPACE.counts(row["net"]).params == round(float(row["params"]) * 1e6)
            assert SPACE.parse(row["net"]) == SPACE.parse(row["net_str"])
            matched += 1
    assert matched == 9445


GOLDEN = [  # index, params and flops (M) with 10, 100 and 120 classes; the last three are official records
    (1651, (73306, 79156, 80456), (7.78305, 7.7889, 1.9534)),
    (1835, (73306, 79156, 80456), (7.78305, 7.7889, 1.9534)),
    (4317, (241306, 247156, 248456), (31.37601, 31.38186, 7.85164)),
    (1462, (1531546, 1537396, 1538696), (220.11969, 220.12554, 55.03756)),
    (9930, (1288506, 1294356, 1295656), (184.73025, 184.7361, 46.1902)),
    (11472, (559386, 565236, 566536), (78.56193, 78.56778, 19.64812)),
    (0, (129306, 135156, 136456), (15.64737, 15.65322, 3.91948)),
    (11, (802426, 808276, 809576), (113.95137, 113.95722, 28.49548)),
    (284, (101306, 107156, 108456), (11.71521, 11.72106, 2.93644)),
]


@pytest.mark.parametrize(("index", "params", "flops"), GOLDEN)
def test_golden_counts(index, params, flops):
    for at, dataset in enumerate(("cifar10", "cifar100", "imagenet16-120")):
        counts = NasBench201(dataset).counts(index)
        assert (counts.params, counts.flops) == (params[at], round(flops[at] * 1e6))


@pytest.mark.parametrize(("index", "flops"), [(4317, 34.117312), (11472, 79.582912), (7581, 15.685312), (0, 17.958592)])
def test_flops_as_naslib_counts_them(index, flops):
    net = SPACE.build(index)
    # Its network pools with a module, which costs 64 · 9 · 9 there.
    assert naslib_flops(net, SPACE.input_shape) + 64 * 9 * 9 == round(flops * 1e6)


def test_closed_forms():
    rng = random.Random(1)
    for dataset, base in (("cifar10", 73306), ("cifar100", 79156), ("imagenet16-120", 80456)):
        space = NasBench201(dataset)
        for _ in range(50):
            ops = parse_ops(space.sample(rng))
            wide, narrow = ops.count("nor_conv_3x3"), ops.count("nor_conv_1x1")
            assert space.counts(ops).params == base + 243_040 * wide + 28_000 * narrow
            # Every edge holds both convolutions there, with a bias instead of the norm's affine.
            assert space.counts(ops, variant="zero-cost-nas").params == base + 6 * (242_480 + 27_440)


def test_counts_of_the_other_data_sets():
    from ssnr.proxies.controls import count

    for dataset in ("cifar100", "imagenet16-120"):
        space = get_space(f"nasbench201/{dataset}")
        for arch in TestNasBench201.archs[:2]:
            assert space.counts(arch) == count(space.build(arch), space.input_shape)


def test_live_weights_do_not_depend_on_dead_operations():
    # 1→2 and 2→3 reach the output only together.
    plain = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|nor_conv_1x1~1|none~2|"
    for extra in (
        "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|nor_conv_1x1~1|none~2|",
        "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|nor_conv_1x1~1|nor_conv_3x3~2|",
    ):
        one, other = SPACE.build(plain, seed=4).state_dict(), SPACE.build(extra, seed=4).state_dict()
        assert set(one) < set(other)
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_renamed_nodes_are_the_same_network():
    one = "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|none~0|avg_pool_3x3~1|skip_connect~2|"
    other = "|nor_conv_1x1~0|+|nor_conv_3x3~0|none~1|+|none~0|skip_connect~1|avg_pool_3x3~2|"
    assert SPACE.twin(one) == SPACE.twin(other)
    torch.testing.assert_close(outputs(SPACE.build(one), (3, 32, 32)), outputs(SPACE.build(other), (3, 32, 32)))


def test_one_convolution_of_two_paths_is_not_two_convolutions():
    shared = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|skip_connect~1|skip_connect~2|"
    twice = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|skip_connect~1|skip_connect~2|"
    assert SPACE.canonical(shared) == SPACE.canonical(twice)
    assert SPACE.twin(shared) != SPACE.twin(twice)


def test_weights_are_pytorch_s_default():
    net = SPACE.build(ALL_3X3)
    for module in (net.stem[0], net.cells[0]._modules["0_1"][1], net.classifier):
        bound = module.weight[0].numel() ** -0.5
        assert 0.9 * bound < module.weight.abs().max() <= bound
        assert abs(module.weight.std() * 3**0.5 / bound - 1) < 0.1


def test_the_variant_of_zero_cost_nas():
    net = SPACE.build(ALL_3X3, variant="zero-cost-nas")
    conv, norm = net.cells[0]._modules["0_1"][1:]
    assert conv.bias is not None and not norm.affine and norm.running_mean is None
    assert sum(p.numel() for p in net.parameters()) == 1_692_826
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in net.modules()) == 188


def test_zero_cost_nas_counts_the_idle_weights_as_zeros():
    import ssnr

    arch = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|"
    proxies = ["synflow/sum", "synflow/ssnr"]
    net = SPACE.build(arch, variant="zero-cost-nas")
    theirs, ours = (ssnr.score(net, input_shape=(3, 32, 32), proxies=proxies, recipe=f"zero-cost-nas(idle={idle})")
                    for idle in ("zeros", "exclude"))  # fmt: skip
    assert theirs["synflow/sum"].value == pytest.approx(ours["synflow/sum"].value, rel=1e-9)
    assert theirs["synflow/ssnr"].value > ours["synflow/ssnr"].value
    assert sum(layer.flag == "unused" for layer in theirs["synflow/sum"].layers) == 180 - 15


def test_names_are_checked():
    with pytest.raises(UsageError, match="unknown NAS-Bench-201 data set 'cifar'"):
        get_space("nasbench201/cifar")
    assert len(OPERATIONS) ** 6 == len(SPACE)
