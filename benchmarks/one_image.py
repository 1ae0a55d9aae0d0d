"""One image of noise: the whole of NAS-Bench-201 by command, and a cell network by network, beside what the field does.

The field's usual code for snip (Lee et al., 2019, as published by Abdelfattah et al., 2021) takes a batch of 64: a
forward and a backward pass in float32, by PyTorch's own modules. That pass, building included, stands for it here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import ssnr
from benchmarks.harness import SEED, Row, Taken, call, run, spread, stopwatch, taking_turns
from ssnr.spaces import get_space

WHOLE = 15_625
RECIPE = "seed(dtype=float32)"


def sweep(proxy: str, archs: int, workers: int) -> Taken:
    """`ssnr sweep nasbench201 --init shared` of one proxy into an empty store."""
    with tempfile.TemporaryDirectory() as folder:
        options = ("--init", "shared", "--dtype", "float32", "--workers", str(workers))
        count = ("--archs", "all" if archs == WHOLE else str(archs))
        store = ("--store", f"{folder}/s.sqlite", "--seed", str(SEED))
        return run("-m", "ssnr", "sweep", "nasbench201", "-p", proxy, *count, *options, *store)


def general(arch: str) -> nn.Module:
    """One cell as `score` takes it, building included."""
    net = get_space("nasbench201").build(arch)
    ssnr.score(net, None, ["noise_ssnr"], input_shape=(3, 32, 32), recipe=RECIPE)
    return net


def bare(arch: str, images: int) -> nn.Module:
    """Build, one forward and one backward pass, Σ |θ ∂L/∂θ|: no layers, no checks."""
    net = get_space("nasbench201").build(arch).train()
    F.cross_entropy(net(torch.randn(images, 3, 32, 32)), torch.arange(images) % 10).backward()
    _ = sum(float((p * p.grad).detach().abs().sum()) for p in net.parameters() if p.dim() > 1 and p.grad is not None)
    return net


def timed(way: str, count: int) -> tuple[float, float]:
    """Milliseconds a cell on the clock and of the processor, of one of the ways below."""
    torch.set_num_threads(1)
    ways: dict[str, Callable[[str], nn.Module]] = {
        "general": general, "bare": partial(bare, images=1), "usual": partial(bare, images=64),
    }  # fmt: skip
    archs = get_space("nasbench201").sample_many(count, np.random.default_rng(SEED))
    ways[way](archs[0])
    with stopwatch() as now:
        for arch in archs:
            ways[way](arch)
        spent = now()
    return spent.seconds / count * 1e3, spent.processor / count * 1e3


def rows(quick: bool) -> list[Row]:
    """One row a way; `cells` is how many it scored."""
    archs, cells, repeats = (500, 16, 1) if quick else (WHOLE, 64, 3)
    ways: dict[str, Callable[[], object]] = {
        f"sweep --init shared, {proxy}": partial(sweep, proxy, archs, 2) for proxy in ("noise_ssnr", "synflow")
    }
    ways["sweep --init shared, noise_ssnr, one worker"] = partial(sweep, "noise_ssnr", archs, 1)
    ways |= {
        f"{way}, a cell": partial(_in_a_process, way, cells if way != "usual" else cells // 4)
        for way in ("general", "bare", "usual")
    }
    found = []
    for way, taken in taking_turns(ways, repeats).items():
        unit = 1e3 / archs if way.startswith("sweep") else 1.0
        row: Row = {"way": way, **spread("ms a cell", (one[0] * unit for one in taken))}
        # Worker processes are not in a command's own processor time.
        found.append(row | ({} if way.startswith("sweep") else spread("processor ms", (one[1] for one in taken))))
    return found


def _in_a_process(way: str, cells: int) -> tuple[float, float]:
    milliseconds, processor = call("benchmarks.one_image:timed", way, cells).value
    return milliseconds, processor
