"""Reading .pth files without torch and without trust: what `torch.save` wrote, as plain data.

Since torch 1.6 such a file is a zip with `data.pkl` and one member a storage; before, it was a row of pickles followed
by the storages. Tensors become `Tensor` records; `numbers` gives the numbers of small ones.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from ssnr.benchmarks.readers import streaming
from ssnr.benchmarks.readers.pickles import PLAIN, Record, one_line
from ssnr.core.errors import BenchmarkError

LARGEST = 4096
"""Numbers in the largest storage that is kept: accuracies are small, what is larger is weights."""

_BUFFER = 1 << 20
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

_STORAGES = {
    "DoubleStorage": "d", "FloatStorage": "f", "HalfStorage": "e", "LongStorage": "q", "IntStorage": "i",
    "ShortStorage": "h", "CharStorage": "b", "ByteStorage": "B", "BoolStorage": "?", "BFloat16Storage": "",
}  # fmt: skip
_TWO_BYTES = struct.calcsize("h")


class Storage:
    """The numbers of one or several tensors: `raw` is None where they are too many, or not read yet."""

    __slots__ = ("code", "count", "raw")

    def __init__(self, code: str, count: int) -> None:
        self.code, self.count = code, count
        self.raw: bytes | None = None

    @property
    def item_size(self) -> int:
        return struct.calcsize(self.code) if self.code else _TWO_BYTES


class Tensor:
    """Where in which storage a tensor's numbers are."""

    __slots__ = ("offset", "size", "storage", "stride")

    def __init__(self, storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> None:
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def numbers(self) -> list[Any]:
        """The numbers of a tensor with at most one dimension."""
        storage = self.storage
        if storage.raw is None or not storage.code or len(self.size) > 1:
            raise ValueError(f"a tensor of shape {tuple(self.size)} where a number was expected")
        every = struct.unpack(f"<{storage.count}{storage.code}", storage.raw)
        step, count = (self.stride[0], self.size[0]) if self.size else (1, 1)
        return [every[self.offset + step * position] for position in range(count)]


def _parameter(data: Any, *_: Any) -> Any:
    return data


_GLOBALS: dict[str, Any] = {
    **PLAIN,
    **{f"torch.{name}": code for name, code in _STORAGES.items()},
    "torch._utils._rebuild_tensor_v2": Tensor,
    "torch._utils._rebuild_tensor": Tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": tuple,
    # The records of NAS-Bench-201's programs, which changed the module's name over the years.
    "*.ArchResults": Record,
    "*.ResultsCount": Record,
}


def load(path: Path, pruning: Callable[[BinaryIO], streaming.Prune] = lambda _: streaming.keep) -> Any:
    """What `torch.save` wrote.

    Args:
        path: the file.
        pruning: from the open file, whose position says how far it is read, to what prunes its entries (`streaming`).

    Raises:
        BenchmarkError: not such a file, a truncated one, or one that holds more than data.
    """
    if not path.is_file():
        raise BenchmarkError(f"{path}: no such file")
    with one_line(path):
        if zipfile.is_zipfile(path):
            return _load_zip(path, pruning)
        with path.open("rb", buffering=_BUFFER) as file:
            return _load_row_of_pickles(file, path, pruning(file))


def _load_zip(path: Path, pruning: Callable[[BinaryIO], streaming.Prune]) -> Any:
    with zipfile.ZipFile(path) as archive:
        member = next((name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"), None)
        if member is None:
            raise BenchmarkError(f"{path}: a zip without data.pkl is not a .pth file")
        folder = member.removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise BenchmarkError(f"{path}: written on a big-endian machine, which is not read")

        def read_storage(storage: Storage, key: str) -> None:
            if storage.count <= LARGEST:
                storage.raw = archive.read(f"{folder}data/{key}")[: storage.count * storage.item_size]

        with archive.open(member) as file:
            buffered: Any = BufferedReader(file, _BUFFER)
            return streaming.read(buffered, path, _GLOBALS, pruning(buffered), _Storages(read_storage))


def _load_row_of_pickles(file: BinaryIO, path: Path, prune: streaming.Prune) -> Any:
    """Magic number, version, system, the object, the keys of its storages; then the storages."""
    try:
        magic, protocol = (streaming.read(file, path, {}) for _ in range(2))
    except Exception as error:
        raise BenchmarkError(f"{path}: neither torch's zip nor its older format, or truncated") from error
    if (magic, protocol) != (_MAGIC, _PROTOCOL):
        raise BenchmarkError(f"{path}: a pickle, but not one that torch.save wrote")
    system = streaming.read(file, path, {})
    if not system.get("little_endian", True):
        raise BenchmarkError(f"{path}: written on a big-endian machine, which is not read")
    storages = _Storages()
    content = streaming.read(file, path, _GLOBALS, prune, storages)
    for key in streaming.read(file, path, {}):
        storage = storages.known[key]
        (count,) = struct.unpack("<q", _exactly(file, 8))
        if storage.count <= LARGEST:
            storage.raw = _exactly(file, count * storage.item_size)[: storage.count * storage.item_size]
        else:
            file.seek(count * storage.item_size, 1)
    return content


def _exactly(file: BinaryIO, size: int) -> bytes:
    raw = file.read(size)
    if len(raw) < size:
        raise EOFError
    return raw


class _Storages:
    """Reads persistent ids: ("storage", type, key, device, count, …); the same key is the same storage."""

    def __init__(self, read: Callable[[Storage, str], None] | None = None) -> None:
        self.known: dict[str, Storage] = {}
        self._read = read

    def __call__(self, pid: Any) -> Storage:
        what, code, key, _, count = pid[:5]
        if what != "storage" or not isinstance(code, str):
            raise ValueError(f"unknown persistent id {pid!r}")
        if key not in self.known:
            self.known[key] = Storage(code, count)
            if self._read is not None:
                self._read(self.known[key], key)
        return self.known[key]
