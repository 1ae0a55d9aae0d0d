"""How long a command takes before it does anything."""

from __future__ import annotations

import tempfile
from functools import partial

from benchmarks.harness import Row, Taken, run, taken, taking_turns

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
COMMANDS = {
    "python, nothing else": ("-c", "pass"),
    "ssnr --help": ("-m", "ssnr", "--help"),
    "import ssnr": ("-c", "import ssnr"),
    "ssnr list proxies": ("-m", "ssnr", "list", "proxies"),
    "import torch": ("-c", "import torch"),
    "ssnr score nasbench201:CELL": ("-m", "ssnr", "score", f"nasbench201:{CELL}"),
    "ssnr sweep nasbench201 --archs 1": ("-m", "ssnr", "sweep", "nasbench201", "--archs", "1", "--workers", "1"),
}


def rows(quick: bool) -> list[Row]:
    """One row a command."""
    found = taking_turns({name: partial(_once, command) for name, command in COMMANDS.items()}, 3 if quick else 15)
    return [{"command": name, **taken(times)} for name, times in found.items()]


def _once(command: tuple[str, ...]) -> Taken:
    if "sweep" not in command:
        return run(*command)
    with tempfile.TemporaryDirectory() as folder:
        return run(*command, "--store", f"{folder}/s.sqlite")
