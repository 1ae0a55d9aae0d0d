"""Progress where stderr is no terminal: a line every half minute, one at the end; by a clock of the test's own."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from commands import ssnr as command
from ssnr import engine
from ssnr.cli import logs
from ssnr.cli.progress import progress
from ssnr.spaces import get_space
from ssnr.store import Store


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


def test_a_long_job_says_how_long_it_will_be_and_a_short_one_does_not(capsys):
    with progress("cells") as notify:
        notify.expect(59.0, 100, 32)
        notify.expect(7300.0, 15000, 32)
    assert capsys.readouterr().err == "cells: about 2 h 1 min for 15,000, by the first 32\n"


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


def test_as_json_every_line_is_an_object(capsys):
    now = [0.0]
    with logs.log("json"), progress("cells", clock=lambda: now[0]) as notify:
        notify("", 0, 100)
        now[0] = 40.0
        notify("", 20, 100)
        notify.expect(200.0, 100, 20)
        print("a note", "in words", file=sys.stderr)
    said = objects(capsys.readouterr().err)
    assert all(entry.pop("time").endswith("+00:00") for entry in said)
    assert said == [
        {"event": "progress", "job": "cells", "part": "", "done": 20, "total": 100, "rate": 0.5, "seconds": 40.0,
         "left": 160.0},
        {"event": "estimate", "job": "cells", "seconds": 200.0, "total": 100, "seen": 20},
        {"event": "note", "text": "a note in words"},
    ]  # fmt: skip


@pytest.mark.parametrize("where", [0, 4])
def test_a_sweep_logs_json_and_so_do_its_errors(tmp_path, where):
    words = ["sweep", "nasbench201/imagenet16-120", "-p", "synflow", "--archs", "2", "--workers", "1"]
    done = command(*words[:where], "--log", "json", *words[where:], cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    (last,) = objects(done.stderr)
    assert (last["event"], last["done"], last["total"]) == ("progress", 2, 2)
    wrong = command("sweep", "nasbench999", "--log=json", cwd=tmp_path)
    (error,) = objects(wrong.stderr)
    assert (wrong.exit_code, error["event"]) == (2, "error")
    assert "nasbench999" in error["text"]
    assert command("list", "spaces", "--log", "yaml").stderr == "ssnr: --log 'yaml': expected text or json\n"


def test_the_first_chunk_says_what_all_would_take(tmp_path):
    space = get_space("nasbench201/imagenet16-120")
    with Store(tmp_path / "s.sqlite") as store:
        layout = engine.plan(space, space.sample_many(40, np.random.default_rng(0)), ["synflow"], store=store)
        _, first, *rest = engine.run(layout, store, workers=1)
        results = store.results(store.groups()[0], first.networks)
        measured = sum(result.seconds for result in results)
    assert rest
    assert first.expected > measured * first.total / first.done  # building them takes time, too
