from __future__ import annotations

import pytest

from ssnr.core.errors import UsageError
from ssnr.core.recipes import RECIPES, Recipe, get_recipe

WITH_OPTIONS = ["seed(dtype=float32)", "seed(temperature=200.0)", "naslib(ddof=1,dtype=float64)"]


@pytest.mark.parametrize("text", [*RECIPES, *WITH_OPTIONS])
def test_a_recipe_and_its_text_are_one(text):
    recipe = get_recipe(text)
    assert get_recipe(str(recipe)) == recipe
    assert get_recipe(recipe) is recipe


def test_the_text_names_what_differs_from_the_preset_only():
    assert str(get_recipe("seed(dtype=float64)")) == "seed"
    assert str(get_recipe("seed(temperature=200, dtype=float32)")) == "seed(dtype=float32,temperature=200.0)"


def test_the_default_recipe_is_the_field_by_field_default():
    assert RECIPES["seed"] == Recipe(summary=RECIPES["seed"].summary)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sead", "unknown recipe 'sead': did you mean seed?"),
        ("seed(", r"recipe 'seed\(': expected NAME or NAME\(option=value,…\)"),
        ("seed(dtyp=float32)", "unknown recipe option 'dtyp': did you mean dtype"),
        ("seed(dtype=half)", "recipe option dtype='half': expected float64 or float32"),
        ("seed(temperature=0)", "recipe option temperature=0: expected more than 0"),
        ("seed(temperature=inf)", "recipe option temperature=inf: expected more than 0"),
        ("seed(temperature=hot)", "recipe option temperature='hot': expected a number"),
        ("seed(ddof=2)", "recipe option ddof=2: expected 0 or 1"),
    ],
)
def test_what_a_recipe_does_not_know_is_refused(text, said):
    with pytest.raises(UsageError, match=said):
        get_recipe(text)
