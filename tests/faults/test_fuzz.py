"""Whatever a file or a string holds, it is read or refused in one line, and nothing in it runs."""

from __future__ import annotations

import pytest

import fuzzing
from soak import figure, times
from ssnr.benchmarks.readers import tables
from ssnr.core.errors import ArchitectureError
from ssnr.spaces import get_space

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch and pandas, on what they are made to read


@pytest.fixture(autouse=True)
def three_cells(monkeypatch):
    """Files of three cells are whole."""
    monkeypatch.setattr(tables, "NASBENCH201_CELLS", 3)


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    return fuzzing.readers(tmp_path_factory.mktemp("valid"))


NAMES = [
    "NATS-Bench, .pickle.pbz2", "NATS-Bench, damaged bz2", "NAS-Bench-201, .pth", "NAS-Bench-201, zipped .pth",
    "TransNAS-Bench-101, .pth", "NAS-Bench-Suite-Zero, .json", "NASLib, .zip of .json", "own table, .csv",
    "own table, .tsv", "CIFAR-10, pickle", "masks, .pt", "weights, .pt", "architectures, text",
]  # fmt: skip


def test_every_reader_is_tried_and_reads_what_is_right(readers, tmp_path):
    assert list(readers) == NAMES
    for reader in readers.values():
        path = tmp_path / reader.name
        path.write_bytes(reader.pack(reader.content))
        reader.read(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_file_is_read_or_refused_in_one_line_and_runs_nothing(readers, tmp_path, name):
    found = fuzzing.fuzz(readers[name], tmp_path, times(50, 2_000))
    figure("files", name, read=found.read, refused=found.refused, wrong=len(found.wrong))
    assert found.wrong == []


@pytest.mark.parametrize("name", fuzzing.SPACES)
def test_a_changed_string_is_an_architecture_or_refused_in_one_line(name):
    space, valid, refused = get_space(name), 0, 0
    for text in fuzzing.strings(space, times(300, 20_000)):
        try:
            arch = space.parse(text)
        except ArchitectureError as error:
            assert "\n" not in str(error), repr(text)
            refused += 1
        else:
            assert space.parse(arch) == arch, repr(text)
            valid += 1
    figure("strings", name, valid=valid, refused=refused)
