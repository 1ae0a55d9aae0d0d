"""The proxies of the field on NAS-Bench-201: what they cost, and how they rank.

    python -m benchmarks.proxies scores FILE.jsonl [--cells 300] [--seed 0]   one line a cell; goes on where it stopped
    python -m benchmarks.proxies speed FILE.json [--repeats 5]                milliseconds, ways taking turns
    python -m benchmarks.proxies page FILE.jsonl FILE.json > docs/proxies.md  the page

Batch of 64 images of CIFAR-10, float32, one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import nn

from benchmarks import harness
from ssnr.benchmarks import load_benchmark
from ssnr.core.errors import ScoringError
from ssnr.core.field import TABLE
from ssnr.core.recipes import get_recipe
from ssnr.data import Batch, load
from ssnr.networks.model import Model
from ssnr.networks.preserve import preserved
from ssnr.networks.settings import undisturbed
from ssnr.proxies.capture import Context
from ssnr.saliencies import gradient_saliencies
from ssnr.spaces import get_space
from ssnr.studies.stats import correlate

RECIPE = get_recipe("seed(dtype=float32)")
CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|skip_connect~0|nor_conv_3x3~1|avg_pool_3x3~2|"
# ρ/τ with CIFAR-10 accuracy: from the scores of NAS-Bench-Suite-Zero on the 9,445 cells without unreachable operations
# (test accuracy), else as named.
PUBLISHED = {
    "naswot": ".81/.62 (9,445 cells)",
    "jacov": ".80/.62 (9,445 cells)",
    "epe_nas": ".77/.58 (9,445 cells)",
    "zen": ".11/.11 (9,445 cells)",
    "params": ".80/.62 (9,445 cells)",
    "zico": ".78/.59 (Kang et al.)",
    "swap": ".81/.63 (Kang et al.)",
    "az_nas": ".91/.74 (Lee & Ham, all cells)",
}


# Proxies that are ranks of several numbers over the networks of a study.
TOGETHER = {
    "te_nas": ("ntk", "linear_regions"),
    "az_nas": ("az_nas_expressivity", "az_nas_progressivity", "az_nas_trainability", "flops"),
}


def context(net: nn.Module, batch: Batch, seed: int = 0) -> Any:
    """What one network's proxies share."""
    return Context(Model(net, RECIPE), net, batch, None, None, RECIPE, seed, (3, 32, 32), {})


def values(name: str, here: Any) -> dict[str, float | None]:
    """The number of a proxy, None where there is none."""
    try:
        return {name: TABLE[name](here)}
    except ScoringError:
        return {name: None}


def scores(path: Path, cells: int, seed: int, only: list[str]) -> None:
    """One line a cell: its architecture and its numbers."""
    space, batch = get_space("nasbench201"), load(None, (3, 32, 32), 10, size=64, seed=seed)
    done = {json.loads(line)["arch"] for line in path.read_text().splitlines()} if path.exists() else set()
    table = load_benchmark("nasbench201/cifar10").table
    drawn = np.random.default_rng(seed).choice(len(table), cells, replace=False)
    archs = [str(table.index[i]) for i in drawn]
    with path.open("a") as out:
        for number, arch in enumerate(archs):
            if arch in done:
                continue
            started, net, line = time.perf_counter(), space.build(arch, seed=seed), {"arch": arch}
            with undisturbed(), preserved(net, exposed=False):
                here = context(net, batch, seed)
                for name in only or TABLE:
                    line |= values(name, here)
            counted = space.counts(arch)
            line |= {"params": float(counted.params), "flops": float(counted.flops)}
            print(json.dumps(line), file=out, flush=True)
            print(f"{number + 1}/{cells} {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)


def speed(path: Path, repeats: int) -> None:
    """Least milliseconds of processor time of each proxy alone, of all together, and of what they stand beside."""
    space, batch = get_space("nasbench201"), load(None, (3, 32, 32), 10, size=64, seed=0)
    net = space.build(CELL, seed=0)
    ways: dict[str, Callable[[], Any]] = {
        "one forward pass": lambda: _forward(net, batch),
        "one forward and backward pass": lambda: _saliency(net, batch, "plain"),
        "grasp": lambda: _saliency(net, batch, "grasp"),
        "all together": lambda: _proxies(net, batch, list(TABLE)),
    }
    ways |= {name: lambda name=name: _proxies(net, batch, [name]) for name in TABLE}
    with undisturbed(), preserved(net, exposed=False):
        taken = harness.taking_turns({name: lambda way=way: _milliseconds(way) for name, way in ways.items()}, repeats)
    path.write_text(json.dumps({name: min(times) for name, times in taken.items()}, indent=1))


def _milliseconds(way: Callable[[], Any]) -> float:
    started = time.process_time()
    way()
    return 1e3 * (time.process_time() - started)


def _forward(net: nn.Module, batch: Batch) -> None:
    with torch.no_grad():
        net.train()(batch.inputs)


def _saliency(net: nn.Module, batch: Batch, name: str) -> None:
    gradient_saliencies(Model(net, RECIPE), batch, [name])


def _proxies(net: nn.Module, batch: Batch, names: list[str]) -> None:
    here = context(net, batch)
    for name in names:
        TABLE[name](here)


def ranked(lines: list[dict[str, Any]]) -> dict[str, tuple[Any, int]]:
    """Correlation with CIFAR-10 test accuracy of each number, signs turned so that higher is better; and how many."""
    truth = load_benchmark("nasbench201/cifar10").table["accuracy"]
    found: dict[str, tuple[Any, int]] = {}
    for name, columns in ({name: (name,) for name in [*TABLE, "params"]} | TOGETHER).items():
        kept = [line for line in lines if all(line.get(column) is not None for column in columns)]
        if len(kept) < 3:
            continue
        ranks = [_ranks([line[column] for line in kept], falling=column == "ntk") for column in columns]
        whole = sum(np.log(r / len(kept)) for r in ranks) if name == "az_nas" else sum(ranks)
        accuracy = [float(truth[line["arch"]]) for line in kept]
        found[name] = correlate(whole, accuracy), len(kept)
    return found


def _ranks(values: list[float], *, falling: bool) -> Any:
    """1 for the worst; ties share their mean."""
    return rankdata(-np.array(values) if falling else np.array(values))


def page(scores_file: Path, speed_file: Path) -> str:
    """The page of the documentation."""
    merged: dict[str, dict[str, Any]] = {}  # a cell may have lines of several runs, with other proxies
    for line in map(json.loads, scores_file.read_text().splitlines()):
        merged.setdefault(line["arch"], {}).update(line)
    lines = list(merged.values())
    times = json.loads(speed_file.read_text())
    forward, grasp = times["one forward pass"], times["grasp"]
    text = [HEAD.format(cells=len(lines), forward=forward, grasp=grasp, together=times["all together"],
                        share=times["all together"] / grasp)]  # fmt: skip
    text += [
        "| proxy | formula | source | reads | passes | ms | of a forward pass |",
        "|---|---|---|---|---|---:|---:|",
    ]
    for name, row in TABLE.items():
        way = "" if row.higher_is_better else " (lower is better)"
        cost = f"{times[name]:.0f} | {times[name] / forward:.1f}"
        formula = row.formula.replace("|", "\\|")
        text.append(f"| `{name}` | {formula}{way} | {row.reference} | {row.reads} | {row.passes} | {cost} |")
    text += ["", RANKS.format(cells=len(lines)), ""]
    text += [
        "| proxy | Spearman ρ | 95 % | Kendall τ | 95 % | networks | published ρ/τ |",
        "|---|---:|---|---:|---|---:|---|",
    ]
    for name, (found, n) in sorted(ranked(lines).items(), key=lambda item: -(item[1][0].spearman.value or 0)):
        cells = [_estimate(found.spearman), _estimate(found.kendall)]
        text.append(f"| `{name}` | {cells[0]} | {cells[1]} | {n} | {PUBLISHED.get(name, '')} |")
    return "\n".join(text) + "\n"


def _estimate(found: Any) -> str:
    if found.value is None or found.low is None:
        return "– | –"
    return f"{found.value:.2f} | {found.low:.2f} … {found.high:.2f}"


HEAD = """# Proxies

Every plain proxy: one number of a network that is no sum over weights. `ssnr list proxies` has the saliencies too.
This page is made by `python -m benchmarks.proxies page`, from numbers that `scores` and `speed` measured.

None asks for a network of its own kind; one without what a proxy reads is refused in one line. Activations,
layers and feature maps are found by what happens in a forward pass, not
by the type of a module, and one forward pass serves every proxy that reads them. `gradsign` and `ntk` get the gradients
of all images from one backward pass where layers are linear or ungrouped 2-d convolutions, and else from one for each
image. Weights are the network's own, but for `zen` and `az_nas`, which draw theirs.

Where the programs that define them differ: `ntk` takes the statistics of batch norms as constants in the recipe `seed`
(other recipes go back through them, one pass for each image, and κ is another number); `gradsign` sums over weights,
where its authors' program takes the mean; `zen` adds the variances of the batch and not running ones, of one draw;
`swap` reads the network's own weights, once; `meco` counts each map once, and containers not at all; `zico` compares
the two halves of one batch.

## What they are and what they cost

One cell of NAS-Bench-201, batch of 64, float32, one thread, least processor time of several turns; other work on
the machine counts less there than on the clock, but it counts. One forward pass takes {forward:.0f} ms,
grasp {grasp:.0f} ms, and all of these together {together:.0f} ms: {share:.2f} × grasp.
"""

RANKS = """## How they rank

NAS-Bench-201 against CIFAR-10 test accuracy (NATS-Bench, 200 epochs): {cells} cells drawn from seed 0, one
initialisation each, one batch of 64 CIFAR-10 images. Intervals are 95 % bootstrap intervals over
networks; they are wide, because the networks are few. `az_nas` is Σ ln(rank/m) of its four numbers, `te_nas` the sum
of two ranks, over these networks. A network without a number (a dead cell, a singular matrix) is left out of that row,
and the column says how many are left. Published values are of other networks of the same space, by the programs that
define the proxies."""


def main() -> None:
    """Runs one of the three."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proxies")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("scores")
    one.add_argument("file", type=Path)
    one.add_argument("--cells", type=int, default=300)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--only", nargs="*", default=[])
    two = commands.add_parser("speed")
    two.add_argument("file", type=Path)
    two.add_argument("--repeats", type=int, default=5)
    three = commands.add_parser("page")
    three.add_argument("scores", type=Path)
    three.add_argument("speed", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.command == "scores":
        scores(given.file, given.cells, given.seed, given.only)
    elif given.command == "speed":
        speed(given.file, given.repeats)
    else:
        print(page(given.scores, given.speed), end="")


if __name__ == "__main__":
    main()
