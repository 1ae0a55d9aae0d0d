"""Rank neural networks before they are trained, by the signal-to-noise ratio of their saliency.

The public names; each is imported when first used, so that `import ssnr` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ssnr._version import __version__ as __version__

if TYPE_CHECKING:
    from ssnr import pruning as pruning
    from ssnr._errors import ArchitectureError as ArchitectureError
    from ssnr._errors import BenchmarkError as BenchmarkError
    from ssnr._errors import LayerCollapseWarning as LayerCollapseWarning
    from ssnr._errors import ScoringError as ScoringError
    from ssnr._errors import SsnrError as SsnrError
    from ssnr._errors import StoreError as StoreError
    from ssnr._errors import UsageError as UsageError
    from ssnr.aggregate import register_aggregate as register_aggregate
    from ssnr.benchmarks import load_benchmark as load_benchmark
    from ssnr.counts import count as count
    from ssnr.data import Batch as Batch
    from ssnr.engine import Row as Row
    from ssnr.engine import sweep as sweep
    from ssnr.moments import LayerScore as LayerScore
    from ssnr.moments import Moments as Moments
    from ssnr.proxies import Score as Score
    from ssnr.proxies import register_proxy as register_proxy
    from ssnr.proxies import register_saliency as register_saliency
    from ssnr.pruning import Masks as Masks
    from ssnr.recipes import Recipe as Recipe
    from ssnr.scoring import saliency as saliency
    from ssnr.scoring import score as score
    from ssnr.spaces import Space as Space
    from ssnr.spaces import get_space as get_space
    from ssnr.spaces import register_space as register_space
    from ssnr.store import Store as Store
    from ssnr.studies import study as study

_HOME = {
    "ArchitectureError": "_errors",
    "BenchmarkError": "_errors",
    "LayerCollapseWarning": "_errors",
    "ScoringError": "_errors",
    "SsnrError": "_errors",
    "StoreError": "_errors",
    "UsageError": "_errors",
    "register_aggregate": "aggregate",
    "load_benchmark": "benchmarks",
    "count": "counts",
    "Batch": "data",
    "Row": "engine",
    "sweep": "engine",
    "LayerScore": "moments",
    "Moments": "moments",
    "Score": "proxies",
    "register_proxy": "proxies",
    "register_saliency": "proxies",
    "Masks": "pruning",
    "Recipe": "recipes",
    "saliency": "scoring",
    "score": "scoring",
    "Space": "spaces",
    "get_space": "spaces",
    "register_space": "spaces",
    "Store": "store",
    "study": "studies",
}


_MODULES = ("pruning",)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"ssnr.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'ssnr' has no attribute {name!r}")
    module = importlib.import_module(f"ssnr.{_HOME[name]}")
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOME, *_MODULES, "__version__"])
