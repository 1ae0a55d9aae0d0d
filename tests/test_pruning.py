"""Masks: exact densities, what each saliency keeps, and a network that is as before when they come off."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

import ssnr
from networks import golden, golden_batch, naive_gradients, naive_synflow, small, small_batch, state
from ssnr import pruning
from ssnr.core.catalogue import SALIENCIES

BUILT_IN = [*SALIENCIES, "random"]


def vgg() -> nn.Sequential:
    """A slim VGG: six convolutions with batch norm, three poolings, a linear layer."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 8), (8, 16), (16, 32), (32, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        if outputs in (8, 16) or inputs == outputs == 32:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def images(size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(size, 3, 16, 16, generator=generator), torch.arange(size) % 10


def chain() -> nn.Sequential:
    """1 → 100 → 100 → 1 with all weights 1: every layer's synflow sums to 10,000."""
    net = nn.Sequential(*(nn.Linear(i, o, bias=False) for i, o in ((1, 100), (100, 100), (100, 1))))
    for p in net.parameters():
        nn.init.ones_(p)
    return net


def masked_small(density: float = 0.5) -> tuple[nn.Module, pruning.Masks]:
    net = small()
    found = pruning.masks(net, "random", density)
    pruning.apply(net, found)
    return net, found


# --- densities -------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    density=st.floats(0.01, 1.0), saliency=st.sampled_from(BUILT_IN), rounds=st.integers(1, 4),
    seed=st.integers(0, 5), scope=st.sampled_from(["global", "layer"]),
)  # fmt: skip
def test_masks_keep_exactly_the_density(density, saliency, rounds, seed, scope):
    net = small(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ssnr.LayerCollapseWarning)
        found = pruning.masks(net, saliency, density, batch=small_batch(), rounds=rounds, scope=scope, seed=seed)
    assert found.total == 36 + 16 + 12
    if scope == "global":
        assert found.kept == round(density * found.total)
    else:
        assert found.table()["kept"].tolist() == [round(density * n) for n in (36, 16, 12)]


def test_equal_saliencies_are_cut_at_the_exact_number_the_last_first():
    with pytest.warns(ssnr.LayerCollapseWarning, match=r"1 of 3 layers has no weight left: 2\.weight"):
        found = pruning.masks(chain(), "magnitude", 0.5, rounds=3)
    assert torch.cat([m.flatten() for m in found.tensors.values()]).tolist() == [True] * 5_100 + [False] * 5_100


def test_one_shot_synflow_collapses_the_middle_layer_and_says_so():
    with pytest.warns(ssnr.LayerCollapseWarning) as caught:
        found = pruning.masks(chain(), density=0.01, input_shape=(1,), rounds=1)
    assert [str(w.message) for w in caught] == ["layer collapse: 1 of 3 layers has no weight left: 1.weight"]
    assert caught[0].filename == __file__
    assert found.collapsed == ("1.weight",)
    assert found.table().to_dict("list") == {
        "name": ["0.weight", "1.weight", "2.weight"],
        "numel": [100, 10_000, 100],
        "kept": [100, 0, 2],
        "density": [1.0, 0.0, 0.02],
        "collapsed": [False, True, False],
    }


def test_the_iterative_schedule_avoids_the_collapse():
    found = pruning.masks(chain(), density=0.01, input_shape=(1,))
    assert (found.kept, found.collapsed) == (102, ())


def test_snip_empties_a_layer_where_iterative_synflow_does_not():
    with pytest.warns(ssnr.LayerCollapseWarning):
        snip = pruning.masks(vgg(), "snip", 0.002, batch=images())
    synflow = pruning.masks(vgg(), "synflow", 0.002, input_shape=(3, 16, 16))
    assert snip.kept == synflow.kept == round(0.002 * snip.total)
    assert snip.collapsed
    assert synflow.collapsed == ()


def test_every_round_keeps_a_part_of_what_the_last_one_kept():
    net, before = vgg(), None
    for rounds in range(1, 4):
        # The first k of n rounds are those of density^(k/n) in k rounds.
        found = pruning.masks(net, density=0.05 ** (rounds / 3), input_shape=(3, 16, 16), rounds=rounds)
        assert before is None or all(bool((before.tensors[n] | ~m).all()) for n, m in found.tensors.items())
        before = found


# --- what is kept ----------------------------------------------------------------------------------------------


def test_grasp_removes_what_raises_the_gradient_flow_most():
    """S = −θ ⊙ Hg is how half of ‖g‖² changes, per share of the weight taken away: by finite differences, by hand."""
    net = golden().double()
    inputs, labels = golden_batch()

    def flow() -> torch.Tensor:
        loss = nn.functional.cross_entropy(net(inputs.double()), labels)
        return sum((g * g).sum() for g in torch.autograd.grad(loss, list(net.parameters()))) / 2

    start, step, change = flow(), 1e-6, []
    for p in net.parameters():
        for i in range(4):
            value = p.data.view(-1)[i].item()
            p.data.view(-1)[i] = value * (1 - step)
            change.append(float((flow() - start) / step))
            p.data.view(-1)[i] = value
    by_hand = [6.462287962, 6.462287962, -16.515404927, 1.322565634, 9.109324257, -26.835607932, 4.554662129,
               13.417803966]  # fmt: skip
    assert change == pytest.approx(by_hand, rel=1e-4)
    found = pruning.masks(golden(), "grasp", 3 / 8, batch=golden_batch())
    kept = torch.cat([m.flatten() for m in found.tensors.values()]).tolist()
    assert kept == [value in sorted(by_hand)[:3] for value in by_hand]
    assert kept == [False, False, True, True, False, True, False, False]


@pytest.mark.parametrize("saliency", [name for name in SALIENCIES if name not in ("grasp", "grasp_noise")])
def test_others_keep_the_largest_magnitudes(saliency):
    values = ssnr.saliency(small(), saliency, small_batch())
    found = pruning.masks(small(), saliency, 0.8, batch=small_batch(), rounds=1)
    flat = torch.cat([v.abs().flatten() for v in values.values()])
    kept = torch.cat([m.flatten() for m in found.tensors.values()])
    assert flat[kept].min() >= flat[~kept].max()


def test_iterative_synflow_is_the_naive_loop():
    net, kept = vgg(), {}
    for step in range(1, 6):
        twin = copy.deepcopy(net)
        for name, mask in kept.items():
            twin.get_parameter(name).data.mul_(mask)
        scores = naive_synflow(twin, (3, 16, 16))
        kept = kept or {name: torch.ones_like(s, dtype=torch.bool) for name, s in scores.items()}
        flat = torch.cat([s.flatten() for s in scores.values()])
        count = round(0.02 ** (step / 5) * len(flat))
        threshold = flat.sort(descending=True).values[count - 1]
        kept = {name: kept[name] & (s >= threshold) for name, s in scores.items()}
    found = pruning.masks(net, density=0.02, input_shape=(3, 16, 16), rounds=5)
    assert all(torch.equal(found.tensors[name], mask) for name, mask in kept.items())


def test_float32_synflow_keeps_almost_the_same_weights():
    one = pruning.masks(vgg(), density=0.1, input_shape=(3, 16, 16), rounds=1)
    two = pruning.masks(vgg(), density=0.1, input_shape=(3, 16, 16), rounds=1, recipe="seed(synflow_dtype=float32)")
    assert sum(int((m ^ two.tensors[n]).sum()) for n, m in one.tensors.items()) <= 2


def test_random_masks_depend_on_the_seed_alone():
    first, again, other = (pruning.masks(vgg(), "random", 0.3, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(m, again.tensors[n]) for n, m in first.tensors.items())
    assert not torch.equal(first.tensors["0.weight"], other.tensors["0.weight"])


def test_a_saliency_of_the_users_own_works_at_once_and_in_rounds():
    seen = []

    @ssnr.register_saliency(data=False)
    def halved(net, batch):
        """−|θ|/2, of the network as it is in each round."""
        weights = [m.weight for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        seen.append(sum(int((w != 0).sum()) for w in weights))
        names = [name for name, p in net.named_parameters() if p.dim() >= 2]
        return {name: -w.detach().abs() / 2 for name, w in zip(names, weights, strict=True)}

    try:
        net = small()
        before = state(net)
        found = pruning.masks(net, "halved", 0.25, rounds=2)
        assert state(net) == before
    finally:
        SALIENCIES.remove("halved")
    assert seen == [64, 32]
    expected = pruning.masks(small(), "magnitude", 0.25)
    assert all(torch.equal(m, found.tensors[n]) for n, m in expected.tensors.items())


def test_excluded_layers_stay_dense_and_out_of_the_count():
    found = pruning.masks(small(), "magnitude", 0.5, exclude=["head", "mix.weight"])
    assert (list(found.tensors), found.total, found.kept) == (["conv.weight"], 36, 18)


def test_progress_is_told_after_every_round():
    told = []
    pruning.masks(small(), density=0.5, input_shape=(1, 5, 5), rounds=3, progress=lambda *now: told.append(now))
    assert told == [(1, 3), (2, 3), (3, 3)]


# --- the network is left alone ---------------------------------------------------------------------------------


@pytest.mark.parametrize("saliency", BUILT_IN)
def test_the_network_is_bit_identical_after_computing_masks(saliency):
    net = small()
    net.conv.weight.requires_grad_(False)
    net.head.weight.grad = torch.ones_like(net.head.weight)
    before = state(net)
    pruning.masks(net, saliency, 0.8, batch=small_batch(), rounds=2)
    assert state(net) == before


def test_weights_at_every_round_are_the_initial_ones_bit_for_bit():
    net = vgg()
    initial = {name: p.detach().clone() for name, p in net.named_parameters()}
    net[0].weight.requires_grad_(False)

    def unchanged(done: int, total: int) -> None:
        assert all(torch.equal(p, initial[name]) for name, p in net.named_parameters())

    for rounds, density in enumerate((0.5, 0.3, 0.2, 0.1, 0.05), start=1):
        found = pruning.masks(net, density=density, input_shape=(3, 16, 16), rounds=rounds, progress=unchanged)
        with pruning.applied(net, found):
            assert int((net[4].weight != 0).sum()) == int(found.tensors["4.weight"].sum())
        unchanged(0, 0)
        assert [n for n, p in net.named_parameters() if not p.requires_grad] == ["0.weight"]
    assert list(initial) == [name for name, _ in net.named_parameters()]


def test_a_mask_applied_removed_and_applied_again_gives_the_same_outputs():
    for permanent in (True, False):
        net, (inputs, _) = vgg().eval(), images()
        dense = net(inputs)
        found = pruning.masks(net, "snip", 0.3, batch=images())
        first = pruning.apply(net, found)(inputs)
        assert not torch.equal(first, dense)
        pruning.remove(net, permanent=permanent)
        assert torch.equal(net(inputs), first if permanent else dense)
        assert torch.equal(pruning.apply(net, found)(inputs), first)


def test_masks_off_leave_the_parameters_themselves_in_their_order_and_no_hook():
    net = small()
    before = state(net)
    with pruning.applied(net, pruning.masks(net, "magnitude", 0.4)):
        assert [name for name, _ in net.named_parameters()][:2] == ["conv.weight_orig", "conv.bias"]
    assert state(net) == before


def test_masked_weights_stay_zero_in_training_and_torch_can_take_the_masks_off():
    net, found = masked_small()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    inputs, labels = small_batch()
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(inputs), labels).backward()
        optimizer.step()
    prune.remove(net.conv, "weight")
    assert torch.equal(net.conv.weight != 0, found.tensors["conv.weight"])
    assert not torch.equal(net.conv.weight, small().conv.weight * found.tensors["conv.weight"])


class Attention(nn.Module):
    """Weights that no module of their own is called for: a packed one, `out_proj`'s, a list's and a raw one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)
        self.listed = nn.ParameterList([torch.randn(4, 4)])
        self.raw = nn.Parameter(torch.randn(4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = (self.attend(x, x, x, need_weights=False)[0] @ self.listed[0]).mean(1) @ self.raw
        return out


def test_masks_work_for_packed_listed_and_raw_parameters_and_in_training():
    net, batch = Attention(), (torch.randn(5, 3, 4), torch.tensor([0, 1, 2, 0, 1]))
    found = pruning.masks(net, "snip", 0.5, batch=batch)
    assert list(found.tensors) == ["raw", "attend.in_proj_weight", "attend.out_proj.weight", "listed.0"]
    pruning.apply(net, found)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(batch[0]), batch[1]).backward()
        optimizer.step()
    scores = ssnr.score(net, batch, ["snip/layerwise_ssnr"])["snip/layerwise_ssnr"]
    assert {layer.name: layer.numel for layer in scores.layers} == {n: int(m.sum()) for n, m in found.tensors.items()}
    trained = net(batch[0])
    pruning.remove(net)
    assert torch.equal(net(batch[0]), trained)
    assert int((net.listed[0] != 0).sum()) == int(found.tensors["listed.0"].sum())


# --- scores of a masked network --------------------------------------------------------------------------------


def zeroed(density: float = 0.5) -> tuple[nn.Module, pruning.Masks]:
    net, found = masked_small(density)
    return pruning.remove(net), found


@pytest.mark.parametrize("saliency", ["synflow", "snip", "plain", "grasp"])
def test_a_masked_network_scores_as_the_zeroed_one_over_what_is_left(saliency):
    net, found = masked_small()
    twin, _ = zeroed()
    batch = small_batch()
    naive = naive_synflow(twin, (1, 5, 5)) if saliency == "synflow" else naive_gradients(twin, batch)[saliency]
    tensors = ssnr.saliency(net, saliency, batch)
    score = ssnr.score(net, batch, [f"{saliency}/layerwise_ssnr"])[f"{saliency}/layerwise_ssnr"]
    assert [layer.name for layer in score.layers] == list(found.tensors)
    total = 0.0
    for layer in score.layers:
        mask = found.tensors[layer.name]
        left = naive[layer.name][mask].double()
        assert torch.allclose(tensors[layer.name][mask], left, rtol=1e-9, atol=1e-14)
        assert not tensors[layer.name][~mask].any()
        assert layer.numel == int(mask.sum())
        assert layer.total == pytest.approx(float(left.sum()), rel=1e-9)
        assert layer.sigma == pytest.approx(float(left.std(correction=0)), rel=1e-9)
        total += float(left.sum() / left.std(correction=0))
    assert score.value == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("saliency", ["fisher", "grad_norm", "magnitude", "l2_norm"])
def test_no_saliency_counts_a_masked_weight(saliency):
    net, found = masked_small()
    twin, _ = zeroed()
    tensors, dense = (ssnr.saliency(n, saliency, small_batch()) for n in (net, twin))
    score = ssnr.score(net, small_batch(), [saliency])[saliency]
    for layer in score.layers:
        mask = found.tensors[layer.name]
        assert layer.numel == int(mask.sum())
        assert not tensors[layer.name][~mask].any()
        ratio = tensors[layer.name][mask] / dense[layer.name][mask]
        if saliency == "grad_norm":  # a share of the norm, which is that of the weights that are left
            assert torch.allclose(ratio, ratio[:1])
            assert layer.total == pytest.approx(float(tensors[layer.name].sum()))
        else:
            assert torch.allclose(ratio, torch.ones_like(ratio), rtol=1e-12)


def test_scoring_a_masked_network_leaves_it_bit_identical():
    net, _ = masked_small()
    net(small_batch()[0])
    before, effective = state(net), [net.conv.weight, net.head.weight]
    scores = ssnr.score(net, small_batch(), [*SALIENCIES, "params", "flops", "reachable_params", "layers"])
    assert {s.status for s in scores.values()} == {"ok"}
    assert state(net) == before
    assert net.conv.weight is effective[0]
    assert net.head.weight is effective[1]


def test_parameters_count_masked_weights_and_reachable_ones_do_not():
    net, found = masked_small(0.25)
    scores = ssnr.score(net, proxies=["params", "reachable_params", "flops"], input_shape=(1, 5, 5))
    dense = ssnr.score(small(), proxies=["params", "flops"], input_shape=(1, 5, 5))
    assert scores["params"] == dense["params"]
    assert scores["flops"] == dense["flops"]
    assert scores["reachable_params"].value == found.kept == 16


def test_a_layer_without_a_weight_has_none_and_is_dead():
    net = golden()
    pruning.apply(net, {"0.weight": torch.tensor([[1, 0], [0, 1]]), "2.weight": torch.zeros(2, 2)})
    score = ssnr.score(net, None, ["synflow/layerwise_ssnr"], input_shape=(2,))["synflow/layerwise_ssnr"]
    assert (score.value, score.status) == (0.0, "dead")
    assert [(layer.numel, layer.flag) for layer in score.layers] == [(2, "dead"), (0, "dead")]


def test_a_pruned_bias_is_the_effective_one():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    prune.custom_from_mask(net[0], "bias", torch.tensor([1.0, 0.0]))
    twin = copy.deepcopy(net[0].bias_orig.detach() * torch.tensor([1.0, 0.0]))
    value = ssnr.score(net, None, ["synflow/layerwise_ssnr"], input_shape=(2,))["synflow/layerwise_ssnr"].value
    prune.remove(net[0], "bias")
    assert torch.equal(net[0].bias.detach(), twin)
    assert ssnr.score(net, None, ["synflow/layerwise_ssnr"], input_shape=(2,))["synflow/layerwise_ssnr"].value == value


# --- files -----------------------------------------------------------------------------------------------------


def test_masks_are_saved_as_plain_tensors(tmp_path):
    found = pruning.masks(small(), "snip", 0.3, batch=small_batch())
    found.save(tmp_path / "masks.pt")
    content = torch.load(tmp_path / "masks.pt", weights_only=True)
    assert {m.dtype for m in content["masks"].values()} == {torch.bool}
    again = ssnr.Masks.load(tmp_path / "masks.pt")
    assert again.how == found.how
    assert again.how["batch"].startswith("given:")
    assert {k: v for k, v in again.how.items() if k != "batch"} == {
        "saliency": "snip", "density": 0.3, "scope": "global", "rounds": 1, "recipe": "seed", "seed": 0,
    }  # fmt: skip
    assert list(again.tensors) == list(found.tensors)
    assert all(torch.equal(again.tensors[n], m) for n, m in found.tensors.items())


def test_a_file_that_holds_no_masks_is_refused(tmp_path):
    text, weights = tmp_path / "text.pt", tmp_path / "weights.pt"
    text.write_text("masks")
    torch.save(small().state_dict(), weights)
    for path in (text, weights):
        with pytest.raises(ssnr.UsageError, match=re.escape(f"{path} is not a file of masks (`Masks.save`")):
            ssnr.Masks.load(path)
    with pytest.raises(ssnr.UsageError, match=r"cannot read .*nowhere.pt: No such file or directory"):
        ssnr.Masks.load(tmp_path / "nowhere.pt")
    with pytest.raises(ssnr.SsnrError, match=r"cannot write .*m.pt: No such file or directory"):
        pruning.masks(small(), "magnitude", 0.5).save(tmp_path / "nowhere" / "m.pt")


# --- wrong input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"density": 0}, "density 0: expected the share of weights to keep, above 0 and at most 1"),
        ({"density": 1.1}, "density 1.1: expected the share"),
        ({"density": float("nan")}, "density nan: expected the share"),
        ({"density": True}, "density True: expected the share"),
        ({"density": "0.1"}, "density '0.1': expected the share"),
        ({"density": 0.001}, "density 0.001 of 64 weights keeps none: expected at least 0.016"),
        ({"saliency": "magnitud"}, "unknown saliency 'magnitud': did you mean magnitude?"),
        ({"saliency": "params"}, "params is a plain proxy: it has no saliency by weight"),
        ({"saliency": "snip"}, "snip needs a batch: masks(…, batch=(inputs, targets)), or --data"),
        ({"saliency": "synflow"}, "synflow needs the shape of one input: input_shape=(3, 32, 32), or a batch"),
        ({"scope": "local"}, "scope 'local': expected global or layer"),
        ({"rounds": 0}, "rounds 0: expected a whole number, at least 1"),
        ({"rounds": 1.5}, "rounds 1.5: expected a whole number, at least 1"),
        ({"exclude": ["heads"]}, "exclude 'heads': the network has no layer or module of that name: did you mean head"),
        ({"exclude": ["conv", "mix", "head"]}, "no weight to prune: every scored weight is excluded"),
    ],
)
def test_wrong_calls_are_refused_in_one_line(options, said):
    with pytest.raises(ssnr.UsageError, match=re.escape(said)) as caught:
        pruning.masks(small(), **({"saliency": "magnitude"} | options))
    assert "\n" not in str(caught.value)


def test_a_network_without_weights_is_refused():
    with pytest.raises(ssnr.ScoringError, match="no scored weights: the network has no parameter with two or more"):
        pruning.masks(nn.BatchNorm2d(3), "magnitude")


def test_a_pruned_network_is_refused():
    net, found = masked_small()
    said = re.escape("conv.weight is pruned already: take the masks off first, ssnr.pruning.remove(net) leaves its")
    with pytest.raises(ssnr.UsageError, match=said):
        pruning.masks(net, "magnitude")
    with pytest.raises(ssnr.UsageError, match=said):
        pruning.apply(net, found)


def test_a_tied_weight_is_refused_with_both_its_places_unless_it_stays_dense():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    net[1].weight = net[0].weight
    said = "0.weight and 1.weight are one tensor, which a mask in one place would part: leave it dense with exclude="
    with pytest.raises(ssnr.UsageError, match=re.escape(said)):
        pruning.masks(net, input_shape=(3,))
    for place in ("0", "1.weight"):
        assert list(pruning.masks(net, input_shape=(3,), density=0.5, exclude=[place]).tensors) == ["2.weight"]


def test_a_module_that_is_used_twice_is_one_weight():
    layer = nn.Linear(3, 3)
    assert list(pruning.masks(nn.Sequential(layer, layer), input_shape=(3,), density=0.5).tensors) == ["0.weight"]


def test_unused_layers_are_left_alone_by_saliencies_that_run_the_network():
    net = small()
    net.spare = nn.Linear(5, 5)
    assert "spare.weight" not in pruning.masks(net, density=0.5, input_shape=(1, 5, 5), rounds=1).tensors
    assert "spare.weight" in pruning.masks(net, "magnitude", 0.5).tensors


def test_masks_of_another_network_are_refused_before_anything_is_changed():
    net, wider = small(), nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3))
    before = state(wider)
    said = "masks of another network: it has 'conv.weight', this Sequential has no such parameter"
    with pytest.raises(ssnr.UsageError, match=re.escape(said)):
        pruning.apply(wider, pruning.masks(net, "magnitude", 0.5))
    said = "masks of another network: '1.weight' is (2, 2) there and (4, 4, 3, 3) here"
    with pytest.raises(ssnr.UsageError, match=re.escape(said)):
        pruning.apply(wider, {"0.weight": torch.ones(4, 1, 3, 3), "1.weight": torch.ones(2, 2)})
    assert state(wider) == before
    with pytest.raises(ssnr.UsageError, match="the network has no masks to remove"):
        pruning.remove(wider)


def test_a_network_that_ignores_its_input_and_one_without_saliency_are_refused():
    net = golden()
    nn.init.zeros_(net[2].weight)
    said = "the output does not depend on the input: no weight is worth more than another"
    with pytest.raises(ssnr.ScoringError, match=said):
        pruning.masks(net, input_shape=(2,), density=0.5)
    with pytest.raises(ssnr.ScoringError, match="no weight has any snip saliency: none is worth more than another"):
        pruning.masks(net, "snip", 0.5, batch=golden_batch())


def test_a_saliency_that_is_not_finite_names_the_layer():
    net = golden()
    net[0].weight.data[0, 0] = float("nan")
    with pytest.raises(ssnr.ScoringError, match=re.escape("layer '0.weight': its magnitude saliency is not finite")):
        pruning.masks(net, "magnitude", 0.5)


def test_the_example_of_the_page_prints_what_stands_below_it():
    page = (Path(__file__).parents[1] / "docs" / "pruning.md").read_text()
    code, shown = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", page, re.DOTALL).groups()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == shown
