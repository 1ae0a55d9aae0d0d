"""The suites that ship with the package, on what the package itself has."""

from __future__ import annotations

import pytest
import torch

import ssnr
from ssnr.core.catalogue import PLAIN, SALIENCIES
from ssnr.testing import ExecutorContract, ProxyContract, naive_gradients, naive_synflow


class TestSynflow(ProxyContract):
    proxy = "synflow/layerwise_ssnr"


class TestNoise(ProxyContract):
    proxy = "noise_ssnr"


class TestNaswot(ProxyContract):
    proxy = "naswot"


class TestJacov(ProxyContract):
    proxy = "jacov"


class TestLocal(ExecutorContract):
    options = {"executor": "local", "workers": 2}  # noqa: RUF012


class Drifting(ProxyContract):
    """A proxy that breaks what it promises."""

    proxy = "drifting"


@pytest.fixture
def drifting():
    @ssnr.register_proxy
    def drifting(net, batch):
        """Another number each time."""
        drifting.calls += 1
        return float(drifting.calls)

    drifting.calls = 0
    yield
    ssnr.unregister("drifting")


def test_a_proxy_that_drifts_fails_its_suite(drifting):
    with pytest.raises(AssertionError):
        Drifting().test_it_is_the_same_each_time_to_the_last_bit()


def test_the_oracle_agrees_with_scoring():
    net, batch = ProxyContract().network(), ProxyContract().batch()
    by_hand = naive_synflow(net, (3, 8, 8)) | {}
    ours = ssnr.saliency(net, "synflow", input_shape=(3, 8, 8))
    for name, values in by_hand.items():
        torch.testing.assert_close(ours[name], values.to(ours[name].dtype), rtol=1e-9, atol=0)
    plain = naive_gradients(net, (batch.inputs, batch.targets))["plain"]
    ours = ssnr.saliency(net, "plain", batch)
    for name, values in plain.items():
        torch.testing.assert_close(ours[name], values, rtol=1e-8, atol=1e-12)


def test_every_name_of_the_catalogue_says_where_it_comes_from():
    assert all(entry.reference for entry in (*map(SALIENCIES.__getitem__, SALIENCIES), *map(PLAIN.__getitem__, PLAIN))
               if entry.name not in ("magnitude",))  # fmt: skip
