from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from ssnr.core.catalogue import PLAIN, register_proxy
from ssnr.core.errors import StoreError, UsageError
from ssnr.core.results import Result
from ssnr.spaces import get_space
from ssnr.store import Architecture, Group, Store
from ssnr.studies import top
from ssnr.studies.populations import members
from ssnr.studies.study import study
from sweeps import SPACE, benchmark, fill, group, moments, result, total

ABCD = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "sweep.sqlite") as opened:
        yield opened


def row(found, proxy: str, **where):
    rows = found.table[found.table["proxy"] == proxy]
    for name, value in where.items():
        rows = rows[rows[name] == value]
    assert len(rows) == 1, rows
    return rows.iloc[0]


# --- what enters a correlation --------------------------------------------------------------------------------


def test_a_failed_row_is_counted_and_never_becomes_a_number(store):
    fill(store, {"a": 1.0, "b": 2.0, "c": "layer 'w': its saliency is not finite (NaN)", "d": 4.0})
    found = study(store, benchmark(ABCD), ["synflow"])
    assert (found.n, found.coverage) == (4, 0.75)
    sums = row(found, "synflow")
    assert (sums["n"], sums["failed"], sums["coverage"], sums["spearman"], sums["kendall"]) == (3, 1, 0.75, 1.0, 1.0)
    assert "synflow: 1 failed (layer 'w': its saliency is not finite (NaN))" in found.notes
    failed = found.scores.query("status == 'failed'")
    assert failed["architecture"].tolist() == ["c"]
    assert failed["score"].isna().all()


def test_five_scored_of_many_are_correlated_and_their_coverage_said(store):
    many = {f"{k:05}": float(k) for k in range(15_625)}
    fill(store, dict(list(many.items())[1:6]))
    found = study(store, benchmark(many), ["synflow"])
    assert found.n == row(found, "synflow")["n"] == 5
    assert found.coverage == row(found, "synflow")["coverage"] == 0.00032
    assert found.notes == ("15,620 architectures of the 15,625 of toy/cifar10 not in the store",)


def test_dead_networks_enter_with_score_zero(store):
    fill(store, {"a": "dead", "b": -1.0, "c": 2.0, "d": 3.0})
    found = study(store, benchmark(ABCD), ["synflow"])
    sums = row(found, "synflow")
    assert (sums["n"], sums["dead"], sums["failed"]) == (4, 1, 0)
    assert sums["spearman"] == pytest.approx(0.8)  # 0 and −1 change places
    assert found.scores["score"].tolist() == pytest.approx([0.0, -1.0, 2.0, 3.0])


def test_correlations_keep_their_sign(store):
    fill(store, {"a": -1.0, "b": -2.0, "c": -3.0, "d": -4.0}, group("grasp", data="noise"))
    found = study(store, benchmark(ABCD), ["grasp", "grasp_abs"])
    assert row(found, "grasp")["kendall"] == -1.0
    assert row(found, "grasp_abs")["kendall"] == 1.0


def test_sums_beyond_float64_are_ranked_by_their_logarithm(store):
    fill(store, {a: total(1.5, exponent=e) for a, e in zip("abcd", (-1200, 10, 1100, 1200), strict=True)})
    found = study(store, benchmark(ABCD), ["synflow"])
    assert found.scores["score"].tolist() == [0.0, 1.5 * 2**10, np.inf, np.inf]
    assert row(found, "synflow")["spearman"] == 1.0


def test_equal_scores_are_counted_as_ties(store):
    fill(store, {"a": 1.0, "b": 2.0, "c": 2.0, "d": 3.0})
    sums = row(study(store, benchmark(ABCD), ["synflow"]), "synflow")
    assert sums["ties"] == 2
    assert sums["kendall"] == pytest.approx(0.912870929175277, abs=1e-15)


def test_constant_scores_are_shown_as_constant_in_every_form(store):
    fill(store, dict.fromkeys("abcd", 5.0))
    found = study(store, benchmark(ABCD), ["synflow"])
    constant = row(found, "synflow")
    assert constant["note"] == "constant"
    assert np.isnan(constant["spearman"])
    line = found.to_json()["rows"][0]
    assert (line["spearman"], line["spearman_ci"], line["kendall"], line["note"]) == (
        None, [None, None], None, "constant",
    )  # fmt: skip
    assert "constant" in str(found)
    assert r"synflow & constant & constant & 4 & 0 & 0 \\" in found.to_latex()
    assert found.to_csv().splitlines()[1].endswith(",,,,,,,4,1.0,0,0,4,2.5,1.5,constant")


def test_isomorphic_architectures_share_one_result(store):
    fill(store, {"a": 1.0, "b": 2.0, "d": 4.0}, networks={"b": "B"})
    store.add_architectures(SPACE, [Architecture("c", "B", None, None, None, None)])
    found = study(store, benchmark(ABCD), ["synflow"])
    assert found.scores["score"].tolist() == [1.0, 2.0, 2.0, 4.0]
    assert found.notes == (
        "4 architectures are 3 distinct networks: ties by construction, "
        "and intervals take the architectures as independent",
    )


def test_an_unfinished_sweep_is_named_and_leaves_no_scores(store):
    fill(store, {"a": 1.0, "b": 2.0, "c": 3.0})
    store.add_architectures(SPACE, [Architecture("d", "d", None, None, None, None)])
    found = study(store, benchmark(ABCD), ["synflow"])
    assert (found.n, row(found, "synflow")["n"]) == (4, 3)
    assert found.notes == ("1 architecture without a result for synflow yet: run the sweep again",)


def test_architectures_outside_the_benchmark_are_left_out_and_counted(store):
    fill(store, ABCD | {"e": 9.0})
    found = study(store, benchmark(ABCD | {"f": np.nan}), ["synflow"])
    assert (found.n, found.coverage) == (4, 1.0)
    assert found.notes == ("1 architecture of the store not in toy/cifar10: left out",)


# --- which rows there are -------------------------------------------------------------------------------------


def test_every_measured_saliency_and_its_magnitude_is_there_by_default(store):
    for measured in ("synflow", "grasp", "plain"):
        fill(store, ABCD, group(measured, data="" if measured == "synflow" else "noise"))
    found = study(store, benchmark(ABCD), ci=False)
    aggregates = ("sum", "ssnr", "layerwise_ssnr")
    saliencies = ("synflow", "grasp", "grasp_abs", "plain", "snip")
    assert set(found.table["proxy"]) == {f"{s}/{a}" for s in saliencies for a in aggregates}


def test_a_new_aggregate_over_an_old_store_scores_nothing(store):
    layers = {a: moments([1.0, k], [2.0, 5.0, 3.0 + k]) for k, a in enumerate("abcd", start=2)}
    fill(store, layers)
    found = study(store, benchmark(ABCD), ["synflow/layerwise_ssnr(0.5,2)"], ci=False)
    expected = [
        sum(len(v) ** 0.5 * (np.mean(v) / np.std(v)) ** 2 for v in ([1, k], [2, 5, 3 + k])) for k in range(2, 6)
    ]
    assert found.scores["score"].tolist() == pytest.approx(expected, rel=1e-14)


def test_controls_stand_in_the_same_table_best_kendall_first(store):
    controls = {a: (10 * k, -k, 7, 3) for k, a in enumerate("abcd")}
    fill(store, {"a": 1.0, "b": 3.0, "c": 2.0, "d": 4.0}, controls=controls)
    found = study(store, benchmark(ABCD), ["synflow", "params"], ci=False)
    assert found.table["proxy"].tolist() == ["params", "synflow", "flops", "layers", "reachable_params"]
    assert found.table["kind"].tolist() == ["control", "proxy", "control", "control", "control"]
    assert found.table["kendall"].tolist()[:3] == pytest.approx([1.0, 2 / 3, -1.0])
    assert found.table["note"].tolist()[3:] == ["constant", "constant"]


def test_controls_are_given_for_each_set_of_architectures(store):
    fill(store, ABCD, controls={a: (k, k, k, k) for k, a in enumerate("abcd")})
    fill(store, {"a": 1.0, "b": 2.0, "c": 3.0}, group("plain", data="noise"))
    found = study(store, benchmark(ABCD), ["synflow", "snip"], ci=False)
    assert sorted(found.table.query("proxy == 'params'")["n"]) == [3, 4]


def test_recipe_seed_and_data_make_rows_and_choose_among_them(store):
    fill(store, ABCD)
    fill(store, ABCD, group(seed=1))
    fill(store, ABCD, group(recipe="seed(dtype=float32)"))
    fill(store, ABCD, group("plain", data="noise"))
    fill(store, ABCD, group("plain", data="cifar10"))
    everything = study(store, benchmark(ABCD), ["synflow", "snip"], ci=False)
    assert len(everything.table) == 5
    assert row(everything, "synflow", seed=1)["recipe"] == "seed"
    chosen = study(store, benchmark(ABCD), ["synflow", "snip"], recipe="seed", seed=0, data="noise", ci=False)
    assert chosen.table[["proxy", "data"]].values.tolist() == [["snip", "noise"], ["synflow", ""]]


def test_a_registered_proxy_is_studied_by_its_stored_values(store):
    @register_proxy()
    def my_proxy(net, batch):
        raise AssertionError("nothing is scored again")

    try:
        store.add_architectures(SPACE, [Architecture(a, a, None, None, None, None) for a in ABCD])
        rows = [Result(a, "ok", None, None, -v) for a, v in ABCD.items() if a != "d"]
        store.add((group("my_proxy"), r) for r in [*rows, Result("d", "ok", None, None, float("nan"))])
        found = study(store, benchmark(ABCD), ci=False)
        assert (row(found, "my_proxy")["kendall"], row(found, "my_proxy")["failed"]) == (-1.0, 1)
    finally:
        PLAIN.remove("my_proxy")


def test_what_is_not_registered_here_is_left_out_with_a_note(store):
    fill(store, ABCD)
    fill(store, ABCD, group("theirs"))
    found = study(store, benchmark(ABCD), ci=False)
    assert found.notes == ("theirs is in the store but not registered in this session: left out",)


def test_the_space_of_the_benchmarks_own_data_set_is_preferred(store):
    fill(store, {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}, group(space="nasbench201"))
    fill(store, ABCD, group(space="nasbench201/cifar100"))
    found = study(store, benchmark(ABCD, name="nasbench201/cifar100"), ["synflow"])
    assert (row(found, "synflow")["kendall"], found.notes) == (1.0, ())
    found = study(store, benchmark(ABCD, name="nasbench201/cifar10"), ["synflow"])
    assert (row(found, "synflow")["kendall"], found.notes) == (-1.0, ())


def test_another_data_sets_space_is_used_with_a_note(store):
    fill(store, ABCD, group(space="nasbench201"))
    found = study(store, benchmark(ABCD, name="nasbench201/imagenet16-120"), ["synflow"])
    assert found.notes == ("scores are of the networks of nasbench201, accuracies of nasbench201/imagenet16-120",)


def test_of_two_scoring_versions_the_newest_is_used_and_an_old_one_named(store):
    fill(store, {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}, Group(SPACE, "synflow", "seed", 0, "", -1))
    fill(store, ABCD, Group(SPACE, "synflow", "seed", 0, "", 0))
    found = study(store, benchmark(ABCD), ["synflow"])
    assert row(found, "synflow")["kendall"] == 1.0
    assert found.notes == ("synflow was scored by scoring version 0, this ssnr has 2",)


# --- forms ----------------------------------------------------------------------------------------------------


def test_json_is_the_documented_contract(store):
    fill(store, {"a": 1.0, "b": 3.0, "c": 2.0, "d": 4.0}, controls={a: (k, k, k, k) for k, a in enumerate("abcd")})
    document = json.loads(json.dumps(study(store, benchmark(ABCD), ["synflow"]).to_json(), allow_nan=False))
    assert {k: document[k] for k in ("benchmark", "source", "metric", "population", "n", "coverage")} == {
        "benchmark": "toy/cifar10", "source": "hand", "metric": "test accuracy (%)", "population": "all", "n": 4,
        "coverage": 1.0,
    }  # fmt: skip
    proxy = next(r for r in document["rows"] if r["kind"] == "proxy")
    low, high = proxy.pop("spearman_ci")
    assert -1 <= low <= proxy.pop("spearman") <= high <= 1
    low, high = proxy.pop("kendall_ci")
    assert -1 <= low <= proxy.pop("kendall") <= high <= 1
    assert proxy == {
        "proxy": "synflow", "kind": "proxy", "published_in": None, "recipe": "seed", "seed": 0, "data": "",
        "n": 4, "coverage": 1.0,
        "failed": 0, "dead": 0, "ties": 0, "choice": 4.0, "regret": 0.0, "top": [], "note": None,
    }  # fmt: skip
    assert {r["proxy"]: r["seed"] for r in document["rows"] if r["kind"] == "control"} == dict.fromkeys(
        ("params", "flops", "reachable_params", "layers")
    )


def test_csv_names_the_benchmark_in_every_row(store):
    fill(store, ABCD)
    found = study(store, benchmark(ABCD), ["synflow/sum", "synflow/mean"], ci=False)
    table = pd.read_csv(io.StringIO(found.to_csv()))
    assert table["benchmark"].tolist() == ["toy/cifar10"] * 2
    assert table[["source", "split", "epochs"]].values.tolist() == [["hand", "test", 200]] * 2
    assert table["kendall"].tolist() == [1.0, 1.0]


def test_latex_is_escaped_and_its_best_row_bold(store):
    fill(store, {"a": 1.0, "b": 3.0, "c": 2.0, "d": 4.0}, controls={a: (1, 2, k, 1) for k, a in enumerate("abcd")})
    text = study(store, benchmark(ABCD), ["synflow/layerwise_ssnr"], ci=False).to_latex()
    assert r"\textit{reachable\_params} & \textbf{1.0000} & \textbf{1.0000} & 4 & 0 & 0 \\" in text
    assert r"synflow/layerwise\_ssnr & " in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1


def test_the_terminal_table_says_benchmark_coverage_and_notes(store):
    fill(store, {"a": 1.0, "b": 3.0, "c": 2.0})
    text = str(study(store, benchmark(ABCD), ["synflow"], ci=False))
    assert text.splitlines()[0].strip() == "toy/cifar10, test accuracy (%), 200 epochs, source hand"
    assert "n = 3, coverage 75.0 %" in text
    assert "1 architecture of the 4 of toy/cifar10 not in the store" in text
    assert "0.5000" in text


def test_the_tidy_scores_are_what_the_table_counts(store):
    fill(store, {"a": "dead", "b": 2.0, "c": "out of memory", "d": 4.0})
    scores = study(store, benchmark(ABCD), ["synflow"]).scores
    assert scores[["architecture", "status", "accuracy"]].values.tolist() == [
        ["a", "dead", 1.0], ["b", "ok", 2.0], ["c", "failed", 3.0], ["d", "ok", 4.0],
    ]  # fmt: skip
    assert scores["reason"].tolist() == ["no path", "", "out of memory", ""]


# --- the top and the populations ------------------------------------------------------------------------------

EIGHT = {a: float(k) for k, a in enumerate("abcdefgh", start=60)}


def test_the_top_of_every_row_is_what_its_measures_say(store):
    scores = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 7.0, "e": 4.0, "f": 6.0, "g": 5.0, "h": 5.5}
    fill(store, scores, controls={a: (k, k, k, k) for k, a in enumerate(EIGHT)})
    found = study(store, benchmark(EIGHT), ["synflow"], top=[0.5, 0.25], ci=False)
    at = found.table.index[found.table["proxy"] == "synflow"][0]
    rows = found.top[found.top["row"] == at]
    assert rows["share"].tolist() == [0.25, 0.5]
    accuracy = [EIGHT[a] for a in scores]
    for share, (_, given) in zip((0.25, 0.5), rows.iterrows(), strict=True):
        expected = top.top(list(scores.values()), accuracy, share)
        assert (given["k"], given["precision"], given["ndcg"]) == (expected.k, expected.precision, expected.ndcg)
        assert (given["best_kendall"], given["best_n"]) == (expected.best.kendall.value, expected.best.n)
        assert (given["chosen_spearman"], given["chosen_n"]) == (expected.chosen.spearman.value, expected.chosen.n)
    sums = row(found, "synflow")
    assert (sums["choice"], sums["regret"]) == (63.0, 4.0)  # d, where h is the best
    assert len(found.top) == 2 * len(found.table)


def test_the_top_is_in_every_form(store):
    fill(store, EIGHT)
    found = study(store, benchmark(EIGHT), ["synflow"], top=[0.25], ci=False)
    (entry,) = json.loads(json.dumps(found.to_json(), allow_nan=False))["rows"][0]["top"]
    within = {"n": 2, "spearman": 1.0, "spearman_ci": [None, None], "kendall": 1.0, "kendall_ci": [None, None]}
    assert entry == {"share": 0.25, "k": 2, "precision": 1.0, "ndcg": 1.0, "best": within, "chosen": within}
    frame = found.to_frame()
    assert frame[["population", "precision@25%", "best_kendall@25%", "k@25%"]].values.tolist() == [["all", 1.0, 1.0, 2]]
    assert frame.to_csv(index=False, lineterminator="\n") == found.to_csv()
    last = found.top_sheet().to_markdown().splitlines()[-1]
    assert [cell.strip() for cell in last.split("|")[1:-1]] == ["synflow", "1.00", "1.00", "1.00", "67.00", "0.00"]
    assert "the top 25 %" in str(found)
    assert "the top" not in str(study(store, benchmark(EIGHT), ["synflow"], ci=False))


def test_a_study_of_all_of_nasbench201_knows_the_published_counts(store):
    space = get_space("nasbench201")
    cells = list(space.all())
    store.add_architectures("nasbench201", (Architecture(a, a, None, space.counts(a).flops, None, None) for a in cells))
    store.add([(group(space="nasbench201"), result(cells[0], 1.0))])
    everything = benchmark(dict.fromkeys(cells, 1.0) | {cells[0]: 2.0}, name="nasbench201/cifar10")
    for population, count in (("all", 15_625), ("used", 9_445), ("classes", 6_466)):
        found = study(store, everything, ["synflow"], population=population, ci=False)
        assert (found.n, found.population) == (count, population)
    assert (
        "population classes: the 6,466 of 15,625 architectures that stand for a class of isomorphic ones" in found.notes
    )
    assert repr(found) == "<study of nasbench201/cifar10 (classes): 2 rows, 6,466 architectures>"
    assert found.sheet().title.splitlines()[0].endswith("source hand, population classes")
    assert found.to_json()["population"] == "classes"


def test_of_a_class_the_canonical_architecture_stands_for_it_or_the_first_there_is():
    space = get_space("nasbench201")
    canonical = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|"
    others = [arch for arch in space.all() if space.canonical(arch) == canonical != arch]
    assert len(others) > 2
    chosen = members("classes", "nasbench201", [others[1], canonical, others[0]])
    assert chosen.tolist() == [False, True, False]
    chosen = members("classes", "nasbench201", [others[1], others[2], others[0]])
    assert chosen.tolist() == [True, False, False]


def test_an_idle_operation_is_one_that_no_path_uses():
    space = get_space("nasbench201")
    for cell, idle in (
        ("|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|", 1),
        ("|nor_conv_3x3~0|+|skip_connect~0|none~1|+|nor_conv_3x3~0|none~1|none~2|", 2),
        ("|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_3x3~0|skip_connect~1|none~2|", 0),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", 0),
    ):
        assert space.idle_operations(cell) == idle
    assert get_space("transnasbench101-micro").idle_operations("64-41414-3_00_300") == 1


# --- bad input ------------------------------------------------------------------------------------------------


def test_a_saliency_that_was_not_measured_is_named_with_what_is_there(store):
    fill(store, ABCD)
    with pytest.raises(UsageError) as caught:
        study(store, benchmark(ABCD), ["snip/ssnr"])
    assert str(caught.value) == (
        f"store {store.path} does not hold what snip/ssnr needs for toy: it has synflow (recipe seed, seed 0); "
        f"add it with `ssnr sweep toy -p snip/ssnr --store {store.path}`"
    )


def test_a_filter_that_leaves_nothing_says_what_is_there(store):
    fill(store, ABCD, group("plain", data="noise"))
    with pytest.raises(UsageError) as caught:
        study(store, benchmark(ABCD), recipe="naslib", seed=3)
    assert str(caught.value) == (
        f"store {store.path} holds no scores of toy with recipe naslib, seed 3; "
        f"it has plain (recipe seed, seed 0, data noise)"
    )


def test_a_population_that_a_space_does_not_define_is_refused_in_one_line(store):
    arch = get_space("darts").sample(np.random.default_rng(0))
    fill(store, {arch: 1.0}, group(space="darts"))
    known = benchmark({arch: 90.0}, name="darts/cifar10")
    with pytest.raises(UsageError) as caught:
        study(store, known, population="used")
    assert str(caught.value) == (
        "population used: darts does not say which operations of an architecture are idle; take population all"
    )
    fill(store, ABCD)
    with pytest.raises(UsageError, match=r"^population classes: unknown space 'toy': .*; take population all$"):
        study(store, benchmark(ABCD), population="classes")
    with pytest.raises(UsageError, match=r"^unknown population 'unused': did you mean used\?"):
        study(store, benchmark(ABCD), population="unused")


def test_a_population_of_which_the_store_has_nothing_is_refused(store):
    idle = "|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|"
    fill(store, {idle: 1.0}, group(space="nasbench201"))
    with pytest.raises(UsageError, match=r"^population used: none of its architectures is in store .*sweep.sqlite$"):
        study(store, benchmark({idle: 90.0}, name="nasbench201/cifar10"), population="used")


def test_a_share_of_the_top_is_checked_before_anything_is_read(tmp_path):
    with pytest.raises(UsageError, match=r"^top 10: expected a share in \(0, 1\], such as 0.1 for the best tenth$"):
        study(tmp_path / "nothing.sqlite", benchmark(ABCD), top=[10])


def test_a_store_of_another_family_is_refused(store):
    fill(store, ABCD, group(space="darts"))
    with pytest.raises(UsageError, match=r"sweep.sqlite holds darts; benchmark toy/cifar10 needs toy$"):
        study(store, benchmark(ABCD))


def test_a_store_without_a_common_architecture_is_refused(store):
    fill(store, ABCD)
    with pytest.raises(UsageError, match=r"^none of the 4 architectures of toy in store .* is in toy/cifar10$"):
        study(store, benchmark({"x": 1.0}))


def test_a_path_without_a_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"^no store at .*nothing.sqlite: run `ssnr sweep"):
        study(tmp_path / "nothing.sqlite", benchmark(ABCD))


def test_a_path_is_opened_and_closed_again(store):
    fill(store, ABCD)
    assert study(store.path, benchmark(ABCD), ["synflow"]).n == 4


def test_studies_and_figures_never_import_torch():
    code = "import sys, ssnr.studies, ssnr.studies.plots, ssnr.paper.fig2; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_reads_idle_weights_is_looked_up_by_architecture_not_by_network(tmp_path):
    from ssnr import sweep
    from ssnr.spaces import get_space

    space = get_space("nasbench201/imagenet16-120")
    pair = [
        "|nor_conv_1x1~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|",
        "|none~0|+|nor_conv_1x1~0|none~1|+|none~0|nor_conv_3x3~1|skip_connect~2|",
    ]
    path = tmp_path / "s.sqlite"
    rows = list(sweep(space, pair, ["synflow", "magnitude"], store=path, workers=1))
    assert rows[0].scores["synflow"] == rows[1].scores["synflow"]
    assert rows[0].scores["magnitude"].value < rows[1].scores["magnitude"].value
    known = benchmark(dict(zip(pair, (50.0, 60.0), strict=True)), name="nasbench201/imagenet16-120")
    found = study(path, known, ["synflow", "magnitude"], ci=False)
    assert row(found, "synflow")["note"] == "constant"
    assert row(found, "magnitude")["kendall"] == 1.0


def test_a_benchmark_can_be_named(store, tmp_path):
    (tmp_path / "mine.csv").write_text("architecture,accuracy\n0,50\n1,60\n2,70\n")
    from ssnr.spaces import get_space

    space = get_space("nasbench201")
    fill(store, {space.parse(n): float(n + 1) for n in range(3)}, group(space="nasbench201"))
    assert row(study(store, str(tmp_path / "mine.csv"), ["synflow"], ci=False), "synflow")["kendall"] == 1.0
