"""The README's first example prints what it says, and every command in it exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_first_example_prints_what_stands_below_it():
    code, shown = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.DOTALL).groups()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == shown
    assert len([line for line in code.splitlines() if line.strip()]) <= 14


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^ssnr (\w+)", README, re.MULTILINE))))
def test_every_command_of_the_readme_exists(command):
    subprocess.run([sys.executable, "-m", "ssnr", command, "--help"], check=True, capture_output=True)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(((?!http)[^)]+)\)", README))))
def test_every_link_of_the_readme_leads_somewhere(link):
    assert (ROOT / link).exists()
