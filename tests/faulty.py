"""Spaces one of whose networks takes its worker down, and a sweep of them."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import ssnr
from ssnr.spaces import get_space
from ssnr.store import Store

SPACE = get_space("nasbench201/imagenet16-120")  # the smallest networks
ARCHS = [SPACE.sample(random.Random(n)) for n in range(6)]


class Hangs(type(SPACE)):
    """A space one of whose networks never comes to an end."""

    def build(self, arch, *, seed=0, variant="default"):
        if self.parse(arch) == self.twin(ARCHS[2]):
            time.sleep(3600)
        return super().build(arch, seed=seed, variant=variant)


class Crashes(type(SPACE)):
    """A space one of whose networks ends its process."""

    def build(self, arch, *, seed=0, variant="default"):
        if self.parse(arch) == self.twin(ARCHS[2]):
            os._exit(3)
        return super().build(arch, seed=seed, variant=variant)


class Greedy(type(SPACE)):
    """A space one of whose networks asks for eight gigabytes."""

    def build(self, arch, *, seed=0, variant="default"):
        import torch

        if self.parse(arch) == self.twin(ARCHS[2]):
            torch.ones(1 << 30, dtype=torch.float64)
        return super().build(arch, seed=seed, variant=variant)


def swept(space, path, **limits):
    rows = ssnr.sweep(space, ARCHS, ["synflow"], store=path, **limits)
    return {row.architecture: row.scores["synflow"] for row in rows}


def stored(path: Path) -> int:
    if not path.exists():
        return 0
    with Store(path) as store:
        return sum(len(store.done(group)) for group in store.groups())
