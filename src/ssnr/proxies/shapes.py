"""What shapes alone say of a network: multiply-accumulates, and which weights synflow reaches, in a millisecond or two.

The network's own forward runs, but no operation computes: a table answers each with memory of the right shape, counts
its products, and draws a line in a graph from what went in to what came out. A line is *sure* where synflow, which sees
positive numbers only, passes for certain: through products with weights, sums, norms, rectifiers, poolings. Through a
sigmoid or a softmax it may not, for they go flat. A weight is reachable where sure lines lead from it to the output.

What the table does not have ends the pass, and so does a weight with zeros in it, a hook, a token: such a network is
counted by running it (`controls`). So an answer from here is the answer of that, and comes sooner.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ssnr.core.recipes import Recipe
from ssnr.networks.calling import call
from ssnr.networks.preserve import preserved_attributes
from ssnr.networks.trees import flatten
from ssnr.networks.weights import wraps
from ssnr.proxies.shape_rules import RULES, Unanswered

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_STRANGE = (torch.jit.ScriptModule, nn.modules.lazy.LazyModuleMixin)
_MOST_ZEROS = 1e-3  # share of a weight: so few are chance, and leave no row or column empty


class Counted(NamedTuple):
    """What a pass of shapes found; None where it cannot tell."""

    flops: int | None = None
    reachable: tuple[int, int] | None = None  # weights, layers


class Trace(TorchFunctionMode):
    """Answers what a network calls by the table, and keeps the graph.

    Attributes:
        macs: multiply-accumulates so far, additions of biases included.
        parts: whether something took a part of a tensor; `joined`, whether something put several together. With both,
            a part may leave out what a weight is needed for.
        doubtful: whether a value may be zero or negative, so that nothing is sure.
    """

    def __init__(self, modules: list[nn.Module]) -> None:
        super().__init__()
        self.macs = 0
        self.parts = self.joined = self.doubtful = False
        self.sources: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
            ((), ())
        ]  # of each node: sure, unsure; 0 is the input
        self.nodes: dict[int, int] = {}  # tensor → node
        self.weights: dict[int, int] = {}  # node of a weight → its size
        self._known = {
            id(t): t for m in modules for t in (*m._parameters.values(), *m._buffers.values()) if t is not None
        }
        self._alive: list[Tensor] = []
        self._memory = torch.empty(1, device="meta")  # so that reading a number raises
        self._viewed: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        rule = RULES.get(func)
        if rule is not None:
            return rule(self, func, args, kwargs or {})
        if getattr(func, "__name__", "") == "__get__":
            return self._attribute(func, args)
        raise Unanswered(func)

    def _attribute(self, func: Any, args: Any) -> Any:
        found = func(*args)
        if isinstance(found, Tensor):
            if found.shape != args[0].shape[:-2] + args[0].shape[:-3:-1]:  # .T and .mT of a matrix
                raise Unanswered(func)
            return self.viewed(found, args[0])
        return found

    # --- what rules ask for ---

    def node(self, tensor: Any) -> int:
        """The node of a tensor that an operation reads; a parameter becomes one when it is first read."""
        known = self.nodes.get(id(tensor))
        if known is None:
            if id(tensor) not in self._known or not tensor.is_floating_point():
                raise Unanswered(tensor)
            known = self.nodes[id(tensor)] = self._add((), ())
            if isinstance(tensor, nn.Parameter) and tensor.dim() >= 2:
                self.weights[known] = tensor.numel()
            zeros = tensor.numel() - int(torch.count_nonzero(tensor))
            self.doubtful |= zeros > _MOST_ZEROS * tensor.numel()
        return known

    def holds(self, tensor: Tensor) -> bool:
        """Whether this is a parameter or buffer of the network's."""
        return id(tensor) in self._known

    def made(self, shape: Any, *sure: Any, unsure: tuple[Any, ...] = ()) -> Tensor:
        """The output of an operation: memory that nobody fills, connected to what went in."""
        numel = prod(shape)
        if numel > self._memory.numel():
            self._memory = torch.empty(2 * numel, device="meta")
        out = self._memory.as_strided(shape, _strides(tuple(shape)))
        self._keep(out, self._add(tuple(map(self.node, sure)), tuple(map(self.node, unsure))))
        return out

    def same(self, tensor: Tensor, *, sure: bool = True, inplace: bool = False) -> Tensor:
        """The output of an operation that keeps the shape."""
        reads, unsure = ((tensor,), ()) if sure else ((), (tensor,))
        if inplace:
            self.changed(tensor, *reads, unsure=unsure)
            return tensor
        return self.made(tensor.shape, *reads, unsure=unsure)

    def viewed(self, view: Tensor, of: Any) -> Tensor:
        """A view of what an operation reads."""
        self._viewed |= {id(view), id(of)}
        self._keep(view, self._add((self.node(of),), ()))
        return view

    def changed(self, tensor: Tensor, *sure: Any, unsure: tuple[Any, ...] = ()) -> Tensor:
        """A tensor that an operation writes to: it stands for what was written from now on."""
        if id(tensor) in self._viewed or id(tensor) in self._known:
            raise Unanswered(tensor)
        self.nodes[id(tensor)] = self._add(tuple(map(self.node, sure)), tuple(map(self.node, unsure)))
        return tensor

    def _add(self, sure: tuple[int, ...], unsure: tuple[int, ...]) -> int:
        self.sources.append((sure, unsure))
        return len(self.sources) - 1

    def _keep(self, tensor: Tensor, node: int) -> None:
        self._alive.append(tensor)  # so that nobody else gets its id
        self.nodes[id(tensor)] = node

    # --- what came of it ---

    def entered(self, shape: tuple[int, ...]) -> Tensor:
        """The network's input."""
        out = self.made((1, *shape))
        self.nodes[id(out)] = 0
        return out

    def reachable(self, outputs: list[Tensor]) -> tuple[int, int] | None:
        """Weights and layers from which sure lines lead to the outputs; None where others lead there too."""
        ends = [self.node(out) for out in outputs]
        sure, any_ = self._above(ends, sure=True), self._above(ends, sure=False)
        if 0 not in any_:
            return (0, 0)  # the output ignores the input
        if self.doubtful or (self.parts and self.joined) or 0 not in sure:
            return None
        found = [size for node, size in self.weights.items() if node in sure]
        return None if any(node in any_ and node not in sure for node in self.weights) else (sum(found), len(found))

    def _above(self, ends: list[int], *, sure: bool) -> set[int]:
        seen, todo = set(ends), list(ends)
        while todo:
            certain, other = self.sources[todo.pop()]
            for node in certain if sure else (*certain, *other):
                if node not in seen:
                    seen.add(node)
                    todo.append(node)
        return seen


@lru_cache(maxsize=4096)
def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Those of memory in one piece, so that a view that torch would refuse is refused here too."""
    return tuple(prod(shape[k + 1 :]) for k in range(len(shape)))


def counted(net: nn.Module, shape: tuple[int, ...], recipe: Recipe) -> Counted:
    """Multiply-accumulates of one input, and what synflow reaches, as far as shapes tell.

    The network is as it was afterwards.
    """
    modules = list(net.modules())
    if not _plain(net, modules):
        return Counted()
    with preserved_attributes(modules):
        torch.set_num_threads(1)  # looking for zeros is too little work to share
        for module in modules:  # as both passes that this stands for: see `controls` and `synflow`
            module.__dict__["training"] = False
        passed = _passed(net, modules, shape)
    if passed is None:
        return Counted()
    trace, outputs = passed
    read = recipe.norms == "all" and recipe.scored == "matrices" and recipe.ties == "once"
    return Counted(trace.macs, trace.reachable(outputs) if read else None)


def _passed(net: nn.Module, modules: list[nn.Module], shape: tuple[int, ...]) -> tuple[Trace, list[Tensor]] | None:
    """The pass and its outputs; None where the table does not reach."""
    trace = Trace(modules)
    try:
        inputs = trace.entered(shape)
        with torch.no_grad(), trace:
            outputs = flatten(call(net, inputs))
        for out in outputs:
            trace.node(out)
    except (Unanswered, Exception, SystemExit):  # what is wrong, the real pass will say
        return None
    return (trace, outputs) if outputs else None


def _plain(net: nn.Module, modules: list[nn.Module]) -> bool:
    """Whether the weights are the parameters that modules hold, and nothing of the user's stands around a forward."""
    if wraps(net) is not None:
        return False
    matrices = False
    for module in modules:
        own = module.__dict__
        if any(map(own.get, _HOOKS)) or "forward" in own or "parametrizations" in own["_modules"]:
            return False
        if type(module).train is not nn.Module.train or isinstance(module, _STRANGE):
            return False
        for parameter in own["_parameters"].values():
            if parameter is not None:
                if not parameter.is_floating_point() or parameter.is_meta:
                    return False
                matrices |= parameter.dim() >= 2
    return matrices
