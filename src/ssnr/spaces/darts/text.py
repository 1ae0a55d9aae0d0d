"""DARTS genotypes: reading and writing them. No torch here."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ssnr.core.errors import ArchitectureError
from ssnr.core.registry import unknown

# The order of the compact form's indices, which has no `none`.
OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "none",
)
NODES = (2, 3, 4, 5)

Input = tuple[str, int]  # operation, source
Cell = tuple[tuple[Input, ...], ...]  # two inputs for each of NODES


class Genotype(NamedTuple):
    """The two cells."""

    normal: Cell
    reduce: Cell


_EXPECTED = "expected Genotype(normal=[('op', source), … eight], …, reduce=[…], …) or [[(source, index), …], […]]"
_LONGEST = 10_000  # characters; what is longer is no genotype, and the parser need not see it


def format_genotype(genotype: Genotype) -> str:
    """The text of DARTS' own genotypes, in their layout."""
    parts = []
    for name, cell in zip(("normal", "reduce"), genotype, strict=True):
        pairs = ", ".join(f"('{op}', {source})" for node in cell for op, source in node)
        parts.append(f"{name}=[{pairs}], {name}_concat={list(NODES)}")
    return f"Genotype({', '.join(parts)})"


def parse_genotype(form: Any) -> Genotype:
    """Any accepted form → the genotype (see `Darts.parse`)."""
    if isinstance(form, str):
        return _from_text(form)
    if isinstance(form, Mapping):
        return _from_fields(form)
    if hasattr(form, "normal") and hasattr(form, "reduce"):
        names = ("normal", "normal_concat", "reduce", "reduce_concat")
        return _from_fields({name: getattr(form, name) for name in names if hasattr(form, name)})
    if isinstance(form, (Sequence, np.ndarray)) and len(form) == 2:
        return Genotype(_cell("normal", form[0]), _cell("reduce", form[1]))
    raise ArchitectureError(f"DARTS genotype {_short(form)}: {_EXPECTED}")


@lru_cache(maxsize=1 << 12)
def _from_text(text: str) -> Genotype:
    try:
        form = _evaluated(text)
    except SyntaxError as error:
        raise _unreadable(text, f"{error.msg}, at character {error.offset}") from error
    except (ValueError, TypeError, MemoryError, RecursionError) as error:
        raise _unreadable(text, "neither Genotype(…) nor lists of pairs") from error
    if isinstance(form, str):
        raise _unreadable(text, "neither Genotype(…) nor lists of pairs")
    return parse_genotype(form)


def _evaluated(text: str) -> Any:
    """The lists in a text, without running it; of `Genotype(name=…)` its fields."""
    if len(text) > _LONGEST:
        raise ValueError
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escapes in text that is no genotype anyway
        tree = ast.parse(text.strip(), mode="eval").body
    if not isinstance(tree, ast.Call):
        return ast.literal_eval(tree)
    if tree.args or not isinstance(tree.func, ast.Name) or tree.func.id != "Genotype":
        raise ValueError
    return {str(keyword.arg): _literal(keyword.value) for keyword in tree.keywords}


def _unreadable(text: str, reason: str) -> ArchitectureError:
    return ArchitectureError(f"DARTS genotype {_short(text)}: {reason}; {_EXPECTED}")


def _literal(node: ast.expr) -> Any:
    """A literal, or the `range(2, 6)` that DARTS' own search prints."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        bounds = [ast.literal_eval(bound) for bound in node.args]
        if all(isinstance(bound, int) and abs(bound) < 100 for bound in bounds):
            return list(range(*bounds))
    return ast.literal_eval(node)


def _from_fields(fields: Mapping[str, Any]) -> Genotype:
    for name in ("normal", "reduce"):
        if name not in fields:
            raise ArchitectureError(f"DARTS genotype: no {name} cell; {_EXPECTED}")
        concat = fields.get(f"{name}_concat", NODES)
        if not isinstance(concat, (Sequence, range)) or sorted(concat) != list(NODES):
            raise ArchitectureError(f"DARTS genotype: {name}_concat is {_short(concat)}, expected {list(NODES)}")
    return Genotype(_cell("normal", fields["normal"]), _cell("reduce", fields["reduce"]))


def _cell(name: str, form: Any) -> Cell:
    where = f"DARTS genotype: {name} cell"
    if isinstance(form, np.ndarray):
        form = form.tolist()
    if isinstance(form, str) or not isinstance(form, Sequence):
        raise ArchitectureError(f"{where} is {_short(form)}, expected eight (operation, source) pairs")
    if len(form) != 2 * len(NODES):
        fault = f"{len(form)} (operation, source) pairs, expected 8, two for each of nodes 2 … 5"
        if len(form) % 2 and len(form) < 2 * len(NODES):
            fault += f": node {NODES[len(form) // 2]} has one input only"
        raise ArchitectureError(f"{where} has {fault}")
    inputs = [_input(f"{where}, node {NODES[at // 2]}, input {at % 2}", NODES[at // 2], p) for at, p in enumerate(form)]
    return tuple((inputs[at], inputs[at + 1]) for at in range(0, len(inputs), 2))


def _input(where: str, node: int, pair: Any) -> Input:
    """('op', source) as in genotypes, or (source, index) as in the compact form."""
    if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
        _refuse(where, pair)
    op, source = pair
    if not isinstance(op, str):
        source, index = pair
        if not _is_integer(index):
            _refuse(where, pair)
        if not 0 <= index < len(OPERATIONS) - 1:
            raise ArchitectureError(f"{where}: operation index {index}, expected 0 … {len(OPERATIONS) - 2}")
        op = OPERATIONS[index]
    if op not in OPERATIONS:
        raise ArchitectureError(f"{where}: {unknown('operation', op, OPERATIONS)}")
    if not _is_integer(source):
        _refuse(where, pair)
    if not 0 <= source < node:
        raise ArchitectureError(f"{where}: source {source}, expected a node before it, 0 … {node - 1}")
    return op, int(source)


def _refuse(where: str, pair: Any) -> NoReturn:
    raise ArchitectureError(f"{where} is {_short(pair)}, expected ('operation', source) or (source, operation index)")


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _short(form: Any) -> str:
    text = repr(form)
    return text if len(text) <= 80 else f"{text[:77]}…"
