"""Scores as values: frozen, short in a terminal, a table in a notebook, a picture; and failures by kind."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import nn

import ssnr
from networks import golden, golden_batch
from ssnr.core.catalogue import PLAIN, SALIENCIES
from ssnr.core.errors import Failure
from ssnr.core.results import Score, failed
from ssnr.proxies.capture import capture_of
from ssnr.saliencies import gradient_saliencies
from ssnr.scoring import measure

LAYERWISE = "synflow/layerwise_ssnr"


@pytest.fixture
def scores():
    return ssnr.score(golden(), golden_batch(), ["synflow", LAYERWISE, "params", "naswot"])


def test_a_score_is_frozen(scores):
    with pytest.raises(FrozenInstanceError):
        scores[LAYERWISE].value = 1.0


def test_a_score_is_one_short_line():
    assert repr(Score(4942.42576)) == "Score(4942.43, ok)"
    assert repr(failed("no weight to score")) == "Score(failed: no weight to score)"
    assert repr(Score(0.0, None, "dead", "no weight has any saliency")) == (
        "Score(0, dead: no weight has any saliency)"
    )
    assert repr(Score(float("inf"), 744.8981358, "ok", "beyond float64: see log_value")) == "Score(e^744.898, ok)"
    assert (
        repr(ssnr.score(golden(), input_shape=(2,), proxies=[LAYERWISE])[LAYERWISE]) == "Score(12.2928, ok, 2 layers)"
    )


def test_a_score_is_a_table_of_its_layers(scores):
    table = scores[LAYERWISE].to_frame()
    assert list(table.columns) == ["name", "numel", "total", "sigma", "ratio", "flag"]
    assert list(table["name"]) == ["0.weight", "2.weight"]
    assert table["ratio"].sum() == scores[LAYERWISE].value


def test_the_scores_of_a_network_are_a_dictionary_and_a_table(scores):
    assert isinstance(scores, dict)
    table = scores.to_frame()
    assert list(table.index) == ["synflow", LAYERWISE, "params", "naswot"]
    assert table.loc["params", "value"] == 8.0
    assert table.loc["synflow", "log_value"] == scores["synflow"].log_value


def test_notebooks_get_html_in_which_nothing_of_a_users_runs():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module("<script>alert(1)</script>", nn.Linear(2, 2, bias=False))

        def forward(self, x):
            return next(self.children())(x)

    scores = ssnr.score(Named(), input_shape=(2,), proxies=[LAYERWISE])
    for html in (scores._repr_html_(), scores[LAYERWISE]._repr_html_()):
        assert "<table>" in html
        assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.weight" in scores[LAYERWISE]._repr_html_()


def test_a_table_of_many_layers_says_how_many_it_leaves_out():
    net = nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(70)))
    html = ssnr.score(net, input_shape=(2,), proxies=[LAYERWISE])[LAYERWISE]._repr_html_()
    assert html.count("<tr>") == 61
    assert "and 10 layers more: .to_frame()" in html


def test_a_plot_has_a_bar_a_layer_for_sum_sigma_and_ratio(scores):
    figure = scores.plot()
    assert [axes.get_xlabel() for axes in figure.axes] == ["Σ S", "σ", "Σ S/σ"]
    widths = [[bar.get_width() for bar in axes.patches] for axes in figure.axes]
    layers = scores[LAYERWISE].layers
    assert widths == [[x.total for x in layers], [x.sigma for x in layers], [x.ratio for x in layers]]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["0.weight", "2.weight"]


def test_scores_without_layers_have_no_plot(scores):
    with pytest.raises(ssnr.UsageError, match="nothing to plot: this score has no layers"):
        scores["params"].plot()
    with pytest.raises(ssnr.UsageError, match="nothing to plot: none of these scores has layers"):
        ssnr.score(golden(), input_shape=(2,), proxies=["params"]).plot()


def test_masks_are_a_line_a_table_and_a_picture():
    masks = ssnr.pruning.masks(golden(), "synflow", 0.5, input_shape=(2,))
    assert repr(masks) == "Masks(4 of 8 weights kept by synflow (0.5))"
    assert list(masks.to_frame()["kept"]) == [2, 2]
    assert "<td>0.weight</td><td>4</td><td>2</td><td>0.5</td>" in masks._repr_html_()
    assert [bar.get_width() for bar in masks.plot().axes[0].patches] == [0.5, 0.5]


# --- failures -----------------------------------------------------------------------------------------------------


class Raises(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.layer, self.error = nn.Linear(2, 2), error

    def forward(self, x):
        if self.layer(x).sum() is not None:
            raise self.error


class Detaches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x).detach()


def test_a_failure_has_a_kind_for_programs():
    def kind(net: nn.Module, proxy: str) -> str | None:
        return ssnr.score(net, golden_batch(), [proxy])[proxy].kind

    with torch.no_grad():
        (infinite := golden())[0].weight[0, 0] = float("inf")
        (nan := golden())[0].weight[0, 0] = float("nan")
    assert kind(Raises(ValueError("no")), "synflow") == "raised"
    assert kind(Raises(NotImplementedError("\"histc\" not implemented for 'Double'")), "snip") == "precision"
    assert kind(Detaches(), "synflow") == "detached"
    assert kind(infinite, "magnitude") == "infinite"
    assert kind(nan, "snip") == "nan"
    assert kind(nn.Linear(2, 2), "naswot") == "refused"
    assert kind(golden(), "synflow") is None


def test_a_saliency_that_fails_beside_others_is_a_failure_and_not_an_exception():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            return g * 2

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            return Once.apply(self.layer(x))

    from ssnr.core.recipes import get_recipe
    from ssnr.data import batch_of
    from ssnr.networks.model import Model

    found = gradient_saliencies(Model(Net(), get_recipe("seed")), batch_of(golden_batch()), ["plain", "grasp"])
    assert isinstance(found["grasp"], Failure)
    assert not isinstance(found["plain"], Failure)
    results = measure(Net(), ["plain", "grasp"], batch=golden_batch())
    assert (results["plain"].status, results["grasp"].status) == ("ok", "failed")


# --- proxies of one's own -----------------------------------------------------------------------------------------


@pytest.fixture
def own():
    names: list[str] = []
    yield names
    for name in names:
        ssnr.unregister(name)
        assert name not in PLAIN
        assert name not in SALIENCIES


def test_a_proxy_registers_with_or_without_parentheses(own):
    @ssnr.register_proxy
    def first_weight(net, batch):
        return float(net[0].weight.detach()[0, 0])

    @ssnr.register_proxy(data=False, formula="θ of the end")
    def last_weight(net, batch):
        return float(net[2].weight.detach()[1, 1])

    own += ["first_weight", "last_weight"]
    scores = ssnr.score(golden(), golden_batch(), ["first_weight", "last_weight"])
    assert (scores["first_weight"].value, scores["last_weight"].value) == (1.0, 1.0)
    assert PLAIN["last_weight"].formula == "θ of the end"


def test_a_saliency_registers_without_parentheses(own):
    @ssnr.register_saliency
    def twice_magnitude(net, batch):
        return {name: 2 * p.detach().abs() for name, p in net.named_parameters()}

    own.append("twice_magnitude")
    scores = ssnr.score(golden(), golden_batch(), ["twice_magnitude", "magnitude"])
    assert scores["twice_magnitude"].value == 2 * scores["magnitude"].value


def test_a_proxy_of_one_argument_gets_the_context_and_shares_its_passes(own, monkeypatch):
    @ssnr.register_proxy
    def units(context: ssnr.Context):
        return float(sum(code.shape[1] for code in capture_of(context).codes("units")))

    own.append("units")
    passes = []
    from ssnr.networks.model import Model

    call = Model.call
    monkeypatch.setattr(Model, "call", lambda self, *given: passes.append(1) or call(self, *given))
    scores = ssnr.score(golden(), golden_batch(), ["units", "naswot"])
    assert scores["units"].value == 2.0
    assert scores["naswot"].status == "ok"
    assert len(passes) == 1


def test_what_a_proxy_of_ones_own_raises_is_the_reason(own):
    @ssnr.register_proxy
    def broken(context):
        raise KeyError("stem")

    @ssnr.register_proxy
    def worded(net, batch):
        return "many"

    own += ["broken", "worded"]
    scores = ssnr.score(golden(), golden_batch(), ["broken", "worded"])
    assert (scores["broken"].reason, scores["broken"].kind) == ("broken raised KeyError: 'stem'", "raised")
    assert scores["worded"].reason == "worded returned str: expected one number"


def test_a_proxy_of_three_arguments_is_refused():
    with pytest.raises(ssnr.UsageError) as said:

        @ssnr.register_proxy
        def wide(net, batch, loss):
            return 0.0

    assert str(said.value) == "proxy wide: expected wide(net, batch) or wide(context), got 3 arguments"


def test_names_that_come_with_the_package_stay():
    for name in ("synflow", "params", "naswot"):
        with pytest.raises(ssnr.UsageError, match=f"{name} comes with ssnr and stays"):
            ssnr.unregister(name)
    with pytest.raises(ssnr.UsageError, match="unknown proxy 'nothing_like_it'"):
        ssnr.unregister("nothing_like_it")
    with pytest.raises(ssnr.UsageError, match="a proxy named 'az_nas' is registered already"):

        @ssnr.register_proxy
        def az_nas(net, batch):
            return 0.0
