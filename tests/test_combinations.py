"""Combinations of proxies by their ranks over a population."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from ssnr.core.catalogue import COMBINED, parse_proxy
from ssnr.core.combinations import parse
from ssnr.core.errors import UsageError
from ssnr.core.results import Result
from ssnr.scoring import score
from ssnr.store import Store
from ssnr.studies.study import study
from sweeps import SPACE, benchmark, fill, group

NAMES = "abcdefgh"
ACCURACY = {a: float(k) for k, a in enumerate(NAMES)}
SYNFLOW = dict(zip(NAMES, (1.0, 2.0, 2.0, 5.0, 4.0, 6.0, 9.0, 8.0), strict=True))
SNIP = dict(zip(NAMES, (3.0, 1.0, 4.0, 4.0, 4.0, 6.0, 5.0, 9.0), strict=True))
NTK = dict(zip(NAMES, (90.0, 70.0, 80.0, 50.0, 60.0, 60.0, 10.0, 20.0), strict=True))


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "sweep.sqlite") as opened:
        fill(opened, SYNFLOW, controls={a: (k % 3, 7 - k, k, 3) for k, a in enumerate(NAMES)})
        fill(opened, SNIP, group("plain", data="noise"))
        opened.add((group("ntk", data="noise"), Result(a, "ok", None, None, v)) for a, v in NTK.items())
        yield opened


def scores(found, proxy: str, **where) -> dict[str, float]:
    rows = found.scores[found.scores["proxy"] == proxy]
    for name, value in where.items():
        rows = rows[rows[name] == value]
    assert rows["architecture"].is_unique
    return dict(zip(rows["architecture"], rows["score"], strict=True))


def ranks(*columns: dict[str, float]) -> np.ndarray:
    return np.array([scipy_stats.rankdata([column[a] for a in NAMES]) for column in columns])


# --- values ---------------------------------------------------------------------------------------------------


def test_each_rule_is_its_formula_over_mid_ranks(store):
    minus_ntk = {a: -v for a, v in NTK.items()}
    r = ranks(SYNFLOW, SNIP, minus_ntk)
    for rule, expected in (("rank", r.sum(axis=0)), ("mean_rank", r.mean(axis=0)),
                           ("log_rank", np.log(r / 8).sum(axis=0))):  # fmt: skip
        text = f"{rule}(synflow,snip,-ntk)"
        found = study(store, benchmark(ACCURACY), [text], ci=False)
        assert list(scores(found, text).values()) == pytest.approx(expected, rel=1e-14)
        row = found.table[found.table["proxy"] == text].iloc[0]
        assert row["kendall"] == pytest.approx(scipy_stats.kendalltau(expected, list(ACCURACY.values())).statistic)
        assert (row["kind"], row["recipe"], row["seed"], row["data"], row["n"]) == ("proxy", "seed", 0, "noise", 8)


def test_the_reversed_order_of_a_member_is_the_rank_by_falling_value(store):
    found = study(store, benchmark(ACCURACY), ["rank(synflow,-flops)"], ci=False)
    flops = {a: float(7 - k) for k, a in enumerate(NAMES)}
    expected = ranks(SYNFLOW)[0] + (9 - ranks(flops)[0])
    assert list(scores(found, "rank(synflow,-flops)").values()) == expected.tolist()


def test_the_order_of_the_members_changes_nothing(store):
    texts = ["log_rank(synflow,snip,-ntk)", "log_rank(-ntk,synflow,snip)"]
    found = study(store, benchmark(ACCURACY), texts, ci=False)
    assert scores(found, texts[0]) == scores(found, texts[1])


def test_members_that_were_not_asked_for_are_not_shown(store):
    found = study(store, benchmark(ACCURACY), ["rank(synflow,snip)"], ci=False)
    assert set(found.table.query("kind == 'proxy'")["proxy"]) == {"rank(synflow,snip)"}
    found = study(store, benchmark(ACCURACY), ["rank(synflow,snip)", "synflow"], ci=False)
    assert set(found.table.query("kind == 'proxy'")["proxy"]) == {"rank(synflow,snip)", "synflow"}


def test_a_member_may_have_arguments_and_spaces_do_not_matter(store):
    found = study(store, benchmark(ACCURACY), [" rank( synflow/layerwise_ssnr(0.5, 8) , - ntk )"], ci=False)
    assert "rank(synflow/layerwise_ssnr(0.5,8),-ntk)" in set(found.table["proxy"])


def test_controls_alone_can_be_combined(store):
    found = study(store, benchmark(ACCURACY), ["rank(params,reachable_params)"], ci=False)
    expected = ranks({a: k % 3 for k, a in enumerate(NAMES)}, {a: k for k, a in enumerate(NAMES)}).sum(axis=0)
    assert list(scores(found, "rank(params,reachable_params)").values()) == expected.tolist()


def test_sums_beyond_float64_are_ranked_by_their_logarithm(tmp_path):
    from sweeps import total

    with Store(tmp_path / "huge.sqlite") as opened:
        huge = {a: total(1.0, exponent=e) for a, e in zip("abc", (1100, 1300, 1200), strict=True)}
        fill(opened, huge, controls=dict.fromkeys("abc", (1, 1, 1, 1)))
        found = study(opened, benchmark({"a": 1.0, "b": 2.0, "c": 3.0}), ["rank(synflow,params)"], ci=False)
    assert scores(found, "rank(synflow,params)") == {"a": 3.0, "b": 5.0, "c": 4.0}


def test_the_papers_combinations_have_names_and_read_as_they_define_them():
    assert [str(member) for member in parse("te_nas").members] == ["-ntk", "linear_regions"]
    az_nas = parse("az_nas")
    assert (az_nas.rule, az_nas.members[-1].proxy.text) == ("log_rank", "flops")
    assert {parse(name).text for name in COMBINED} == set(COMBINED)


def test_sign_takes_the_direction_of_the_catalogue():
    assert [str(member) for member in parse("rank(sign:ntk,sign:synflow)").members] == ["-ntk", "synflow"]


# --- dead, failed, missing ------------------------------------------------------------------------------------


def test_one_failed_member_fails_the_architecture_and_a_dead_one_counts_as_zero(tmp_path):
    with Store(tmp_path / "s.sqlite") as opened:
        fill(opened, {"a": "dead", "b": 2.0, "c": "out of memory", "d": 4.0, "e": -3.0})
        fill(opened, {"a": 2.0, "b": 1.0, "c": 3.0, "d": 4.0}, group("plain", data="noise"))
        known = benchmark({a: float(k) for k, a in enumerate("abcde")})
        found = study(opened, known, ["rank(synflow,snip)"], ci=False)
    row = found.table[found.table["proxy"] == "rank(synflow,snip)"].iloc[0]
    assert (row["n"], row["dead"], row["failed"]) == (3, 1, 1)
    # Ranked among a, b and d alone: c failed, and e has no result of plain yet.
    assert scores(found, "rank(synflow,snip)") == pytest.approx(
        {"a": 3.0, "b": 3.0, "c": np.nan, "d": 6.0}, nan_ok=True
    )
    assert found.scores.query("status == 'failed'")["reason"].tolist() == ["synflow: out of memory"]
    assert found.notes == (
        "1 architecture without a result for rank(synflow,snip) yet: run the sweep again",
        "rank(synflow,snip): 1 failed (synflow: out of memory)",
    )


def test_members_are_combined_only_under_one_recipe_seed_and_batch(store):
    fill(store, SYNFLOW, group(seed=1))
    fill(store, SNIP, group("plain", data="other"))
    found = study(store, benchmark(ACCURACY), ["rank(synflow,snip)"], ci=False)
    made = found.table.query("kind == 'proxy'")[["seed", "data"]].values.tolist()
    assert sorted(made) == [[0, "noise"], [0, "other"]]  # seed 1 has no snip


# --- bad input ------------------------------------------------------------------------------------------------


def test_members_that_the_store_does_not_hold_are_named_with_what_scores_them(store):
    with pytest.raises(UsageError) as caught:
        study(store, benchmark(ACCURACY), ["rank(synflow,-zen,naswot)"])
    assert str(caught.value) == (
        f"store {store.path} does not hold what rank(synflow,-zen,naswot) needs (zen, naswot) for {SPACE}: it has "
        f"ntk (recipe seed, seed 0, data noise), plain (recipe seed, seed 0, data noise), "
        f"synflow (recipe seed, seed 0); "
        f"add it with `ssnr sweep {SPACE} -p zen -p naswot --store {store.path}`"
    )


def test_members_of_different_seeds_make_no_combination(tmp_path):
    with Store(tmp_path / "s.sqlite") as opened:
        fill(opened, SYNFLOW, group(seed=1))
        fill(opened, SNIP, group("plain", data="noise"))
        with pytest.raises(UsageError) as caught:
            study(opened, benchmark(ACCURACY), ["rank(synflow,snip)"])
    assert str(caught.value) == (
        "rank(synflow,snip): no recipe, seed and batch has all its members: "
        "snip (recipe seed, seed 0, data noise), synflow (recipe seed, seed 1)"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rank(synflow)", "rank(synflow): expected two proxies or more, such as rank(synflow,-ntk)"),
        ("rank()", "rank(): member '': expected NAME, -NAME where lower is better, or sign:NAME"),
        ("rank(synflow,-)", "rank(synflow,-): member '-': expected NAME, -NAME where lower is better, or sign:NAME"),
        ("rank(ntk,sign:-zen)",
         "rank(ntk,sign:-zen): member 'sign:-zen': expected NAME, -NAME where lower is better, or sign:NAME"),
        ("rank(synflow,ntk,synflow/sum)",
         "rank(synflow,ntk,synflow/sum): synflow is in it twice; expected each proxy once"),
        ("rank(synflow,-synflow)", "rank(synflow,-synflow): synflow is in it twice; expected each proxy once"),
        ("rank(ntk,mean_rank(synflow,snip))",
         "rank(ntk,mean_rank(synflow,snip)): mean_rank(synflow,snip) is a combination itself; expected proxies"),
        ("rank(ntk,az_nas)", "rank(ntk,az_nas): az_nas is a combination itself; expected proxies"),
        ("rank(ntk,synflo)",
         "unknown proxy 'synflo': did you mean synflow or synflow_bn? (`ssnr list proxies` shows all)"),
        ("sum(ntk,zen)", "proxy 'sum(ntk,zen)': expected NAME, SALIENCY/AGGREGATE or SALIENCY/AGGREGATE(p,q)"),
    ],
)  # fmt: skip
def test_a_combination_that_cannot_be_read_gets_one_line(text, said):
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert str(caught.value) == said


@pytest.mark.parametrize("text", ["rank(synflow,snip)", "te_nas"])
def test_one_network_has_no_ranks(text):
    with pytest.raises(UsageError, match=r"which one network does not have: score its members, then `ssnr correlate`$"):
        score(None, proxies=[text])


def test_swap_is_regularised_by_the_number_of_parameters(tmp_path):
    with Store(tmp_path / "sweep.sqlite") as store:
        controls = {a: (500_000 + 100_000 * k, 1, 1, 1) for k, a in enumerate(NAMES)}
        fill(store, SYNFLOW, controls=controls)
        store.add((group("swap", data="noise"), Result(a, "ok", None, None, 10.0 + k)) for k, a in enumerate(NAMES))
        found = study(store, benchmark(ACCURACY), ["swap_reg(700, 40000)"], ci=False)
    expected = {a: np.log(10 + k) - (500 + 100 * k - 700) ** 2 / 40_000 for k, a in enumerate(NAMES)}
    assert scores(found, "swap_reg(700,40000)") == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("text", ["swap_reg", "swap_reg(40)", "swap_reg(a,b)", "swap_reg(40,0)", "swap_reg(40,40,40)"])
def test_swap_reg_says_what_it_takes(text):
    with pytest.raises(UsageError) as error:
        parse(text)
    assert str(error.value) == (
        f"proxy {text!r}: expected swap_reg(mu,sigma), in thousands of parameters and their square, "
        "such as swap_reg(500,40000)"
    )


def test_swap_reg_is_of_a_study_and_not_of_one_network():
    with pytest.raises(UsageError) as error:
        parse_proxy("swap_reg(40,40)")
    assert str(error.value) == (
        "proxy 'swap_reg(40,40)': made of swap and params by a study: score swap, then `ssnr correlate`"
    )
