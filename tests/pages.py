"""What stands in the pages: blocks, the lines of a shell block, and the mark of those that tests do not run.

A line of a shell block whose comment ends in `(minutes)`, `(hours)`, `(24 min)` or `(needs timm)` is not run, but its
command has to be one: every option is parsed. A block whose first line is such a comment is not run as a whole.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = {path.name: path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
_MARK = re.compile(r"#.*\((minutes|hours|\d+ (?:s|min|h)|needs [^()]+)\)$")


class Block(NamedTuple):
    """A block of a page, and the text that it says comes out."""

    language: str
    code: str
    shown: str | None

    @property
    def marked(self) -> bool:
        """Whether its first line says that it is not run."""
        first = self.code.removeprefix("#!/bin/bash\n").split("\n", 1)[0]
        return first.startswith("#") and is_marked(first)


def blocks(name: str) -> list[Block]:
    """The blocks of a page, in order; those of output stand with the code before them."""
    found = [Block(language, code, shown or None) for language, code, shown in _BLOCK.findall(PAGES[name].read_text())]
    return [block for block in found if block.language != "text"]


def is_marked(line: str) -> bool:
    """Whether a line says that it takes long or needs what is not everywhere."""
    return _MARK.search(line.strip()) is not None


def commands(code: str) -> list[tuple[list[str], bool]]:
    """The commands of a shell block as words, each with whether it is run."""
    lines = [line for line in code.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    return [(shlex.split(line, comments=True), not is_marked(line)) for line in lines]
