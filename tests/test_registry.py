from __future__ import annotations

import pytest

from ssnr.core.aggregates import AGGREGATES, register_aggregate
from ssnr.core.catalogue import parse_proxies, parse_proxy, register_proxy, register_saliency
from ssnr.core.errors import UsageError
from ssnr.core.registry import Registry


def test_names_are_looked_up_and_unknown_ones_suggest_near_ones():
    table: Registry[int] = Registry("colour")
    table.add("red", 1)
    table.add("green", 2)
    assert (table["red"], list(table), "green" in table) == (1, ["red", "green"], True)
    with pytest.raises(UsageError, match=r"^unknown colour 'grene': did you mean green\?$"):
        table["grene"]
    with pytest.raises(UsageError, match=r"^unknown colour 'xyz': known are green, red$"):
        table["xyz"]


def test_a_second_object_of_one_name_is_refused():
    table: Registry[int] = Registry("colour")
    table.add("red", 1)
    with pytest.raises(UsageError, match="a colour named 'red' is registered already"):
        table.add("red", 1)


def test_a_saliency_and_a_plain_proxy_cannot_share_a_name():
    with pytest.raises(UsageError, match="a proxy named 'params' is registered already"):

        @register_saliency()
        def params(net, batch):
            """Taken."""

    with pytest.raises(UsageError, match="a proxy named 'snip' is registered already"):

        @register_proxy()
        def snip(net, batch):
            """Taken."""


def test_an_aggregate_of_ones_own_is_a_name_like_any_other():
    @register_aggregate(parameters=("k",))
    def scaled_sum(m, k=1.0):
        """K times the sum."""
        return k * float(m.total.sum())

    try:
        assert parse_proxy("synflow/scaled_sum(3)").arguments == (3.0,)
    finally:
        AGGREGATES.remove("scaled_sum")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("synflow", "synflow"),
        (" synflow / layerwise_ssnr ", "synflow/layerwise_ssnr"),
        ("snip/layerwise_ssnr( 0.75 , 3 )", "snip/layerwise_ssnr(0.75,3)"),
        ("snip/layerwise_ssnr()", "snip/layerwise_ssnr"),
        ("params", "params"),
    ],
)
def test_a_proxy_has_one_written_form(text, written):
    assert parse_proxy(text).text == written
    assert parse_proxy(written) == parse_proxy(text)


def test_repeats_are_asked_for_once_in_the_order_given():
    assert [p.text for p in parse_proxies(["snip", "synflow", "snip"])] == ["snip", "synflow"]


@pytest.mark.parametrize("text", ["", "a b", "synflow/", "/sum", "synflow/sum/sum", "synflow/layerwise_ssnr(1,2"])
def test_what_is_no_proxy_says_what_one_looks_like(text):
    with pytest.raises(UsageError, match=r"expected NAME, SALIENCY/AGGREGATE or SALIENCY/AGGREGATE\(p,q\)"):
        parse_proxy(text)
