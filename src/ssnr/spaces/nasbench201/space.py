"""NAS-Bench-201, the topology space of NATS-Bench (Dong & Yang, 2020; Dong, Liu, Musial & Gabrys, 2021).

A cell has four nodes and six edges; each edge carries one of five operations: 5⁶ = 15,625 cells. The network stacks
fifteen copies of the cell at 16, 32 and 64 channels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from importlib import resources
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from ssnr.core.errors import ArchitectureError
from ssnr.core.registry import unknown
from ssnr.core.results import Counts
from ssnr.spaces import graph
from ssnr.spaces.base import Space, check_variant, draw, register_space

if TYPE_CHECKING:
    from torch import nn

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
# The order of the string: by target node. NASLib's tuple lists edges by source node, with other operation codes.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
TUPLE_EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
TUPLE_OPERATIONS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
_ALIASES = {"conv_1x1": "nor_conv_1x1", "conv_3x3": "nor_conv_3x3"}

DATASETS = {"cifar10": (32, 10), "cifar100": (32, 100), "imagenet16-120": (16, 120)}
WIDTHS, CELLS_PER_STAGE = (16, 32, 64), 5
_CONV_WEIGHTS = {"nor_conv_3x3": 9, "nor_conv_1x1": 1}
_TERMS = {
    "none": None,
    "skip_connect": graph.IDENTITY,
    "nor_conv_1x1": graph.Term("conv_1x1", weights=True),
    "nor_conv_3x3": graph.Term("conv_3x3", weights=True),
    "avg_pool_3x3": graph.Term("pool_3x3"),
}

Ops = tuple[str, ...]  # one operation an edge, in the order of EDGES


class NasBench201(Space):
    """The space for one data set; see the module.

    >>> space = NasBench201()
    >>> space.parse((4, 0, 3, 1, 4, 3))
    '|avg_pool_3x3~0|+|skip_connect~0|none~1|+|nor_conv_1x1~0|avg_pool_3x3~1|nor_conv_1x1~2|'
    >>> space.index(_)
    2631
    """

    family = "nasbench201"
    variants = ("default", "naslib", "zero-cost-nas")  # NASLib's network is the benchmark's own

    def __init__(self, dataset: str = "cifar10") -> None:
        if dataset.lower() not in DATASETS:
            raise unknown("NAS-Bench-201 data set", dataset, DATASETS)
        self.dataset = dataset.lower()
        size, self.num_classes = DATASETS[self.dataset]
        self.input_shape = (3, size, size)
        self.name = self.family if self.dataset == "cifar10" else f"{self.family}/{self.dataset}"

    def __len__(self) -> int:
        return int(len(OPERATIONS) ** len(EDGES))

    def all(self) -> Iterator[str]:
        """Every cell once, in the order of NATS-Bench's index."""
        return (format_ops(_decode(code)) for code in _index_table())

    def parse(self, form: Any) -> str:
        """Accepts the string, the index, NASLib's 6-tuple (also as text), op names by edge, and mappings edge → op.

        Raises:
            ArchitectureError: what was expected and where it broke.
        """
        return format_ops(parse_ops(form))

    def canonical(self, arch: Any) -> str:
        """The first cell, in `all`'s order, with the same official unique string: 6,466 classes."""
        return _classes()[unique_string(parse_ops(arch))]

    def twin(self, arch: Any) -> str:
        """The cell without the operations that no path from input to output uses, in canonical order.

        Finer than `canonical` where that rule calls one shared convolution and two separate ones the same.
        """
        return _twins()[network_key(parse_ops(arch))]

    def idle_operations(self, arch: Any) -> int:
        """Operations other than `none` on no path from input to output: 9,445 cells have none of them."""
        ops = parse_ops(arch)
        return sum(op != "none" for op in ops) - len(live_edges(ops))

    def index(self, arch: Any) -> int:
        """Position in NATS-Bench's fixed order, 0 … 15,624."""
        return _positions()[_encode(parse_ops(arch))]

    def naslib_tuple(self, arch: Any) -> tuple[int, ...]:
        """NASLib's 6-tuple: edges by source node, operations in NASLib's numbering."""
        by_edge = dict(zip(EDGES, parse_ops(arch), strict=True))
        return tuple(TUPLE_OPERATIONS.index(by_edge[edge]) for edge in TUPLE_EDGES)

    def sample(self, rng: Any) -> str:
        """One cell, uniformly."""
        return format_ops(tuple(OPERATIONS[draw(rng, len(OPERATIONS))] for _ in EDGES))

    def suggest(self, trial: Any) -> str:
        """One categorical parameter an edge, `0_1` … `2_3`."""
        return format_ops(tuple(trial.suggest_categorical(f"{i}_{j}", list(OPERATIONS)) for i, j in EDGES))

    def suggestion(self, arch: Any) -> dict[str, Any]:
        return {f"{i}_{j}": op for (i, j), op in zip(EDGES, parse_ops(arch), strict=True)}

    def neighbours(self, arch: Any) -> Iterator[str]:
        """The 24 cells that differ in one operation."""
        ops = parse_ops(arch)
        for edge, op in product(range(len(EDGES)), OPERATIONS):
            if op != ops[edge]:
                yield format_ops((*ops[:edge], op, *ops[edge + 1 :]))

    def counts(self, arch: Any, *, variant: str = "default") -> Counts:
        """Closed forms; a test holds them against the built network."""
        check_variant(self, variant)
        ops = parse_ops(arch)
        size, classes = DATASETS[self.dataset]
        fixed = 3 * 9 * 16 + sum(9 * c * 2 * c + 9 * 4 * c * c + 2 * c * c for c in WIDTHS[:2]) + 64 * classes
        norms = 2 * (16 + 2 * 32 + 2 * 64 + 64)
        pixels = [(size >> stage) ** 2 for stage in range(3)]
        fixed_flops = 3 * 9 * 16 * pixels[0] + 64 * classes + classes
        fixed_flops += sum((18 + 36 + 2) * WIDTHS[i] ** 2 * pixels[i + 1] for i in range(2))
        per_unit = CELLS_PER_STAGE * sum(c * c for c in WIDTHS)
        per_unit_flops = CELLS_PER_STAGE * sum(c * c * n for c, n in zip(WIDTHS, pixels, strict=True))
        # What a convolution has beside its weights: a norm's two numbers a channel, or a bias, which also costs flops.
        plain = variant != "zero-cost-nas"
        affine = CELLS_PER_STAGE * sum(WIDTHS) * (2 if plain else 1)
        bias_flops = 0 if plain else CELLS_PER_STAGE * sum(c * n for c, n in zip(WIDTHS, pixels, strict=True))
        convs = [op for op in ops if op in _CONV_WEIGHTS]
        held = convs if plain else [op for op in _CONV_WEIGHTS for _ in EDGES]
        units = sum(_CONV_WEIGHTS[op] for op in convs)
        live = live_edges(ops)
        used = [ops[edge] for edge in live if ops[edge] in _CONV_WEIGHTS]
        params = fixed + norms + classes + sum(map(_CONV_WEIGHTS.__getitem__, held)) * per_unit + len(held) * affine
        return Counts(
            params=params,
            flops=fixed_flops + units * per_unit_flops + len(convs) * bias_flops,
            reachable_params=fixed + sum(_CONV_WEIGHTS[op] for op in used) * per_unit if live else 0,
            layers=(8 + len(used) * CELLS_PER_STAGE * len(WIDTHS)) if live else 0,
            trainable=params,
        )

    def build(self, arch: Any, *, seed: int | None = 0, variant: str = "default") -> nn.Module:
        """The benchmark's network with PyTorch's default initialisation, U(−1/√fan_in, 1/√fan_in).

        Cells that are the same network get the same weights (`twin`). The variant `zero-cost-nas` is the network of
        Abdelfattah et al. (2021): convolutions with bias, norms without affine and running statistics in the cells, and
        on every edge also the convolutions that the cell does not use.
        """
        from ssnr.spaces import modules as cells
        from ssnr.spaces.nasbench201 import net as nasbench201_net

        check_variant(self, variant)
        ops = parse_ops(arch)
        key, order = _network(ops)
        net = nasbench201_net.CellNetwork(ops, EDGES, num_classes=self.num_classes, variant=variant)
        rng = cells.weights_rng(seed, self.name, key)
        nasbench201_net.initialise(net, [EDGES[k] for k in order], rng)
        return net


@register_space("nasbench201")
def nasbench201(dataset: str = "") -> NasBench201:
    """NAS-Bench-201 for cifar10 (default), cifar100 or imagenet16-120."""
    return NasBench201(dataset or "cifar10")


# --- strings --------------------------------------------------------------------------------------------------

_EXPECTED = "expected |op~0|+|op~0|op~1|+|op~0|op~1|op~2|"


def format_ops(ops: Ops) -> str:
    """Operations in the order of EDGES → the string."""
    a, b, c, d, e, f = ops
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


def parse_ops(form: Any) -> Ops:
    """Any accepted form → operations in the order of EDGES (see `NasBench201.parse`)."""
    if isinstance(form, str):
        return _parse_text(form)
    if isinstance(form, (int, np.integer)) and not isinstance(form, bool):
        return _from_index(int(form))
    if isinstance(form, Mapping):
        return _from_mapping(form)
    if isinstance(form, Sequence):
        return _from_sequence(form)
    raise ArchitectureError(f"NAS-Bench-201 cell {form!r}: {_EXPECTED}, an index or a 6-tuple")


@lru_cache(maxsize=1 << 15)
def _parse_text(text: str) -> Ops:
    stripped = text.strip()
    if re.fullmatch(r"[-+]?\d+", stripped):
        return _from_index(int(stripped))
    if re.fullmatch(r"[(\[]\s*\d+(\s*,\s*\d+)*\s*,?\s*[)\]]", stripped):
        return _from_sequence([int(code) for code in re.findall(r"\d+", stripped)])
    nodes = stripped.split("+")
    if len(nodes) != 3:
        raise ArchitectureError(f"NAS-Bench-201 cell {text!r}: {len(nodes)} nodes joined by '+', {_EXPECTED}")
    ops: list[str] = []
    for target, node in enumerate(nodes, start=1):
        if not (node.startswith("|") and node.endswith("|") and len(node) > 1):
            raise ArchitectureError(
                f"NAS-Bench-201 cell: node {target} is {node!r}, without | at both ends; {_EXPECTED}"
            )
        terms = node[1:-1].split("|")
        if len(terms) != target:
            raise ArchitectureError(
                f"NAS-Bench-201 cell: node {target} is {node!r} with {len(terms)} inputs; {_EXPECTED}"
            )
        for source, term in enumerate(terms):
            op, tilde, number = term.partition("~")
            if not tilde or number != str(source):
                raise ArchitectureError(
                    f"NAS-Bench-201 cell: input {source} of node {target} is {term!r}, expected op~{source}"
                )
            ops.append(_operation(op, f"input {source} of node {target}"))
    return tuple(ops)


def _operation(op: str, where: str) -> str:
    op = _ALIASES.get(op, op)
    if op not in OPERATIONS:
        raise ArchitectureError(f"NAS-Bench-201 cell: {where}: {unknown('operation', op, OPERATIONS)}")
    return op


def _from_index(index: int) -> Ops:
    table = _index_table()
    if not 0 <= index < len(table):
        raise ArchitectureError(f"NAS-Bench-201 index {index}: expected 0 … {len(table) - 1:,}")
    return _decode(table[index])


def _from_mapping(form: Mapping[Any, Any]) -> Ops:
    by_edge: dict[tuple[int, int], str] = {}
    for key, op in form.items():
        numbers = re.findall(r"\d", key) if isinstance(key, str) else key
        edge = tuple(int(n) for n in numbers)
        if edge not in EDGES:
            raise ArchitectureError(
                f"NAS-Bench-201 cell: no edge {key!r}; expected one of 0_1, 0_2, 1_2, 0_3, 1_3, 2_3"
            )
        by_edge[edge] = _operation(str(op), f"edge {key!r}")
    missing = [f"{i}_{j}" for i, j in EDGES if (i, j) not in by_edge]
    if missing:
        raise ArchitectureError(f"NAS-Bench-201 cell: no operation for edge {', '.join(missing)}")
    return tuple(by_edge[edge] for edge in EDGES)


def _from_sequence(form: Sequence[Any]) -> Ops:
    if all(isinstance(code, (int, np.integer)) for code in form):
        if len(form) != len(EDGES) or not all(0 <= code < len(OPERATIONS) for code in form):
            raise ArchitectureError(f"NAS-Bench-201 tuple {tuple(form)!r}: expected six codes 0 … 4 (NASLib's order)")
        by_edge = {edge: TUPLE_OPERATIONS[code] for edge, code in zip(TUPLE_EDGES, form, strict=True)}
        return tuple(by_edge[edge] for edge in EDGES)
    if len(form) == len(EDGES) and all(isinstance(op, str) for op in form):
        return tuple(_operation(op, f"edge {i}→{j}") for (i, j), op in zip(EDGES, form, strict=True))
    if len(form) == 3 and all(isinstance(node, Sequence) and not isinstance(node, str) for node in form):
        # AutoDL's genotype: for each node its (op, source) pairs.
        text = "+".join("|" + "|".join(f"{op}~{source}" for op, source in node) + "|" for node in form)
        return _parse_text(text)
    raise ArchitectureError(f"NAS-Bench-201 cell {form!r}: expected six operations, six codes, or (op, source) by node")


# --- index ----------------------------------------------------------------------------------------------------


def _encode(ops: Ops) -> int:
    code = 0
    for op in ops:
        code = code * len(OPERATIONS) + OPERATIONS.index(op)
    return code


@cache
def _decode(code: int) -> Ops:
    ops = []
    for _ in EDGES:
        code, op = divmod(code, len(OPERATIONS))
        ops.append(OPERATIONS[op])
    return tuple(reversed(ops))


@cache
def _index_table() -> tuple[int, ...]:
    """NATS-Bench's order, which no rule gives: `_encode` of the cell at each index."""
    data = resources.files("ssnr.spaces.nasbench201").joinpath("index.u16").read_bytes()
    return tuple(np.frombuffer(data, "<u2").tolist())


@cache
def _positions() -> dict[int, int]:
    return {code: index for index, code in enumerate(_index_table())}


# --- which cells are the same ---------------------------------------------------------------------------------


def unique_string(ops: Ops) -> str:
    """The benchmark's own isomorphism string: skips are identities, `none` and what hangs on nothing is `#`.

    >>> unique_string(parse_ops("|nor_conv_3x3~0|+|skip_connect~0|none~1|+|none~0|skip_connect~1|none~2|"))
    '#+#+(0)@nor_conv_3x3'
    """
    by_edge = dict(zip(EDGES, ops, strict=True))
    strings = ["0"]
    for target in (1, 2, 3):
        terms = []
        for source in range(target):
            op, below = by_edge[source, target], strings[source]
            if op == "none" or below == "#":
                terms.append("#")
            else:
                terms.append(below if op == "skip_connect" else f"({below})@{op}")
        strings.append("+".join(sorted(terms)))
    return strings[3]


@cache
def _classes() -> dict[str, str]:
    classes: dict[str, str] = {}
    for code in _index_table():
        ops = _decode(code)
        classes.setdefault(unique_string(ops), format_ops(ops))
    return classes


def live_edges(ops: Ops) -> list[int]:
    """Positions in EDGES of the edges on some path from the cell's input to its output."""
    return graph.live_edges(EDGES, _terms(ops))


def network_key(ops: Ops) -> str:
    """One string for all cells that are the same function with the same weights to draw."""
    return _network(ops).key


@lru_cache(maxsize=1 << 15)
def _network(ops: Ops) -> graph.Network:
    return graph.network(EDGES, _terms(ops))


def _terms(ops: Ops) -> list[graph.Term | None]:
    return [_TERMS[op] for op in ops]


@cache
def _twins() -> dict[str, str]:
    """Key → its cheapest cell: fewest weights, then fewest operations, then first in the benchmark's order."""
    best: dict[str, tuple[tuple[int, int], str]] = {}
    for code in _index_table():
        ops = _decode(code)
        cost = (sum(_CONV_WEIGHTS.get(op, 0) for op in ops), sum(op != "none" for op in ops))
        key = network_key(ops)
        if key not in best or cost < best[key][0]:
            best[key] = (cost, format_ops(ops))
    return {key: arch for key, (_, arch) in best.items()}
