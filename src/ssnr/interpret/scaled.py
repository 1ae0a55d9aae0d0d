"""Numbers without an end: no network is too deep or too wide for floating point.

In the mode a tensor t stands for t·2^e, where e belongs to its memory (`exponents.py`). Products add exponents, sums
bring their terms to the largest one, and whatever is of degree one passes it on (`rules.py`); values are kept in the
middle of the range by powers of two, which is exact.

The mode works below autograd, on the operations that PyTorch runs. Modules, functions, TorchScript, `torch.vmap`, a
network's own autograd functions and the backward pass all come by here, so that gradients carry exponents as well.
Operations without a rule are taken apart by PyTorch's own decompositions. What is left over and is not of degree one
is given the real values; where no format holds them, the network is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from ssnr.core.errors import ScoringError
from ssnr.interpret.exponents import Exponents, carriers, carries, changed, whole_of
from ssnr.interpret.formulas import FORMULAS
from ssnr.interpret.rules import FAMILIES, RULES, family
from ssnr.networks.trees import map_leaves


class Scaled(TorchDispatchMode):
    """The mode; see the module's docstring.

    Args:
        dtype: of the pass.

    Attributes:
        exponents: of all tensors of the pass.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.exponents = Exponents(dtype)
        self._asked: str | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled in here, and the guard against it takes its time

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # A decomposition asks for other operations; an error names what the network asked for.
        asked, self._asked = self._asked, self._asked or func.overloadpacket.__name__
        try:
            with torch._C.DisableTorchFunction():
                return self._answer(func, _kind(func), args, kwargs or {})
        finally:
            self._asked = asked

    def _answer(self, func: Any, kind: _Kind, args: Any, kwargs: Any) -> Any:
        if kind.composite:
            return self._run(func.decompose, *args, **kwargs)
        if kind.unfilled:  # what memory happens to hold would count
            out = func(*args, **kwargs)
            return out.zero_() if carries(out) else out
        if kind.untouched:
            return func(*args, **kwargs)
        if kind.outputs:
            return self._into(func, kind.outputs, args, kwargs)
        if kind.in_place:
            return self._in_place(func, kind, args, kwargs)
        if not carriers(args, kwargs):
            return func(*args, **kwargs)
        args, kwargs = changed(args, self.exponents.near), changed(kwargs, self.exponents.near)
        for answer in (RULES.get(kind.name), family if kind.name.startswith(FAMILIES) else None):
            found = NotImplemented if answer is None else answer(self.exponents, func, args, kwargs)
            if found is not NotImplemented:
                return found
        if not self.exponents.any(args, kwargs):
            return self.exponents.result(func(*args, **kwargs), 0)
        other = (FORMULAS.get(kind.name) if func.namespace == "aten" else None) or _decompositions().get(func)
        if other is not None:
            found = self._run(other, *args, **kwargs)
            if found is not NotImplemented:
                return found
        args, kwargs = changed(args, self._real), changed(kwargs, self._real)
        return self.exponents.result(func(*args, **kwargs), 0)

    def _run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A function in the mode."""
        with self:
            return function(*args, **kwargs)

    def real(self, t: Any, name: str) -> Any:
        """The number itself, for what looks at its memory."""
        if not carries(t):
            return t
        asked, self._asked = self._asked, name
        try:
            with _disable_current_modes():
                return self._real(self.exponents.near(t.detach())).clone()
        finally:
            self._asked = asked

    def _real(self, t: Tensor) -> Tensor:
        """The number itself."""
        if not self.exponents.is_in_range(t):
            name = "item" if self._asked == "_local_scalar_dense" else str(self._asked).strip("_")
            raise ScoringError(f"{name} of numbers beyond {self.exponents.format}: it is not of degree one")
        return self.exponents.to(t, 0)

    # --- what is written to -------------------------------------------------------------------------------------------

    def _into(self, func: Any, outputs: tuple[str, ...], args: Any, kwargs: Any) -> Any:
        """What the function gives without `out=`, written to the targets."""
        targets = [kwargs[name] for name in outputs]
        rest = {key: value for key, value in kwargs.items() if key not in outputs}
        found = self._run(func.overloadpacket, *args, **rest)
        values = found if isinstance(found, (tuple, list)) else [found]
        for target, value in zip(targets, values, strict=True):
            self._write(target, value)
        return targets[0] if len(targets) == 1 else tuple(targets)

    def _in_place(self, func: Any, kind: _Kind, args: Any, kwargs: Any) -> Any:
        """What the function gives out of place, written to the target."""
        target = args[0]
        if not carries(target):
            return func(*args, **kwargs)
        if kind.name == "copy_":
            return self._write(target, args[1])
        if kind.draws:  # plain numbers, whatever was there
            drawn = func(torch.empty_like(target), *args[1:], **kwargs)
            return self._write(target, drawn)
        return self._write(target, self._run(getattr(torch.ops.aten, kind.name[:-1]), *args, **kwargs))

    def _write(self, target: Tensor, value: Tensor) -> Tensor:
        """Write over a target, which may be a part of what has another exponent."""
        if not carries(target):
            return target.copy_(value)
        exponents = self.exponents
        value = exponents.near(value, None if value.dtype is target.dtype else 0) if carries(value) else value
        e = exponents.of(value) if carries(value) else 0
        whole = whole_of(target)
        if target.numel() == whole.numel() or not bool((whole != 0).any()):
            exponents.mark(target, e)
        elif e > exponents.of(target) and bool((value != 0).any()):
            down = exponents.to(whole, e)
            exponents.lost |= bool(((down == 0) & (whole != 0)).any())
            whole.copy_(down)
            exponents.mark(target, e)
        if e == exponents.of(target):
            return target.copy_(value)
        small = (
            exponents.to(value, exponents.of(target))
            if carries(value)
            else value.to(target.dtype) * 2.0 ** -exponents.of(target)
        )
        exponents.lost |= bool(((small == 0) & (value != 0)).any())
        return target.copy_(small)


@contextmanager
def scaled_pass(dtype: torch.dtype) -> Iterator[Scaled]:
    """Run a forward and a backward pass in here, by operations that have rules: no fused kernels."""
    mode = Scaled(dtype)
    with ExitStack() as stack:
        stack.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(_Outside(mode))
        yield stack.enter_context(mode)


class _Outside(TorchFunctionMode):
    """Hands real values to what is outside of PyTorch, and takes recurrent layers to operations that have rules."""

    def __init__(self, mode: Scaled) -> None:
        super().__init__()
        self._mode = mode

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _READERS:
            args = map_leaves(lambda value: self._mode.real(value, name), args)
        if func is not torch.lstm:
            return func(*args, **(kwargs or {}))
        enabled = torch._C._get_mkldnn_enabled()
        torch._C._set_mkldnn_enabled(False)
        try:
            return func(*args, **(kwargs or {}))
        finally:
            torch._C._set_mkldnn_enabled(enabled)


_READERS = frozenset(("numpy", "__array__", "tolist", "__dlpack__", "tensor", "as_tensor", "asarray", "new_tensor"))


class _Kind(NamedTuple):
    """What an operation's schema says of it.

    Attributes:
        name: without overload.
        composite: whether it is made of others.
        untouched: whether it is about memory and shapes, not about numbers.
        outputs: names of the targets that it writes to.
        in_place: whether it writes to its first argument.
        unfilled: whether it gives memory as it is.
        draws: whether it fills with random numbers.
    """

    name: str
    composite: bool
    untouched: bool
    outputs: tuple[str, ...]
    in_place: bool
    unfilled: bool
    draws: bool


_SAME_MEMORY = frozenset(("_unsafe_view", "zero_", "_coalesced_"))


@lru_cache(None)
def _kind(func: Any) -> _Kind:
    name, schema = func.overloadpacket.__name__, func._schema
    aten = func.namespace == "aten"
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    written = [a for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    view = any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)
    no_tensor = all("Tensor" not in str(r.type) for r in schema.returns)
    return _Kind(
        name,
        composite=aten
        and name not in FORMULAS
        and name not in RULES
        and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), key),
        untouched=view
        or name in _SAME_MEMORY
        or name.endswith("_like")
        or name.startswith(("new_zeros", "new_ones", "new_full"))
        or torch.Tag.inplace_view in func.tags
        or (no_tensor and not written and name not in RULES and name != "_local_scalar_dense"),
        outputs=tuple(a.name for a in schema.arguments if a.is_out),
        in_place=name.endswith("_") and not name.endswith("__") and bool(written),
        unfilled=name.startswith(("empty", "new_empty")),
        draws=torch.Tag.nondeterministic_seeded in func.tags
        and sum(str(a.type) == "Tensor" for a in schema.arguments) == 1,
    )


@lru_cache(None)
def _decompositions() -> dict[Any, Callable[..., Any]]:
    """PyTorch's own, those by operations that have rules before those by references."""
    from torch._decomp import core_aten_decompositions, decomposition_table

    return {**decomposition_table, **core_aten_decompositions()}
