from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from ssnr import data
from ssnr.core.errors import UsageError

CIFAR10 = os.environ.get("SSNR_CIFAR10")
needs_cifar10 = pytest.mark.skipif(CIFAR10 is None, reason="SSNR_CIFAR10 is not set")


def archive(folder: Path, *, images: int = 40, name: str = "data_batch_1", protocol: int = 2) -> Path:
    """A folder in the layout of the official Python archive."""
    root = folder / "cifar-10-batches-py"
    root.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(256, size=(images, 3072), dtype=np.uint8), rng.integers(10, size=images).tolist()
    (root / name).write_bytes(pickle.dumps({"data": pixels, "labels": labels}, protocol=protocol))
    return root


def test_noise_is_the_same_for_the_same_seed_and_another_for_another():
    first, again, other = (data.noise((3, 4, 4), 10, 5, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.inputs, again.inputs)
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != other.fingerprint
    assert first.fingerprint.startswith("noise:5:seed0:")
    assert first.targets.max() < 10


def test_cifar10_draws_distinct_normalised_images_by_the_seed(tmp_path):
    root = archive(tmp_path)
    batch = data.cifar10(tmp_path, 40, seed=3)
    assert batch.inputs.shape == (40, 3, 32, 32)
    assert len({image.numpy().tobytes() for image in batch.inputs}) == 40
    raw, labels = data.read_cifar10(root, ("data_batch_1",))
    order = np.random.default_rng(3).choice(40, 40, replace=False)
    pixel = (raw[order[0], 0, 0, 0] / 255 - data.CIFAR10_MEAN[0]) / data.CIFAR10_STD[0]
    assert float(batch.inputs[0, 0, 0, 0]) == pytest.approx(pixel, rel=1e-5)
    assert batch.targets.tolist() == labels[order].tolist()


def test_the_batch_does_not_depend_on_whether_the_archive_is_whole_or_a_part(tmp_path):
    archive(tmp_path)
    part = data.cifar10(tmp_path, 8)
    for number in range(2, 6):
        archive(tmp_path, name=f"data_batch_{number}")
    assert data.cifar10(tmp_path, 8).fingerprint == part.fingerprint


@needs_cifar10
def test_the_real_images_have_mean_0_and_deviation_1():
    batch = data.cifar10(CIFAR10, 5000)
    assert batch.inputs.mean((0, 2, 3)).abs().max() < 0.02
    assert (batch.inputs.std((0, 2, 3)) - 1).abs().max() < 0.02
    assert sorted(set(batch.targets.tolist())) == list(range(10))


def test_a_pickle_that_asks_for_more_than_arrays_is_refused(tmp_path):
    root = archive(tmp_path)
    (root / "data_batch_1").write_bytes(b"cos\nsystem\n(S'echo'\ntR.")
    with pytest.raises(UsageError, match=r"data_batch_1 is not a batch of CIFAR-10: it asks for os.system"):
        data.cifar10(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps({"data": [1]}), pickle.dumps([1])])
def test_a_file_that_is_no_batch_is_named(tmp_path, content):
    root = archive(tmp_path)
    (root / "data_batch_1").write_bytes(content)
    with pytest.raises(UsageError, match=r"data_batch_1 is not a batch of CIFAR-10"):
        data.cifar10(tmp_path)


def test_a_folder_without_the_archive_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"is not CIFAR-10: there is no data_batch_1 \(expected the folder"):
        data.cifar10(tmp_path)


def test_images_of_another_size_are_resized_and_labels_of_other_classes_drawn_and_it_is_said(tmp_path):
    archive(tmp_path)
    fitted = data.fit(data.cifar10(tmp_path, 8), (3, 16, 16), 120)
    assert fitted.inputs.shape == (8, 3, 16, 16)
    assert fitted.targets.max() < 120
    assert fitted.notes == ("images resized 32×32→16×16", "labels of 120 classes drawn from the seed")
    assert fitted.fingerprint != data.cifar10(tmp_path, 8).fingerprint
    assert data.fit(data.cifar10(tmp_path, 8), (3, 32, 32), 10).notes == ()


def test_the_default_is_cifar10_where_it_is_named_and_noise_elsewhere(tmp_path, monkeypatch):
    archive(tmp_path)
    monkeypatch.setenv("SSNR_CIFAR10", str(tmp_path))
    assert data.load(None, (3, 32, 32), 10, size=4).name == "cifar10"
    assert data.load(None, (7,), 10, size=4).name == "noise"
    monkeypatch.delenv("SSNR_CIFAR10")
    assert data.load(None, (3, 32, 32), 10, size=4).name == "noise"


def test_a_folder_of_images_has_one_class_a_subfolder(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for kind, value in (("cats", 0), ("dogs", 255)):
        (tmp_path / kind).mkdir()
        for n in range(3):
            image.new("RGB", (20, 10), (value, value, n)).save(tmp_path / kind / f"{n}.png")
    batch = data.load(f"folder:{tmp_path}", (3, 8, 8), 2, size=6)
    assert batch.inputs.shape == (6, 3, 8, 8)
    bright = batch.inputs[:, 0].mean((1, 2)) > 0
    assert bright.tolist() == (batch.targets == 1).tolist()
    with pytest.raises(UsageError, match=r"folder .*: 6 images in subfolders \(one a class\), 7 needed"):
        data.load(f"folder:{tmp_path}", (3, 8, 8), 2, size=7)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested")
def test_nested_and_sparse_inputs_have_fingerprints_of_what_they_hold():
    parts = [torch.ones(3, 2), torch.zeros(2, 2)]
    one, same, other = (data.batch_of((torch.nested.nested_tensor(p), None)) for p in (parts, parts, parts[::-1]))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert (
        data.batch_of(torch.eye(2).to_sparse()).fingerprint != data.batch_of(torch.ones(2, 2).to_sparse()).fingerprint
    )
