"""Files that were changed at random, for every reader; and a canary that shows whether one of them ran code."""

from __future__ import annotations

import bz2
import json
import pickle
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

import releases
from ssnr.benchmarks.readers import official, suitezero, tables
from ssnr.cli.arguments import load_weights
from ssnr.cli.sweeping import architectures
from ssnr.core.errors import SsnrError
from ssnr.data import read_cifar10
from ssnr.pruning.result import Masks
from ssnr.spaces import get_space

# Pieces of text that readers may stumble over.
_WORDS = (
    b"nan",
    b"-inf",
    b"1e999",
    b"null",
    b"{}",
    b"[]",
    b'"',
    b",",
    b"\n",
    b"\0",
    b"\xff\xfe",
    b"0" * 40,
    b"-1",
    b"|none~0|",
)


class Reader(NamedTuple):
    """A valid file, and what reads it.

    Attributes:
        content: of the file, before it is compressed.
        name: of the file.
        read: from its path.
        pickled: whether it is a pickle, in which code may hide.
        pack: content → bytes on disk.
    """

    content: bytes
    name: str
    read: Callable[[Path], Any]
    pickled: bool = False
    pack: Callable[[bytes], bytes] = bytes


def mutated(rng: random.Random, content: bytes, canary: Path | None) -> bytes:
    """One to four changes: a byte, a stretch gone, doubled or moved, a word put in, an end cut off, code put in."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        size = len(changed)
        at = rng.randrange(size + 1)
        stretch = slice(at, min(size, at + rng.choice((1, 2, 8, 64))))
        match rng.randrange(7 if canary is None else 8):
            case 0:
                changed[at - 1 : at] = bytes([rng.randrange(256)])
            case 1:
                del changed[stretch]
            case 2:
                changed[at:at] = changed[stretch]
            case 3:
                changed[at:at] = rng.choice(_WORDS)
            case 4:
                changed[stretch] = rng.choice(_WORDS)
            case 5:
                changed[stretch] = rng.randbytes(stretch.stop - stretch.start)
            case 6:
                if rng.random() < 0.2:
                    del changed[at:]
            case 7:
                changed[at:at] = _code(rng, canary)
        changed = changed or bytearray(b"\0")
    return bytes(changed)


def _code(rng: random.Random, canary: Path | None) -> bytes:
    """Opcodes that call a function, in several spellings."""
    shell, python = f"touch {canary}", f"open({str(canary)!r}, 'w')"
    return rng.choice((
        f"cos\nsystem\n(S'{shell}'\ntR".encode(),
        f"cposix\nsystem\n(S'{shell}'\ntR".encode(),
        f'cbuiltins\neval\n(S"{python}"\ntR'.encode(),
        f"c__builtin__\nexec\n(S\"{python}\"\ntR".encode(),
        f"(S'{shell}'\nios\nsystem\n".encode(),
        b"\x80\x04\x8c\x02os\x8c\x06system\x93" + f"(S'{shell}'\ntR".encode(),
        b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR" + f"(S'{shell}'\ntR".encode(),
    ))  # fmt: skip


def readers(folder: Path) -> dict[str, Reader]:
    """A small valid file for everything that is read from outside."""
    release = releases.root()
    release["arch2infos"] = {0: release["arch2infos"][0]}
    cells = [get_space("nasbench201").parse(number) for number in range(3)]
    ops = "(0, 0, 0, 0, 0, 0)", "(1, 0, 0, 0, 0, 0)", "(2, 0, 0, 0, 0, 0)"
    naslib = json.dumps([{"arch": op, "val_accuracy": 90.0, "zen": {"score": 2.5, "time": 1.0}} for op in ops]).encode()
    suite = {"transbench101_micro": {"jigsaw": {"(0, 0, 0, 0, 0, 0)": {"val_accuracy": 90.0, "snip": 1.5}}}}
    images = {"data": np.zeros((3, 3072), np.uint8), "labels": [1, 2, 3]}
    user = pd.DataFrame({"arch": cells, "acc": [1.0, 2.0, 3.0]})
    masks = Masks({"a": torch.ones(3, 2, dtype=torch.bool)}, {"saliency": "synflow"})
    net = torch.nn.Linear(3, 2)

    def saved(write: Callable[[Path], Any]) -> bytes:
        write(folder / "made")
        return (folder / "made").read_bytes()

    def everything(path: Path) -> Any:
        return list(official.read(path, None, lambda _: None).measured)

    def cifar(path: Path) -> Any:
        return read_cifar10(path.parent, (path.name,))

    def naslib_all(path: Path) -> Any:
        return tables.read_naslib(path, "cifar10"), suitezero.read_zip_proxies(path, "nasbench201", "cifar10", 3)

    def suite_proxies(path: Path) -> Any:
        return [suitezero.proxies(path, part) for part in suitezero.parts(path) if part.space]

    def zipped(content: bytes) -> bytes:
        with zipfile.ZipFile(folder / "made.zip", "w") as archive:
            archive.writestr("zen/benchmark--nasbench201--cifar10--0.json", content)
        return (folder / "made.zip").read_bytes()

    return {
        "NATS-Bench, .pickle.pbz2": Reader(pickle.dumps(release, 4), "a.pickle.pbz2", everything, True, bz2.compress),
        "NATS-Bench, damaged bz2": Reader(bz2.compress(pickle.dumps(release, 4)), "b.pickle.pbz2", everything),
        "NAS-Bench-201, .pth": Reader(
            saved(lambda p: releases.save(p, release, as_zip=False)), "c.pth", everything, True
        ),
        "NAS-Bench-201, zipped .pth": Reader(
            saved(lambda p: releases.save(p, release, as_zip=True)), "d.pth", everything, True
        ),
        "TransNAS-Bench-101, .pth": Reader(
            saved(lambda p: releases.save(p, releases.transnas(), as_zip=False)), "e.pth", everything, True
        ),
        "NAS-Bench-Suite-Zero, .json": Reader(
            json.dumps(suite).encode(), "f.json", lambda p: (everything(p), suite_proxies(p))
        ),
        "NASLib, .zip of .json": Reader(naslib, "g.zip", naslib_all, False, zipped),
        "own table, .csv": Reader(user.to_csv(index=False).encode(), "h.csv", tables.read_user),
        "own table, .tsv": Reader(user.to_csv(index=False, sep="\t").encode(), "i.tsv", tables.read_user),
        "CIFAR-10, pickle": Reader(pickle.dumps(images, 2), "data_batch_1", cifar, True),
        "masks, .pt": Reader(saved(masks.save), "j.pt", Masks.load, True),
        "weights, .pt": Reader(
            saved(lambda p: torch.save(net.state_dict(), p, _use_new_zipfile_serialization=False)), "k.pt",
            lambda p: load_weights(torch.nn.Linear(3, 2), p), True,
        ),
        "architectures, text": Reader(
            "\n".join(cells).encode(), "l.txt", lambda p: architectures(get_space("nasbench201"), str(p), 0)
        ),
    }  # fmt: skip


class Outcome(NamedTuple):
    """What reading changed files came to."""

    read: int
    refused: int
    wrong: list[str]


def fuzz(reader: Reader, folder: Path, count: int, seed: int = 0) -> Outcome:
    """Read `count` changed files: each is read, or refused in one line; nothing in it runs."""
    rng, canary, path = random.Random(seed), folder / "canary", folder / reader.name
    read = refused = 0
    wrong: list[str] = []
    for number in range(count):
        path.write_bytes(reader.pack(mutated(rng, reader.content, canary if reader.pickled else None)))
        try:
            reader.read(path)
            read += 1
        except SsnrError as error:
            refused += 1
            if "\n" in str(error):
                wrong.append(f"{number}: two lines: {error}")
        except Exception as error:
            wrong.append(f"{number}: {type(error).__name__}: {error}")
        if canary.exists():
            canary.unlink()
            wrong.append(f"{number}: code ran")
    return Outcome(read, refused, wrong)


SPACES = ("nasbench201", "nasbench101", "darts", "transnasbench101-micro", "transnasbench101-macro", "vgg", "resnet")
_LETTERS = "0123456789~|+-_,([)]{}:= 'acdnopxvskie\\\n\t\0²é"


def strings(space: Any, count: int, seed: int = 0) -> Iterator[str]:
    """Architecture strings with one to six changes, some of them of another space."""
    rng = random.Random(seed)
    valid = [space.sample(rng) for _ in range(20)]
    for _ in range(count):
        text = rng.choice(valid)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(text) + 1)
            end = min(len(text), at + rng.choice((0, 1, 1, 2, 9)))
            put = rng.choice(("", rng.choice(_LETTERS), text[at:end] * 2, rng.choice(valid)[at:end], "9" * 30))
            text = text[:at] + put + text[end:]
        yield text
