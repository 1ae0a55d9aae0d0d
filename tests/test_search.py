"""Searches: the best under constraints, whatever the workers; goes on where it was; says what it could not find."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pandas as pd
import pytest

import ssnr
from commands import ssnr as command
from ssnr.core.results import Score
from ssnr.searchers.goals import bounds_of, objectives_of, violation
from ssnr.searchers.result import SearchResult, fronts
from ssnr.spaces import get_space
from ssnr.store import Store, merge, repair

NB201 = get_space("nasbench201/imagenet16-120")  # the smallest networks


def found(tmp_path, objectives=("synflow",), **options) -> SearchResult:
    options.setdefault("store", tmp_path / "s.sqlite")
    options.setdefault("workers", 1)
    return ssnr.search(NB201, objectives, **options)


# --- goals --------------------------------------------------------------------------------------------------------


def test_an_objective_goes_where_its_authors_want_it_or_where_the_sign_says():
    assert [(o.name, o.larger) for o in objectives_of(["synflow", "ntk", "-params", "-latency"])] == [
        ("synflow", True), ("ntk", False), ("params", False), ("latency", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("objectives", "said"),
    [
        ([], "no objective: for example noise_ssnr, or noise_ssnr and -params"),
        (["sinflow"], "unknown proxy 'sinflow': did you mean synflow"),
        (["params", "-params"], "objective '-params': params is asked for twice"),
    ],
)
def test_objectives_that_make_no_sense_are_refused(objectives, said):
    with pytest.raises(ssnr.UsageError, match=said):
        objectives_of(objectives)


@pytest.mark.parametrize(
    ("constraints", "said"),
    [
        ({"parms": 1}, "unknown constraint 'parms': did you mean params"),
        ({"params": (5, 1)}, "constraint params: nothing is from 5 to 1"),
        ({"params": "1M"}, "constraint params='1M': expected the largest value"),
    ],
)
def test_constraints_that_make_no_sense_are_refused(constraints, said):
    with pytest.raises(ssnr.UsageError, match=said):
        bounds_of(constraints)


def test_how_far_a_constraint_is_missed_is_a_share_of_its_bound():
    bounds = bounds_of({"params": (100, 200), "flops": 10})
    assert violation(bounds, {"params": 50.0, "flops": 15.0}) == (0.5, 0.5)
    assert violation(bounds, {"params": 150.0, "flops": 10.0}) == (-0.25, 0.0)


def test_a_sum_beyond_float64_is_larger_than_any_other_and_ordered_by_its_logarithm():
    (objective,) = objectives_of(["synflow"])
    values = [objective.of(s) for s in (Score(1e300), Score(np.inf, 800.0), Score(np.inf, 900.0))]
    assert values == sorted(values)
    assert len(set(values)) == 3
    assert objective.of(Score(0.0, None, "dead")) is None


def test_fronts_are_those_of_the_definition_on_random_points():
    losses = np.random.default_rng(0).integers(0, 8, (60, 2)).astype(float)
    left, number, expected = set(range(60)), 0, np.zeros(60, dtype=int)
    while left:
        number += 1
        own = {
            i for i in left if not any((losses[j] <= losses[i]).all() and (losses[j] < losses[i]).any() for j in left)
        }
        expected[list(own)] = number
        left -= own
    assert fronts(losses).tolist() == expected.tolist()


# --- searches -----------------------------------------------------------------------------------------------------


def test_an_exhaustive_search_finds_the_best_of_the_space_under_a_constraint(tmp_path):
    result = found(tmp_path, ["-params"], constraints={"params": (300_000, None)}, sampler="exhaustive")
    params = {arch: NB201.counts(arch).params for arch in NB201.all()}
    allowed = [n for n in params.values() if n >= 300_000]
    assert result.best["params"] == min(allowed)
    assert len(result.table) == len(allowed)
    assert result.notes[1] == (
        f"{len(params) - len(allowed):,} proposals did not meet 300000 ≤ params: not built, not counted as trials"
    )


@pytest.mark.parametrize("sampler", ["random", "evolution"])
def test_a_search_repeats_whatever_the_workers_and_goes_on_where_it_was(tmp_path, sampler):
    options = {"sampler": sampler, "trials": 40, "seed": 3}
    one = found(tmp_path, store=tmp_path / "a.sqlite", workers=1, **options)
    two = found(tmp_path, store=tmp_path / "b.sqlite", workers=2, **options)
    pd.testing.assert_frame_equal(one.table, two.table)
    half = found(tmp_path, store=tmp_path / "c.sqlite", **(options | {"trials": 20}))
    rest = found(tmp_path, store=tmp_path / "c.sqlite", **options)
    pd.testing.assert_frame_equal(rest.table, one.table)
    if sampler == "evolution":
        pd.testing.assert_frame_equal(half.table, one.table.head(20))


def test_what_the_store_holds_is_not_scored_again(tmp_path, monkeypatch):
    found(tmp_path, sampler="random", trials=12)
    monkeypatch.setattr("ssnr.engine.runs.timed_chunk", None)  # whoever scores now falls over it
    again = found(tmp_path, sampler="random", trials=12)
    assert (again.table["status"] == "ok").all()


def test_every_architecture_is_proposed_once_and_meets_the_constraints(tmp_path):
    result = found(tmp_path, sampler="evolution", trials=96, constraints={"params": 400_000}, workers=2)
    assert result.table["architecture"].is_unique
    assert result.table["params"].max() <= 400_000


def test_evolution_finds_better_networks_than_chance(tmp_path):
    """On a score that counting gives, so that nothing has to be scored: one of 15,625 networks is the largest."""
    best = {}
    for sampler in ("evolution", "random"):
        picks = [found(tmp_path, ["reachable_params"], sampler=sampler, seed=s, trials=300).best for s in range(5)]
        best[sampler] = np.mean([pick["reachable_params"] for pick in picks])
    assert best["evolution"] > best["random"]


def test_two_objectives_give_a_front(tmp_path):
    result = found(tmp_path, ["synflow", "-flops"], sampler="random", trials=30)
    front = result.front
    ok = result.table[result.table["status"] == "ok"]
    beaten = [
        ((ok["synflow"] >= s) & (ok["flops"] <= f) & ((ok["synflow"] > s) | (ok["flops"] < f))).any()
        for s, f in zip(ok["synflow"], ok["flops"], strict=True)
    ]
    assert set(front["architecture"]) == set(ok["architecture"][~np.array(beaten)])
    assert [axes.get_xlabel() for axes in result.plot().axes] == ["-flops"]


def test_measured_numbers_are_objectives_and_constraints(tmp_path):
    def measure(space, arch, seed):
        return {"latency": space.counts(arch).flops / 1e9}

    result = found(tmp_path, ["synflow", "-latency"], sampler="random", trials=20, measure=measure,
                   constraints={"latency": 0.02})  # fmt: skip
    assert result.ranked["latency"].max() <= 0.02
    assert set(result.table["status"]) == {"ok", "infeasible"}


class Broken(type(NB201)):
    """A space half of whose networks cannot be built."""

    def build(self, arch, *, seed=0, variant="default"):
        if "none" in self.parse(arch):
            raise ValueError("no layer")
        return super().build(arch, seed=seed, variant=variant)


def test_networks_that_cannot_be_built_cost_a_trial_and_the_search_goes_on(tmp_path):
    result = ssnr.search(Broken("imagenet16-120"), ["synflow"], store=tmp_path / "s.sqlite", sampler="evolution",
                         trials=64, workers=1)  # fmt: skip
    lost = result.table[result.table["status"] == "failed"]
    assert len(result.table) == 64
    assert 0 < len(lost) < 64
    assert set(lost["reason"]) == {"building it raised ValueError: no layer"}
    assert "none" not in result.best["architecture"]


def test_a_search_in_which_nothing_has_a_number_says_the_commonest_reason(tmp_path):
    class Hopeless(type(NB201)):
        def build(self, arch, *, seed=0, variant="default"):
            raise ValueError("no layer")

    result = ssnr.search(Hopeless("imagenet16-120"), ["synflow"], store=tmp_path / "s.sqlite", sampler="random",
                         trials=3, workers=1)  # fmt: skip
    with pytest.raises(ssnr.SsnrError, match="most often: building it raised ValueError: no layer"):
        _ = result.best


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"constraints": {"params": 10}},
            "no network of nasbench201/imagenet16-120 meets params ≤ 10: 15,625 were looked",
        ),
        ({"sampler": "genetic"}, "unknown sampler 'genetic'"),
        ({"trials": 0}, "trials 0: expected a number above 0"),
        ({"objectives": ["snip"]}, "snip needs a batch"),
    ],
)
def test_searches_that_make_no_sense_are_refused(tmp_path, options, said):
    with pytest.raises(ssnr.SsnrError, match=said):
        found(tmp_path, **({"objectives": ["-params"]} | options))


def test_a_result_is_a_line_a_table_and_a_document(tmp_path):
    result = found(tmp_path, sampler="random", trials=8)
    assert repr(result) == "<search of nasbench201/imagenet16-120: 8 trials, 8 scored>"
    assert list(result.to_frame().columns)[:3] == ["trial", "architecture", "synflow"]
    assert "<th>architecture</th>" in result._repr_html_()
    document = json.loads(json.dumps(result.to_json(top=3)))
    assert (document["trials"], len(document["best"]), document["objectives"]) == (8, 3, ["synflow"])
    assert document["best"][0]["synflow"] == result.table["synflow"].max()
    result.to_csv(tmp_path / "trials.csv")
    assert len(pd.read_csv(tmp_path / "trials.csv")) == 8
    assert result.plot().axes[0].get_ylabel() == "synflow"


def test_ranks_by_the_controls_stand_beside_the_rank_by_score(tmp_path):
    ranked = found(tmp_path, sampler="random", trials=16).ranked
    assert ranked["rank"].tolist() == sorted(ranked["rank"])
    assert ranked.loc[ranked["params"].idxmax(), "rank_params"] == 1


# --- command ------------------------------------------------------------------------------------------------------


def test_the_command_shows_the_best_and_writes_table_and_picture(tmp_path):
    run = command("search", NB201.name, "-p", "synflow", "-p", "-flops", "--trials", 12, "--sampler", "random",
                  "--max-params", "1M", "--store", "s.sqlite", "--workers", 1, "--csv", "t.csv", "--plot", "f.png",
                  cwd=tmp_path)  # fmt: skip
    assert run.exit_code == 0, run.stderr
    assert "the best of 12 trials in nasbench201/imagenet16-120" in run.stdout
    assert run.stdout.splitlines()[-3:] == ["s.sqlite", "t.csv", "f.png"]
    assert len(pd.read_csv(tmp_path / "t.csv")) == 12
    again = command("search", NB201.name, "-p", "synflow", "-p", "-flops", "--trials", 12, "--sampler", "random",
                    "--max-params", "1M", "--store", "s.sqlite", "--json", cwd=tmp_path)  # fmt: skip
    document = json.loads(again.stdout)
    assert document["trials"] == 12
    with Store(tmp_path / "s.sqlite") as store:
        assert [group.measured for group in store.groups()] == ["synflow"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nasbench202"], "unknown space 'nasbench202'"),
        (["nasbench201", "--max-params", "many"], "--max-params 'many': expected a number above 0 such as 300k"),
        (["nasbench201", "--time", "soon"], "--time 'soon': expected a time above 0 such as 60s"),
        (["nasbench201", "-p", "accuracy"], "unknown proxy 'accuracy'"),
        (["nasbench201", "--plot", "front.xlsx"], "--plot front.xlsx: expected a name that ends in .png"),
        (["nasbench201", "--trials", "0"], "--trials 0"),
    ],
)
def test_bad_options_get_one_line_before_any_work(tmp_path, arguments, said):
    run = command("search", *arguments, cwd=tmp_path)
    assert run.exit_code == 2, run.stderr
    assert said in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


# --- what a store keeps of a search ---------------------------------------------------------------------------------


def same(one: SearchResult, other: SearchResult) -> bool:
    pd.testing.assert_frame_equal(one.table, other.table[list(one.table)], check_dtype=False)
    return (one.space, one.objectives) == (other.space, other.objectives)


def test_a_store_keeps_every_trial_of_a_search_and_gives_it_back(tmp_path):
    front = found(tmp_path, ["synflow", "-params"], trials=12, sampler="nsga2")
    alone = found(tmp_path, ["synflow"], trials=8, sampler="random", constraints={"params": 600_000})
    kept = SearchResult.kept(tmp_path / "s.sqlite")
    assert [result.space for result in kept] == [NB201.name] * 2
    assert sorted(len(result.table) for result in kept) == [8, 12]
    for result in kept:
        assert same(front if len(result.objectives) == 2 else alone, result)
        assert result.notes[0].endswith("seed 0, recipe seed(dtype=float32)")


def test_a_search_that_runs_again_is_one_search_with_its_last_trials(tmp_path):
    found(tmp_path, trials=8, sampler="random")
    again = found(tmp_path, trials=5, sampler="random")
    (kept,) = SearchResult.kept(tmp_path / "s.sqlite")
    assert same(again, kept)


def test_a_store_without_a_search_has_none(tmp_path):
    Store(tmp_path / "s.sqlite").close()
    assert SearchResult.kept(tmp_path / "s.sqlite") == []


def test_merging_and_repairing_keep_searches_and_a_changed_trial_is_named(tmp_path):
    there = found(tmp_path, trials=6, sampler="random")
    other = found(tmp_path, ["-params"], trials=4, sampler="random", store=tmp_path / "t.sqlite")
    merge([tmp_path / "s.sqlite", tmp_path / "t.sqlite"], tmp_path / "all.sqlite")
    both = SearchResult.kept(tmp_path / "all.sqlite")
    assert same(there, next(one for one in both if len(one.table) == 6))
    assert same(other, next(one for one in both if len(one.table) == 4))
    path = tmp_path / "s.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("UPDATE trials SET status = 'dead' WHERE trial = 4")
    db.close()
    with pytest.raises(ssnr.StoreError, match=r"is damaged \(trial 4 of a search\): `ssnr check .* --repair`"):
        SearchResult.kept(path)
    damage, _ = repair(path)
    assert [row.split(" of search")[0] for row in damage.rows] == ["trial 4"]
    (kept,) = SearchResult.kept(path)
    assert kept.table["trial"].tolist() == [0, 1, 2, 3]  # up to what is damaged


# --- as a study of Optuna -----------------------------------------------------------------------------------------


def test_a_search_is_a_study_with_the_spaces_parameters_and_is_written_once(tmp_path):
    optuna = pytest.importorskip("optuna")
    done = found(tmp_path, ["synflow", "-params"], trials=6, sampler="random")
    for _ in range(2):
        study = done.to_optuna(tmp_path / "study.db")
    assert study.study_name == "nasbench201/imagenet16-120: synflow, -params"
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["synflow", "params"]
    rows = done.table.to_dict("records")
    assert [trial.user_attrs["architecture"] for trial in study.trials] == [row["architecture"] for row in rows]
    for trial, row in zip(study.trials, rows, strict=True):
        assert NB201.suggest(optuna.trial.FixedTrial(trial.params)) == row["architecture"]
        assert trial.user_attrs["flops"] == row["flops"]
        assert trial.values == ([row["synflow"], row["params"]] if row["status"] == "ok" else None)
    assert study.ask().suggest_categorical(
        "0_1", ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
    )


def test_a_study_of_other_objectives_is_not_mixed_in(tmp_path):
    pytest.importorskip("optuna")
    done = found(tmp_path, ["params"], trials=2, sampler="random")
    done.to_optuna(tmp_path / "study.db", name="mine")
    other = found(tmp_path, ["-params"], trials=2, sampler="random")
    with pytest.raises(
        ssnr.UsageError, match=r"study.db has a study 'mine' with other objectives: give it another name"
    ):
        other.to_optuna(tmp_path / "study.db", name="mine")


def test_a_storage_that_cannot_be_written_is_one_line(tmp_path):
    options = ("--sampler", "random", "--trials", 2, "--optuna", "no/study.db")
    run = command("search", "nasbench201", "-p", "params", *options, cwd=tmp_path)
    assert run.exit_code == 1
    assert run.stderr.splitlines()[-1].startswith("ssnr: cannot write a study to no/study.db: ")
