"""The yardstick of the benchmarks gives the package's own numbers: it does the same work."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path

import pytest
import torch

import ssnr
from ssnr.data import noise
from ssnr.spaces import get_space

PATH = Path(__file__).parents[1] / "benchmarks" / "naive.py"
SPACE = get_space("nasbench201/imagenet16-120")
CELLS = [SPACE.sample(random.Random(number)) for number in range(4)]
DEAD = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


@pytest.fixture(scope="module")
def naive():
    spec = importlib.util.spec_from_file_location("naive_loop", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("saliency", ["synflow", "snip"])
@pytest.mark.parametrize("cell", CELLS)
def test_its_three_aggregates_are_those_of_the_package(naive, saliency, cell):
    net, batch = SPACE.build(cell, seed=1), noise(SPACE.input_shape, SPACE.num_classes, 4, seed=0)
    names = [f"{saliency}/{name}" for name in ("sum", "ssnr", "layerwise_ssnr")]
    ours = ssnr.score(net, batch, names, input_shape=SPACE.input_shape)
    arguments = (SPACE.input_shape,) if saliency == "synflow" else (batch.inputs, batch.targets)
    found = getattr(naive, saliency)(net, *arguments)
    assert naive.aggregates(found) == pytest.approx([score.value for score in ours.values()], rel=1e-9)


def test_a_dead_network_has_three_zeros(naive):
    assert naive.aggregates(naive.synflow(SPACE.build(DEAD), SPACE.input_shape)) == (0.0, 0.0, 0.0)


def test_its_networks_have_weights_that_pytorch_drew(naive):
    torch.manual_seed(0)
    first, second = (naive.fresh(SPACE, CELLS[0]).stem[0].weight for _ in range(2))
    assert not torch.equal(first, second)
    assert float(first.detach().abs().max()) <= 27**-0.5
