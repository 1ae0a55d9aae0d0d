"""NAS-Bench-101 cells: reading and writing them. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import isqrt
from typing import Any

import numpy as np

from ssnr.core.errors import ArchitectureError
from ssnr.core.registry import unknown
from ssnr.spaces.nasbench101.cells import OPERATIONS, Cell

TUPLE_OPERATIONS = ("input", "output", "maxpool3x3", "conv1x1", "conv3x3")  # NASLib's codes
MAX_VERTICES = 9  # two more than the benchmark's: isomorphism goes through all orders of the vertices
_ALIASES = {"conv3x3-bn-relu": "conv3x3", "conv1x1-bn-relu": "conv1x1"}
_WHERE = "NAS-Bench-101 cell"
_EXPECTED = "expected op~sources+…+output~sources, (matrix, operations), or NASLib's n² + n codes"


def format_cell(cell: Cell) -> str:
    """The vertices after the input, each with what feeds it."""
    names = (*cell.ops, "output")
    return "+".join(f"{op}~{','.join(map(str, own))}" for op, own in zip(names, cell.sources, strict=True))


def parse_cell(form: Any) -> Cell:
    """Any accepted form → the cell, not pruned (see `NasBench101.parse`)."""
    if isinstance(form, str):
        return _from_text(form)
    if isinstance(form, Mapping):
        for matrix, ops in (("matrix", "ops"), ("module_adjacency", "module_operations")):
            if matrix in form and ops in form:
                return _from_matrix(form[matrix], form[ops])
    for matrix, ops in (("original_matrix", "original_ops"), ("matrix", "ops")):
        if hasattr(form, matrix) and hasattr(form, ops):
            return _from_matrix(getattr(form, matrix), getattr(form, ops))
    if isinstance(form, np.ndarray):
        form = form.tolist()
    if isinstance(form, Sequence):
        if len(form) == 2 and not isinstance(form[0], (int, np.integer)):
            return _from_matrix(*form)
        if form and all(isinstance(code, (int, np.integer)) for code in form):
            return _from_codes([int(code) for code in form])
    raise ArchitectureError(f"{_WHERE} {form!r:.80}: {_EXPECTED}")


@lru_cache(maxsize=1 << 14)
def _from_text(text: str) -> Cell:
    stripped = text.strip()
    if re.fullmatch(r"[(\[]\s*\d+(\s*,\s*\d+)*\s*,?\s*[)\]]", stripped):
        return _from_codes([int(code) for code in re.findall(r"\d+", stripped)])
    ops, sources = [], []
    for vertex, part in enumerate(stripped.split("+"), start=1):
        op, tilde, listed = part.strip().partition("~")
        if not tilde or not re.fullmatch(r"(\d+(,\d+)*)?", listed):
            raise ArchitectureError(
                f"{_WHERE}: vertex {vertex} is {part!r:.60}, expected op~source,source,…; {_EXPECTED}"
            )
        own = sorted({int(source) for source in listed.split(",") if source})
        if own and own[-1] >= vertex:
            shown = " ".join(op.split())[:60]
            raise ArchitectureError(
                f"{_WHERE}: vertex {vertex} ({shown}) is fed by {own[-1]}, expected vertices before it, "
                f"0 … {vertex - 1}"
            )
        ops.append(op)
        sources.append(tuple(own))
    return _checked(["input", *ops], sources)


def _from_codes(codes: Sequence[int]) -> Cell:
    """NASLib's tuple: n² entries of the matrix, row by row, then n operations."""
    n = (isqrt(4 * len(codes) + 1) - 1) // 2
    if n * n + n != len(codes) or n < 2:
        raise ArchitectureError(f"{_WHERE}: {len(codes)} codes, expected n² + n: 6, 12, 20, 30, 42 or 56")
    ops = []
    for vertex, code in enumerate(codes[n * n :]):
        if not 0 <= code < len(TUPLE_OPERATIONS):
            raise ArchitectureError(
                f"{_WHERE}: vertex {vertex} has operation {code}, "
                "expected 0 input, 1 output, 2 maxpool, 3 conv 1×1 or 4 conv 3×3"
            )
        ops.append(TUPLE_OPERATIONS[code])
    return _from_matrix([list(codes[row * n : row * n + n]) for row in range(n)], ops)


def _from_matrix(matrix: Any, ops: Any) -> Cell:
    """The benchmark's own form: an upper-triangular matrix, and operations from input to output."""
    rows = matrix.tolist() if isinstance(matrix, np.ndarray) else matrix
    n = len(rows) if isinstance(rows, Sequence) and not isinstance(rows, str) else 0
    if n < 2 or not all(isinstance(row, Sequence) and not isinstance(row, str) and len(row) == n for row in rows):
        raise ArchitectureError(f"{_WHERE}: the matrix is {rows!r:.60}, expected n rows of n entries, n ≥ 2")
    for i, row in enumerate(rows):
        for j, entry in enumerate(row):
            if entry not in (0, 1):
                raise ArchitectureError(f"{_WHERE}: entry ({i}, {j}) of the matrix is {entry!r}, expected 0 or 1")
            if entry and j <= i:
                raise ArchitectureError(
                    f"{_WHERE}: entry ({i}, {j}) of the matrix is 1, expected only zeros on and below the diagonal"
                )
    if isinstance(ops, str) or not isinstance(ops, Sequence) or len(ops) != n:
        raise ArchitectureError(
            f"{_WHERE}: operations are {ops!r:.60}, expected {n}, one a vertex, from input to output"
        )
    if all(isinstance(op, (int, np.integer)) for op in ops):
        return _from_codes([*(int(entry) for row in rows for entry in row), *(int(op) for op in ops)])
    return _checked([str(op) for op in ops], [tuple(i for i in range(j) if rows[i][j]) for j in range(1, n)])


def _checked(ops: Sequence[str], sources: Sequence[tuple[int, ...]]) -> Cell:
    """The cell, if its operations are known and a path leads through it."""
    if ops[0] != "input" or ops[-1] != "output":
        raise ArchitectureError(
            f"{_WHERE}: the first vertex is {ops[0]!r} and the last {ops[-1]!r}, expected input and output"
        )
    if len(ops) > MAX_VERTICES:
        raise ArchitectureError(f"{_WHERE}: {len(ops)} vertices, expected at most {MAX_VERTICES}")
    inner = [_ALIASES.get(op, op) for op in ops[1:-1]]
    for vertex, op in enumerate(inner, start=1):
        if op not in OPERATIONS:
            raise ArchitectureError(f"{_WHERE}: vertex {vertex}: {unknown('operation', op, OPERATIONS)}")
    cell = Cell(tuple(inner), tuple(sources))
    if not cell.connected():
        raise ArchitectureError(f"{_WHERE}: no path from the input (vertex 0) to the output (vertex {len(sources)})")
    return cell
