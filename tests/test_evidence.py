"""The protocol behind the default proxy: what is scored, what it says, and the page."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ssnr
from commands import ssnr as command
from ssnr.core.catalogue import HEADLINE, NAMED
from ssnr.core.errors import BenchmarkError
from ssnr.paper import evidence, evidence_page
from ssnr.spaces import get_space

CELLS = 24


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The evidence of a few of the cells that the choice was made on."""
    try:
        evidence.accuracies(evidence.PARTS[0])
    except BenchmarkError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("evidence")
    cells = evidence.selection(get_space("nasbench201"))[:CELLS]
    recipe = evidence.recipe_of(1, one_supernet=True)
    path = evidence.path_of(folder, "nasbench201")
    for _ in ssnr.sweep("nasbench201", cells, ["noise_ssnr", "synflow"], store=path, workers=1, recipe=recipe):
        pass
    return folder, evidence.evidence(folder, ["nb201-c10", "nb201-in16"], seeds=1)


def test_an_unknown_part_is_named_with_those_that_there_are():
    with pytest.raises(ssnr.UsageError, match="unknown part 'nb102': known are nb201-c10, nb201-c100,"):
        evidence.parts(["nb102"])


def test_the_choice_is_frozen_as_the_proxy_that_is_used_where_none_is_named():
    assert evidence.FROZEN == HEADLINE
    assert NAMED[evidence.FROZEN].removeprefix("snip_noise") == (evidence.AS_FROZEN.removeprefix("snip"))


def test_networks_that_normalise_right_before_the_pooling_draw_two_images():
    images = {part.key: part.images for part in evidence.PARTS}
    assert images["nb301"] == images["darts-swap"] == images["tnb-scene"] == 2
    assert images["nb201-c10"] == images["nb101"] == 1


def test_the_choice_was_made_on_a_thousand_different_cells_that_never_change():
    cells = evidence.selection(get_space("nasbench201"))
    assert len(set(cells)) == 1000
    assert cells == evidence.selection(get_space("nasbench201"))


def test_a_space_that_two_parts_share_is_scored_once_with_every_seed(found):
    (one,) = evidence.sweeps(evidence.parts(["nb201-c10", "nb201-in16"]), seeds=3)
    assert (one.space, len(one.architectures), one.seeds) == ("nasbench201", 15_625, (0, 1, 2))
    assert one.proxies == ("noise_ssnr", "synflow")


def test_curves_read_noise_real_images_and_one_image_of_other_kinds():
    points = evidence.points(None, most_images=4)
    assert [(point.kind, point.images) for point in points] == [
        ("noise", 1), ("noise", 2), ("noise", 4), ("ones", 1), ("uniform noise", 1), ("a Gabor patch", 1),
    ]  # fmt: skip
    gabor = points[-1].sweep.batch.inputs
    assert gabor.shape == (1, 3, 32, 32)
    assert torch.equal(gabor[0, 0], gabor[0, 0].T)  # its wave runs along the diagonal


def test_rows_have_every_proxy_and_control_in_every_population(found):
    _, result = found
    table = result.table
    assert set(zip(table["part"], table["population"], strict=True)) == {
        (part, population) for part in ("nb201-c10", "nb201-in16") for population in ("all", "used", "classes")
    }
    rows = table[(table["part"] == "nb201-c10") & (table["population"] == "all")]
    assert list(rows["proxy"][:6]) == list(evidence.PROXIES)
    assert set(rows["proxy"][6:]) == {"params", "flops", "reachable_params", "layers"}
    assert set(rows["n"]) == {CELLS}


def test_correlations_are_those_of_a_study(found):
    folder, result = found
    alone = ssnr.study(evidence.path_of(folder, "nasbench201"), "nasbench201/cifar10", ["noise_ssnr"], ci=False)
    expected = alone.table.set_index("proxy").loc["noise_ssnr"]
    row = result.table[(result.table["proxy"] == "noise_ssnr") & (result.table["population"] == "all")].iloc[0]
    assert (row["spearman"], row["kendall"]) == (expected["spearman"], expected["kendall"])
    power = result.powers[(result.powers["cells"] == "all") & (result.powers["q"] == 8)].iloc[0]
    assert power["spearman"] == expected["spearman"]


def test_the_layers_shares_add_up_to_one(found):
    _, result = found
    layers = result.layers.set_index("layer")
    assert layers["share"].sum() == pytest.approx(1.0)
    assert {"stem", "stage 1, cell 1", "stage 3, cell 5", "reduction 2", "classifier"} <= set(layers.index)


def test_the_page_has_a_table_for_each_question_and_the_figure_six_panels(found, tmp_path):
    _, result = found
    files = evidence_page.write(result, tmp_path)
    assert [file.name for file in files] == ["evidence.png", "evidence.pdf", "evidence.csv", "evidence.md"]
    page = files[-1].read_text()
    for heading in ("Spearman ρ / Kendall τ", "The top", "The power q", "Which layers decide"):
        assert f"## {heading}" in page
    assert len(evidence_page.figure(result).axes) == 6


def test_a_control_that_beats_the_choice_is_marked(found):
    _, result = found
    table = result.table.copy()
    table.loc[table["proxy"] == "params", "spearman"] = 2.0
    marked = evidence_page.correlations(evidence.Evidence(table, *[result.top] * 4, None))
    assert all(cells[-1].endswith("params (!)") for _, cells in marked.cells())


def test_json_has_every_table_and_null_where_nothing_is_defined(found):
    document = evidence_page.to_json(found[1])
    assert set(document) == {"rows", "top", "images", "powers", "layers"}
    assert document["rows"][0]["spearman_sd"] is None
    assert np.isfinite(document["rows"][0]["spearman"])


def test_the_command_refuses_an_unknown_part_before_any_work(tmp_path):
    result = command("reproduce", "evidence", "--part", "nb999", "--out", tmp_path / "new")
    assert result.exit_code == 2
    assert "unknown part 'nb999'" in result.stderr
    assert not (tmp_path / "new").exists()
