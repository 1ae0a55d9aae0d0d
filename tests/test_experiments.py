from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import nn

import ssnr
from ssnr.core.errors import UsageError
from ssnr.paper.curve import COLUMNS, SCORES, relative, tracking
from ssnr.paper.pruning_runs import CurveProtocol, curve
from ssnr.pruning import masks


def make() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 4, bias=False))


class Trainer:
    """Doubles the weights, and remembers which jobs it was given."""

    def __init__(self) -> None:
        self.jobs: list[str] = []

    def __call__(self, net: nn.Module, job: str) -> None:
        self.jobs.append(job)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter *= 2


def share_left(net: nn.Module) -> float:
    """A stand-in for accuracy: percent of the weights that are not zero."""
    weights = torch.cat([m.weight.flatten() for m in net if isinstance(m, nn.Linear)])
    return 100.0 * float((weights != 0).double().mean())


def protocol(trainer: Trainer, **changes: object) -> CurveProtocol:
    def prune(net: nn.Module, density: float) -> ssnr.pruning.Masks:
        return masks(net, "magnitude", density)

    made = CurveProtocol(make, trainer, share_left, prune, finetune=trainer, input_shape=(6,))
    return replace(made, **changes)


def test_every_reading_at_every_density():
    trainer = Trainer()
    table = curve(protocol(trainer), (0.25, 1.0, 0.5), (1.0, 0.25))
    assert list(table.columns) == list(COLUMNS)
    assert list(zip(table["reading"], table["density"], table["kept"], strict=True)) == [
        ("trained", 1.0, 80), ("trained", 0.5, 40), ("trained", 0.25, 20),
        ("finetuned", 1.0, 80), ("finetuned", 0.5, 40), ("finetuned", 0.25, 20),
        ("init", 1.0, 80), ("init", 0.25, 20),
    ]  # fmt: skip
    assert list(table["accuracy"]) == [100, 50, 25, 100, 50, 25, 100, 25]
    # The dense network is trained once, for all readings.
    assert trainer.jobs == ["dense", "finetune-1", "finetune-0.5", "finetune-0.25", "init-0.25"]


def test_scores_are_those_of_the_pruned_network_before_what_training_follows():
    table = curve(protocol(Trainer()), (0.5,), (0.5,)).set_index("reading")
    first = make()
    with torch.no_grad():
        for m, mask in zip((first[0], first[2]), masks(first, "magnitude", 0.5).tensors.values(), strict=True):
            m.weight *= mask
    expected = sum(float(v.sum()) for v in ssnr.saliency(first, "synflow", input_shape=(6,)).values())
    assert table.loc["init", "sum"] == pytest.approx(expected, rel=1e-12)
    # Two layers of doubled weights: four times the sum, the same ratio of sum and deviation.
    assert table.loc["trained", "sum"] == pytest.approx(4 * expected, rel=1e-12)
    assert table.loc["finetuned", "sum"] == table.loc["trained", "sum"]
    assert table.loc["trained", "layerwise_ssnr"] == pytest.approx(table.loc["init", "layerwise_ssnr"], rel=1e-12)


def test_a_killed_run_does_only_what_is_missing(tmp_path):
    record, trainer = tmp_path / "points.jsonl", Trainer()

    def kill(point: object, total: int) -> None:
        assert total == 4
        if len(trainer.jobs) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        curve(protocol(trainer), (0.5,), (0.5, 0.25), record=record, identity="one", on_point=kill)
    record.write_text(record.read_text() + '{"reading": "init", "den')  # torn by the kill
    again = Trainer()
    table = curve(protocol(again), (0.5,), (0.5, 0.25), record=record, identity="one")
    assert again.jobs == ["init-0.5", "init-0.25"]
    pd.testing.assert_frame_equal(table, curve(protocol(Trainer()), (0.5,), (0.5, 0.25)))
    assert [json.loads(line).get("reading") for line in record.read_text().splitlines()] == [
        None, "trained", "finetuned", "init", "init",
    ]  # fmt: skip
    idle = Trainer()
    pd.testing.assert_frame_equal(table, curve(protocol(idle), (0.5,), (0.5, 0.25), record=record, identity="one"))
    assert idle.jobs == []


def test_the_record_of_another_curve_is_refused(tmp_path):
    record = tmp_path / "points.jsonl"
    curve(protocol(Trainer()), (1.0,), (), record=record, identity="one")
    with pytest.raises(UsageError, match=rf"^{record} holds another curve: one, not two; name another folder$"):
        curve(protocol(Trainer()), (1.0,), (), record=record, identity="two")


@pytest.mark.parametrize("density", [0.0, -0.1, 1.5])
def test_densities_are_checked_before_any_training(density):
    trainer = Trainer()
    with pytest.raises(UsageError, match=r"expected the share of weights to keep, above 0 and at most 1"):
        curve(protocol(trainer), (1.0, density))
    assert trainer.jobs == []


TABLE = pd.DataFrame(
    [
        ("trained", 1.0, 100, 100, 0, 80.0, 1000.0, 10.0, 5.0),
        ("trained", 0.1, 10, 100, 0, 79.5, 10.0, 8.0, 5.0),
        ("trained", 0.01, 1, 100, 1, 20.0, 0.1, 2.0, 6.0),
    ],
    columns=list(COLUMNS),
)


def test_relative_to_the_dense_network():
    found = relative(TABLE)
    assert list(found["accuracy"]) == [1.0, 79.5 / 80, 0.25]
    assert list(found["sum"]) == [1.0, 0.01, 0.0001]
    assert list(found["ssnr"]) == [1.0, 0.8, 0.2]


def test_how_scores_follow_accuracy():
    found = tracking(TABLE).set_index("score")
    assert list(found.index) == list(SCORES)
    # Both fall with every pruning, so that ranks say nothing; the gap does.
    assert list(found["spearman"]) == pytest.approx([1.0, 1.0, -0.8660254037844387])
    assert found.loc["sum", "gap"] == pytest.approx((0 + (79.5 / 80 - 0.01) + (0.25 - 0.0001)) / 3)
    assert found.loc["ssnr", "gap"] == pytest.approx((0 + (79.5 / 80 - 0.8) + 0.05) / 3)
    assert set(found["holds"]) == {0.1}
    assert list(found["left"]) == pytest.approx([0.01, 0.8, 1.0])
