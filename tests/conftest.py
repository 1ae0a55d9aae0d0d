"""One torch thread for all tests, since shared cores make more of them slower; and a line on what was left out."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def forgotten(monkeypatch):
    """What a test makes known is forgotten after it."""
    from ssnr.core.aggregates import AGGREGATES
    from ssnr.core.catalogue import PLAIN, SALIENCIES
    from ssnr.spaces import SPACES
    from ssnr.spaces.functions import making

    for registry in (AGGREGATES, PLAIN, SALIENCIES, SPACES):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.setattr(making, "_own", {})


def pytest_terminal_summary(terminalreporter) -> None:
    """How many tests were skipped, by their reasons: without the real data most of these say so."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped if report.longrepr)
    if reasons:
        listed = "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(5))
        terminalreporter.write_line(f"left out: {sum(reasons.values())} tests ({listed})")
