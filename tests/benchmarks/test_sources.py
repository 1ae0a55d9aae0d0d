from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path
from typing import Any

import pooch
import pytest

from ssnr import benchmarks
from ssnr.benchmarks.files import FILES, DataFile, cache_folder, find, locate
from ssnr.core.errors import BenchmarkError, UsageError

CONTENT = b"architecture,accuracy\n" + b"0,93.5\n" * 1000
HASH = hashlib.sha256(CONTENT).hexdigest()


def put(folder: Path, content: bytes, name: str = "small.csv") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


@pytest.fixture
def file() -> DataFile:
    return DataFile(
        name="small.csv",
        repository="someone/something",
        commit="0123abc",
        path="results/all.csv",
        sha256=HASH,
        licence="MIT",
        holds="a table",
    )


def message(file: DataFile | str) -> str:
    with pytest.raises(BenchmarkError) as caught:
        locate(file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the table


def test_an_address_is_a_path_at_a_pinned_commit(file: DataFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSNR_MIRROR", raising=False)
    assert file.address == "https://raw.githubusercontent.com/someone/something/0123abc/results/all.csv"
    monkeypatch.setenv("SSNR_MIRROR", "https://mirror.example/data/")
    assert file.address == "https://mirror.example/data/someone/something/0123abc/results/all.csv"


@pytest.mark.parametrize("name", FILES)
def test_every_row_pins_what_it_names(name: str) -> None:
    row = FILES[name]
    assert re.fullmatch("[0-9a-f]{64}", row.sha256)
    assert re.fullmatch("[0-9a-f]{40}", row.commit) or re.fullmatch(r"[a-z-]+==[\d.]+", row.distribution)
    assert row.path and row.licence and row.holds


@pytest.mark.parametrize("name", [row.name for row in FILES.values() if not row.distribution])
def test_the_pinned_hashes_are_those_of_the_published_files(needs_data: Path, name: str) -> None:
    assert locate(name).name == name


def test_the_installed_package_is_the_pinned_one(needs_analog: None) -> None:
    assert locate("data.anb").name == "data.anb"
    assert "analognasbench" not in sys.modules


def test_an_unknown_file_suggests_near_ones() -> None:
    with pytest.raises(UsageError) as caught:
        locate("nats_bnech.csv")
    assert str(caught.value) == ("unknown benchmark file 'nats_bnech.csv': did you mean nats_bench.csv?")


# --- where files are looked for


def test_data_folders_in_order_then_the_cache(
    file: DataFile, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find(file) is None
    cached = put(bare, CONTENT)
    assert locate(file) == cached
    second = put(tmp_path / "second", CONTENT)
    monkeypatch.setenv("SSNR_DATA", os.pathsep.join(["", str(tmp_path / "no such folder"), str(second.parent)]))
    assert locate(file) == second
    first = put(tmp_path / "first", CONTENT)
    monkeypatch.setenv("SSNR_DATA", os.pathsep.join([str(first.parent), str(second.parent)]))
    assert locate(file) == first


def test_the_cache_is_the_users_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSNR_CACHE", raising=False)
    assert cache_folder() == Path(pooch.os_cache("ssnr"))
    monkeypatch.setenv("SSNR_CACHE", "~/somewhere")
    assert cache_folder() == Path.home() / "somewhere"


@pytest.mark.parametrize("bad", [CONTENT[:-1], CONTENT + b"\n", b""], ids=["truncated", "altered", "empty"])
def test_a_local_file_with_another_hash_is_named(file: DataFile, bare: Path, bad: bytes) -> None:
    path = put(bare, bad)
    assert message(file) == (
        f"small.csv: {path} is truncated or altered: its SHA-256 is {hashlib.sha256(bad).hexdigest()}, "
        f"expected {HASH}; delete it, or replace it ({file.address})"
    )


# --- download


def test_a_download_is_kept_and_not_repeated(file: DataFile, server: Any, bare: Path) -> None:
    server.serve(file, CONTENT)
    assert locate(file) == bare / "small.csv"
    assert locate(file).read_bytes() == CONTENT
    assert server.asked == ["/someone/something/0123abc/results/all.csv"]
    assert [path.name for path in bare.iterdir()] == ["small.csv"]


def test_a_real_benchmark_over_http(needs_data: Path, server: Any, bare: Path) -> None:
    server.serve(FILES["nats_bench.csv"], (needs_data / "nats_bench.csv").read_bytes())
    benchmark = benchmarks.load("nasbench201/cifar100")
    assert (benchmark.source, len(benchmark)) == ("nats", 15_625)
    assert benchmark.address.startswith(f"{server.base}/v-tao/nats-bench-landscape/b307ae5fe6e8")
    assert server.asked == [benchmark.address.removeprefix(server.base)]


@pytest.mark.parametrize("bad", [CONTENT[:-1], CONTENT.replace(b"93", b"94")], ids=["truncated", "altered"])
def test_a_wrong_file_from_the_server_is_not_kept(file: DataFile, server: Any, bare: Path, bad: bytes) -> None:
    server.serve(file, bad, lambda body: None)
    assert message(file) == (
        f"small.csv: {file.address} sent a truncated or altered file, nothing was kept: its SHA-256 is "
        f"{hashlib.sha256(bad).hexdigest()}, expected {HASH}; try again, or put the file (SHA-256 {HASH}) into "
        f"a folder that $SSNR_DATA names, or into {bare}"
    )
    assert list(bare.iterdir()) == []


def no_download(file: DataFile, reason: str, cache: Path) -> str:
    return (
        f"{file.name} is not on this machine and cannot be downloaded from {file.address} ({reason}): "
        f"put the file (SHA-256 {file.sha256}) into a folder that $SSNR_DATA names, or into {cache}"
    )


def test_a_connection_that_breaks_off_leaves_nothing(file: DataFile, server: Any, bare: Path) -> None:
    server.serve(file, CONTENT[:3000], lambda body: len(CONTENT))
    assert message(file) == no_download(file, "the connection broke off", bare)
    assert list(bare.iterdir()) == []


def test_a_file_that_is_gone(file: DataFile, server: Any, bare: Path) -> None:
    assert message(file) == no_download(file, "404 Not Found", bare)
    assert list(bare.iterdir()) == []


def test_no_network(bare: Path) -> None:
    assert message("nats_bench.csv") == no_download(FILES["nats_bench.csv"], "no connection", bare)


def test_a_mirror_that_is_no_address(file: DataFile, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSNR_MIRROR", "mirror")
    assert message(file) == no_download(file, "MissingSchema", bare)


def test_ctrl_c_leaves_nothing(file: DataFile, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: object, url: str, output_file: str, pooch: object) -> None:
        Path(output_file).write_bytes(CONTENT[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        locate(file)
    assert list(bare.iterdir()) == []


def test_a_cache_that_cannot_be_written(file: DataFile, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare.write_text("a file where the folder should be")
    monkeypatch.setenv("SSNR_CACHE", str(bare / "below"))
    assert message(file) == (
        f"small.csv cannot be written to {bare / 'below'}: Not a directory; put the file (SHA-256 {HASH}) into "
        f"a folder that $SSNR_DATA names, or into {bare / 'below'}"
    )


def test_a_file_that_only_pip_brings(bare: Path) -> None:
    assert message("data.anb") == (
        f"data.anb (SHA-256 {FILES['data.anb'].sha256}) comes with analog-nasbench==0.1.3, which is not installed: "
        f"pip install analog-nasbench==0.1.3, or put the file into a folder that $SSNR_DATA names, or into {bare}"
    )


@pytest.mark.parametrize("watched", [True, False])
def test_progress_goes_to_a_terminal_only(
    file: DataFile, server: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    server.serve(file, CONTENT)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: watched)
    locate(file)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("small.csv" in err) == watched
