from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ssnr.core.aggregates import AGGREGATES
from ssnr.core.errors import ScoringError
from ssnr.core.moments import Rules, from_tensors, pack, reduced, unpack


def moments(**layers: list[float] | None):
    return from_tensors({n: None if v is None else torch.tensor(v, dtype=torch.float64) for n, v in layers.items()})


def value(name: str, m, *arguments: float) -> float:
    return AGGREGATES[name](m, *arguments).value


def test_sum_ssnr_layerwise_mean_and_l2_by_hand():
    m = moments(a=[1.5, 3, 9, 1.5], b=[3, 7, 1.5, 3.5])
    both = np.array([1.5, 3, 9, 1.5, 3, 7, 1.5, 3.5])
    assert value("sum", m) == 30
    assert value("ssnr", m) == pytest.approx(30 / both.std(), rel=1e-15)
    assert value("layerwise_ssnr", m) == pytest.approx(15 / both[:4].std() + 15 / both[4:].std(), rel=1e-15)
    assert value("mean", m) == 30 / 8
    assert value("l2", m) == pytest.approx(np.linalg.norm(both), rel=1e-15)


def test_layerwise_ssnr_with_p_and_q_is_the_sum_of_weighted_powers():
    m = moments(a=[1.0, 2, 3], b=[2.0, 2, 5, 7])
    expected = sum(len(v) ** 0.75 * (np.mean(v) / np.std(v)) ** 3 for v in ([1, 2, 3], [2, 2, 5, 7]))
    assert value("layerwise_ssnr", m, 0.75, 3.0) == pytest.approx(expected, rel=1e-14)
    assert value("layerwise_ssnr", m, 1.0, 1.0) == value("layerwise_ssnr", m)


def test_a_fractional_power_of_a_negative_layer_is_refused_not_nan():
    with pytest.raises(ScoringError, match=r"layerwise_ssnr\(1,0.5\): layer 'b' has a negative sum"):
        AGGREGATES["layerwise_ssnr"](moments(a=[1.0, 2], b=[-1.0, -2]), 1.0, 0.5)


@pytest.mark.parametrize("unit", [1e200, 1e-200, 1e-300, 1.0])
def test_squares_neither_overflow_nor_underflow(unit):
    assert value("ssnr", moments(a=[unit, 3 * unit])) == pytest.approx(4, rel=1e-14)
    assert value("layerwise_ssnr", moments(a=[unit, 3 * unit])) == pytest.approx(4, rel=1e-14)


@pytest.mark.parametrize("count", [3, 7, 4096])
def test_equal_saliencies_are_degenerate_whatever_rounding_says(count):
    m = moments(a=[0.1] * count, b=[1.0, 2.0])
    assert m.layers()[0].flag == "degenerate"
    assert m.layers()[0].ratio == 0
    assert value("layerwise_ssnr", m) == pytest.approx(3 / 0.5)


def test_a_single_weight_is_degenerate():
    m = moments(one=[14.0], rest=[2.0, 4.0, 8.0])
    assert value("layerwise_ssnr", m) == pytest.approx(5.61248608016)
    assert [layer.flag for layer in m.layers()] == ["degenerate", None]
    alethiometer = m.under(Rules(ddof=1, degenerate="sum", idle="zeros"))
    assert value("layerwise_ssnr", alethiometer) == pytest.approx(14 + 4.58257569496)


def test_a_network_without_spread_has_overall_ssnr_zero():
    assert value("ssnr", moments(a=[0.1] * 49)) == 0


def test_dust_beside_live_layers_is_dead_and_leaves_n_and_sigma():
    m = moments(dust=[1e-13, 2e-13], live=[1.0, 2.0, 6.0])
    assert [layer.flag for layer in m.layers()] == ["dead", None]
    assert value("ssnr", m) == pytest.approx(9 / np.std([1, 2, 6]), rel=1e-12)


def test_small_values_alone_are_alive():
    m = moments(a=[1e-60, 2e-60])
    assert [layer.flag for layer in m.layers()] == [None]
    assert AGGREGATES["sum"](m).log == pytest.approx(math.log(3e-60), rel=1e-15)


def test_unused_layers_count_only_where_a_recipe_says_so():
    m = from_tensors({"a": torch.tensor([1.0, 2.0], dtype=torch.float64), "idle": None}, {"idle": 2})
    assert m.layers()[1] == ("idle", 2, 0.0, 0.0, 0.0, "unused")
    assert value("ssnr", m) == pytest.approx(3 / np.std([1, 2]))
    assert value("ssnr", m.under(Rules(idle="zeros"))) == pytest.approx(3 / np.std([1, 2, 0, 0]))


def test_zeros_inside_a_live_layer_stay_in_n():
    assert value("ssnr", moments(a=[0.0, 0, 3])) == pytest.approx(3 / np.std([0, 0, 3]))


def test_magnitude_moments_are_the_moments_of_the_magnitude():
    signed = [-3.0, 1.0, 2.0, -0.5]
    of_signed, of_magnitude = moments(a=signed).magnitude(), moments(a=[abs(v) for v in signed])
    for name in AGGREGATES:
        assert value(name, of_signed) == pytest.approx(value(name, of_magnitude), rel=1e-15)


def test_exponents_stand_for_powers_of_two_beyond_float64():
    tensors = {"a": torch.tensor([1.0, 3.0], dtype=torch.float64), "b": torch.tensor([1.0, 3.0], dtype=torch.float64)}
    m = from_tensors(tensors, exponent={"a": 2000, "b": 2000})
    total = AGGREGATES["sum"](m)
    assert total.value == math.inf
    assert total.log == pytest.approx(math.log(8) + 2000 * math.log(2), rel=1e-15)
    assert value("ssnr", m) == 8
    assert value("layerwise_ssnr", m) == 8


def test_scaling_one_layer_leaves_layerwise_ssnr_and_moves_the_overall_one():
    a, b = [1.0, 2, 4], [3.0, 1, 1]
    before, after = moments(a=a, b=b), moments(a=[1e6 * v for v in a], b=b)
    assert value("layerwise_ssnr", after) == pytest.approx(value("layerwise_ssnr", before), rel=1e-14)
    assert value("ssnr", after) != pytest.approx(value("ssnr", before), rel=0.01)


@pytest.mark.parametrize(("bad", "said"), [(math.nan, "NaN"), (math.inf, "infinity")])
def test_what_is_not_finite_is_named(bad, said):
    with pytest.raises(ScoringError, match=rf"layer 'b': its saliency is not finite \({said}\)"):
        moments(a=[1.0], b=[1.0, bad])


def test_two_passes_keep_a_small_sigma_beside_a_large_mean():
    values = [1.0, 1.0 + 1e-9, 1.0 - 1e-9]
    assert moments(a=values).layers()[0].sigma == pytest.approx(np.std(values), rel=1e-6)


def test_bytes_round_trip_exactly():
    m = from_tensors({"a": torch.randn(5), "b": None, "c": torch.randn(2, 3) * 1e-30}, {"b": 7})
    again = unpack(pack(m), m.names)
    assert again.precision == m.precision == "float32"
    for column in ("numel", "exponent", "total", "m2", "abs_total", "abs_m2", "peak", "unused"):
        assert np.array_equal(getattr(again, column), getattr(m, column))


def test_bytes_of_another_layout_are_refused():
    with pytest.raises(ValueError, match="moments of 1 layers in 73 bytes, but 2 names"):
        unpack(pack(moments(a=[1.0])), ("a", "b"))


def test_a_large_layer_in_pieces_is_what_it_is_in_one():
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(300_001, generator=generator, dtype=torch.float64) + 1e-3
    gradients = torch.randn(300_001, generator=generator, dtype=torch.float64)
    gradients[:70_000] *= 1e-200
    row, values = reduced(gradients, weights), (weights * gradients).abs().numpy()
    total, m2, abs_total, abs_m2, peak = (
        np.ldexp(value, power * row.exponent) for value, power in zip(row.columns, (1, 2, 1, 2, 1), strict=True)
    )
    assert row.size == values.size
    assert total == abs_total == pytest.approx(values.sum(), rel=1e-14)
    assert m2 == abs_m2 == pytest.approx(values.var() * values.size, rel=1e-13)
    assert peak == values.max()


def test_moments_stand_in_for_their_tensor():
    values = torch.tensor([1.0, -2.0, 4.0], dtype=torch.float64)
    one, other = (from_tensors({"a": a, "b": None}, {"b": 3}, exponent={"a": 5}) for a in (values, reduced(values)))
    assert pack(one) == pack(other)
