"""Peak memory of a sweep with two workers: its largest process, and all of its processes together."""

from __future__ import annotations

import sys
import tempfile
from typing import NamedTuple

from benchmarks.harness import SEED, Row, peaks_mib


class Work(NamedTuple):
    """A sweep: how many architectures when all of it is measured, and when only a little is."""

    space: str
    proxy: str
    init: str
    archs: str
    few: str
    options: tuple[str, ...] = ()


WORK = (
    Work("nasbench201", "synflow", "shared", "all", "1000"),
    Work("nasbench201", "synflow", "independent", "2000", "200"),
    Work("nasbench201", "snip", "independent", "60", "8", ("--batch-size", "64")),
    Work("nasbench201", "grasp", "independent", "30", "4", ("--batch-size", "64")),
    Work("darts", "synflow", "independent", "200", "16"),
    Work("darts", "synflow", "shared", "500", "64"),
    Work("darts", "snip", "independent", "8", "2", ("--batch-size", "64")),
)


def rows(quick: bool) -> list[Row]:
    """One row a sweep; memory does not grow with the number of architectures."""
    found = []
    for work in WORK:
        if work.init == "shared" and not _has_supernet(work.space):
            continue
        count = work.few if quick else work.archs
        print(f"  {work.space} {work.proxy} {work.init}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            peaks = peaks_mib(
                "-m", "ssnr", "sweep", work.space, "-p", work.proxy, "--init", work.init, "--archs", count,
                "--workers", "2", "--seed", str(SEED), "--store", f"{folder}/s.sqlite", *work.options,
            )  # fmt: skip
        head = {"space": work.space, "proxy": work.proxy, "init": work.init, "architectures": count}
        head["batch"] = " ".join(work.options[1:]) or None
        found.append(head | {"largest process, MiB": peaks and peaks[0], "all processes, MiB": peaks and sum(peaks)})
    return found


def _has_supernet(space: str) -> bool:
    from ssnr.spaces import get_space
    from ssnr.supernet.layouts.base import LAYOUTS

    return get_space(space).family in LAYOUTS
