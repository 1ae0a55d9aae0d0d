from __future__ import annotations

import csv
import json
from collections import Counter, namedtuple
from typing import NamedTuple

import pytest
import torch

from spaces.contract import SpaceContract, naslib_flops, outputs, published
from ssnr.proxies.controls import count
from ssnr.spaces.darts.space import Darts
from ssnr.spaces.darts.text import OPERATIONS, parse_genotype

SPACE = Darts()
COMPACT = (
    "[[(0, 0), (1, 5), (1, 1), (0, 1), (1, 3), (0, 3), (1, 3), (3, 2)], "
    "[(1, 0), (0, 2), (1, 3), (0, 3), (3, 0), (0, 1), (2, 0), (3, 6)]]"
)
EXPECTED = "expected Genotype(normal=[('op', source), … eight], …, reduce=[…], …) or [[(source, index), …], […]]"


def genotype(normal: str, reduce: str | None = None) -> str:
    """`sep3~0 max~1 …` in short → the text."""
    short = {"max": 0, "avg": 1, "skip": 2, "sep3": 3, "sep5": 4, "dil3": 5, "dil5": 6, "none": 7}
    cells = []
    for cell in (normal, reduce or normal):
        pairs = (entry.split("~") for entry in cell.split())
        cells.append([(OPERATIONS[short[op]], int(source)) for op, source in pairs])
    return SPACE.parse(cells)


V1 = genotype(
    "sep3~1 sep3~0 skip~0 sep3~1 skip~0 sep3~1 sep3~0 skip~2", "max~0 max~1 skip~2 max~0 max~0 skip~2 skip~2 avg~0"
)
V2 = genotype(
    "sep3~0 sep3~1 sep3~0 sep3~1 sep3~1 skip~0 skip~0 dil3~2", "max~0 max~1 skip~2 max~1 max~0 skip~2 skip~2 max~1"
)


class TestDarts(SpaceContract):
    space = SPACE
    archs = (
        SPACE.parse(COMPACT),
        # Node 2 adds up nothing, so that the operations of it are of nothing; doubled inputs; a strided `none`.
        genotype("none~0 none~1 sep3~2 dil5~0 skip~1 skip~1 max~0 sep5~2"),
        genotype("none~0 none~1 sep3~2 dil3~2 none~1 none~1 skip~3 sep3~4"),  # no path
        # Neither cell takes the newer input: every other cell of the stack is of no use.
        genotype("sep3~0 none~1 skip~2 skip~2 dil3~0 avg~3 max~0 none~1"),
    )
    bad = (
        ("sep_conv_3x3", f"DARTS genotype 'sep_conv_3x3': neither Genotype(…) nor lists of pairs; {EXPECTED}"),
        (
            "Other(normal=[])",
            f"DARTS genotype 'Other(normal=[])': neither Genotype(…) nor lists of pairs; {EXPECTED}",
        ),
        (17, f"DARTS genotype 17: {EXPECTED}"),
        ("Genotype(normal=[], normal_concat=[2, 3, 4, 5])", f"DARTS genotype: no reduce cell; {EXPECTED}"),
        (
            V1.replace("normal_concat=[2, 3, 4, 5]", "normal_concat=[4, 5]"),
            "DARTS genotype: normal_concat is [4, 5], expected [2, 3, 4, 5]",
        ),
        (
            V1.replace("('skip_connect', 2)], normal", "('skip_connectt', 2)], normal"),
            "DARTS genotype: normal cell, node 5, input 1: unknown operation 'skip_connectt': "
            "did you mean skip_connect?",
        ),
        (
            V1.replace(", ('skip_connect', 2)], normal", "], normal"),
            "DARTS genotype: normal cell has 7 (operation, source) pairs, expected 8, two for each of nodes 2 … 5: "
            "node 5 has one input only",
        ),
        (
            COMPACT.replace("(3, 6)", "(5, 6)"),
            "DARTS genotype: reduce cell, node 5, input 1: source 5, expected a node before it, 0 … 4",
        ),
        (
            COMPACT.replace("(3, 6)", "(3, 7)"),
            "DARTS genotype: reduce cell, node 5, input 1: operation index 7, expected 0 … 6",
        ),
        (
            COMPACT.replace("(3, 6)", "(3,)"),
            "DARTS genotype: reduce cell, node 5, input 1 is (3,), expected ('operation', source) or "
            "(source, operation index)",
        ),
    )  # fmt: skip
    whole = False

    def changes(self, arch, near):
        differing = 0
        for one, other in zip(parse_genotype(arch), parse_genotype(near), strict=True):
            for before, after in zip(one, other, strict=True):
                gone = list((Counter(before) - Counter(after)).elements())
                come = list((Counter(after) - Counter(before)).elements())
                differing += sum((a != b) for pair in zip(gone, come, strict=True) for a, b in zip(*pair, strict=True))
                if gone:
                    assert "none" not in {op for op, _ in come}
        return differing

    def output_shape(self, variant):
        return (24,) if variant == "swap" else (10,)

    def test_every_weight_is_filled(self):
        # The 20 cells of the variant `darts` are built once in the tests of its counts.
        for variant in ("default", "naslib", "swap"):
            for parameter in self.space.build(self.archs[1], variant=variant).parameters():
                assert torch.isfinite(parameter).all() and parameter.abs().max() <= 1


def test_the_two_forms_of_one_genotype():
    text = SPACE.parse(COMPACT)
    assert text.startswith("Genotype(normal=[('max_pool_3x3', 0), ('dil_conv_3x3', 1), ('avg_pool_3x3', 1), ")
    assert str(SPACE.compact(text)) == COMPACT
    assert SPACE.parse(text.replace("[2, 3, 4, 5]", "range(2, 6)")) == text
    assert SPACE.parse(SPACE.compact(text)) == text

    Own = namedtuple("Own", "normal normal_concat reduce reduce_concat")
    normal, reduce = ([pair for node in cell for pair in node] for cell in parse_genotype(text))
    assert SPACE.parse(Own(normal, range(2, 6), reduce, range(2, 6))) == text
    assert SPACE.parse({"normal": normal, "reduce": reduce}) == text


def test_the_size_of_the_space():
    assert len(SPACE) == 1_037_664_180**2


class Published(NamedTuple):
    params: float
    flops: float


def nasbench301() -> dict[str, Published]:
    found: dict[str, Published] = {}
    rows = json.loads(published("zc_nasbench301.4e3528ed.json").read_text())["cifar10"]
    found |= {arch: Published(row["params"]["score"], row["flops"]["score"]) for arch, row in rows.items()}
    rows = json.loads(published("zc_nasbench301.67444cd1.json").read_text())["nasbench301"]["cifar10"]
    for arch, row in rows.items():
        here = Published(row["params"], row["flops"])
        assert found.setdefault(arch, here) == here
    return found


def test_published_parameter_counts():
    rows = nasbench301()
    assert len(rows) == 1218
    for arch, row in rows.items():
        assert str(SPACE.compact(arch)) == arch
        assert SPACE.counts(arch, variant="naslib").params == round(row.params * 1e6)
    assert len({SPACE.canonical(arch) for arch in rows}) == 1218  # no two are isomorphic


def test_published_flops():
    for arch, row in list(nasbench301().items())[::80]:
        net = SPACE.build(arch, variant="naslib")
        assert naslib_flops(net, SPACE.input_shape) == round(row.flops * 1e6)


def test_the_swap_set():
    with published("DARTS_archs_CIFAR10.csv").open(newline="") as file:
        archs = [row[0] for row in csv.reader(file)]
    parsed = [parse_genotype(arch) for arch in archs]
    assert len(archs) == 1000
    assert all(SPACE.parse(arch) == arch for arch in archs)
    assert all(one.normal == one.reduce for one in parsed)
    assert sum("none" in arch for arch in archs) == 644
    assert sum(a[1] == b[1] for one in parsed for a, b in one.normal) == 1306
    golden = [(1906, 414_960), (2110, 461_040), (1354, 282_864), (1546, 332_016), (1174, 230_640)]
    relus = [12, 14, 9, 9, 11]
    for arch, (params, macs), activations in zip(archs, golden, relus, strict=False):
        counts = SPACE.counts(arch, variant="swap")
        assert (counts.params, counts.flops) == (params, macs + 10)  # a bias for each class
        net = SPACE.build(arch, variant="swap")
        assert sum(isinstance(m, torch.nn.ReLU) for m in net.modules()) == activations
    for arch in archs[5:25]:
        assert SPACE.counts(arch) == count(SPACE.build(arch), SPACE.input_shape)
    assert len({SPACE.twin(arch) for arch in archs}) == 999


@pytest.mark.parametrize(
    ("arch", "params", "macs"),
    [
        (V1, (871_786, 862_826, 3_169_414), (152_441_856, 500_987_520)),
        (V2, (919_722, 909_866, 3_349_342), (159_765_504, 528_359_040)),
    ],
)
def test_named_genotypes(arch, params, macs):
    counted = [SPACE.counts(arch, variant=variant) for variant in ("default", "naslib", "darts")]
    assert tuple(one.params for one in counted) == params
    assert tuple(one.flops - 10 for one in counted) == (macs[0], *macs)


def test_the_trained_network_has_weights_in_its_norms():
    for arch, params in ((COMPACT, 864_874), (V1, 871_786)):
        assert SPACE.counts(arch).params == params
    assert SPACE.counts(COMPACT, variant="naslib").params == 856_298


def test_the_order_of_a_node_s_inputs_is_no_matter():
    one = genotype("sep3~0 max~1 skip~0 sep5~2 dil3~1 dil5~3 avg~0 skip~4")
    other = genotype("max~1 sep3~0 sep5~2 skip~0 dil5~3 dil3~1 skip~4 avg~0")
    assert SPACE.twin(one) == SPACE.twin(other)
    torch.testing.assert_close(outputs(SPACE.build(one), (3, 32, 32)), outputs(SPACE.build(other), (3, 32, 32)))


def test_renamed_nodes_are_isomorphic_but_another_network():
    one = genotype("sep3~0 max~1 skip~0 sep5~1 dil3~2 dil5~3 avg~0 skip~4")
    other = genotype("skip~0 sep5~1 sep3~0 max~1 dil3~3 dil5~2 avg~0 skip~4")
    assert SPACE.canonical(one) == SPACE.canonical(other)
    assert SPACE.twin(one) != SPACE.twin(other)  # the channels of the cell are in another order
    assert SPACE.counts(one) == SPACE.counts(other)


def test_live_weights_do_not_depend_on_operations_of_nothing():
    plain = genotype("none~0 none~0 none~0 dil3~0 sep3~1 skip~0 max~0 none~0")
    extra = genotype("none~0 none~0 sep3~2 dil3~0 sep3~1 skip~0 max~0 dil5~2")
    one, other = SPACE.build(plain, seed=4).state_dict(), SPACE.build(extra, seed=4).state_dict()
    assert SPACE.twin(extra) == SPACE.twin(plain)
    assert sorted(set(other) - set(one))[0].startswith("cells.0.3_0")
    # In `plain` as in `extra` node 3 has its dilated convolution second.
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_both_inputs_from_one_node_are_two_operations():
    once, twice = genotype("sep3~0 none~1 " + "skip~0 none~0 " * 3), genotype("sep3~0 sep3~0 " + "skip~0 none~0 " * 3)
    assert SPACE.counts(twice).layers > SPACE.counts(once).layers
    cell = SPACE.build(twice).cells[0]
    assert not torch.equal(cell.layers(0, 0)[0].weight, cell.layers(0, 1)[0].weight)
