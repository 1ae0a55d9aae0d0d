"""Arrows never turn back: which module may import which, and what importing costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ssnr

SOURCE = Path(ssnr.__file__).parent
# Lowest first. A module imports only from groups before its own, or from its own group.
ORDER = [
    {"_version", "_errors"},
    {"_registry"},
    {"moments"},
    {"aggregate", "recipes"},
    {"proxies"},
    {"spaces", "store", "stats", "curves"},
    {"_masks"},
    {"_nests", "_settings", "_state", "_slots", "_calling", "_precision"},
    {"_exponents", "_own_functions", "_probing", "_degrees", "_scaled_attention", "_approximated"},
    {"_model", "linearize", "_scaled"},
    {"data"},
    {"saliencies", "activations", "supernet"},
    {"counts"},
    {"scoring"},
    {"pruning", "training"},
    {"experiments"},
    {"_libraries"},
    {"_preload", "_workers", "engine", "targets"},
    {"benchmarks"},
    {"_selection", "_tables"},
    {"studies", "plots"},
    {"reproduce", "table1", "fig1"},
    {"_terminal"},
    {"_commands", "_listing", "_pruning_commands", "_figures"},
    {"cli"},
    {"__init__", "__main__"},
]
RANK = {name: rank for rank, group in enumerate(ORDER) for name in group}
READS_ONLY = "store stats studies benchmarks plots reproduce spaces cli proxies aggregate curves"


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, anywhere but under TYPE_CHECKING."""
    tree = ast.parse(path.read_text())
    hidden = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
        for node in ast.walk(branch)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ssnr") and id(node) not in hidden:
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


def modules() -> list[tuple[str, Path]]:
    return [(p.relative_to(SOURCE).parts[0].removesuffix(".py"), p) for p in sorted(SOURCE.rglob("*.py"))]


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: str(value) if isinstance(value, str) else "")
def test_modules_import_only_what_stands_before_them(name, path):
    assert name in RANK, f"{name} has no place in the order"
    later = {other for other in imports(path) if RANK[other] > RANK[name]}
    assert not later, f"{path.relative_to(SOURCE)} imports {later}, which stand after it"


@pytest.mark.parametrize("name", READS_ONLY.split())
def test_what_only_reads_results_never_imports_torch(name):
    subprocess.run([sys.executable, "-c", f"import sys, ssnr.{name}; assert 'torch' not in sys.modules"], check=True)


def test_every_public_name_is_there_and_importing_the_package_imports_none():
    code = "import sys, ssnr; assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    for name in dir(ssnr):
        assert getattr(ssnr, name) is not None
    assert callable(ssnr.saliency) and callable(ssnr.study) and callable(ssnr.score) and callable(ssnr.sweep)


def test_no_file_of_the_package_is_longer_than_it_can_be_held_in_the_head():
    lengths = {str(path.relative_to(SOURCE)): len(path.read_text().splitlines()) for _, path in modules()}
    assert {name: length for name, length in lengths.items() if length > 450} == {}
