"""TransNAS-Bench-101 (Duan, Chen, Xu, Chen, Liang, Zhang & Li, 2021): one family of networks, seven vision tasks.

The micro space puts one of four operations on each of six edges of a cell (4⁶ = 4,096 cells) in a fixed skeleton; the
macro space fixes the block and varies where the network gets wider and smaller (3,256 networks). Taskonomy images of
256×256; jigsaw takes nine tiles of 64×64.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

from ssnr.core.registry import unknown
from ssnr.core.results import Counts
from ssnr.spaces import graph
from ssnr.spaces.base import Space, check_variant, draw, register_space
from ssnr.spaces.counting import Tally, counts, total
from ssnr.spaces.transnasbench101.layout import (
    EDGES,
    MICRO_CODES,
    TASKS,
    blocks,
    decoder_layers,
    edge_tallies,
    macro_tally,
    outer_tally,
)
from ssnr.spaces.transnasbench101.text import Digits, format_macro, format_micro, macro_fault, parse_macro, parse_micro

if TYPE_CHECKING:
    from torch import nn

    from ssnr.spaces.transnasbench101.net import TransNasNetwork

OPERATIONS = ("none", "skip_connect", "conv_1x1", "conv_3x3")
INITS = ("fan_out", "torch")
# The skip that leaves node 0 has weights: in the three cells that change width and size it is a FactorizedReduce.
_TERMS = (None, graph.IDENTITY, graph.Term("conv_1x1", weights=True), graph.Term("conv_3x3", weights=True))
_TERMS_FROM_INPUT = (None, graph.Term("reduce", weights=True), *_TERMS[2:])


class _TransNasBench(Space):
    """What the micro and the macro space share: tasks, heads and the way to a network.

    Variants: `default` is the network whose accuracy the benchmark reports; `naslib` has the heads of the published
    proxies, 63 scene and 100 object classes instead of 47 and 75.
    """

    variants = ("default", "naslib")

    def __init__(self, task: str = "class_scene") -> None:
        if task not in TASKS:
            raise unknown("TransNAS-Bench-101 task", task, TASKS)
        self.task = task
        self.input_shape = TASKS[task].input_shape
        self.num_classes = TASKS[task].outputs
        self.name = self.family if task == "class_scene" else f"{self.family}/{task}"

    def outputs(self, variant: str = "default") -> int:
        """Classes, regression targets or channels that the network of a variant outputs."""
        check_variant(self, variant)
        return TASKS[self.task].published if variant == "naslib" else TASKS[self.task].outputs

    def build(self, arch: Any, *, seed: int | None = 0, variant: str = "default", init: str = "fan_out") -> nn.Module:
        """The benchmark's network.

        Args:
            arch: any form that `parse` takes.
            seed: of the weights; None takes torch's global generator.
            variant: see the class.
            init: of the encoder; `fan_out` is N(0, 2/fan_out) as in the benchmark's own builder, which the published
                proxies used too, `torch` PyTorch's default. Heads and decoders have PyTorch's default in either.
        """
        from ssnr.spaces import modules as cells
        from ssnr.spaces.transnasbench101 import net as transnasbench101_net

        outputs, text = self.outputs(variant), self.parse(arch)
        if init not in INITS:
            raise unknown("initialisation", init, INITS)
        key, order = self._network(text)
        net = self._assemble(text, outputs)
        transnasbench101_net.initialise(net, order, cells.weights_rng(seed, self.name, key), init)
        return net

    @abstractmethod
    def _network(self, text: str) -> tuple[str, list[graph.Edge]]:
        """What decides the weights: the network's key, the cell's live edges in the order of drawing."""

    @abstractmethod
    def _blocks(self, text: str) -> tuple[tuple[int, ...], list[nn.Module]]:
        """Module codes, and the blocks as modules."""

    def _assemble(self, text: str, outputs: int) -> TransNasNetwork:
        """The network with its weights still to be filled."""
        from torch import nn

        from ssnr.spaces.transnasbench101 import net as net

        codes, made = self._blocks(text)
        plan, head = blocks(codes), TASKS[self.task].head
        channels, strides = plan[-1].channels_out, sum(block.stride > 1 for block in plan)
        if head == "tiles":
            return net.Jigsaw(made, net.classifier(net.TILES * channels, outputs))
        if head == "linear":
            return net.TransNasNetwork(made, net.classifier(channels, outputs))
        layers = decoder_layers(head, channels, strides)
        return net.TransNasNetwork(made, net.decoder(layers, nn.Tanh() if head == "image" else None))


class TransNasBench101Micro(_TransNasBench):
    """The micro space for one task; see the module.

    >>> space = TransNasBench101Micro()
    >>> space.parse((1, 0, 0, 2, 2, 3))
    '64-41414-1_00_223'
    >>> space.counts(_, variant="naslib").params
    9440607
    """

    family = "transnasbench101-micro"

    def __len__(self) -> int:
        return int(len(OPERATIONS) ** len(EDGES))

    def all(self) -> Iterator[str]:
        """Every cell once, in the order of the digits."""
        return map(format_micro, product(range(len(OPERATIONS)), repeat=len(EDGES)))

    def parse(self, form: Any) -> str:
        """Accepts `64-41414-a_bc_def`, `a_bc_def` alone, and NASLib's 6-tuple for these tasks (also as text).

        The digits are those of the edges 0→1, 0→2, 1→2, 0→3, 1→3, 2→3: 0 none, 1 skip, 2 conv 1×1, 3 conv 3×3.

        Raises:
            ArchitectureError: what was expected and where it broke.
        """
        return format_micro(parse_micro(form))

    def canonical(self, arch: Any) -> str:
        """The first cell, in `all`'s order, with the same function after training: 1,519 classes.

        A convolution of nothing counts, because its norm learns a bias.
        """
        return _classes()[_function(parse_micro(arch))]

    def idle_operations(self, arch: Any) -> int:
        """Operations other than `none` on no path from the cell's input to its output."""
        digits = parse_micro(arch)
        return sum(digit != 0 for digit in digits) - len(graph.live_edges(EDGES, _terms(digits)))

    def twin(self, arch: Any) -> str:
        """The cell without the operations that no path from input to output uses, in canonical order.

        At initialisation, where a convolution of nothing is nothing. Finer than `canonical` where one shared
        convolution and two separate ones are the same function.
        """
        return _twins()[_micro_network(parse_micro(arch)).key]

    def naslib_tuple(self, arch: Any) -> Digits:
        """NASLib's 6-tuple of the Taskonomy tasks (it reads 6-tuples differently for its other data sets)."""
        return parse_micro(arch)

    def sample(self, rng: Any) -> str:
        """One cell, uniformly."""
        return format_micro([draw(rng, len(OPERATIONS)) for _ in EDGES])

    def suggest(self, trial: Any) -> str:
        """One categorical parameter an edge, `0_1` … `2_3`."""
        return format_micro(
            [OPERATIONS.index(trial.suggest_categorical(f"{i}_{j}", list(OPERATIONS))) for i, j in EDGES]
        )

    def suggestion(self, arch: Any) -> dict[str, Any]:
        return {f"{i}_{j}": OPERATIONS[digit] for (i, j), digit in zip(EDGES, parse_micro(arch), strict=True)}

    def neighbours(self, arch: Any) -> Iterator[str]:
        """The 18 cells that differ in one operation."""
        digits = parse_micro(arch)
        for edge, digit in product(range(len(EDGES)), range(len(OPERATIONS))):
            if digit != digits[edge]:
                yield format_micro((*digits[:edge], digit, *digits[edge + 1 :]))

    def counts(self, arch: Any, *, variant: str = "default") -> Counts:
        """By arithmetic; tests hold it against built networks and the published parameter counts."""
        outer = outer_tally(self.task, self.outputs(variant), MICRO_CODES)
        digits = parse_micro(arch)
        by_edge = _by_edge(self.task, digits)
        live = graph.live_edges(EDGES, _terms(digits))
        reachable = total([outer, *(by_edge[k] for k in live)]) if live else Tally()
        return counts(total([outer, *by_edge]), reachable)

    def _network(self, text: str) -> tuple[str, list[graph.Edge]]:
        key, order = _micro_network(parse_micro(text))
        return key, [EDGES[k] for k in order]

    def _blocks(self, text: str) -> tuple[tuple[int, ...], list[nn.Module]]:
        from ssnr.spaces.transnasbench101.net import micro_cell

        digits = parse_micro(text)
        return MICRO_CODES, [micro_cell(digits, block) for block in blocks(MICRO_CODES)]


class TransNasBench101Macro(_TransNasBench):
    """The macro space for one task; see the module.

    >>> space = TransNasBench101Macro("class_object")
    >>> space.parse((1, 2, 4, 2, 0, 0))
    '64-1242-basic'
    >>> space.counts("64-331423-basic", variant="naslib").params
    5550212
    """

    family = "transnasbench101-macro"

    def __len__(self) -> int:
        return len(_macro_codes())

    def all(self) -> Iterator[str]:
        """Every network once, short ones first."""
        return map(format_macro, _macro_codes())

    def parse(self, form: Any) -> str:
        """Accepts `64-1242-basic` and NASLib's tuple, with or without its zeros at the end.

        The four to six codes are those of the modules: 1 keeps width and size, 2 doubles the width, 3 halves the size,
        4 does both. One to three double, one to four halve.

        Raises:
            ArchitectureError: what was expected and where it broke.
        """
        return format_macro(parse_macro(form))

    def canonical(self, arch: Any) -> str:
        """The string itself: no two are the same network."""
        return self.parse(arch)

    def naslib_tuple(self, arch: Any) -> Digits:
        """NASLib's tuple: the codes, followed by zeros up to six."""
        codes = parse_macro(arch)
        return codes + (0,) * (6 - len(codes))

    def sample(self, rng: Any) -> str:
        """One network, uniformly."""
        return format_macro(_macro_codes()[draw(rng, len(self))])

    def suggest(self, trial: Any) -> str:
        """The number of modules, and for each of the first three doublings and four halvings whether and where it is.

        A place is a module's number; two of one kind at one place are one.
        """
        modules = trial.suggest_int("modules", 4, 6)
        codes = [1] * modules
        for added, name, most in ((1, "double", 3), (2, "halve", 4)):
            places = {trial.suggest_int(f"{name}{k}", 0, 5) % modules for k in range(trial.suggest_int(name, 1, most))}
            for place in places:
                codes[place] += added
        return format_macro(codes)

    def suggestion(self, arch: Any) -> dict[str, Any]:
        codes = parse_macro(arch)
        found: dict[str, Any] = {"modules": len(codes)}
        for added, name in ((1, "double"), (2, "halve")):
            places = [place for place, code in enumerate(codes) if code - 1 in (added, 3)]
            found |= {name: len(places)} | {f"{name}{k}": place for k, place in enumerate(places)}
        return found

    def neighbours(self, arch: Any) -> Iterator[str]:
        """Every network with one code changed, put in or taken out."""
        codes = parse_macro(arch)
        found: dict[Digits, None] = {}
        for at in range(len(codes) + 1):
            found[codes[:at] + codes[at + 1 :]] = None
            for code in (1, 2, 3, 4):
                found[(*codes[:at], code, *codes[at + 1 :])] = None
                found[(*codes[:at], code, *codes[at:])] = None
        return (format_macro(near) for near in found if near != codes and macro_fault(near) is None)

    def counts(self, arch: Any, *, variant: str = "default") -> Counts:
        """By arithmetic; tests hold it against built networks and the published parameter counts."""
        codes = parse_macro(arch)
        everything = total([outer_tally(self.task, self.outputs(variant), codes), macro_tally(self.task, codes)])
        return counts(everything, everything)

    def _network(self, text: str) -> tuple[str, list[graph.Edge]]:
        return text, []

    def _blocks(self, text: str) -> tuple[tuple[int, ...], list[nn.Module]]:
        from ssnr.spaces.transnasbench101.net import BasicBlock

        codes = parse_macro(text)
        return codes, [BasicBlock(block) for block in blocks(codes)]


@register_space("transnasbench101-micro")
def transnasbench101_micro(task: str = "") -> TransNasBench101Micro:
    """TransNAS-Bench-101's cells for class_scene (default), class_object, jigsaw, or one of four more tasks."""
    return TransNasBench101Micro(task or "class_scene")


@register_space("transnasbench101-macro")
def transnasbench101_macro(task: str = "") -> TransNasBench101Macro:
    """TransNAS-Bench-101's skeletons for class_scene (default), class_object, jigsaw, or one of four more tasks."""
    return TransNasBench101Macro(task or "class_scene")


# --- which cells are the same ---------------------------------------------------------------------------------


def _terms(digits: Digits) -> list[graph.Term | None]:
    return [(_TERMS_FROM_INPUT if edge[0] == 0 else _TERMS)[d] for edge, d in zip(EDGES, digits, strict=True)]


def _function(digits: Digits) -> str:
    return graph.function_text(EDGES, _terms(digits))


@lru_cache(maxsize=1 << 13)
def _micro_network(digits: Digits) -> graph.Network:
    return graph.network(EDGES, _terms(digits))


def _by_edge(task: str, digits: Digits) -> list[Tally]:
    tallies = edge_tallies(task)
    return [tallies[edge[0] == 0][digit] for edge, digit in zip(EDGES, digits, strict=True)]


@cache
def _classes() -> dict[str, str]:
    classes: dict[str, str] = {}
    for digits in product(range(len(OPERATIONS)), repeat=len(EDGES)):
        classes.setdefault(_function(digits), format_micro(digits))
    return classes


@cache
def _twins() -> dict[str, str]:
    """Key → its cheapest cell: fewest weights, then fewest operations, then first in `all`'s order."""
    best: dict[str, tuple[tuple[int, int], str]] = {}
    for digits in product(range(len(OPERATIONS)), repeat=len(EDGES)):
        cost = (total(_by_edge("class_scene", digits)).weights, sum(digit != 0 for digit in digits))
        key = _micro_network(digits).key
        if key not in best or cost < best[key][0]:
            best[key] = (cost, format_micro(digits))
    return {key: arch for key, (_, arch) in best.items()}


@cache
def _macro_codes() -> tuple[Digits, ...]:
    every = (codes for length in (4, 5, 6) for codes in product((1, 2, 3, 4), repeat=length))
    return tuple(codes for codes in every if macro_fault(codes) is None)
