"""The supernet beside the naive loop and beside `measure` on built networks: ms a network, ratios, peak memory.

    python -m benchmarks.supernet [--space nasbench201|darts|transnasbench101-micro/TASK] [--archs 1024|all]
                                  [--loss] [--rounds 3] [--json FILE]

With `--loss`, snip and grasp of drawn images in float32 instead, by the supernet and by `measure`: of one image, or of
two where a norm stands before the pooling.

Distinct networks of a space (`twin`), synflow with sum, ssnr and layerwise_ssnr, one thread. Each way is timed in a
process of its own, start-up excluded, its set-up (the supernet's weights, the building of networks) included; the ways
take turns, and the fastest round counts, in processor time. The two slow ways score every 16th network.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks import naive
from ssnr.core.aggregates import layerwise_ssnr, ssnr, sum_
from ssnr.core.moments import Moments
from ssnr.core.recipes import get_recipe
from ssnr.data import noise
from ssnr.scoring import measure
from ssnr.spaces import Space, get_space
from ssnr.supernet import Supernet
from ssnr.supernet.layouts.base import draws, layout_of

SHARE = 16
LISTABLE = 1 << 20  # spaces that are larger are sampled
LIMITED = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def by_supernet(space: Space, archs: list[str]) -> None:
    for moments in Supernet(space).moments(archs):
        _aggregates(moments)


def by_measure(space: Space, archs: list[str]) -> None:
    for arch in archs:
        result = measure(space.build(arch), ["synflow"], input_shape=space.input_shape)["synflow"]
        assert result.moments is not None
        _aggregates(result.moments)


def by_naive(space: Space, archs: list[str]) -> None:
    for arch in archs:
        net = space.build(arch)
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                type(module).__bases__[0].reset_parameters(module)
        naive.aggregates(naive.synflow(net, space.input_shape))


def loss_by_supernet(measured: str, space: Space, archs: list[str]) -> None:
    for result in Supernet(space).results(archs, f"{measured}_noise", images=_images(space)):
        assert result.moments is not None
        _aggregates(result.moments.magnitude())


def loss_by_measure(measured: str, space: Space, archs: list[str]) -> None:
    batch = noise(space.input_shape, space.num_classes, _images(space))
    recipe = get_recipe("seed(dtype=float32)")
    for arch in archs:
        result = measure(space.build(arch), [measured], batch=batch, input_shape=space.input_shape, recipe=recipe)
        moments = result[measured].moments
        assert moments is not None
        _aggregates(moments.magnitude())


def _images(space: Space) -> int:
    return 1 if draws(layout_of(space), 1) else 2


WAYS: dict[str, tuple[Callable[[Space, list[str]], None], int]] = {
    "supernet": (by_supernet, 1),
    "measure": (by_measure, SHARE),
    "naive": (by_naive, SHARE),
}


LOSS_WAYS: dict[str, tuple[Callable[[Space, list[str]], None], int]] = {
    "snip": (partial(loss_by_supernet, "plain"), 1),
    "grasp": (partial(loss_by_supernet, "grasp"), 1),
    "snip, measure": (partial(loss_by_measure, "plain"), SHARE),
    "grasp, measure": (partial(loss_by_measure, "grasp"), SHARE),
}


def _aggregates(moments: Moments) -> None:
    for aggregate in (sum_, ssnr, layerwise_ssnr):
        aggregate(moments)


def networks(space: Space, count: str) -> list[str]:
    rng = np.random.default_rng(0)
    if count != "all" and len(space) > LISTABLE:
        return list(dict.fromkeys(space.twin(arch) for arch in space.sample_many(int(count), rng)))
    distinct = list(dict.fromkeys(space.twin(arch) for arch in space.all()))
    if count == "all":
        return distinct
    return [distinct[k] for k in rng.permutation(len(distinct))[: int(count)]]


def child(way: str, space: Space, archs: list[str]) -> None:
    """Run one way and print ms a network and peak MiB."""
    torch.set_num_threads(1)
    run, share = (WAYS | LOSS_WAYS)[way]
    archs = archs[::share]
    started = time.process_time()
    run(space, archs)
    milliseconds = (time.process_time() - started) / len(archs) * 1e3
    print(json.dumps([milliseconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="nasbench201")
    parser.add_argument("--archs", default="1024", help="a number, or all")
    parser.add_argument("--loss", action="store_true", help="snip and grasp of drawn images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--way", choices=WAYS | LOSS_WAYS, help="run this way alone")
    arguments = parser.parse_args()
    space = get_space(arguments.space)
    if arguments.way:
        child(arguments.way, space, networks(space, arguments.archs))
        return
    ways = LOSS_WAYS if arguments.loss else WAYS
    rounds: dict[str, list[list[float]]] = {way: [] for way in ways}
    for _ in range(arguments.rounds):
        for way in ways:
            command = [sys.executable, "-m", "benchmarks.supernet", "--way", way]
            command += ["--space", arguments.space, "--archs", arguments.archs]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=LIMITED)
            rounds[way].append(json.loads(done.stdout))
    best = {way: min(found) for way, found in rounds.items()}
    first = next(iter(ways))
    print(f"{arguments.space}, {arguments.archs} networks")
    print(f"{'':14}{'ms a network':>14}{'times ' + first:>16}{'peak MiB':>10}")
    rows = []
    for way, (milliseconds, peak) in best.items():
        ratio = milliseconds / best[first][0]
        rows.append({"way": way, "ms_a_network": milliseconds, f"times_{first}": ratio, "peak_mib": peak})
        print(f"{way:14}{milliseconds:14.2f}{ratio:16.2f}{peak:10.0f}")
    if arguments.json:
        result = {"space": arguments.space, "archs": arguments.archs, "rows": rows}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
