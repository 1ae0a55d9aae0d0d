"""Networks as files that need no search any more: programs, weights, scripts."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssnr.core.errors import SsnrError, UsageError, one_line

if TYPE_CHECKING:
    from ssnr.cli.targets import Target

FORMS = (".pt2", ".pt", ".pth", ".safetensors", ".py")
HELP = ".pt2: an exported program; .pt, .safetensors: weights; .py: a script."


def check(option: str, out: Path) -> None:
    """Refuse a file that could not be written, before any work.

    Raises:
        UsageError: another ending, or safetensors is not installed.
        SsnrError: there is no such folder.
    """
    if out.suffix not in FORMS:
        raise UsageError(f"{option} {out}: expected a name that ends in {', '.join(FORMS[:-1])} or {FORMS[-1]}")
    if not out.parent.is_dir():
        raise SsnrError(f"cannot write {out}: there is no folder {out.parent}")
    if out.suffix == ".safetensors" and find_spec("safetensors") is None:
        raise UsageError(f"{option} {out}: .safetensors needs safetensors: pip install safetensors")


def write(target: str, out: Path, shape: tuple[int, ...] | None, seed: int) -> None:
    """Build a target, initialised from the seed, and write it in the form that the file's name asks for.

    Raises:
        UsageError: no such target, no shape where one is needed, a script of what is no architecture.
        SsnrError: it cannot be exported, or the file cannot be written.
    """
    from ssnr.cli.targets import resolve

    found = resolve(target, seed=seed)
    try:
        if out.suffix == ".py":
            out.write_text(_script(target, seed), encoding="utf-8")
        elif out.suffix == ".pt2":
            _program(found, shape or found.input_shape, out)
        else:
            _weights(found, out)
    except OSError as error:
        raise SsnrError(f"cannot write {out}: {error.strerror or error}") from error


def _program(target: Target, shape: tuple[int, ...] | None, out: Path) -> None:
    import torch

    if shape is None:
        raise UsageError(f"{target.text}: name the shape of one input, such as --input-shape 3,32,32")
    example = (torch.zeros((2, *shape)),)
    batch = torch.export.Dim("batch", min=1)
    try:
        program: Any = torch.export.export(target.net.eval(), example, dynamic_shapes=({0: batch},))
        torch.export.save(program, out)
    except OSError:
        raise
    except Exception as error:
        raise SsnrError(f"{target.text} cannot be exported: {one_line(error)}; take .pt for its weights") from error


def _weights(target: Target, out: Path) -> None:
    import torch

    state = {name: tensor.contiguous() for name, tensor in target.net.state_dict().items()}
    if out.suffix != ".safetensors":
        torch.save(state, out)
        return
    from safetensors.torch import save_file

    save_file(state, out)


def _script(target: str, seed: int) -> str:
    """A script with the network as `net`."""
    from ssnr.spaces import SPACES, get_space
    from ssnr.spaces.finding import FUNCTION

    where, _, what = target.partition(":")
    if where.split("/")[0] not in SPACES:
        where, _, what = target.rpartition(":")  # file.py:build:depth=2,width=64
        if "=" not in what or not FUNCTION.fullmatch(where):
            raise UsageError(f"{target}: a script is written for architectures of a space; a factory is one already")
    space = get_space(where)
    arch = space.parse(what)
    shape = "" if space.input_shape is None else f"; input shape {tuple(space.input_shape)}"
    return (
        f'"""{where}: {arch}"""\n\n'
        "import ssnr\n\n"
        f"space = ssnr.get_space({where!r})\n"
        f"net = space.build({arch!r}, seed={seed})  # a torch.nn.Module{shape}\n\n"
        'if __name__ == "__main__":\n'
        "    print(net)\n"
        '    print(f"{sum(p.numel() for p in net.parameters()):,} parameters")\n'
    )
