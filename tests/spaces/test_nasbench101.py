from __future__ import annotations

import json
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spaces.contract import SpaceContract, naslib_flops, published
from ssnr.spaces.nasbench101.cells import MAX_EDGES, MAX_VERTICES, classes, decode, prune
from ssnr.spaces.nasbench101.layout import vertex_widths
from ssnr.spaces.nasbench101.space import NasBench101
from ssnr.spaces.nasbench101.text import format_cell, parse_cell

SPACE = NasBench101()
WHERE = "NAS-Bench-101 cell"
EXPECTED = "expected op~sources+…+output~sources, (matrix, operations), or NASLib's n² + n codes"
# input → {1×1 → out, 3×3 → out, 3×3 → 3×3 → out, maxpool → out}: the example of the benchmark's own notebook
MATRIX = [
    [0, 1, 1, 1, 0, 1, 0],
    [0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 1, 0, 0],
    [0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0, 0, 0],
]
OPS = ["input", "conv1x1-bn-relu", "conv3x3-bn-relu", "conv3x3-bn-relu", "conv3x3-bn-relu", "maxpool3x3", "output"]
INCEPTION = "conv1x1~0+conv3x3~0+conv3x3~0+conv3x3~3+maxpool3x3~0+output~1,2,4,5"


def rows(text: str, ops: str) -> tuple[int, ...]:
    """Rows of bits, a bare 0 for an empty one, and operation codes → NASLib's tuple."""
    listed = text.split()
    bits = [int(bit) for row in listed for bit in row.ljust(len(listed), "0")]
    return (*bits, *map(int, ops.split(",")))


class TestNasBench101(SpaceContract):
    space = SPACE
    suggests = False
    archs = (
        "conv1x1~0+maxpool3x3~0,1+output~0,2",
        "maxpool3x3~0+conv3x3~+conv1x1~1+conv1x1~2+maxpool3x3~3+output~1,3",  # vertices 2, 4, 5 are on no path
        "output~0",
        "conv1x1~0+conv1x1~0+conv1x1~1+maxpool3x3~2+conv1x1~1,2,4+output~3,4,5",  # 43, 43, 42 channels
    )
    bad = (
        ("conv3x3~0", f"{WHERE}: the first vertex is 'input' and the last 'conv3x3', expected input and output"),
        ("conv3x3", f"{WHERE}: vertex 1 is 'conv3x3', expected op~source,source,…; {EXPECTED}"),
        (
            "conv3x3~0+output~2",
            f"{WHERE}: vertex 2 (output) is fed by 2, expected vertices before it, 0 … 1",
        ),
        (
            "conv5x5~0+output~1",
            f"{WHERE}: vertex 1: unknown operation 'conv5x5': did you mean conv3x3 or conv1x1?",
        ),
        ("conv3x3~0+output~", f"{WHERE}: no path from the input (vertex 0) to the output (vertex 2)"),
        (
            ([[0, 1, 0], [0, 0, 1], [1, 0, 0]], ["input", "conv3x3", "output"]),
            f"{WHERE}: entry (2, 0) of the matrix is 1, expected only zeros on and below the diagonal",
        ),
        (
            ([[0, 1, 0], [0, 0, 0], [0, 0, 0]], ["input", "conv3x3", "output"]),
            f"{WHERE}: no path from the input (vertex 0) to the output (vertex 2)",
        ),
        (
            ([[0, 2], [0, 0]], ["input", "output"]),
            f"{WHERE}: entry (0, 1) of the matrix is 2, expected 0 or 1",
        ),
        (
            ([[0, 1], [0, 0]], ["input", "conv3x3", "output"]),
            f"{WHERE}: operations are ['input', 'conv3x3', 'output'], expected 2, one a vertex, from input to output",
        ),
        (([[0, 1]], ["input"]), f"{WHERE}: the matrix is [[0, 1]], expected n rows of n entries, n ≥ 2"),
        ((0, 1, 0, 0, 0), f"{WHERE}: 5 codes, expected n² + n: 6, 12, 20, 30, 42 or 56"),
        (
            (0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 4, 4),
            f"{WHERE}: the first vertex is 'input' and the last 'conv3x3', expected input and output",
        ),
        (
            (0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 7, 1),
            f"{WHERE}: vertex 1 has operation 7, expected 0 input, 1 output, 2 maxpool, 3 conv 1×1 or 4 conv 3×3",
        ),
        ("+".join(["conv3x3~0"] * 8 + ["output~8"]), f"{WHERE}: 10 vertices, expected at most 9"),
    )
    whole = False

    def changes(self, arch, near):
        """One, where the neighbour is within the benchmark and pruned; which changes there are is tested below."""
        cell = parse_cell(near)
        assert prune(cell) == cell
        assert cell.size <= max(MAX_EDGES, parse_cell(arch).size) and len(cell.ops) + 2 <= MAX_VERTICES
        return 1


def test_the_forms_of_one_cell():
    assert SPACE.parse((MATRIX, OPS)) == INCEPTION
    assert SPACE.parse((np.array(MATRIX), OPS)) == INCEPTION
    assert SPACE.parse({"module_adjacency": np.array(MATRIX), "module_operations": OPS}) == INCEPTION
    spec = SimpleNamespace(original_matrix=np.array(MATRIX), original_ops=OPS, matrix=None, ops=None)
    assert SPACE.parse(spec) == INCEPTION
    codes = SPACE.naslib_tuple(INCEPTION)
    assert codes[49:] == (0, 3, 4, 4, 4, 2, 1)
    assert SPACE.parse(codes) == SPACE.parse(str(codes)) == SPACE.parse(np.array(codes)) == INCEPTION
    assert SPACE.parse((MATRIX, codes[49:])) == INCEPTION


def test_pruning():
    codes = rows("0111101 0000011 0000001 0000110 0000011 0 0", "0,2,2,4,4,4,1")
    assert SPACE.twin(codes) == "maxpool3x3~0+maxpool3x3~0+conv3x3~0+conv3x3~0,3+output~0,1,2,4"
    assert len(prune(parse_cell(codes)).ops) == 4
    assert SPACE.twin(rows("0101110 0001100 0000101 0000100 0 0000001 0", "0,2,3,4,2,2,1")) == "maxpool3x3~0+output~1"
    assert SPACE.twin(rows("0100101 0 0000001 0000001 0000010 0 0", "0,3,4,4,3,2,1")) == "output~0"


def test_the_benchmark_s_own_key():
    assert SPACE.fingerprint((MATRIX, OPS)) == "28cfc7874f6d200472e1a9dcd8650aa0"
    assert SPACE.counts(INCEPTION).params == 2_694_282


def test_all_cells_of_the_benchmark():
    assert sum(len(group.codes) for group in classes()) == len(SPACE) == 423_624
    archs = list(SPACE.all())
    assert len(set(archs)) == 423_624
    some = archs[::400]
    assert all(SPACE.canonical(arch) == arch for arch in some)
    assert len({SPACE.fingerprint(arch) for arch in some}) == len(some)


def test_a_sample_is_a_place_in_the_list():
    class Fixed:
        def __init__(self, at: int) -> None:
            self.at = at

        def randrange(self, below: int) -> int:
            assert below == len(SPACE)
            return self.at

    for at, arch in enumerate(islice(SPACE.all(), 500)):
        assert SPACE.sample(Fixed(at)) == arch
    last = classes()[-1]
    assert SPACE.sample(Fixed(len(SPACE) - 1)) == format_cell(decode(7, last.edges, int(last.codes[-1])))


def test_canonical_is_the_benchmark_s_isomorphism():
    cells = json.loads(published("zc_nasbench101.json").read_text())["nasbench101"]["cifar10"]
    pairs = {(SPACE.canonical(arch), SPACE.fingerprint(arch)) for arch in cells}
    assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs}) == 292


def test_published_parameter_counts():
    cells = json.loads(published("zc_nasbench101.json").read_text())["nasbench101"]["cifar10"]
    assert len(cells) == 500
    for arch, row in cells.items():
        assert str(SPACE.naslib_tuple(arch)) == arch
        assert SPACE.counts(arch).params == round(row["params"] * 1e6)


GOLDEN = [
    ("0111101 0000011 0000001 0000110 0000011 0 0", "0,2,2,4,4,4,1", 4_095_778, 624.55808, 613_646_336),
    ("0110010 0001111 0000001 0000010 0000011 0 0", "0,4,2,3,3,2,1", 1_749_031, 268.100288, 262_681_280),
    ("0011101 0011110 0001101 0000100 0000011 0 0", "0,2,4,2,2,2,1", 4_518_282, 691.803136, 678_827_008),
    ("0101110 0001100 0000101 0000100 0 0000001 0", "0,2,3,4,2,2,1", 882_570, 146.609152, 137_761_792),
    ("0001011 0010011 0001011 0000101 0000011 0 0", "0,3,4,3,2,2,1", 1_580_170, 250.43456, 242_619_392),
    ("0100101 0 0000001 0000001 0000010 0 0", "0,3,4,4,3,2,1", 882_570, 140.416, 137_761_792),
    ("010 001 0", "0,4,1", 10_177_674, 1501.43488, 1_496_716_288),
    ("0101 0010 0001 0", "0,4,4,1", 20_346_506, 2998.735872, 2_989_888_512),
]


@pytest.mark.parametrize(("matrix", "ops", "params", "flops", "macs"), GOLDEN)
def test_golden_counts(matrix, ops, params, flops, macs):
    arch = SPACE.parse(rows(matrix, ops))
    counts = SPACE.counts(arch)
    assert (counts.params, counts.flops) == (params, macs + 10)  # a bias for each class
    assert naslib_flops(SPACE.build(arch), SPACE.input_shape) == round(flops * 1e6)


def test_one_1x1_convolution():
    assert SPACE.counts("conv1x1~0+output~1").params == 1_920_138


def test_widths():
    assert vertex_widths(parse_cell("conv1x1~0+conv3x3~0+conv3x3~0+output~1,2,3"), 128) == [43, 43, 42]
    # 1 feeds 2 and 3, of 43 and 42 channels, and is as wide as the wider.
    assert vertex_widths(parse_cell("conv1x1~0+conv3x3~0+conv3x3~1+conv3x3~1+output~2,3,4"), 128) == [43, 43, 43, 42]


def test_twins_keep_the_order_of_the_output_s_channels():
    # Isomorphic cells, in which another operation is one channel wider.
    one, other = "conv1x1~0+conv1x1~0+conv3x3~0+output~1,2,3", "conv3x3~0+conv1x1~0+conv1x1~0+output~1,2,3"
    assert SPACE.canonical(one) == SPACE.canonical(other)
    assert SPACE.counts(one) != SPACE.counts(other)
    assert SPACE.twin(one) == one and SPACE.twin(other) == other
    # Vertices that only feed others may change places.
    hidden = ("conv3x3~0+conv1x1~0+maxpool3x3~1,2+output~3", "conv1x1~0+conv3x3~0+maxpool3x3~1,2+output~3")
    assert SPACE.twin(hidden[0]) == SPACE.twin(hidden[1])


def test_neighbours_of_a_small_cell():
    near = set(SPACE.neighbours("conv3x3~0+output~1"))
    assert near == {
        "conv1x1~0+output~1", "maxpool3x3~0+output~1",  # another operation
        "conv3x3~0+output~0,1",  # an edge more
        "output~0",  # the vertex taken out
        *(f"{op}~0+conv3x3~1+output~2" for op in ("conv1x1", "conv3x3", "maxpool3x3")),  # a vertex put before it
        *(f"conv3x3~0+{op}~1+output~2" for op in ("conv1x1", "conv3x3", "maxpool3x3")),  # and behind it
    }  # fmt: skip
    for other in near:
        back = {SPACE.canonical(arch) for arch in SPACE.neighbours(other)}
        assert SPACE.canonical("conv3x3~0+output~1") in back


def test_cells_outside_the_benchmark_can_be_built():
    dense = "+".join(f"conv1x1~{','.join(map(str, range(v)))}" for v in range(1, 6)) + "+output~0,1,2,3,4,5"
    assert parse_cell(dense).size == 21
    assert SPACE.counts(dense).layers > 100
    assert len(list(SPACE.neighbours(dense))) > 0


def test_initialisations():
    for init, spread in (("fan_out", (2 / (512 * 9)) ** 0.5), ("torch", (1 / (512 * 9)) ** 0.5 / 3**0.5)):
        net = SPACE.build("conv3x3~0+output~1", init=init)
        weight = net.layers[-1]._modules["vertex_1"][0].weight
        assert weight.shape == (512, 512, 3, 3)
        assert abs(weight.std().item() / spread - 1) < 0.01
        head = net.classifier
        if init == "fan_out":
            assert abs(head.weight.std().item() / 0.01 - 1) < 0.05 and not head.bias.any()
        else:
            assert head.bias.any() and head.weight.abs().max() <= 512**-0.5
    with pytest.raises(ValueError, match="unknown initialisation 'kaiming'"):
        SPACE.build("output~0", init="kaiming")


def test_interior_vertices_take_the_first_channels_of_wider_ones():
    # In a cell of 128 channels vertex 1 has 43, of which vertex 4 with 42 takes the first 42.
    arch = "conv1x1~0+maxpool3x3~1+maxpool3x3~1+maxpool3x3~1+output~2,3,4"
    cell = SPACE.build(arch).layers[1].eval()
    x = torch.randn((1, 128, 8, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = cell(x)
        first = cell._modules["vertex_1"](cell._modules["project_1"](x))
        pooled = torch.nn.functional.max_pool2d(first, 3, 1, 1)
    assert out.shape == (1, 128, 8, 8)
    torch.testing.assert_close(out, torch.cat([pooled, pooled, pooled[:, :42]], dim=1))
