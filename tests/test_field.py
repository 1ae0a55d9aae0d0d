"""The page of the proxies of the field: which networks, what a store says of them, what is written."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import ssnr
from commands import ssnr as command
from ssnr import benchmarks
from ssnr.core.field import TABLE
from ssnr.core.results import Result
from ssnr.paper import field, field_page, programs
from ssnr.store import Group, Store
from sweeps import SPACE, benchmark, fill, group

PART = field.Part("toy", "Toys", SPACE, f"{SPACE}/cifar10", 4)
ACCURACY = {name: float(k) for k, name in enumerate("abcdefgh")}
SWAP = dict(zip("abcdefgh", (1.0, 2.0, 3.0, 5.0, 4.0, 6.0, 8.0, 7.0), strict=True))
NTK = {name: 10.0 - k for k, name in enumerate("abcdefgh")}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A store of two proxies of eight networks, of which one has no ntk."""
    monkeypatch.setattr(field, "accuracies", lambda part, networks=8: benchmark(ACCURACY))
    monkeypatch.setattr(benchmarks, "published", lambda name: {})
    recipe = str(field.RECIPE)
    with Store(field.path_of(tmp_path, SPACE)) as store:
        fill(store, {}, group(), controls={})
        store.add_architectures(SPACE, [ssnr.store.Architecture(a, a, 1, 2, 3, k) for k, a in enumerate("abcdefgh")])
        values = {"swap": SWAP, "ntk": NTK}
        store.add(
            (Group(SPACE, name, recipe, 0, "noise:4"), Result(a, "ok", None, None, value))
            for name, column in values.items() for a, value in column.items() if (name, a) != ("ntk", "h")
        )  # fmt: skip
        store.add([(Group(SPACE, "ntk", recipe, 0, "noise:4"), Result("h", "failed", "singular"))])
    return tmp_path


def test_rows_are_of_every_proxy_that_the_store_holds_and_of_controls(folder):
    found = field.rows(folder, [PART]).set_index("proxy")
    assert list(found.index) == ["layers", "ntk", "swap", "flops", "params", "reachable_params"]
    assert found.loc["swap", "kendall"] == pytest.approx(1 - 2 * 2 / 28)
    assert (found.loc["ntk", "n"], found.loc["ntk", "failed"]) == (7, 1)


def test_controls_stand_once_on_the_most_networks_where_a_sweep_is_not_done(folder):
    with Store(field.path_of(folder, SPACE)) as store:
        done = Group(SPACE, "zico", str(field.RECIPE), 0, "noise:4")
        store.add((done, Result(a, "ok", None, None, SWAP[a])) for a in "abcde")
    found = field.rows(folder, [PART]).set_index("proxy")
    assert found.index.is_unique
    assert (found.loc["zico", "n"], found.loc["swap", "n"], found.loc["layers", "n"]) == (5, 8, 8)


def test_lower_is_better_is_turned_round_with_its_interval(folder):
    found = field.rows(folder, [PART]).set_index("proxy").loc["ntk"]
    assert found["spearman"] == found["kendall"] == 1.0
    assert found["kendall_lo"] <= found["kendall"] <= found["kendall_hi"] == 1.0


def test_the_page_has_every_proxy_with_its_formula_and_cost(folder):
    found = field.rows(folder, [PART])
    costs = {"one forward pass": 10.0, "grasp": 80.0, "all together": 160.0} | dict.fromkeys(TABLE, 25.0)
    files = field_page.write(found, costs, folder)
    assert [file.name for file in files] == ["proxies.csv", "proxies.md"]
    page = files[1].read_text()
    assert all(f"| `{name}`" in page for name in (*TABLE, "az_nas", "te_nas", "vkdnw_agg"))
    assert "all of these together 160 ms: 2.00 × grasp" in page
    assert "### Toys" in page
    pd.testing.assert_frame_equal(pd.read_csv(files[0]), found, check_dtype=False)


def test_the_page_of_the_documentation_says_what_the_code_says():
    page = (Path(__file__).parent.parent / "docs" / "proxies.md").read_text()
    assert page.startswith(field_page.HEAD)
    assert programs.section() in page
    assert field_page.RANKS in page


def test_every_proxy_has_its_program_but_the_one_that_has_none():
    assert set(TABLE) - set(programs.PROGRAMS) == {"intrain"}
    assert set(programs.PROGRAMS) <= set(TABLE)


def test_programs_agree_to_a_ten_thousandth_or_the_table_says_why():
    for name, program in programs.PROGRAMS.items():
        left = program.difference if program.left is None else program.left
        assert left is not None and left < 1e-4, name
        assert program.reason or program.difference == left, name


def test_the_page_without_cost_has_no_column_of_it(folder):
    page = field_page.to_markdown(field.rows(folder, [PART], ci=False), None)
    assert " ms " not in page
    assert "one forward pass takes" not in page.lower()


def test_more_networks_are_the_same_and_more():
    part = field.PARTS[0]._replace(source="analog")
    few, many = (field.accuracies(part, n).table.index.tolist() for n in (20, 50))
    assert few == many[:20]
    assert len(set(many)) == 50


def test_parts_of_one_space_are_one_sweep(monkeypatch):
    drawn = {"one/x": "ab", "one/y": "bc"}
    monkeypatch.setattr(field, "accuracies", lambda part, n: benchmark(dict.fromkeys(drawn[part.benchmark], 1.0)))
    parts = [PART._replace(space="one", benchmark=name) for name in drawn]
    (sweep,) = field.sweeps(parts, 2)
    assert (sweep.architectures, sweep.samples) == (["a", "b", "c"], 4)


def test_costs_are_kept_and_read_again(tmp_path):
    path = tmp_path / "cost.json"
    assert field.read_costs(path) is None
    whole = dict.fromkeys(TABLE, 1.0)
    path.write_text(json.dumps(whole))
    assert field.read_costs(path) == whole
    path.write_text(json.dumps({"naswot": 1.0}))  # of an earlier version, with fewer proxies
    assert field.read_costs(path) is None
    path.write_text("[1]")
    with pytest.raises(ssnr.UsageError, match="expected milliseconds by name"):
        field.read_costs(path)


def test_costs_are_the_least_of_several_turns(monkeypatch):
    clock = iter([0.0, 3.0, 3.0, 5.0, 5.0, 6.0, 6.0, 10.0])
    monkeypatch.setattr(field.time, "process_time", lambda: next(clock))
    monkeypatch.setattr(field, "_ways", lambda batch: [("a", lambda: None), ("b", lambda: None)])
    assert field.costs(None, 2) == {"a": 1000.0, "b": 2000.0}


def test_the_command_refuses_an_unknown_part(tmp_path):
    result = command("reproduce", "proxies", "--part", "nb102", "--out", tmp_path / "new")
    assert result.exit_code == 2
    assert "unknown part 'nb102': known are nb201-c10, nb201-c100, nb201-in16, nb301, tnb-scene" in result.stderr
    assert not (tmp_path / "new").exists()


def test_proxies_are_all_or_those_named_once_each():
    assert field.chosen_proxies() == tuple(TABLE)
    assert field.chosen_proxies(["zico", "naswot", "zico"]) == ("zico", "naswot")


def test_the_command_refuses_what_is_no_proxy_of_the_field(tmp_path):
    result = command("reproduce", "proxies", "-p", "naswott", "--out", tmp_path / "new")
    assert result.exit_code == 2
    assert "unknown proxy of the field 'naswott': did you mean naswot or lnwot?" in result.stderr
    assert not (tmp_path / "new").exists()


def test_each_part_knows_its_benchmark():
    for part in field.PARTS:
        assert part.benchmark in benchmarks.names()
        assert part.benchmark.startswith(part.space.partition("/")[0]) or part.space == "darts"
