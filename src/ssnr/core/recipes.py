"""Recipes: named sets of the choices that change a number.

`seed` is this project's own; the others make the same saliency land on the number of another program. A recipe is
written `NAME` or `NAME(option=value,…)`: `seed(dtype=float32)`, `seed(temperature=200)`; that text is part of every
stored row and of every JSON document.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace

from ssnr.core.errors import UsageError
from ssnr.core.moments import Rules
from ssnr.core.registry import unknown

_CHOICES: dict[str, tuple[str, ...]] = {
    "dtype": ("float64", "float32"),
    "synflow_dtype": ("float64", "float32"),
    "norms": ("all", "batch", "none"),
    "scored": ("matrices", "conv2d+linear", "conv1d+conv2d+linear"),
    "ties": ("once", "per-module"),
    "mode": ("train", "eval", "caller"),
    "activations": ("mode", "eval"),
    "dropout": ("off", "on"),
    "degenerate": ("zero", "sum"),
    "idle": ("exclude", "zeros"),
    "log": ("none", "ln"),
    "init": ("independent", "shared"),
    "tokens": ("ones", "batch"),
}


MOST_IMAGES = 64  # that a saliency draws for itself


@dataclass(frozen=True)
class Recipe:
    """Every choice that changes a number; see the field comments."""

    name: str = "seed"
    summary: str = ""
    dtype: str = "float64"  # of the passes of snip, plain, grad_norm, fisher and grasp
    synflow_dtype: str = "float64"  # of synflow's pass
    norms: str = "all"  # what synflow bypasses: all norms, BatchNorm1d/2d modules only, none
    scored: str = "matrices"  # parameters with two or more dimensions, or the weights of these modules only
    ties: str = "once"  # a tied tensor is one layer, or one layer per module that holds it
    mode: str = "train"  # norms use batch statistics, running statistics, or whatever each module is set to
    activations: str = "mode"  # what proxies read of one forward pass (codes, maps …): in `mode`, or in eval mode
    dropout: str = "off"  # dropout and its like during data-driven passes
    ddof: int = 0  # σ² = Σ(S − mean)² / (N − ddof)
    degenerate: str = "zero"  # what a layer without spread adds to layerwise_ssnr: nothing, or its sum
    idle: str = "exclude"  # dead and unused layers in N and σ of the whole: left out, or counted as zeros
    log: str = "none"  # synflow's sum as it is, or its natural logarithm
    temperature: float = 1.0  # grasp divides the logits by it
    images: int = 1  # how many images snip_noise, grasp_noise and their like draw
    variant: str = "default"  # how a search space builds the network
    tokens: str = "ones"  # synflow reads tokens as all-ones one-hot vectors, or looks the batch's own up
    init: str = "independent"  # in a sweep: every network draws its own weights, or all share a supernet's

    @property
    def rules(self) -> Rules:
        """The part that acts on moments."""
        return Rules(self.ddof, self.degenerate, self.idle)

    def __str__(self) -> str:
        preset = RECIPES[self.name]
        changed = [
            f"{f.name}={getattr(self, f.name)}"
            for f in fields(self)
            if getattr(self, f.name) != getattr(preset, f.name)
        ]
        return f"{self.name}({','.join(changed)})" if changed else self.name


RECIPES: dict[str, Recipe] = {
    "seed": Recipe("seed", "this project: float64, every norm bypassed for synflow, biased σ, only live layers count"),
    "zero-cost-nas": Recipe(
        "zero-cost-nas",
        "Abdelfattah et al. (2021): sums; float32 but for synflow, batch norms bypassed, idle weights count as zeros",
        dtype="float32",
        norms="batch",
        scored="conv2d+linear",
        ties="per-module",
        idle="zeros",
        mode="train",
        dropout="on",
        variant="zero-cost-nas",
    ),
    "naslib": Recipe(
        "naslib",
        "NASLib (Krishnakumar et al., 2022): as zero-cost-nas on NASLib's networks; synflow as ln of its sum",
        dtype="float32",
        norms="batch",
        scored="conv2d+linear",
        ties="per-module",
        idle="zeros",
        mode="train",
        dropout="on",
        log="ln",
        variant="naslib",
    ),
    "alethiometer": Recipe(
        "alethiometer",
        "alethiometer 1.1 (Xiang et al., 2023): unbiased σ, a layer without spread adds its sum",
        dtype="float32",
        norms="batch",
        scored="conv1d+conv2d+linear",
        ties="per-module",
        mode="caller",
        activations="eval",
        dropout="on",
        ddof=1,
        degenerate="sum",
        idle="zeros",
    ),
}

_TEXT = re.compile(r"(?P<name>[\w-]+)(?:\((?P<options>.*)\))?")


def shared(recipe: Recipe) -> Recipe:
    """The recipe with a supernet's weights for all networks, in float32, which is what makes it fast."""
    return replace(recipe, init="shared", synflow_dtype="float32")


def get_recipe(recipe: str | Recipe) -> Recipe:
    """Look a recipe up and apply the options in its text.

    Raises:
        UsageError: unknown recipe, option or value.

    >>> str(get_recipe("seed(temperature=200)"))
    'seed(temperature=200.0)'
    """
    if isinstance(recipe, Recipe):
        return recipe
    match = _TEXT.fullmatch(recipe.strip())
    if match is None:
        raise UsageError(f"recipe {recipe!r}: expected NAME or NAME(option=value,…), such as seed(dtype=float32)")
    if match["name"] not in RECIPES:
        raise unknown("recipe", match["name"], RECIPES)
    found = RECIPES[match["name"]]
    for pair in filter(None, (match["options"] or "").split(",")):
        option, _, value = (part.strip() for part in pair.partition("="))
        found = with_option(found, option, value)
    return found


def with_option(recipe: Recipe, option: str, value: str) -> Recipe:
    """The recipe with one choice changed, from text.

    Raises:
        UsageError: unknown option, or a value that it does not take.
    """
    if option in _CHOICES:
        if value not in _CHOICES[option]:
            raise UsageError(f"recipe option {option}={value!r}: expected {' or '.join(_CHOICES[option])}")
        return replace(recipe, **{option: value})  # type: ignore[arg-type]
    if option == "variant" and value:
        return replace(recipe, variant=value)  # each space knows its own
    if option not in ("ddof", "temperature", "images"):
        raise unknown("recipe option", option, [*_CHOICES, "variant", "ddof", "temperature", "images"])
    try:
        number = float(value) if option == "temperature" else int(value)
    except ValueError:
        raise UsageError(f"recipe option {option}={value!r}: expected a number") from None
    if number < 0 or (option == "temperature" and not 0 < number < float("inf")) or (option == "ddof" and number > 1):
        raise UsageError(f"recipe option {option}={value}: expected {'0 or 1' if option == 'ddof' else 'more than 0'}")
    if option == "images" and not 1 <= number <= MOST_IMAGES:
        raise UsageError(f"recipe option images={value}: expected 1 … {MOST_IMAGES}")
    return replace(recipe, **{option: number})  # type: ignore[arg-type]
