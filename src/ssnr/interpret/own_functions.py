"""Functions that a network defines itself (`torch.autograd.Function`), which no function mode sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import BackwardCFunction

from ssnr.networks.diagnose import graph

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


def unanswered_before(value: Tensor, called: set[type]) -> str | None:
    """The name of such a function in the graph behind a value that none of these classes is: its `apply` was kept."""
    for node in graph([value]):
        own = getattr(type(node), "_forward_cls", None)
        if isinstance(node, BackwardCFunction) and own not in called:
            return str(getattr(own, "__name__", own))
    return None
