"""The programs that define proxies, beside ours: how far apart the numbers are, why, and what each way costs."""

from __future__ import annotations

from typing import NamedTuple

from ssnr.studies.sheet import Sheet


class Program(NamedTuple):
    """What one run of a program beside ours showed, on `field.CELL`, with the same weights, images and draws.

    Attributes:
        repository: on GitHub.
        commit: its state.
        ratio: processor time of theirs over ours.
        difference: |theirs − ours| / |ours|; None where draws that are the same for both do not make one.
        reason: what makes the difference.
        left: the difference without that.
    """

    repository: str
    commit: str
    ratio: float
    difference: float | None
    reason: str = ""
    left: float | None = None


_ALETHIOMETER = ("iViolinSolo/zero-cost-proxies", "8054a99")
_AZ_NAS = ("cvlab-yonsei/AZ-NAS", "5e6683a")
_MECO = ("HamsterMimi/MeCo", "0d830dd")
_TENAS = ("VITA-Group/TENAS", "9df78ff")
_VKDNW = ("ondratybl/VKDNW", "6901b65")
_ZERO_COST = ("SamsungLabs/zero-cost-nas", "a43bfbc")
_ZICO = ("SLDGroup/ZiCo", "b0fec65")

PROGRAMS = {
    "naswot": Program("BayesWatch/nas-without-training", "b3a82a6", 4.30, 0),
    "lnwot": Program(*_ALETHIOMETER, 2.82, 1e-7, "recipe `alethiometer`"),
    "relu_logdet": Program(*_ALETHIOMETER, 2.83, 2e-8, "recipe `alethiometer`"),
    "jacov": Program(*_ZERO_COST, 2.73, 0),
    "epe_nas": Program("automl/NASLib", "0b51bc1", 2.70, 0),
    "zen": Program(*_ZICO, 0.98, 0.25, "running variances, of which a tenth is the batch's", 2e-16),
    "zico": Program(*_ZICO, 1.41, 1e-14),
    "swap": Program("pym1024/SWAP", "f6049f7", 8.53, 0),
    "linear_regions": Program(*_TENAS, 3.04, 0),
    "meco": Program(*_MECO, 1.59, 0.04, "70 containers counted for 46 sums", 1e-10),
    "meco_opt": Program(*_MECO, 1.58, None, "containers for sums, as `meco`", 7e-16),
    "gradsign": Program("cmu-catalyst/GradSign", "26412be", 3.29, 0),
    "ntk": Program(*_TENAS, 32.6, 0.8, "statistics of norms, and their scales; 0 in other recipes", 2e-13),
    "az_nas_expressivity": Program(*_AZ_NAS, 1.69, 1e-16),
    "az_nas_progressivity": Program(*_AZ_NAS, 1.69, 2e-15),
    "az_nas_trainability": Program(*_AZ_NAS, 1.69, 7e-16),
    "t_cet": Program(*_ALETHIOMETER, 5.02, 1e-3, "recipe `alethiometer`; 6 of 53 layers paired with others", 7e-9),
    "synflow_bn": Program(*_ZERO_COST, 6.54, 0, "in eval mode"),
    "near": Program("ReiherGroup/NEAR", "4d5d7f1", 3.13, 6e-16),
    "vkdnw": Program(*_VKDNW, 5.41, 1e-4, "as `vkdnw_entropy`", 5e-10),
    "vkdnw_entropy": Program(*_VKDNW, 5.41, 0.02, "root of the covariance, p of the whole batch", 1e-7),
}

SECTION = """## Beside the programs that define them

Each program ran beside ours in one process, on the cell above: the same weights, the same 64 CIFAR-10 images (for the
values of `vkdnw` 6 of them), and the same draws where it draws. Numbers are float64 as far as the program allows.
"Difference" is |theirs − ours| / |ours|, and "left" what stays of it without its reason. "Time" is theirs / ours:
float32, one thread, processor time, the least of five turns, in each of which all were run, theirs and ours one after
the other, for one draw of weights (29 November 2026, PyTorch 2.13). Programs ran on the CPU; the calls that PyTorch no
longer has were replaced by those that it has.
"""


def section() -> str:
    """The part of the page."""
    return f"{SECTION}\n{sheet().to_markdown()}\n"


def sheet() -> Sheet:
    """One row per proxy that has a program."""
    rows = [
        [f"`{name}`", f"{p.repository} @ {p.commit}", size(p.difference), p.reason, size(p.left), f"{p.ratio:.1f}"]
        for name, p in PROGRAMS.items()
    ]
    headings = ["proxy", "program", "difference", "reason", "left", "time"]
    return Sheet.of(headings, rows, left=["proxy", "program", "reason"])


def size(value: float | None) -> str:
    """A difference as text, to one digit.

    >>> [size(value) for value in (None, 0, 0.04, 1e-7, 2e-16)]
    ['', '0', '0.04', '1e-7', '2e-16']
    """
    if value is None:
        return ""
    return f"{value:.0e}".replace("e-0", "e-") if 0 < value < 0.01 else f"{value:g}"
