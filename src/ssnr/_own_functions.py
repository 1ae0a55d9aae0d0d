"""Functions that a network defines itself (`torch.autograd.Function`), which no function mode sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import BackwardCFunction

Answer = Callable[[Callable[..., Any], str, Any, Any], Any]


@contextmanager
def answered(answer: Answer) -> Iterator[set[type]]:
    """Let `answer(function, name, args, kwargs)` stand for every call of `Function.apply`; gives the classes called."""
    own: Any = Function.__dict__["apply"]
    called: set[type] = set()

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        called.add(cls)
        return answer(own.__get__(None, cls), cls.__name__, args, kwargs)

    Function.apply = classmethod(apply)  # type: ignore[method-assign,assignment]
    try:
        yield called
    finally:
        Function.apply = own  # type: ignore[method-assign]


def others_behind(value: Tensor, called: set[type]) -> str | None:
    """The name of such a function in the graph behind a value that none of these classes is: its `apply` was kept."""
    todo, seen = [value.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction) and (own := type(node)._forward_cls) not in called:
            return str(own.__name__)
        todo += [before for before, _ in node.next_functions]
    return None
