"""The loss that follows from outputs and targets where none is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ssnr
from networks import brief
from ssnr.saliencies.losses import loss_of

DRAW = torch.Generator().manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=DRAW, dtype=torch.float64)


def integers(below: int, *shape: int) -> Tensor:
    return torch.randint(below, shape, generator=DRAW)


def default(output: Any, targets: Any = None) -> float:
    return float(loss_of(output, targets, torch.device("cpu"), torch.float64, None, 1.0))


def expected(value: Tensor) -> Any:
    return pytest.approx(float(value), rel=1e-14)


def test_class_labels_cross_entropy():
    out, labels = normal(6, 5), integers(5, 6)
    assert default(out, labels) == expected(F.cross_entropy(out, labels))
    assert default(out[..., None, None], labels) == expected(F.cross_entropy(out, labels))
    assert default(out, labels.to(torch.uint8)) == expected(F.cross_entropy(out, labels))


def test_one_sample_without_a_batch():
    out = normal(5)
    assert default(out, torch.tensor(3)) == expected(F.cross_entropy(out[None], torch.tensor([3])))


def test_a_loss_of_ones_own_is_computed_in_the_passes_precision():
    net, batch = nn.Linear(2, 2), (torch.eye(2), torch.tensor([0, 1]))
    weight = torch.tensor([1.0, 2.0])
    for loss in (nn.CrossEntropyLoss(weight), lambda out, y: F.cross_entropy(out.half(), y, weight.half())):
        found = ssnr.saliency(net, "plain", batch, loss=loss)
        wanted = ssnr.saliency(net, "plain", batch, loss=lambda out, y: F.cross_entropy(out, y, weight.double()))
        assert torch.equal(found["weight"], wanted["weight"])


def test_a_label_at_every_place_cross_entropy_over_places():
    out, labels = normal(2, 5, 3, 4), integers(5, 2, 3, 4)
    assert default(out, labels) == expected(F.cross_entropy(out, labels))


def test_a_label_for_every_token_cross_entropy_over_the_last_axis():
    out, labels = normal(3, 4, 7), integers(7, 3, 4)
    labels[0, 1] = -100
    assert default(out, labels) == expected(F.cross_entropy(out.reshape(12, 7), labels.reshape(12)))


@pytest.mark.parametrize(("outputs", "targets"), [((6,), (6,)), ((6, 1), (6,)), ((6, 1), (6, 1)), ((6, 3), (6, 3))])
def test_labels_0_and_1_in_the_shape_of_the_output_binary_cross_entropy_of_logits(outputs, targets):
    out, labels = normal(*outputs), integers(2, *targets)
    wanted = expected(F.binary_cross_entropy_with_logits(out, labels.reshape(outputs).double()))
    assert default(out, labels) == wanted
    assert default(out, labels.bool()) == wanted


def test_masks_binary_cross_entropy_of_a_single_channel():
    out, mask = normal(2, 1, 3, 3), integers(2, 2, 3, 3)
    assert default(out, mask) == expected(F.binary_cross_entropy_with_logits(out[:, 0], mask.double()))


@pytest.mark.parametrize(
    ("outputs", "targets"), [((6, 2), (6, 2)), ((6, 1), (6,)), ((6,), (6, 1)), ((2, 3, 4), (2, 3, 4))]
)
def test_float_targets_mean_squared_error_without_broadcasting(outputs, targets):
    out, wanted = normal(*outputs), normal(*targets)
    assert default(out, wanted) == expected(((out - wanted.reshape(outputs)) ** 2).mean())


@dataclasses.dataclass
class Output:
    hidden: Tensor
    logits: Tensor
    loss: Tensor | None = None


def test_of_several_outputs_the_one_called_logits_else_the_first():
    first, second, labels = normal(6, 5), normal(6, 5), integers(5, 6)
    assert default({"hidden": first, "logits": second}, labels) == expected(F.cross_entropy(second, labels))
    assert default(Output(first, second), labels) == expected(F.cross_entropy(second, labels))
    assert default((first, second), labels) == expected(F.cross_entropy(first, labels))


@pytest.mark.parametrize(
    ("output", "value"),
    [
        (torch.tensor(2.0), 2),
        (torch.tensor([[2.0]]), 2),
        ((torch.tensor(2.0), normal(3)), 2),
        ({"loss": torch.tensor(2.0), "logits": normal(3, 4)}, 2),
        (Output(normal(3), normal(3), torch.tensor(2.0)), 2),
        ({"boxes": torch.tensor(2.0), "classes": torch.tensor(1.0)}, 3),
    ],
)
def test_without_targets_the_loss_that_the_network_computes(output, value):
    assert default(output) == value


@pytest.mark.parametrize(
    ("output", "targets", "said"),
    [
        (normal(3, 4), None, r"this proxy needs labels: batch=\(inputs, targets\), or loss="),
        ((normal(3, 4), torch.tensor(2.0)), None, "this proxy needs labels"),
        (normal(3, 4), normal(3, 4) * 1j, r"complex targets \(complex128\) need loss=lambda output, targets: …"),
        (normal(3, 4), {"labels": 1}, "targets of type dict need loss=lambda output, targets: …"),
        (normal(3, 4), integers(4, 2), r"2 labels for outputs of shape \(3, 4\); pass loss= instead"),
        (normal(3, 4), torch.tensor([0, 1, 4]), "label 4 for a network with 4 outputs"),
        (normal(3, 4), torch.tensor([0, 1, -1]), "label -1 for a network with 4 outputs"),
        (normal(3, 4), torch.full((3,), -100), "all labels are -100: there is nothing to compute a loss from"),
        (normal(3, 1), torch.tensor([0, 1, 2]), r"class labels need outputs \(N, classes\), got shape \(3, 1\)"),
        (normal(3), torch.tensor([0, 1, 2]), r"class labels need outputs \(N, classes\), got shape \(3,\)"),
        (normal(3, 4), normal(3), r"targets of shape \(3,\) for outputs of shape \(3, 4\); pass loss= instead"),
        (normal(3, 4, 5), integers(4, 3), r"labels of shape \(3,\) for outputs of shape \(3, 4, 5\): expected outputs"),
    ],
)  # fmt: skip
def test_targets_that_do_not_fit_say_what_would(output, targets, said):
    with pytest.raises(ssnr.UsageError, match=said):
        default(output, targets)


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        (
            lambda out, y: out.detach().sum(),
            "the loss is detached from the network's output: nothing to differentiate",
        ),
        (lambda out, y: 1 / 0, "the loss raised ZeroDivisionError: division by zero"),
        (lambda out, y: out.sum() * float("nan"), "the loss is nan"),
        (lambda out, y: out.exp().mul(1e300).mul(1e300).sum(), "the loss is inf"),
    ],
)
def test_a_loss_that_is_no_number_fails_with_the_reason(loss: Callable[..., Any], reason):
    net = nn.Linear(2, 2)
    score = ssnr.score(net, (torch.ones(3, 2), torch.tensor([0, 1, 0])), ["snip"], loss=loss)["snip"]
    assert brief(score) == (None, None, "failed", reason)
