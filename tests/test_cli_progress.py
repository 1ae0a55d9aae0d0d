"""Progress where stderr is no terminal: a line every half minute, one at the end; by a clock of the test's own."""

from __future__ import annotations

from ssnr.cli.progress import progress


def test_a_line_every_half_minute_with_rate_and_time_left(capsys):
    now = [0.0]
    with progress("cells", clock=lambda: now[0]) as notify:
        for seconds, done in ((0, 0), (10, 10), (29, 29), (31, 31), (40, 40), (62, 62), (100, 100)):
            now[0] = float(seconds)
            notify("", done, 100)
    assert capsys.readouterr().err.splitlines() == [
        "cells: 31/100, 1/s, 1 min 9 s left",
        "cells: 62/100, 1/s, 38 s left",
        "cells: 100/100, 1/s, in 1 min 40 s",
    ]


def test_each_part_of_a_job_has_its_own_count_and_one_step_says_nothing(capsys):
    now = [0.0]
    with progress("figure", clock=lambda: now[0]) as notify:
        for part, seconds, done in (("train", 0, 0), ("train", 4, 2), ("prune", 5, 0), ("prune", 6, 1)):
            now[0] = float(seconds)
            notify(part, done, 2 if part == "train" else 1)
    assert capsys.readouterr().err == "figure: train: 2/2, 0.5/s, in 4 s\n"
