"""NAS-Bench-101 (Ying, Klein, Christiansen, Real, Murphy & Hutter, 2019): cells with operations on vertices.

A cell is a directed acyclic graph from an input to an output over at most five vertices, each a 3×3 or 1×1 convolution
or a 3×3 max-pooling, with at most nine edges: 423,624 cells up to renaming. The network stacks three times three
copies of the cell at 128, 256 and 512 channels, on CIFAR-10. Cells with more edges can be built too.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from ssnr.core.registry import unknown
from ssnr.core.results import Counts
from ssnr.spaces.base import Space, check_variant, draw, register_space
from ssnr.spaces.counting import Tally, conv, counts, linear, total
from ssnr.spaces.nasbench101.cells import MAX_EDGES, MAX_VERTICES, OPERATIONS, Cell, classes, decode, prune, smallest
from ssnr.spaces.nasbench101.layout import STEM, WIDTHS, cell_channels, vertex_widths
from ssnr.spaces.nasbench101.text import TUPLE_OPERATIONS, format_cell, parse_cell

if TYPE_CHECKING:
    from torch import nn
INITS = ("fan_out", "torch")
_LABELS = {"conv3x3": 0, "conv1x1": 1, "maxpool3x3": 2}  # of the benchmark's own hash


class NasBench101(Space):
    """NAS-Bench-101 on CIFAR-10; see the module.

    A string lists the vertices after the input, each with its operation and the vertices that feed it.

    >>> space = NasBench101()
    >>> space.parse((0, 1, 1, 0,  0, 0, 0, 1,  0, 0, 0, 1,  0, 0, 0, 0,  0, 4, 2, 1))
    'conv3x3~0+maxpool3x3~0+output~1,2'
    >>> space.counts("conv3x3~0+output~1").params
    10177674
    """

    family = "nasbench101"
    variants = ("default", "naslib")  # NASLib scored the benchmark's own network

    def __init__(self, dataset: str = "cifar10") -> None:
        if dataset.lower() != "cifar10":
            raise unknown("NAS-Bench-101 data set", dataset, ["cifar10"])
        self.name, self.input_shape, self.num_classes = self.family, (3, 32, 32), 10

    def __len__(self) -> int:
        return 423_624

    def all(self) -> Iterator[str]:
        """Every cell of the benchmark once, in its canonical form."""
        for group in classes():
            for code in group.codes:
                yield format_cell(decode(group.vertices, group.edges, int(code)))

    def parse(self, form: Any) -> str:
        """Accepts the string, (matrix, operations), NASLib's tuple of n² + n codes (also as text), and a model spec.

        Raises:
            ArchitectureError: what was expected and where it broke.
        """
        return format_cell(parse_cell(form))

    def canonical(self, arch: Any) -> str:
        """The smallest renaming of the pruned cell: equal exactly for isomorphic cells."""
        return format_cell(smallest(prune(parse_cell(arch))))

    def twin(self, arch: Any) -> str:
        """The pruned cell under the smallest renaming that keeps the order of the vertices that feed the output.

        That order is the order of the channels, and decides which of them is one channel wider.
        """
        return format_cell(_twin(parse_cell(arch)))

    def fingerprint(self, arch: Any) -> str:
        """The benchmark's own key of a cell: the iterated MD5 of neighbourhoods, after pruning."""
        return _fingerprint(prune(parse_cell(arch)))

    def naslib_tuple(self, arch: Any) -> tuple[int, ...]:
        """NASLib's tuple: the matrix row by row, then 0 input, 1 output, 2 maxpool, 3 conv 1×1, 4 conv 3×3."""
        cell = parse_cell(arch)
        size = range(len(cell.sources) + 1)
        matrix = [int(j > 0 and i in cell.sources[j - 1]) for i in size for j in size]
        codes = [TUPLE_OPERATIONS.index(op) for op in ("input", *cell.ops, "output")]
        return (*matrix, *codes)

    def sample(self, rng: Any) -> str:
        """One of the 423,624 cells, uniformly; the first call lists them, which takes a second."""
        starts, groups = _starts(), classes()
        at = draw(rng, len(self))
        index = bisect_right(starts, at) - 1
        group = groups[index]
        return format_cell(decode(group.vertices, group.edges, int(group.codes[at - starts[index]])))

    def neighbours(self, arch: Any) -> Iterator[str]:
        """Every cell with one edge added or taken, one operation changed, one vertex put into an edge or taken out.

        The cell is pruned before and after; each neighbour has at most 7 vertices and 9 edges, or as many as the cell.
        """
        cell = prune(parse_cell(arch))
        limit = max(MAX_EDGES, cell.size)
        found: dict[str, None] = {}
        for near in _near(cell):
            if near.connected() and near.size <= limit:
                found[format_cell(prune(near))] = None
        found.pop(format_cell(cell), None)
        return iter(found)

    def counts(self, arch: Any, *, variant: str = "default") -> Counts:
        """By arithmetic; tests hold it against built networks and the published parameter counts."""
        check_variant(self, variant)
        everything = _tally(_twin(parse_cell(arch)), self.num_classes)
        return counts(everything, everything)

    def build(self, arch: Any, *, seed: int | None = 0, variant: str = "default", init: str = "fan_out") -> nn.Module:
        """The network of the pruned cell.

        Args:
            arch: any form that `parse` takes.
            seed: of the weights; None takes torch's global generator.
            variant: `naslib` is the same network.
            init: `fan_out` is what the published proxies' builders do: convolutions N(0, 2/fan_out), the linear layer
                N(0, 0.01²), its bias zero; `torch` is PyTorch's default.
        """
        from ssnr.spaces import modules as cells
        from ssnr.spaces.nasbench101 import net as nasbench101_net

        check_variant(self, variant)
        if init not in INITS:
            raise unknown("initialisation", init, INITS)
        cell = _twin(parse_cell(arch))
        net = nasbench101_net.Network(cell, self.num_classes)
        nasbench101_net.initialise(net, cells.weights_rng(seed, self.name, format_cell(cell)), init)
        return net


@register_space("nasbench101")
def nasbench101(dataset: str = "") -> NasBench101:
    """NAS-Bench-101 on cifar10."""
    return NasBench101(dataset or "cifar10")


# --- cells ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 14)
def _twin(cell: Cell) -> Cell:
    pruned = prune(cell)
    return smallest(pruned, keep=[v for v in pruned.sources[-1] if v > 0])


def _fingerprint(cell: Cell) -> str:
    vertices = range(len(cell.sources) + 1)
    feeds: list[list[int]] = [[t for t in vertices[1:] if v in cell.sources[t - 1]] for v in vertices]
    fed: Sequence[Sequence[int]] = [(), *cell.sources]
    labels = [-1, *(_LABELS[op] for op in cell.ops), -2]
    hashes = [_md5(str((len(feeds[v]), len(fed[v]), labels[v]))) for v in vertices]
    for _ in vertices:
        around = [(sorted(hashes[w] for w in fed[v]), sorted(hashes[w] for w in feeds[v])) for v in vertices]
        hashes = [_md5("|".join(("".join(a), "".join(b), own))) for (a, b), own in zip(around, hashes, strict=True)]
    return _md5(str(sorted(hashes)))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _near(cell: Cell) -> Iterator[Cell]:
    """The cells one change away, before pruning."""
    count = len(cell.sources) + 1
    for target in range(1, count):
        for source in range(target):
            yield cell.flipped(source, target)
    for at, own in enumerate(cell.ops):
        for op in OPERATIONS:
            if op != own:
                yield cell._replace(ops=(*cell.ops[:at], op, *cell.ops[at + 1 :]))
    for target in range(1, count):
        for source in cell.sources[target - 1]:
            if count < MAX_VERTICES:
                for op in OPERATIONS:
                    yield cell.split(source, target, op)
    for vertex in range(1, count - 1):
        into, out = cell.sources[vertex - 1], [t for t in range(vertex + 1, count) if vertex in cell.sources[t - 1]]
        if len(into) == len(out) == 1 and into[0] not in cell.sources[out[0] - 1]:
            yield cell.flipped(vertex, out[0]).flipped(into[0], out[0])


@cache
def _starts() -> list[int]:
    """How many cells stand before each group."""
    starts = [0]
    for group in classes():
        starts.append(starts[-1] + len(group.codes))
    return starts[:-1]


@lru_cache(maxsize=1 << 14)
def _tally(cell: Cell, classes: int) -> Tally:
    parts = [conv(3, STEM, 3, 32 * 32), linear(WIDTHS[-1], classes)]
    for width_in, width_out, stack in cell_channels():
        pixels = (32 >> stack) ** 2
        for width, op, sources in zip(vertex_widths(cell, width_out), cell.ops, cell.sources, strict=False):
            if 0 in sources:
                parts.append(conv(width_in, width, 1, pixels))
            if op != "maxpool3x3":
                parts.append(conv(width, width, 3 if op == "conv3x3" else 1, pixels))
        if 0 in cell.sources[-1]:
            parts.append(conv(width_in, width_out, 1, pixels))
    return total(parts)
