"""Options that several commands share. Each is checked here, before the command does any work."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ssnr.core.catalogue import HEADLINE, parse_proxies
from ssnr.core.combinations import split_list
from ssnr.core.errors import SsnrError, UsageError
from ssnr.core.recipes import MOST_IMAGES, Recipe, get_recipe, shared, with_option

DTYPES, INITS, PRECISIONS = ("float64", "float32"), ("independent", "shared"), ("float32", "bfloat16")
TARGETS = (
    "SPACE:ARCH, timm:NAME, torchvision:NAME, hf:NAME, pkg.mod:factory, file.py:factory, "
    "file.py:MyCNN(64), file.py:make?width=64; each may end in @state.pt"
)


def one_of(name: str, choices: tuple[str, ...]) -> Callable[[str | None], str | None]:
    """A check that a text is one of a few."""

    def check(given: str | None) -> str | None:
        if given is not None and given not in choices:
            raise UsageError(f"{name} {given!r}: expected {' or '.join(choices)}")
        return given

    return check


def at_least(name: str, least: int) -> Callable[[int | None], int | None]:
    """A check that a whole number is large enough."""

    def check(given: int | None) -> int | None:
        if given is not None and given < least:
            raise UsageError(f"{name} {given}: expected at least {least}")
        return given

    return check


def _names(given: list[str] | None) -> list[str] | None:
    for text in given or ():
        parts = split_list(text)
        if len(parts) > 1:
            raise UsageError(f"-p {text}: repeat -p for each proxy: {' '.join(f'-p {part}' for part in parts)}")
    return given


def _seed(given: int) -> int:
    if not -(2**63) <= given < 2**63:
        raise UsageError(f"--seed {given}: expected a whole number of at most 63 bits")
    return given


def _recipe(given: str) -> str:
    get_recipe(given)
    return given


def _shapes(given: list[str] | None) -> list[str] | None:
    for text in given or ():
        shape_of(text)
    return given


def _shape(given: str | None) -> str | None:
    shape_of(given)
    return given


Proxies = Annotated[
    list[str] | None,
    typer.Option(
        "-p", "--proxy", callback=_names, help="SALIENCY/AGGREGATE or a plain name; repeat it for several. "
        "See `ssnr list proxies`."
    ),
]  # fmt: skip
Seed = Annotated[int, typer.Option(callback=_seed, help="Of initialisation, batches and samples.")]
RecipeName = Annotated[
    str,
    typer.Option("--recipe", callback=_recipe, help="The choices that change numbers. See `ssnr list recipes`."),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        callback=one_of("--dtype", DTYPES),
        help="float64 or float32 for data-driven passes (shorthand for --recipe 'NAME(dtype=…)').",
    ),
]
Images = Annotated[
    int | None,
    typer.Option(
        help=f"How many images noise_ssnr, snip_noise and grasp_noise draw, 1 … {MOST_IMAGES}; one ranks best."
    ),
]
Init = Annotated[
    str | None,
    typer.Option(
        callback=one_of("--init", INITS),
        help="independent (the default): every network draws its own weights; shared: all networks take "
        "theirs from one supernet; synflow, snip, plain and grasp are then scored many at a time, several times "
        "faster.",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="noise, cifar10:DIR or folder:DIR; default CIFAR-10 where SSNR_CIFAR10 names it, else seeded noise."
    ),
]
InputShape = Annotated[
    str | None, typer.Option(callback=_shape, help="One input without the batch dimension, such as 3,32,32.")
]
InputShapes = Annotated[
    list[str] | None,
    typer.Option(
        "--input-shape",
        callback=_shapes,
        help="One input without the batch dimension, such as 3,32,32; once for all targets, or once for each.",
    ),
]
SPACE = "A search space, such as nasbench201 or nasbench201/cifar100, or of your own: file.py:build, pkg.mod:build."
SpaceShape = Annotated[
    str | None,
    typer.Option(
        "--input-shape",
        callback=_shape,
        help="Shape of one input of your own space, without the batch, such as 3,32,32.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")]
BatchSize = Annotated[
    int, typer.Option(callback=at_least("batch size", 1), help="Samples in the batch of data-driven proxies.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
StorePath = Annotated[Path, typer.Option(help="SQLite file with what was measured; created, or resumed.")]
Out = Annotated[Path, typer.Option(help="Folder for pictures and tables; created.")]
Workers = Annotated[
    int | None,
    typer.Option(callback=at_least("--workers", 1), help="Worker processes of one thread each; default one a core."),
]
Precision = Annotated[
    str,
    typer.Option(
        callback=one_of("--precision", PRECISIONS),
        help="Of trainings, float32 or bfloat16 (faster where the processor has it).",
    ),
]
Densities = Annotated[
    list[float] | None,
    typer.Option("-d", "--density", help="Share of the weights to keep, above 0, at most 1; repeat it for several."),
]


def recipe_of(text: str, dtype: str | None, init: str | None = None, images: int | None = None) -> Recipe:
    """The recipe that the options name.

    Raises:
        UsageError: the recipe's text says one thing and --dtype, --init or --images another.
    """
    chosen = get_recipe(text)
    for option, value in (("dtype", dtype), ("init", init), ("images", None if images is None else str(images))):
        said = re.search(rf"\b(?<!_){option}\s*=\s*(\w+)", text)
        if value is not None and said is not None and said[1] != value:
            raise UsageError(f"--recipe {text!r} and --{option} {value} contradict each other: leave one out")
        if value is not None:
            chosen = with_option(chosen, option, value)
    return shared(chosen) if init == "shared" else chosen


def proxies_of(given: list[str] | None) -> tuple[Any, ...]:
    """The proxies that `-p` names, the headline by default."""
    return parse_proxies(given or (HEADLINE,))


def make_folder(out: Path) -> None:
    """Create the folder that the option names, where it is not there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SsnrError(f"cannot create the folder {out}: {error.strerror}") from error


def shape_of(text: str | None) -> tuple[int, ...] | None:
    """The input shape that the option names."""
    if text is None:
        return None
    try:
        shape = tuple(int(part) for part in text.lower().replace("x", ",").strip("() ").split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise UsageError(f"--input-shape {text!r}: expected positive whole numbers such as 3,32,32")
    if math.prod(shape) > 2**31:
        raise UsageError(f"--input-shape {text!r}: one input has {math.prod(shape):,} numbers, expected at most 2³¹")
    return shape


def device_of(text: str) -> str:
    """The device that the option names, in torch's words."""
    import torch

    if text == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        if reason.startswith("Expected one of"):  # followed by every device that torch was ever built for
            raise UsageError(f"--device {text!r}: expected auto, cpu, cuda, cuda:1 … or mps") from error
        raise UsageError(f"--device {text!r}: {reason}") from error
    return text
