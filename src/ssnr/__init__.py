"""Rank neural networks before they are trained, by the signal-to-noise ratio of their saliency.

The public names; each is imported when first used, so that `import ssnr` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ssnr._version import __version__ as __version__

if TYPE_CHECKING:
    from ssnr import pruning as pruning
    from ssnr.benchmarks import load_benchmark as load_benchmark
    from ssnr.core.aggregates import register_aggregate as register_aggregate
    from ssnr.core.catalogue import register_proxy as register_proxy
    from ssnr.core.catalogue import register_saliency as register_saliency
    from ssnr.core.catalogue import unregister as unregister
    from ssnr.core.errors import ArchitectureError as ArchitectureError
    from ssnr.core.errors import BenchmarkError as BenchmarkError
    from ssnr.core.errors import LayerCollapseWarning as LayerCollapseWarning
    from ssnr.core.errors import ScoringError as ScoringError
    from ssnr.core.errors import SsnrError as SsnrError
    from ssnr.core.errors import StoreError as StoreError
    from ssnr.core.errors import UsageError as UsageError
    from ssnr.core.moments import LayerScore as LayerScore
    from ssnr.core.moments import Moments as Moments
    from ssnr.core.recipes import Recipe as Recipe
    from ssnr.core.results import Score as Score
    from ssnr.core.results import Scores as Scores
    from ssnr.data import Batch as Batch
    from ssnr.data import cifar10 as cifar10
    from ssnr.data import noise as noise
    from ssnr.engine.runs import Row as Row
    from ssnr.engine.runs import sweep as sweep
    from ssnr.proxies.capture import Context as Context
    from ssnr.proxies.controls import count as count
    from ssnr.proxies.device import Latency as Latency
    from ssnr.proxies.device import Memory as Memory
    from ssnr.proxies.device import latency as latency
    from ssnr.proxies.device import memory as memory
    from ssnr.pruning import Masks as Masks
    from ssnr.reports import report as report
    from ssnr.scoring import saliency as saliency
    from ssnr.scoring import score as score
    from ssnr.searchers import SearchResult as SearchResult
    from ssnr.searchers import search as search
    from ssnr.spaces import Space as Space
    from ssnr.spaces import get_space as get_space
    from ssnr.spaces import register_space as register_space
    from ssnr.spaces.functions import Trial as Trial
    from ssnr.spaces.functions import space as space
    from ssnr.store import Store as Store
    from ssnr.studies.study import study as study

_HOME = {
    "ArchitectureError": "core.errors",
    "BenchmarkError": "core.errors",
    "LayerCollapseWarning": "core.errors",
    "ScoringError": "core.errors",
    "SsnrError": "core.errors",
    "StoreError": "core.errors",
    "UsageError": "core.errors",
    "register_aggregate": "core.aggregates",
    "load_benchmark": "benchmarks",
    "count": "proxies.controls",
    "Latency": "proxies.device",
    "Memory": "proxies.device",
    "latency": "proxies.device",
    "memory": "proxies.device",
    "Batch": "data",
    "cifar10": "data",
    "noise": "data",
    "Row": "engine.runs",
    "sweep": "engine.runs",
    "LayerScore": "core.moments",
    "Moments": "core.moments",
    "Score": "core.results",
    "register_proxy": "core.catalogue",
    "register_saliency": "core.catalogue",
    "unregister": "core.catalogue",
    "Context": "proxies.capture",
    "Scores": "core.results",
    "Masks": "pruning",
    "Recipe": "core.recipes",
    "saliency": "scoring",
    "score": "scoring",
    "report": "reports",
    "SearchResult": "searchers",
    "search": "searchers",
    "Space": "spaces",
    "get_space": "spaces",
    "register_space": "spaces",
    "Trial": "spaces.functions",
    "space": "spaces.functions",
    "Store": "store",
    "study": "studies.study",
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
