"""What every executor promises, as a test class: the same rows as one process, in order, and going on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import ssnr
from ssnr.spaces import get_space


class ExecutorContract:
    """The tests.

    Attributes:
        options: of `ssnr.sweep`, such as `{"executor": "local", "workers": 2}`.
    """

    options: ClassVar[dict[str, Any]]

    def rows(self, path: Path, count: int = 6, **options: Any) -> dict[str, ssnr.Scores]:
        """A sweep of a few small networks."""
        space = get_space("nasbench201/imagenet16-120")
        archs = space.sample_many(count, np.random.default_rng(0))
        proxies = ["synflow/layerwise_ssnr", "params"]
        return {row.architecture: row.scores for row in ssnr.sweep(space, archs, proxies, store=path, **options)}

    def test_its_rows_are_those_of_one_process(self, tmp_path: Path) -> None:
        assert self.rows(tmp_path / "a.sqlite", **self.options) == self.rows(tmp_path / "b.sqlite", workers=1)

    def test_rows_come_in_the_order_given(self, tmp_path: Path) -> None:
        assert list(self.rows(tmp_path / "a.sqlite", **self.options)) == list(
            self.rows(tmp_path / "b.sqlite", workers=1)
        )

    def test_it_goes_on_where_another_stopped(self, tmp_path: Path) -> None:
        self.rows(tmp_path / "a.sqlite", 3, workers=1)
        assert self.rows(tmp_path / "a.sqlite", **self.options) == self.rows(tmp_path / "b.sqlite", workers=1)
