"""What users point at, in text → a network: `space:ARCH`, `timm:NAME`, `pkg.mod:factory`, `file.py:factory`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from ssnr.cli import libraries as _libraries
from ssnr.cli.arguments import STATES, call_of, load_weights, weights_of
from ssnr.core.errors import ScoringError, UsageError, one_line
from ssnr.data import Batch, batch_of
from ssnr.networks.calling import call
from ssnr.networks.preserve import preserved
from ssnr.networks.trees import flatten, to_device
from ssnr.spaces import SPACES, Space, get_space, user_code
from ssnr.spaces.finding import FUNCTION

_FORMS = "expected SPACE:ARCH, pkg.mod:factory or file.py:factory; or timm:NAME, torchvision:NAME, hf:NAME"


@dataclass(frozen=True)
class Target:
    """A network to score, where its input shape is known.

    Attributes:
        text: as the user wrote it.
        net: the network, initialised from the seed.
        input_shape: of one input, None where only the user knows.
        classes: number of classes its labels have, None where unknown.
        init: where its weights come from, for people.
        inputs: (size, seed) → inputs, where it takes more than one tensor of random numbers.
    """

    text: str
    net: nn.Module
    input_shape: tuple[int, ...] | None
    classes: int | None
    init: str
    inputs: Callable[[int, int], Any] | None = None


def resolve(text: str, *, seed: int = 0, variant: str = "default") -> Target:
    """Find and build the network that a target names; with `@state.pt` at its end, with the weights of that file.

    Raises:
        UsageError: not a target, unknown space, no such module, file or name, or it is not a network.
        ScoringError: the factory raised, or the weights are of another network.
    """
    network, file = weights_of(text)
    target = _built(network, seed, variant)
    if file is None:
        return target
    load_weights(target.net, file)
    return replace(target, text=text, init=f"read from {file}")


def _built(text: str, seed: int, variant: str) -> Target:
    """Find and build the network.

    Raises:
        UsageError: not a target, unknown space, no such module, file or name, or it is not a network.
        ScoringError: the factory raised.
    """
    where, colon, what = text.partition(":")
    if not colon or not where or not what:
        saved = " (saved weights need what builds the network: file.py:factory@FILE)" if text.endswith(STATES) else ""
        raise UsageError(f"target {text!r}: {_FORMS}{saved}")
    if where.split("/")[0] in SPACES:
        return _of_space(text, get_space(where), what, seed, variant)
    if (own := _own_space(text)) is not None:
        return _of_space(text, *own, seed, variant)
    torch.manual_seed(seed)
    if where in _libraries.LIBRARIES:
        net, shape, classes, inputs = _libraries.build(where, what)
        return Target(text, net, shape, classes, f"made by {where} after torch.manual_seed({seed})", inputs)
    what, arguments = call_of(what)
    made = user_code.load(where, what, kind="target", known=SPACES)
    torch.manual_seed(seed)
    init = "as the module has them"
    if arguments is not None and isinstance(made, nn.Module):
        raise UsageError(f"target {text!r}: {what} is a network already and takes no arguments")
    if not isinstance(made, nn.Module) and callable(made):
        init = f"made by {what}() after torch.manual_seed({seed})"
        try:
            values, named = arguments or ((), {})
            made = made(*values, **named)
        except (Exception, SystemExit) as error:
            raise ScoringError(
                f"target {text!r}: calling {what}() raised {type(error).__name__}: {one_line(error)}"
            ) from error
    if not isinstance(made, nn.Module):
        raise UsageError(
            f"target {text!r}: {what} is a {type(made).__name__}, expected a Module or a function that makes one"
        )
    shape, example = getattr(made, "input_shape", None), getattr(made, "example_input_array", None)
    if shape is not None and not _is_shape(shape):
        raise UsageError(f"target {text!r}: its input_shape is {shape!r}, expected whole numbers such as (3, 32, 32)")
    inputs = None if example is None or shape is not None else lambda size, seed: example
    return Target(text, made, tuple(shape) if shape is not None else None, None, init, inputs)


def _own_space(text: str) -> tuple[Space, str] | None:
    """Space and architecture of `file.py:build:depth=3,width=64`; None of any other text."""
    where, _, arch = text.rpartition(":")
    return (get_space(where), arch) if "=" in arch and FUNCTION.fullmatch(where) else None


def _of_space(text: str, space: Space, form: str, seed: int, variant: str) -> Target:
    arch = space.parse(form)
    try:
        net = space.build(arch, seed=seed, variant=variant)
    except UsageError:
        raise
    except Exception as error:
        raise ScoringError(f"target {text!r}: building it raised {type(error).__name__}: {one_line(error)}") from error
    return Target(text, net, space.input_shape, space.num_classes, f"drawn from (seed {seed}, space, network)")


def _is_shape(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(isinstance(n, Integral) and int(n) > 0 for n in value)


def batch_for(target: Target, size: int, *, labels: bool, seed: int = 0) -> Batch:
    """Inputs as a target with `inputs` takes them, with labels drawn from the seed where its output has classes."""
    assert target.inputs is not None
    inputs, targets = target.inputs(size, seed), None
    if labels:
        logits = _first_output(target.net, target.inputs(size, seed))
        if logits is not None and logits.dim() in (2, 3):
            draw = torch.Generator().manual_seed(seed)
            targets = torch.randint(logits.shape[-1], logits.shape[:-1], generator=draw)
    given = batch_of((inputs, targets))
    assert given is not None
    return given


def outputs_for_labels(net: nn.Module, input_shape: tuple[int, ...]) -> int | None:
    """How many classes labels can have: the width of the first output (N, classes), None where there is no such one."""
    first = _first_output(net, torch.ones((1, *input_shape)))
    return first.shape[1] if first is not None and first.dim() == 2 and first.shape[1] > 1 else None


def _first_output(net: nn.Module, inputs: Any) -> Tensor | None:
    try:
        with preserved(net), torch.no_grad():
            like = next(net.parameters(), torch.zeros(()))
            output = call(net.eval(), to_device(inputs, like.device, like.dtype))
            logits = output.get("logits") if isinstance(output, Mapping) else None
            return logits if isinstance(logits, Tensor) else flatten(output)[0]
    except Exception:
        # The scoring itself will say what is wrong with the network; this only looks.
        return None
