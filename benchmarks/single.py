"""`score(net)` by synflow against a bare forward and backward pass of the same network in the same precision."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import ssnr
from benchmarks import harness

PROXIES = ["synflow/layerwise_ssnr"]


class Encoder(nn.Module):
    """Six layers of a transformer encoder over 64 vectors of 256 numbers."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def plain(depth: int, width: int) -> nn.Module:
    """Convolutions with batch norm and ReLU, nothing else."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1)]
    for _ in range(depth - 1):
        layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False)]
    return nn.Sequential(*layers)


def beyond(depth: int, width: int) -> nn.Module:
    """Linear layers whose numbers leave float64."""
    layers = [nn.Linear(width, width, bias=False) for _ in range(depth)]
    with torch.no_grad():
        for layer in layers:
            layer.weight *= 2.0**40
    return nn.Sequential(*layers)


def networks(quick: bool) -> dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]:
    image = (3, 32, 32)
    found: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
        "vgg:16": (lambda: ssnr.get_space("vgg").build("16"), image),
        "resnet:56": (lambda: ssnr.get_space("resnet").build("56"), image),
        "transformer encoder": (Encoder, (64, 256)),
        "beyond float64, depth 200, width 256": (lambda: beyond(200, 256), (256,)),
    }
    grid = [(8, 32), (32, 32)] if quick else [(8, 32), (32, 32), (128, 32), (32, 8), (32, 64), (32, 128)]
    for depth, width in grid:
        found[f"plain, depth {depth}, width {width}"] = (lambda d=depth, w=width: plain(d, w), image)  # type: ignore[misc]
    return found


def rows(quick: bool) -> list[dict[str, Any]]:
    """One row a network and precision; times are processor time of one thread, interleaved."""
    found = []
    for name in networks(quick):
        for dtype in ("float64", "float32"):
            ratios, bare = harness.call("benchmarks.single:ratios", name, dtype, quick).value
            row = {"network": name, "precision": dtype, "bare ms": 1e3 * bare, "ratio": statistics.median(ratios),
                   "ratio_lo": min(ratios), "ratio_hi": max(ratios), "repeats": len(ratios)}  # fmt: skip
            row["extra memory / parameters"] = harness.call("benchmarks.single:memory", name, dtype, quick).value
            found.append(row)
    return found


def ratios(name: str, dtype: str, quick: bool) -> tuple[list[float], float]:
    """Time of `score` over that of a bare pass, one after the other."""
    make, shape = networks(quick)[name]
    net = make().eval()
    other = copy.deepcopy(net).to(getattr(torch, dtype))
    x = torch.ones((1, *shape), dtype=getattr(torch, dtype))
    found, bare = [], []
    for turn in range(4 if quick else 10):
        started = time.process_time()
        other.zero_grad(set_to_none=True)
        other(x).sum().backward()
        between = time.process_time()
        ssnr.score(net, input_shape=shape, proxies=PROXIES, recipe=f"seed(synflow_dtype={dtype})")
        if turn:  # the first warms up
            bare.append(between - started)
            found.append((time.process_time() - between) / bare[-1])
    return found, statistics.median(bare)


def memory(name: str, dtype: str, quick: bool) -> float:
    """Peak memory that `score` adds, in units of the parameters in the pass's precision."""
    make, shape = networks(quick)[name]
    ssnr.score(
        plain(2, 4), input_shape=(3, 8, 8), proxies=PROXIES, recipe=f"seed(synflow_dtype={dtype})"
    )  # what torch loads once
    net = make().eval()
    before = harness.own_peak_mib()
    ssnr.score(net, input_shape=shape, proxies=PROXIES, recipe=f"seed(synflow_dtype={dtype})")
    added = 2**20 * (harness.own_peak_mib() - before)
    return added / (sum(p.numel() for p in net.parameters()) * getattr(torch, dtype).itemsize)
