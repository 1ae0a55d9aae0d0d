"""The proxies of the field through `ssnr.score`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import ssnr
from ssnr.core.field import TABLE

Images = tuple[Tensor, Tensor]


def test_all_together_give_what_each_gives_alone(conv_net: nn.Module, images: Images) -> None:
    together = ssnr.score(conv_net, images, tuple(TABLE))
    for name in TABLE:
        assert ssnr.score(conv_net, images, (name,))[name] == together[name]
    failed = {name: score.reason for name, score in together.items() if score.status != "ok"}
    assert set(failed) <= {name for name in TABLE if name.startswith("az_nas")}


def test_what_draws_its_inputs_needs_only_their_shape() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
    free = [name for name, row in TABLE.items() if not row.data]
    az_nas = ["az_nas_expressivity", "az_nas_progressivity", "az_nas_trainability"]
    assert free == ["zen", *az_nas, "synflow_bn", "intrain"]
    found = ssnr.score(net, None, free, input_shape=(3, 8, 8))
    assert {score.status for score in found.values()} == {"ok"}


def test_what_reads_a_batch_asks_for_one() -> None:
    with pytest.raises(ssnr.UsageError, match=r"^naswot needs a batch"):
        ssnr.score(nn.Linear(2, 2), None, ("naswot",), input_shape=(2,))


def test_a_perceptron_has_all_but_those_that_read_maps() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 40), nn.GELU(), nn.Linear(40, 3))
    found = ssnr.score(net, (torch.randn(4, 6), torch.tensor([0, 1, 2, 0])), tuple(TABLE))
    failed = {name for name, score in found.items() if score.status != "ok"}
    assert failed == {"meco", "meco_opt", "az_nas_expressivity", "az_nas_progressivity", "az_nas_trainability"}


def test_a_transformer_has_them_too() -> None:
    torch.manual_seed(0)
    body = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = nn.Sequential(body, nn.Flatten(), nn.Linear(40, 3))
    wanted = ("naswot", "jacov", "zico", "gradsign", "ntk", "zen", "swap", "t_cet", "near", "vkdnw", "intrain")
    found = ssnr.score(net, (torch.randn(4, 5, 8), torch.tensor([0, 1, 2, 0])), wanted)
    assert {name: score.reason for name, score in found.items() if score.status != "ok"} == {}


def test_duplicate_images_fail_by_name_and_leave_the_others_alone(conv_net: nn.Module, images: Images) -> None:
    twice = torch.cat([images[0][:3], images[0][:3]])
    found = ssnr.score(conv_net, (twice, images[1]), ("naswot", "swap"))
    assert found["swap"].status == "ok"
    assert found["naswot"].status == "failed"
    assert found["naswot"].value is None
    assert found["naswot"].reason is not None
    assert found["naswot"].reason.startswith("naswot: the 6 samples have codes of rank 3")


def test_a_batch_of_one_fails_in_one_line(conv_net: nn.Module, images: Images) -> None:
    (score,) = ssnr.score(conv_net, (images[0][:1], images[1][:1]), ("jacov",)).values()
    assert score.reason == "jacov compares samples: got a batch of 1, expected 2 or more"


def test_proxies_are_listed_with_their_direction() -> None:
    assert not TABLE["ntk"].higher_is_better
    assert all(row.reference and row.formula and row.passes for row in TABLE.values())


@pytest.mark.parametrize("name", ["zen", "az_nas_expressivity", "intrain"])
def test_what_draws_normal_inputs_does_not_take_a_network_of_tokens(name: str) -> None:
    net = nn.Sequential(nn.Embedding(11, 8), nn.Flatten(), nn.Linear(40, 3))
    score = ssnr.score(net, (torch.randint(11, (4, 5)), torch.tensor([0, 1, 2, 0])), (name,))[name]
    assert score.reason == "this proxy draws normal inputs, and this network takes only integers"


@pytest.mark.parametrize("name", ["gradsign", "vkdnw"])
def test_one_by_one_a_batch_norm_of_single_values_has_no_statistics(name: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    batch = (torch.randn(4, 6), torch.tensor([0, 1, 2, 0]))
    assert ssnr.score(net, batch, (name,))[name].reason == (
        "this proxy takes samples one by one, and a batch norm of one value for each channel has no statistics "
        "of one sample; a recipe with mode=eval has running ones"
    )
    assert ssnr.score(net, batch, (name,), recipe="seed(mode=eval)")[name].status == "ok"
