"""What importing costs: the rooms' order is a contract of import-linter, part of `make check`."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ssnr

READS_ONLY = (
    "core.catalogue core.moments core.results store studies.study studies.plots benchmarks paper.fig2 spaces cli.app"
)


@pytest.mark.parametrize("name", READS_ONLY.split())
def test_what_only_reads_results_never_imports_torch(name):
    subprocess.run([sys.executable, "-c", f"import sys, ssnr.{name}; assert 'torch' not in sys.modules"], check=True)


def test_every_public_name_is_there_and_importing_the_package_imports_none():
    code = "import sys, ssnr; assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    for name in dir(ssnr):
        assert getattr(ssnr, name) is not None
    assert callable(ssnr.saliency) and callable(ssnr.study) and callable(ssnr.score) and callable(ssnr.sweep)
