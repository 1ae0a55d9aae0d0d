"""What the pages say exists: commands, links, pages of the site. That snippets run is in `test_pages`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from commands import ssnr

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXT = {page.name: page.read_text() for page in PAGES}


@pytest.mark.parametrize(
    "command",
    sorted({name for text in TEXT.values() for name in re.findall(r"^(?:srun )?ssnr (\w+)", text, re.MULTILINE)}),
)
def test_every_command_of_the_pages_exists(command):
    assert ssnr(command, "--help").exit_code == 0


@pytest.mark.parametrize("name", sorted(TEXT))
def test_every_link_of_a_page_leads_somewhere(name):
    for link in re.findall(r"\]\(((?!http|#)[^)#\s]+)", TEXT[name]):
        target = (ROOT / "docs" / link.partition("#")[0]).resolve()
        assert target.exists(), link
        assert target.is_relative_to(ROOT / "docs"), f"{link}: the site has docs/ alone"


def test_every_page_is_in_the_site():
    def pages(entry):
        if isinstance(entry, str):
            return {entry}
        return set().union(*map(pages, entry.values() if isinstance(entry, dict) else entry))

    assert pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]) == {page.name for page in PAGES}
