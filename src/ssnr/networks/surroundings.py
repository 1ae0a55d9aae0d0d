"""Switch off, during a pass, what would disturb it: compiled code, checkpoints, hooks, sparse gradients."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.utils.checkpoint
from torch import nn


def eager() -> AbstractContextManager[Any]:
    """Run compiled code as it was written: compiled, it has no second derivative and hides its layers."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


class _Kept:
    """In place of checkpointing's own function: what it would run again later, run once."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        return function(*args)


@contextmanager
def without_checkpointing() -> Iterator[None]:
    """Checkpointed blocks are kept in here: in the backward pass, the weights they would run on are no longer there."""
    module: Any = torch.utils.checkpoint
    names = {"CheckpointFunction": _Kept, "_checkpoint_without_reentrant_generator": _no_generator}
    own = {name: getattr(module, name) for name in names if hasattr(module, name)}
    for name in own:
        setattr(module, name, names[name])
    try:
        yield
    finally:
        for name, value in own.items():
            setattr(module, name, value)


def _no_generator(*_: Any, **__: Any) -> Iterator[None]:
    yield


GRADIENT_HOOKS = ("_backward_hooks", "_backward_pre_hooks")


@contextmanager
def without_gradient_hooks(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Leave out the hooks that users put on gradients, of a module or of all modules.

    Modules wrap their outputs for them, which then refuse in-place activations, and what they record or change is no
    part of the network's function.
    """
    everywhere = vars(torch.nn.modules.module)
    tables = [(module.__dict__, name) for module in modules for name in GRADIENT_HOOKS]
    tables += [(everywhere, f"_global{name}") for name in GRADIENT_HOOKS]
    own = [(table, name, table[name]) for table, name in tables if table.get(name)]
    for table, name, _ in own:
        table[name] = OrderedDict()
    try:
        yield
    finally:
        for table, name, hooks in own:
            table[name] = hooks


@contextmanager
def dense_gradients(embeddings: Iterable[nn.Embedding | nn.EmbeddingBag]) -> Iterator[None]:
    """Embeddings with `sparse=True` give dense gradients in here: a saliency has a value for every weight."""
    sparse = [m for m in embeddings if m.sparse]
    for module in sparse:
        module.sparse = False
    try:
        yield
    finally:
        for module in sparse:
            module.sparse = True
