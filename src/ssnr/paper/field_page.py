"""The proxies of the field as a page: what they are, what they cost, how they rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ssnr.core.catalogue import COMBINED
from ssnr.core.field import TABLE
from ssnr.paper import programs
from ssnr.paper.field import PARTS
from ssnr.studies import sheet as sheets
from ssnr.studies.sheet import Sheet

# ρ/τ of authors' own or of others' programs, on CIFAR-10 and more or other cells of NAS-Bench-201.
REPORTED = {
    "zico": ".78/.59 (Kang et al.)",
    "swap": ".81/.63 (Kang et al.)",
    "az_nas": ".91/.74 (Lee & Ham, all cells)",
    "vkdnw": "–/.62 (Zhou et al.)",
    "intrain": ".86/.67 (Zhou et al.)",
}


def write(found: pd.DataFrame, costs: Mapping[str, float] | None, folder: Path) -> list[Path]:
    """proxies.md and proxies.csv in a folder.

    Raises:
        SsnrError: a file cannot be written.
    """
    stem = folder / "proxies"
    sheets.save(found, stem, to_markdown(found, costs))
    return [stem.with_suffix(".csv"), stem.with_suffix(".md")]


def to_markdown(found: pd.DataFrame, costs: Mapping[str, float] | None) -> str:
    """The whole page."""
    lines = [HEAD]
    if costs is not None:
        together = costs["all together"]
        lines.append(
            COST.format(forward=costs["one forward pass"], grasp=costs["grasp"], together=together,
                        share=together / costs["grasp"])
        )  # fmt: skip
    lines += [what(costs).to_markdown(), "", programs.section(), RANKS]
    for title, sheet in ranks(found):
        lines += [f"### {title}", "", sheet.to_markdown(), ""]
    return "\n".join(lines).rstrip() + "\n"


def what(costs: Mapping[str, float] | None) -> Sheet:
    """One row per proxy: formula, source, what it reads, passes, and milliseconds where they were measured."""
    headings = ["proxy", "formula", "source", "reads", "passes"]
    if costs is not None:
        headings += ["ms", "of a forward pass"]
    rows = []
    for name, row in TABLE.items():
        way = "" if row.higher_is_better else " (lower is better)"
        cells = [f"`{name}`", row.formula + way, row.reference, row.reads, row.passes]
        if costs is not None:
            cells += [f"{costs[name]:.0f}", f"{costs[name] / costs['one forward pass']:.1f}"]
        rows.append(cells)
    rows += [
        [f"`{name}`", f"`{text}`", "", "stored scores", "none", *([""] * (len(headings) - 5))]
        for name, text in COMBINED.items()
    ]
    return Sheet.of(headings, rows, left=headings[:5])


def ranks(found: pd.DataFrame, quote: str = "`") -> Iterator[tuple[str, Sheet]]:
    """One table a part, by falling τ: ours with intervals, and what was published for the same networks."""
    for key, rows in found.groupby("part", sort=False):
        ours, published = rows[rows["kind"] != "published"], rows[rows["kind"] == "published"]
        by_name = {row["proxy"]: row for row in published.to_dict("records")}
        last = "reported" if key == PARTS[0].key else None
        headings = ["proxy", "ρ [95 %]", "τ [95 %]", "networks", "published ρ/τ", *([last] if last else [])]
        cells = []
        for row in ours.to_dict("records"):
            name = row["proxy"]
            line = [f"{quote}{name}{quote}", _interval(row, "spearman"), _interval(row, "kendall"), str(row["n"])]
            line.append(_pair(by_name[name]) if name in by_name else "")
            cells.append([*line, *([REPORTED.get(name, "")] if last else [])])
        yield str(rows["title"].iloc[0]), Sheet.of(headings, cells, left=headings[4:])


def _interval(row: dict[Any, Any], name: str) -> str:
    if pd.isna(row[name]):
        return "–"
    if pd.isna(row[f"{name}_lo"]):
        return f"{row[name]:.2f}"
    return f"{row[name]:.2f} [{row[f'{name}_lo']:.2f}, {row[f'{name}_hi']:.2f}]"


def _pair(row: dict[Any, Any]) -> str:
    if pd.isna(row["spearman"]):
        return "–"
    few = f" ({row['n']})"
    return f"{row['spearman']:.2f}/{row['kendall']:.2f}{few}"


HEAD = """# Proxies

The proxies of the field that are one number of a network and take no aggregate. `ssnr list proxies` has the saliencies
too. This page is made by `ssnr reproduce proxies`, which goes on where it was stopped; `--networks` says how many,
`-p` which proxies.

A proxy works on any network that has what it reads, and otherwise says in one line what is missing. Activations, layers
and feature maps are found by what happens in a forward pass, not by the type of a module, and one forward pass serves
every proxy that reads them. `gradsign` and `ntk` get the gradients of all images from one backward pass where layers
are linear or convolutions, and else from one for each image. Weights are the network's own, but for `zen`
and `az_nas`, which draw theirs. A passes column of `CB` means one backward pass for each class but one.

Where the programs that define them differ:

* `naswot` counts every activation that runs, as NASLib's copy does. Its authors' program leaves out those that no
  gradient reaches: 728 where the others say 788, on a cell with two edges that lead nowhere.
* `lnwot`, `relu_logdet` and `t_cet` come from a program that puts the network into eval mode; so does the recipe
  `alethiometer`, and `seed` takes train mode. The program pairs expressivity in the order in which layers run with SSNR
  in the order in which they are defined; here by name.
* `zen` adds the variances of the batch, of one draw. The program adds running variances, which start at 1 and take a
  tenth of the batch's in each of two passes, and takes the mean of 32 draws.
* `zico` compares the two halves of one batch, the program as many batches as it is given. It divides by differences
  of gradients, so that float32 is coarse: 556.7 in float64 on the cell below, 561.6 in float32, the program's 562.8.
* `swap` reads the network's own weights, once, where the program takes the mean of 32 draws from N(0, 1);
  `swap_reg(mu,sigma)` is its logarithm less (P/1000 − μ)²/σ, in a study.
* `meco` counts each map once, sums of maps too, and containers not at all. The program counts what every module puts
  out, a container's output again, and a sum only where a container ends with it. `meco_opt` likewise.
* `gradsign` sums over weights, as one of its authors' two programs does; the other takes the mean.
* `ntk` takes the scored weights, and the statistics of batch norms as constants, in the recipe `seed`. Other recipes go
  back through the statistics, one pass for each image, and take every parameter whose name has "weight" in it, scales
  of norms among them: that is the program's number. On the cell below κ is 472 in `seed` and 94.6 in others.
* `synflow_bn` takes eval mode, the program the mode that it finds.
* `near` draws the place of a block so that it always fits; the program may get fewer rows than channels. One draw of
  weights.
* `vkdnw` is the paper's F = mean Jᵀ (diag p − p pᵀ) J. Its authors' program multiplies J by the root L of the
  covariance where the formula has Lᵀ, takes p at the statistics of the whole batch, and keeps 0.05 in half precision:
  on the cell below, six images, an entropy of 0.783 where the formula gives 0.765. It also draws Kaiming weights anew.
* `intrain` has no public program. Layers are convolutions and linear layers, σ is biased, a constant layer adds
  nothing, and a gradient that is nothing but rounding (of a bias before a batch norm) counts as none.

## What they are and what they cost
"""

COST = """One cell of NAS-Bench-201, batch of 64, float32, one thread, least processor time of several turns; other work
on the machine counts less there than on the clock, but it counts. One forward pass takes {forward:.0f} ms,
grasp {grasp:.0f} ms, and all of these together {together:.0f} ms: {share:.2f} × grasp.
"""

RANKS = """## How they rank

The first networks of an order that is drawn from seed 0, one initialisation each, the same networks for every proxy.
They read CIFAR-10 images: 64 on NAS-Bench-201, 16 on NAS-Bench-301, 4 on TransNAS-Bench-101, where images are resized
and labels drawn. Scores of NAS-Bench-201 are those of the networks for CIFAR-10. Intervals are 95 %
over networks. `ntk` is turned round, so that higher is better everywhere. A network without a number (a dead cell, a
singular matrix), or that a sweep has not come to, is left out of that row: `networks` says how many are left.
`linear_regions` is one number for nearly all networks at 64 images: its interval says nothing, and `te_nas` is `ntk`.
Published values are those of [NAS-Bench-Suite-Zero](https://github.com/automl/naslib/tree/zerocost) and its kin on the
same networks, where it has them (their number in brackets); "reported" is what papers say of more or other cells.
`vkdnw` takes minutes a network where there are 1,000 classes, so that jigsaw has none. Benchmarks that were not run
have no table.
"""
