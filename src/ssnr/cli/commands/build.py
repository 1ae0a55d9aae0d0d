"""`ssnr build`: a network as a file that needs no search any more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssnr.cli import options
from ssnr.cli.app import app
from ssnr.core.errors import SsnrError, UsageError, one_line

if TYPE_CHECKING:
    from ssnr.cli.targets import Target

_FORMS = (".pt2", ".pt", ".pth", ".safetensors", ".py")


@app.command()
def build(
    target: Annotated[str, typer.Argument(help="A network, such as nasbench201:ARCH or file.py:factory.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help=".pt2: an exported program; .pt, .safetensors: weights; .py: a script.")
    ],
    input_shape: options.InputShape = None,
    seed: options.Seed = 0,
) -> None:
    """Build a network, initialised from the seed, and write it: a program, its weights, or a script that makes it."""
    if out.suffix not in _FORMS:
        raise UsageError(f"-o {out}: expected a name that ends in {', '.join(_FORMS[:-1])} or {_FORMS[-1]}")
    if not out.parent.is_dir():
        raise SsnrError(f"cannot write {out}: there is no folder {out.parent}")
    from ssnr.cli.targets import resolve

    shape = options.shape_of(input_shape)
    found = resolve(target, seed=seed)
    shape = shape or found.input_shape
    try:
        if out.suffix == ".py":
            out.write_text(_script(target, seed), encoding="utf-8")
        elif out.suffix == ".pt2":
            _export(found, shape, out)
        else:
            _weights(found, out)
    except OSError as error:
        raise SsnrError(f"cannot write {out}: {error.strerror or error}") from error
    print(out)


def _export(target: Target, shape: tuple[int, ...] | None, out: Path) -> None:
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
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        raise UsageError(f"-o {out}: .safetensors needs safetensors: pip install safetensors") from error
    save_file(state, out)


def _script(target: str, seed: int) -> str:
    """A script with the network as `net`: of a built-in space, or as the target names it."""
    from ssnr.spaces import SPACES, get_space

    where, _, what = target.partition(":")
    if where.split("/")[0] not in SPACES:
        raise UsageError(f"{target}: a script is written for architectures of a space; a factory is one already")
    space = get_space(where)
    arch = space.parse(what)
    return (
        f'"""{space.name}: {arch}"""\n\n'
        "import ssnr\n\n"
        f"space = ssnr.get_space({space.name!r})\n"
        f"net = space.build({arch!r}, seed={seed})  # a torch.nn.Module; input shape {tuple(space.input_shape)}\n\n"
        'if __name__ == "__main__":\n'
        "    print(net)\n"
        '    print(f"{sum(p.numel() for p in net.parameters()):,} parameters")\n'
    )
