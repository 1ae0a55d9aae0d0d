"""How a network is called, what it gives back, and where it failed if it does."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from ssnr._errors import ScoringError, one_line
from ssnr._nests import flatten

Forward = Callable[[nn.Module, Any], Any]


def call(net: nn.Module, inputs: Any) -> Any:
    """`net` on a nest of inputs, handed over as its forward takes them.

    A mapping becomes keyword arguments where its keys are names of the forward's arguments. A tuple, or a list where
    the forward needs as many, becomes positional arguments. Anything else is one argument.
    """
    takes = _takes(net)
    fields = _fields(inputs)
    if fields and ((takes.any_name and takes.needed <= set(fields)) or set(fields) <= takes.names):
        return net(**fields)
    several = isinstance(inputs, (tuple, list)) and len(inputs) <= takes.most
    if several and (isinstance(inputs, tuple) or 1 < len(inputs) <= len(takes.needed)):
        return net(*inputs)
    return net(inputs)


def needs_two(net: nn.Module) -> bool:
    """Whether the forward takes two arguments or more and cannot do with one."""
    return len(_takes(net).needed) >= 2


def _fields(inputs: Any) -> dict[str, Any] | None:
    """What could be keyword arguments: a mapping, a named tuple, a dataclass."""
    if isinstance(inputs, Mapping):
        return dict(inputs) if all(isinstance(key, str) for key in inputs) else None
    if isinstance(inputs, tuple) and hasattr(inputs, "_fields"):
        return dict(zip(inputs._fields, inputs, strict=True))
    if dataclasses.is_dataclass(inputs) and not isinstance(inputs, type):
        return {f.name: getattr(inputs, f.name) for f in dataclasses.fields(inputs)}
    return None


class _Takes(NamedTuple):
    """What a forward takes: names, those it cannot do without, how many by position, and whether any name goes."""

    names: set[str]
    needed: set[str]
    most: float
    any_name: bool


def _takes(net: nn.Module) -> _Takes:
    known = "forward" in net.__dict__
    try:
        parameters = list(inspect.signature(net.forward).parameters.values())
    except (TypeError, ValueError, AttributeError):
        return _Takes(set(), set(), float("inf"), False)
    finally:
        if not known:  # TorchScript keeps what it was asked for
            net.__dict__.pop("forward", None)
    kinds = [p.kind for p in parameters]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return _Takes(
        names={p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)},
        needed={p.name for p in positional if p.default is p.empty},
        most=float("inf") if inspect.Parameter.VAR_POSITIONAL in kinds else len(positional),
        any_name=inspect.Parameter.VAR_KEYWORD in kinds,
    )


def as_written() -> AbstractContextManager[Any]:
    """Run compiled code as it was written: compiled, it has no second derivative and hides its layers."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


class _Kept:
    """In place of checkpointing's own function: what it would run again later, run once."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        return function(*args)


@contextmanager
def kept_checkpoints() -> Iterator[None]:
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


def explain(net: nn.Module, run: Callable[[], Any], error: BaseException) -> str:
    """Run a failing pass again with hooks, to name the layer it failed in."""
    stack: list[tuple[str, nn.Module, Any]] = []
    handles = []
    for name, module in net.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            before = partial(_push, stack, name)
            handles += [module.register_forward_pre_hook(before), module.register_forward_hook(partial(_pop, stack))]
    try:
        run()
    except (Exception, SystemExit) as again:
        error = again
    finally:
        for handle in handles:
            handle.remove()
    reason = one_line(error)
    if "Expected more than 1 value per channel" in reason:
        reason += "; take a batch of two samples or more"
    if not stack:
        return f"the forward pass raised {type(error).__name__}: {reason}"
    name, module, args = stack[-1]
    got = ", ".join(str(tuple(t.shape)) for t in flatten(args)) or "no tensor"
    weight = getattr(module, "weight", None)
    own = f", weight {tuple(weight.shape)}" if isinstance(weight, Tensor) else ""
    return f"{_place(name, module)} raised {type(error).__name__} on input {got}{own}: {reason}"


def _place(name: str, module: nn.Module) -> str:
    return f"layer {name!r} ({type(module).__name__})" if name else f"the network ({type(module).__name__})"


def _push(stack: list[Any], name: str, module: nn.Module, args: Any) -> None:
    stack.append((name, module, args))


def _pop(stack: list[Any], module: nn.Module, args: Any, output: Any) -> None:
    stack.pop()


def first_not_finite(net: nn.Module, run: Callable[[], Any]) -> str | None:
    """The first module that puts out NaN or infinity, in words; None where all is finite."""
    found: list[str] = []

    def look(name: str, module: nn.Module, args: Any, output: Any) -> None:
        if found:
            return
        for tensor in flatten(output):
            if not bool(torch.isfinite(tensor).all()):
                kind = "NaN" if bool(torch.isnan(tensor).any()) else "infinity"
                where = (
                    f"layer {name!r} ({type(module).__name__})" if name else f"the network ({type(module).__name__})"
                )
                found.append(f"{where} puts out {kind}")
                return

    handles = [
        module.register_forward_hook(partial(look, name))
        for name, module in net.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        run()
    except Exception:
        return None
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def strangers(output: Any, weights: Mapping[str, Tensor]) -> str | None:
    """The shapes of parameters behind an output that are none of the weights it was called with; None without any."""
    own = {id(weight) for weight in weights.values()}
    found = []
    for node in graph(flatten(output)):
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, nn.Parameter) and id(leaf) not in own:
            found.append(str(tuple(leaf.shape)))
    return ", ".join(sorted(found)) or None


def graph(outputs: Iterable[Tensor], inputs: Iterable[Tensor] = ()) -> Iterator[Any]:
    """Nodes of autograd's graph behind the outputs that are not behind the inputs."""
    seen = {t.grad_fn for t in inputs}
    todo = [t.grad_fn for t in outputs]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        todo += [before for before, _ in node.next_functions]


def outputs_of(output: Any) -> list[Tensor]:
    """`flatten`, refusing an output that has nothing to differentiate.

    Raises:
        ScoringError: no floating tensor in the output.
    """
    tensors = flatten(output)
    if not tensors:
        kind = type(output).__name__
        if isinstance(output, Tensor) and output.is_complex():
            kind = f"{output.dtype}".removeprefix("torch.")
        raise ScoringError(f"the output holds no floating-point tensor ({kind}): nothing to differentiate")
    return tensors
