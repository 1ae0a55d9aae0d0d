"""The command line inside the tests' own process: typer's runner, which is a hundred times faster than a new one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from typer.testing import CliRunner, Result

from ssnr.cli.app import command_line


@contextlib.contextmanager
def _apart(folder: Path | None) -> Iterator[None]:
    """Another working directory; modules and path as before afterwards."""
    modules, path, here = set(sys.modules), list(sys.path), Path.cwd()
    os.chdir(folder or here)
    try:
        yield
    finally:
        os.chdir(here)
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(folder or "/nowhere"):
                del sys.modules[name]


def ssnr(*arguments: object, cwd: Path | None = None, **environment: str) -> Result:
    """`ssnr ARGUMENTS` in a folder, without this machine's settings: exit_code, stdout, stderr."""
    absent = {name: None for name in os.environ if name.startswith("SSNR_")}
    with _apart(cwd):
        return CliRunner().invoke(
            command_line(), list(map(str, arguments)), env={**absent, "COLUMNS": "200", **environment}
        )
