"""Pruning on the network and the images of the paper's first figure."""

from __future__ import annotations

import os

import pytest

from ssnr import data, pruning
from ssnr.core.errors import LayerCollapseWarning
from ssnr.spaces import get_space

FOLDER = os.environ.get("SSNR_CIFAR10", "")


@pytest.mark.skipif(not FOLDER, reason="SSNR_CIFAR10 is not set")
def test_iterative_synflow_leaves_no_layer_of_vgg16_empty_where_one_shot_snip_does():
    net = get_space("vgg").build("16")
    batch = data.cifar10(FOLDER, 64)
    recipe = "seed(dtype=float32,synflow_dtype=float32)"
    kept = round(0.003 * get_space("vgg").counts("16").reachable_params)
    with pytest.warns(LayerCollapseWarning, match="layer collapse: 5 of 14 layers have no weight left"):
        snip = pruning.masks(net, "snip", 0.003, batch=batch, recipe=recipe)
    synflow = pruning.masks(net, "synflow", 0.003, input_shape=(3, 32, 32), recipe=recipe)
    assert snip.kept == synflow.kept == kept
    assert len(snip.collapsed) == 5 and synflow.collapsed == ()
    # At 0.01 no layer of snip's is empty yet, but one has 0.004 % of its weights.
    snip = pruning.masks(net, "snip", 0.01, batch=batch, recipe=recipe)
    assert snip.collapsed == () and snip.table()["density"].min() < 1e-4
