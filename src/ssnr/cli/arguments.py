"""What may follow a factory in a target: arguments, `file.py:MyCNN(64)` or `?width=64`, and weights, `@state.pt`."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import torch
from torch import nn

from ssnr.core.errors import ScoringError, UsageError, one_line

STATES = (".pt", ".pth", ".bin", ".safetensors")


class Call(NamedTuple):
    """A name with the arguments to call it with; None where the target gives none."""

    name: str
    arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None


def call_of(text: str) -> Call:
    """Read `name`, `name(64, depth=3)` or `name?width=64`. Values are literals: nothing is evaluated.

    Raises:
        UsageError: not one of these forms, or an argument that is no literal.

    >>> call_of("MyCNN(64, depth=3)")
    Call(name='MyCNN', arguments=((64,), {'depth': 3}))
    >>> call_of("make?width=64&act=relu")
    Call(name='make', arguments=((), {'width': 64, 'act': 'relu'}))
    """
    if text.endswith(")"):
        try:
            call = ast.parse(text, mode="eval").body
            if not isinstance(call, ast.Call) or any(word.arg is None for word in call.keywords):
                raise ValueError
            named = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
            return Call(ast.unparse(call.func), (tuple(map(ast.literal_eval, call.args)), named))
        except (SyntaxError, ValueError) as error:
            raise UsageError(
                f"{text}: arguments are literals, such as MyCNN(64) or MyCNN(width=64, act='relu')"
            ) from error
    name, mark, query = text.partition("?")
    return Call(name, ((), {key: _literal(value) for key, value in parse_qsl(query)}) if mark else None)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def weights_of(text: str) -> tuple[str, Path | None]:
    """A target → the network and the file of its weights, where it ends in `@state.pt` or the like."""
    target, mark, file = text.rpartition("@")
    return (target, Path(file)) if mark and Path(file).suffix in STATES else (text, None)


def load_weights(net: nn.Module, file: Path) -> None:
    """Put a state dict on a network; a file is read without running what is pickled in it.

    Raises:
        UsageError: no such file, no state dict, or one of another network.
    """
    if not file.is_file():
        raise UsageError(f"there is no file {file}")
    try:
        if file.suffix == ".safetensors":
            state: Any = import_module("safetensors.torch").load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except ModuleNotFoundError as error:
        raise UsageError(f"{file}: safetensors is not installed (pip install safetensors)") from error
    except Exception as error:
        raise UsageError(
            f"{file} holds more than tensors, or is no file of torch; save net.state_dict() ({one_line(error, 80)})"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise UsageError(f"{file} holds a {type(state).__name__}, expected the state dict of a network")
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise ScoringError(f"{file} is of another network: {one_line(error)}") from error
