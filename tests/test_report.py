"""The page of a sweep: complete in itself, safe with any text, and usable in a real browser."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil

import numpy as np
import pytest
from torch import nn

import ssnr
from commands import ssnr as command
from ssnr.reports.page import render
from ssnr.spaces import get_space
from ssnr.store import Store

pytest.importorskip("plotly")
SPACE = get_space("nasbench201/imagenet16-120")
DEAD = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
ARCHS = [*SPACE.sample_many(20, np.random.default_rng(0)), DEAD]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store of two saliencies, and a table of accuracies."""
    folder = tmp_path_factory.mktemp("report")
    for _ in ssnr.sweep(SPACE, ARCHS, ["noise_ssnr", "synflow"], store=folder / "s.sqlite", workers=1):
        pass
    rows = "".join(f'"{arch}",{10.0 if arch == DEAD else 60.0 + n}\n' for n, arch in enumerate(ARCHS))
    (folder / "table.csv").write_text(f"architecture,accuracy\n{rows}")
    ssnr.report(folder / "s.sqlite", folder / "page.html", benchmarks=[str(folder / "table.csv")], title="Cells <b>")
    return folder


def mlp(width, act):
    return nn.Sequential(nn.Linear(6, width), act(), nn.Linear(width, width), act(), nn.Linear(width, 3))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A space of one's own, for which there are no accuracies, and two searches of it."""
    folder = tmp_path_factory.mktemp("alone")
    space = ssnr.space(mlp, input_shape=(6,), width=range(2, 12), act=[nn.ReLU, nn.Tanh], name="mlp")
    for goals in (["noise_ssnr", "-params"], ["noise_ssnr"]):
        ssnr.search(space, goals, store=folder / "s.sqlite", trials=20, sampler="random", workers=1)
    ssnr.report(folder / "s.sqlite", folder / "page.html")
    return folder


def unpacked(page: str, name: str) -> str:
    found = re.search(rf'id="{name}">([^<]*)<', page)
    assert found is not None
    return gzip.decompress(base64.b64decode(found[1])).decode()


def test_the_page_holds_every_number_that_it_shows(folder):
    document = json.loads(unpacked((folder / "page.html").read_text(), "data"))
    assert sorted(document["architectures"]) == sorted(ARCHS)
    scores = {score["label"]: score for score in document["scores"]}
    with Store(folder / "s.sqlite") as store:
        study = ssnr.study(store, str(folder / "table.csv"), ["noise_ssnr"])
    expected = study.scores[study.scores["proxy"] == "noise_ssnr"].set_index("architecture")["score"]
    for arch, value in zip(document["architectures"], scores["noise_ssnr"]["value"], strict=True):
        assert value == pytest.approx(expected[arch], rel=1e-5)
    assert [document["architectures"][i] for i in scores["noise_ssnr"]["dead"]] == [DEAD]
    (benchmark,) = document["benchmarks"]
    assert {row["proxy"] for row in benchmark["table"] if row["kind"] == "control"} == {
        "params (control)", "flops (control)", "reachable_params (control)", "layers (control)",
    }  # fmt: skip


def test_layers_of_the_best_networks_are_those_of_the_score(folder):
    document = json.loads(unpacked((folder / "page.html").read_text(), "data"))
    (group,) = (g for g in document["layers"] if g["measured"] == "plain_noise")
    which, total, sigma = group["networks"][ARCHS[0]]
    net = SPACE.build(SPACE.twin(ARCHS[0]), seed=0)
    layers = ssnr.score(net, input_shape=SPACE.input_shape, proxies=["snip_noise"])["snip_noise"].layers
    assert group["layouts"][which]["names"] == [layer.name for layer in layers]
    assert total == pytest.approx([layer.total for layer in layers], rel=1e-3, abs=1e-12)
    assert sigma == pytest.approx([layer.sigma for layer in layers], rel=1e-3, abs=1e-12)


def test_the_page_says_which_store_and_not_where_it_was(folder):
    text = unpacked((folder / "page.html").read_text(), "data")
    assert {row["store"] for row in json.loads(text)["measured"]} == {"s.sqlite"}
    assert str(folder) not in text


def test_a_store_without_accuracies_is_a_page_with_its_searches(alone):
    document = json.loads(unpacked((alone / "page.html").read_text(), "data"))
    assert document["benchmarks"] == []
    with Store(alone / "s.sqlite") as store:
        assert sorted(document["architectures"]) == sorted(row.architecture for row in store.architectures("mlp"))
        scores = ssnr.studies.export.export(store, proxies=["noise_ssnr"], long=True).set_index("architecture")["value"]
    (shown,) = (score for score in document["scores"] if score["label"] == "noise_ssnr")
    assert dict(zip(document["architectures"], shown["value"], strict=True)) == pytest.approx(dict(scores), rel=1e-5)
    for search, kept in zip(document["searches"], ssnr.SearchResult.kept(alone / "s.sqlite"), strict=True):
        assert [document["architectures"][i] for i in search["architectures"]] == list(kept.table["architecture"])
        assert search["values"][0] == pytest.approx(list(kept.table["noise_ssnr"]), rel=1e-5)


def test_an_empty_store_is_named(tmp_path):
    Store(tmp_path / "s.sqlite").close()
    with pytest.raises(ssnr.UsageError, match=r"s\.sqlite: no scores: run `ssnr sweep` first$"):
        ssnr.report(tmp_path / "s.sqlite", tmp_path / "page.html")


def test_the_page_loads_nothing_from_elsewhere(folder):
    page = (folder / "page.html").read_text()
    assert not re.search(r'(src|href)\s*=\s*["\']', page)
    assert "@import" not in page


def test_no_text_of_a_users_can_become_markup():
    hostile = "</script><script>alert(1)</script>"
    page = render({"title": hostile, "architectures": [hostile]}, "plotly")
    assert hostile not in page
    assert page.count("<script>") == 1
    assert "<title>&lt;/script&gt;" in page


def test_proxies_that_no_store_holds_are_named(folder):
    run = command("report", "s.sqlite", "-o", "x.html", "--benchmark", "table.csv", "-p", "grasp", cwd=folder)
    assert run.exit_code == 2
    assert "no store holds what grasp needs" in run.stderr
    assert not (folder / "x.html").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.sqlite"], "nothing.sqlite: no such store"),
        (["s.sqlite", "-o", "page.pdf"], "-o page.pdf: expected a name that ends in .html"),
        (["s.sqlite", "--benchmark", "nasbench101/cifar10"], "no benchmark of nasbench201/imagenet16-120 was found"),
    ],
)
def test_bad_input_gets_one_line(folder, arguments, said):
    run = command("report", *arguments, cwd=folder)
    assert run.exit_code in (1, 2)
    assert said in run.stderr or "nasbench101" in run.stderr  # where the file of that benchmark is not here


# --- in a browser -------------------------------------------------------------------------------------------------

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium or Chrome on PATH")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def opened_in(browser, path):
    opened = browser.new_context(accept_downloads=True, viewport={"width": 1200, "height": 900}).new_page()
    opened.faults, opened.requests = [], []
    opened.on("pageerror", lambda error: opened.faults.append(str(error)))
    opened.on("console", lambda said: opened.faults.append(said.text) if said.type == "error" else None)
    opened.on("request", lambda request: opened.requests.append(request.url))
    opened.goto(path.as_uri())
    opened.wait_for_selector("html[data-ready=yes]", timeout=120_000)
    return opened


@pytest.fixture(scope="module")
def page(browser, folder):
    return opened_in(browser, folder / "page.html")


@pytest.fixture(scope="module")
def own(browser, alone):
    return opened_in(browser, alone / "page.html")


def test_it_opens_without_a_fault_or_a_request(page):
    assert page.faults == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.inner_text("h1") == "Cells <b>"
    assert page.inner_text("#summary") == "21 of 21 networks"


def test_another_score_is_another_plot(page):
    first = page.text_content("#scatter .gtitle")
    page.select_option("#score", label="synflow/layerwise_ssnr")
    assert first.startswith("noise_ssnr against accuracy: ρ ")
    assert page.text_content("#scatter .gtitle").startswith("synflow/layerwise_ssnr against accuracy: ρ ")
    page.select_option("#score", label="noise_ssnr")


def test_the_arrow_keys_walk_from_the_best_network_down(page):
    page.focus("#scatter")
    page.keyboard.press("Home")
    best = page.inner_text("#network")
    page.keyboard.press("ArrowRight")
    second = page.inner_text("#network")
    scores = [float(re.search(r"noise_ssnr ([\d.e+-]+)", text)[1]) for text in (best, second)]
    assert scores[0] >= scores[1]
    assert page.locator("#layers .bars").count() == 3


def test_the_filter_leaves_what_was_looked_for_and_the_csv_has_it(page):
    wanted = [arch for arch in ARCHS if "nor_conv_3x3~2" in arch]
    page.fill("#find", "nor_conv_3x3~2")
    assert page.inner_text("#summary") == f"{len(wanted)} of 21 networks"
    with page.expect_download() as download:
        page.click("#csv")
    text = download.value.path().read_text()
    assert text.splitlines()[0].startswith("architecture,accuracy,params,flops,reachable_params,layers,")
    assert {line.split(",")[0] for line in text.splitlines()[1:]} == set(wanted)
    page.fill("#find", "")


def test_a_selection_in_one_plot_is_a_selection_in_all(page):
    page.evaluate(
        """() => document.getElementById("ranks")
            .emit("plotly_selected", {points: [{customdata: 0}, {customdata: 3}]})"""
    )
    assert page.inner_text("#summary") == "21 of 21 networks, 2 selected"
    chosen = page.evaluate("() => document.getElementById('scatter').data[0].selectedpoints.length")
    assert chosen == 2
    page.click("#clear")
    assert page.inner_text("#summary") == "21 of 21 networks"


def test_hovering_shows_the_architecture(page):
    page.evaluate(
        """() => document.getElementById("scatter").emit("plotly_hover",
            {points: [{customdata: 2}], event: {clientX: 50, clientY: 50}})"""
    )
    shown = page.evaluate("() => document.getElementById('tip').textContent")
    assert shown.splitlines()[0] in ARCHS


def test_the_theme_changes_and_the_page_prints_without_its_controls(page):
    before = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") != before
    page.click("#theme")
    page.emulate_media(media="print")
    assert not page.is_visible("#controls")
    page.emulate_media(media="screen")
    assert page.faults == []


def test_dead_networks_stand_in_a_strip_at_the_foot_and_do_not_squash_the_rest(page):
    """Accuracies are 60 to 79, the dead network's 10."""
    low, high = page.evaluate("() => document.getElementById('scatter')._fullLayout.yaxis.range")
    assert (low, high) == (pytest.approx(60 - 0.16 * 19), pytest.approx(79 + 0.05 * 19))
    assert "dead, at 10 (axis broken)" in page.text_content("#scatter")


def test_the_front_is_of_accuracy_or_of_the_score(page):
    title = "() => document.querySelector('#pareto .gtitle').textContent"
    assert page.evaluate(title) == "accuracy against params, and the front"
    page.select_option("#against", label="score")
    page.select_option("#count", label="flops")
    assert page.evaluate(title) == "noise_ssnr against flops, and the front"
    front = page.evaluate("() => document.getElementById('pareto').data.at(-1).y")
    assert list(front) == sorted(front)


def test_a_page_is_printed_in_light_colours_and_is_as_before_afterwards(page):
    ground = "() => getComputedStyle(document.body).backgroundColor"
    page.evaluate("() => { document.documentElement.dataset.theme = 'dark'; }")
    dark = page.evaluate(ground)
    page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(ground) == "rgb(255, 255, 255)" != dark
    widths = "() => [...document.querySelectorAll('#scatter, #top')].map((e) => [e.clientWidth, e._fullLayout.width])"
    assert all(place == drawn for place, drawn in page.evaluate(widths))
    page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(ground) == dark
    assert page.faults == []
    page.click("#theme")


def test_without_accuracies_scores_stand_against_counts(own):
    assert own.faults == []
    assert own.text_content("#scatter .gtitle").startswith("noise_ssnr against params: ρ ")
    assert not own.is_visible("#correlation")
    assert not own.is_visible("#benchmark")


def test_a_search_is_drawn_as_its_history_and_its_front(own, alone):
    one, two = sorted(ssnr.SearchResult.kept(alone / "s.sqlite"), key=lambda found: len(found.objectives))
    own.select_option("#search", label="mlp: noise_ssnr, -params")
    best = own.evaluate("() => document.getElementById('history').data[1].y")
    assert list(best) == pytest.approx(list(two.table["noise_ssnr"].cummax()), rel=1e-5)
    line = own.evaluate("() => { const [, front] = document.getElementById('front').data; return [front.x, front.y]; }")
    front = two.front.drop_duplicates(["params", "noise_ssnr"]).sort_values("params")
    assert line == [list(front["params"]), pytest.approx(list(front["noise_ssnr"]), rel=1e-5)]
    own.select_option("#search", label="mlp: noise_ssnr")
    assert not own.is_visible("#front")
    assert own.text_content("#how").startswith(f"{len(one.table)} trials; sampler random, seed 0, recipe ")
