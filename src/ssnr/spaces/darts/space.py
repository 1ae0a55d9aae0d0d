"""The DARTS space (Liu, Simonyan & Yang, 2019), of which NAS-Bench-301 (Zela et al., 2022) models accuracies.

A network stacks two cells. In each, nodes 2 … 5 add up two operations of earlier nodes, 0 and 1 being the outputs of
the two cells before; the cell outputs nodes 2 … 5 joined on channels. Seven operations and two different inputs a
node make 1.08 · 10¹⁸ pairs of cells. Genotypes with `none`, or with both inputs from one node, can be built too: they
occur in the published set of SWAP (Peng et al., 2024), but not in `all` and `sample`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import combinations, permutations, product
from math import comb
from typing import TYPE_CHECKING, Any

from ssnr.core.registry import unknown
from ssnr.core.results import Counts
from ssnr.spaces.base import Space, check_variant, draw, register_space
from ssnr.spaces.counting import Tally, conv, counts, linear, total
from ssnr.spaces.darts.layout import SKELETONS, CellPlan, plan
from ssnr.spaces.darts.text import NODES, OPERATIONS, Cell, Genotype, Input, format_genotype, parse_genotype

if TYPE_CHECKING:
    from torch import nn

_SEARCHED = OPERATIONS[:-1]  # all but `none`
_RANK = {op: rank for rank, op in enumerate(OPERATIONS)}


class Darts(Space):
    """DARTS on CIFAR-10; see the module.

    Variants: `default` is the network that NAS-Bench-301 trained (32 channels, 8 cells), `naslib` the one of NASLib's
    published proxies of 2022 (norms without weights in the operations, and after poolings), `darts` the one of the
    DARTS paper's evaluation (36 channels, 20 cells), `swap` the one reduction cell that SWAP scores.

    >>> space = Darts()
    >>> v2 = ("[[(0,3),(1,3),(0,3),(1,3),(1,3),(0,2),(0,2),(2,5)],[(0,0),(1,0),(2,2),(1,0),(0,0),(2,2),(2,2),(1,0)]]")
    >>> [space.counts(v2, variant=variant).params for variant in ("default", "naslib", "darts")]
    [919722, 909866, 3349342]
    """

    family = "darts"
    variants = tuple(SKELETONS)

    def __init__(self, dataset: str = "cifar10") -> None:
        if dataset.lower() != "cifar10":
            raise unknown("DARTS data set", dataset, ["cifar10"])
        self.name, self.input_shape, self.num_classes = self.family, (3, 32, 32), 10

    def __len__(self) -> int:
        return len(_SEARCHED) ** 16 * _per_cell() ** 2

    def all(self) -> Iterator[str]:
        """Every pair of cells of NAS-Bench-301 once, lazily: there are 1.08 · 10¹⁸."""
        return (format_genotype(Genotype(*cells)) for cells in _pairs())

    def parse(self, form: Any) -> str:
        """Accepts `Genotype(normal=[('op', source), …], …)` as text or object, and NAS-Bench-301's compact form.

        The compact form is [normal, reduce], each eight (source, operation index), nested or as text.

        Raises:
            ArchitectureError: what was expected and where it broke.
        """
        return format_genotype(parse_genotype(form))

    def canonical(self, arch: Any) -> str:
        """The smallest of `twin`'s renamings of nodes, which only permute channels: isomorphic genotypes meet there."""
        return format_genotype(Genotype(*(_smallest(_live_cell(cell)) for cell in parse_genotype(arch))))

    def twin(self, arch: Any) -> str:
        """Each node's inputs sorted, and operations of nothing (a node whose inputs are all `none`) made `none`."""
        return format_genotype(_twin(parse_genotype(arch)))

    def compact(self, arch: Any) -> list[list[tuple[int, int]]]:
        """NASLib's key: [normal, reduce], each eight (source, operation index); `none` is 7, which NASLib lacks."""
        return [[(source, _RANK[op]) for node in cell for op, source in node] for cell in parse_genotype(arch)]

    def sample(self, rng: Any) -> str:
        """One pair of cells of NAS-Bench-301, uniformly."""
        cells = []
        for _ in range(2):
            nodes = []
            for node in NODES:
                sources = list(combinations(range(node), 2))[draw(rng, comb(node, 2))]
                nodes.append(tuple((_SEARCHED[draw(rng, len(_SEARCHED))], source) for source in sources))
            cells.append(tuple(nodes))
        return format_genotype(Genotype(*cells))

    def suggest(self, trial: Any) -> str:
        """Two operations and a pair of sources for each node of each cell: `normal_3_op0`, `normal_3_sources`, …."""
        cells = []
        for side in Genotype._fields:
            nodes = []
            for node in NODES:
                pairs = {f"{i},{j}": (i, j) for i, j in combinations(range(node), 2)}
                sources = pairs[trial.suggest_categorical(f"{side}_{node}_sources", list(pairs))]
                names = [trial.suggest_categorical(f"{side}_{node}_op{k}", list(_SEARCHED)) for k in range(2)]
                nodes.append(tuple(zip(names, sources, strict=True)))
            cells.append(tuple(nodes))
        return format_genotype(Genotype(*cells))

    def suggestion(self, arch: Any) -> dict[str, Any] | None:
        genotype = parse_genotype(arch)
        if any(op == "none" for cell in genotype for node in cell for op, _ in node):  # which no trial chooses
            return None
        found: dict[str, Any] = {}
        for side, cell in zip(Genotype._fields, genotype, strict=True):
            for node, inputs in zip(NODES, cell, strict=True):
                first, second = sorted(inputs, key=lambda one: one[1])
                found[f"{side}_{node}_sources"] = f"{first[1]},{second[1]}"
                found |= {f"{side}_{node}_op{k}": op for k, (op, _) in enumerate((first, second))}
        return found

    def neighbours(self, arch: Any) -> Iterator[str]:
        """Every genotype with one operation or one input changed; a changed node's inputs are sorted by source."""
        genotype = parse_genotype(arch)
        found: dict[Genotype, None] = {}
        for side, index, slot in product(range(2), range(len(NODES)), range(2)):
            node = genotype[side][index]
            op, source = node[slot]
            other = node[1 - slot][1]
            near = [(changed, source) for changed in _SEARCHED if changed != op]
            if op != "none":  # which has nothing to do with its source
                near += [(op, changed) for changed in range(NODES[index]) if changed not in (source, other)]
            for entry in near:
                changed_node = tuple(sorted((entry, node[1 - slot]), key=lambda entry: entry[1]))
                cell = (*genotype[side][:index], changed_node, *genotype[side][index + 1 :])
                found[Genotype(cell, genotype[1]) if side == 0 else Genotype(genotype[0], cell)] = None
        return map(format_genotype, found)

    def counts(self, arch: Any, *, variant: str = "default") -> Counts:
        """By arithmetic; tests hold it against built networks and the published parameter counts."""
        check_variant(self, variant)
        return _counts(parse_genotype(arch), variant, self.num_classes)

    def build(self, arch: Any, *, seed: int | None = 0, variant: str = "default") -> nn.Module:
        """The network, with PyTorch's default initialisation, without auxiliary head and drop-path."""
        from ssnr.spaces import modules as cells
        from ssnr.spaces.darts import net as darts_net

        check_variant(self, variant)
        genotype, skeleton = parse_genotype(arch), SKELETONS[variant]
        net = darts_net.DartsNetwork(genotype, plan(skeleton), skeleton, self.num_classes)
        orders = [drawing_order(cell) for cell in genotype]
        darts_net.initialise(net, orders, cells.weights_rng(seed, self.name, self.twin(arch)))
        return net


@register_space("darts")
def darts(dataset: str = "") -> Darts:
    """DARTS / NAS-Bench-301 genotypes on cifar10."""
    return Darts(dataset or "cifar10")


# --- the space ------------------------------------------------------------------------------------------------


def _per_cell() -> int:
    """Choices of two different inputs for each node."""
    found = 1
    for node in NODES:
        found *= comb(node, 2)
    return found


def _pairs() -> Iterator[tuple[Cell, Cell]]:
    for normal in _cells(0):
        for reduce in _cells(0):
            yield normal, reduce


def _cells(index: int) -> Iterator[Cell]:
    """The rest of a cell from node `NODES[index]` on; recursive, because a product would list its factors first."""
    if index == len(NODES):
        yield ()
        return
    for first, second in combinations(range(NODES[index]), 2):
        for one, other in product(_SEARCHED, repeat=2):
            for rest in _cells(index + 1):
                yield (((one, first), (other, second)), *rest)


# --- which genotypes are the same -----------------------------------------------------------------------------


def _key(entry: Input) -> tuple[bool, int, int]:
    """How a node's inputs are sorted: `none` last, then by source, then by operation."""
    return entry[0] == "none", entry[1], _RANK[entry[0]]


@lru_cache(maxsize=1 << 14)
def _live_cell(cell: Cell) -> Cell:
    """The cell with operations of nothing made ('none', 0), and inputs sorted."""
    empty: set[int] = set()
    nodes = []
    for index, node in zip(NODES, cell, strict=True):
        entries = [("none", 0) if op == "none" or source in empty else (op, source) for op, source in node]
        if all(op == "none" for op, _ in entries):
            empty.add(index)
        nodes.append(tuple(sorted(entries, key=_key)))
    return tuple(nodes)


def _twin(genotype: Genotype) -> Genotype:
    return Genotype(*map(_live_cell, genotype))


@lru_cache(maxsize=1 << 14)
def drawing_order(cell: Cell) -> tuple[tuple[int, int], ...]:
    """(node, slot) of the operations that are not of nothing, in the order of `twin`."""
    live = _live_cell(cell)
    found = []
    for index, (node, kept) in enumerate(zip(cell, live, strict=True)):
        slots = [slot for slot in range(2) if node[slot] in kept and node[slot][0] != "none"]
        found += [(index, slot) for slot in sorted(slots, key=lambda slot: _key(node[slot]))]
    return tuple(found)


def _smallest(cell: Cell) -> Cell:
    """The smallest renaming of nodes 2 … 5 that still lists sources before their targets."""
    best: tuple[Any, Cell] | None = None
    for names in permutations(NODES):
        renamed = dict(zip((0, 1, *NODES), (0, 1, *names), strict=True))
        nodes: dict[int, tuple[Input, ...]] = {}
        for index, node in zip(NODES, cell, strict=True):
            moved = [(op, 0 if op == "none" else renamed[source]) for op, source in node]
            if any(source >= renamed[index] for _, source in moved):
                break
            nodes[renamed[index]] = tuple(sorted(moved, key=_key))
        else:
            candidate = tuple(nodes[index] for index in NODES)
            size = [_key(entry) for node in candidate for entry in node]
            if best is None or size < best[0]:
                best = (size, candidate)
    assert best is not None  # the renaming that changes nothing
    return best[1]


@cache
def _operation(op: str, width: int, pixels: int, strided: bool, affine: bool) -> Tally:
    """What one operation adds; `pixels` are those of its output."""
    if op == "skip_connect" and strided:  # FactorizedReduce: two 1×1 convolutions to half the width, one norm
        return conv(width, width, 1, pixels, norm=affine)._replace(layers=2)
    if op.startswith(("sep", "dil")):
        depthwise = conv(width, width, int(op[-1]), pixels, groups=width, norm=False)
        pair = total([depthwise, conv(width, width, 1, pixels, norm=affine)])
        return pair.times(2 if op.startswith("sep") else 1)
    return Tally()


@cache
def _preprocess(cell: CellPlan, side: int) -> Tally:
    """The 1×1 convolution in front of an input; after a reduction the older input is halved by two of them."""
    halves = side == 0 and cell.after_reduction
    pixels = (cell.size * (2 if cell.reduction else 1)) ** 2
    return conv(cell.inputs[side], cell.width, 1, pixels)._replace(layers=2 if halves else 1)


@lru_cache(maxsize=1 << 14)
def _flow(cell: Cell, fed0: bool, fed1: bool) -> tuple[tuple[bool, ...], bool, tuple[bool, bool]]:
    """(the operations that carry something, whether the cell does, whether it takes it from each of its inputs)."""
    fed = {0: fed0, 1: fed1}
    carries = []
    for index, node in zip(NODES, cell, strict=True):
        here = [op != "none" and fed[source] for op, source in node]
        fed[index] = any(here)
        carries += here
    taken = [source for node, at in zip(cell, range(0, 8, 2), strict=True) for (_, source), carried in
             zip(node, carries[at : at + 2], strict=True) if carried]  # fmt: skip
    return tuple(carries), any(carries), (0 in taken, 1 in taken)


@lru_cache(maxsize=1 << 14)
def _cell_tallies(cell: Cell, place: CellPlan, affine: bool) -> tuple[Tally, ...]:
    """The eight operations of a cell at its place in the stack."""
    pixels = place.size**2
    return tuple(
        _operation(op, place.width, pixels, place.reduction and source < 2, affine)
        for node in cell
        for op, source in node
    )


def _counts(genotype: Genotype, variant: str, classes: int) -> Counts:
    skeleton = SKELETONS[variant]
    places = plan(skeleton)
    kinds = [genotype.reduce if place.reduction else genotype.normal for place in places]
    fed = [True, True]  # what cells -2 and -1, the stem, output
    flows = []
    for cell in kinds:
        flows.append(_flow(cell, fed[-2], fed[-1]))
        fed.append(flows[-1][1])
    needed = [False] * len(places) + [False, False]
    needed[len(places) - 1] = fed[-1]
    for k in reversed(range(len(places))):
        takes = flows[k][2]
        for side, below in ((0, k - 2), (1, k - 1)):
            needed[below] |= below >= 0 and needed[k] and takes[side]
    head = linear(len(NODES) * places[-1].width, classes)
    outer = [conv(3, skeleton.stem * skeleton.width, 3, 32 * 32)] if skeleton.stem else []
    everything = [*outer, head]
    reachable = [*outer, *([head] if skeleton.stem else [])] if fed[-1] else []
    for k, (place, cell) in enumerate(zip(places, kinds, strict=True)):
        carries, _, takes = flows[k]
        tallies = _cell_tallies(cell, place, skeleton.affine)
        sides = [_preprocess(place, side) for side in range(2)]
        everything += [*tallies, *sides]
        if needed[k]:
            reachable += [tally for tally, carried in zip(tallies, carries, strict=True) if carried]
            reachable += [tally for tally, taken in zip(sides, takes, strict=True) if taken]
    return counts(total(everything), total(reachable))
