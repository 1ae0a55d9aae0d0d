"""What `ssnr reproduce fig1` does: options to a plan, progress on stderr, the numbers on stdout."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ssnr import _terminal as terminal
from ssnr._errors import SsnrError, UsageError

if TYPE_CHECKING:
    from ssnr.fig1 import Plan


def fig1(
    *, out: Path, quick: bool, data: str | None, device: str, epochs: int | None, densities: list[float] | None,
    precision: str, saliencies: list[str] | None, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """`ssnr reproduce fig1`: train, prune, measure what is missing; then picture and tables."""
    from ssnr import fig1 as figure

    folder = cifar10_folder(data)
    plan = _plan(quick, epochs, densities, precision, saliencies, seed)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SsnrError(f"cannot create the folder {out}: {error.strerror}") from error
    with terminal.jobs("figure 1") as notify:
        result = figure.fig1(folder, out, plan, device=device, notify=notify)
    if as_json:
        terminal.print_json(result.to_json())
        return
    terminal.show(result.to_rich())
    print("\n".join((result.description, *map(str, result.files))))


def cifar10_folder(data: str | None) -> str:
    """The folder of CIFAR-10 that `--data cifar10:DIR` or the environment names.

    Raises:
        UsageError: neither does.
    """
    kind, _, where = (data or "cifar10").partition(":")
    folder = where or os.environ.get("SSNR_CIFAR10", "")
    if kind != "cifar10" or not folder:
        raise UsageError("training needs CIFAR-10: --data cifar10:DIR, or set SSNR_CIFAR10 to cifar-10-batches-py")
    return folder


def _plan(
    quick: bool, epochs: int | None, densities: list[float] | None, precision: str, saliencies: list[str] | None,
    seed: int,
) -> Plan:  # fmt: skip
    from ssnr.fig1 import QUICK, Plan

    if saliencies is not None and len(saliencies) > 1:
        raise UsageError(f"figure 1 takes one --saliency, got {len(saliencies)}")
    plan = replace(QUICK if quick else Plan(), precision=precision, seed=seed)
    if saliencies:
        plan = replace(plan, saliency=saliencies[0])
    if epochs is not None:
        plan = replace(plan, epochs=epochs)
    if densities:
        plan = replace(plan, densities=tuple(densities), init_densities=tuple(densities))
    return plan
