"""Batches: ones, noise, CIFAR-10, a folder of images; each with a fingerprint that goes into every row that used it."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ssnr.core.errors import UsageError, one_line
from ssnr.networks.trees import leaves, with_tensors

# Mean and standard deviation of the training images' channels, as the field normalises them.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs and targets of one data-driven pass.

    Attributes:
        inputs: a tensor (N, …), or whatever the network's forward takes.
        targets: class indices (N,), regression targets, whatever else the loss takes, or None.
        name: where it comes from, for people.
        fingerprint: name and content hash, for keys: two batches with one fingerprint are equal bit for bit.
        notes: what was done to it (resized, labels drawn).
    """

    inputs: Any
    targets: Any
    name: str
    fingerprint: str
    notes: tuple[str, ...] = ()


def batch_of(batch: Any) -> Batch | None:
    """What a user hands to `score` → a `Batch`: a tensor, (inputs, targets), a `Batch`, or None.

    A pair is always inputs and targets; two inputs without targets are ((a, b), None), or a mapping, or a named tuple.

    Raises:
        UsageError: an empty batch, targets of another length, or what gives batches instead of one.
    """
    if batch is None or isinstance(batch, Batch):
        return batch
    if isinstance(batch, (DataLoader, Dataset, Iterator)):
        part = "its first samples, stacked" if isinstance(batch, Dataset) else "one of its batches, next(iter(…))"
        raise UsageError(f"the batch is a {type(batch).__name__}: give {part}")
    pair = isinstance(batch, (tuple, list)) and len(batch) == 2 and not hasattr(batch, "_fields")
    inputs, targets = (with_tensors(part) for part in (batch if pair else (batch, None)))
    if isinstance(targets, (list, tuple)) and targets and all(type(label) in (int, bool, float) for label in targets):
        targets = torch.tensor(targets)
    first = next((leaf for leaf in leaves(inputs) if isinstance(leaf, Tensor) and not leaf.is_nested), None)
    if first is not None:
        if (first.dim() == 0 and first is inputs) or 0 in first.shape[:1]:
            raise UsageError(f"the batch is empty: inputs have shape {tuple(first.shape)}")
        lengths_meet = first is inputs and isinstance(targets, Tensor) and targets.dim() > 0
        if lengths_meet and targets.shape[0] != first.shape[0]:
            raise UsageError(f"the batch has {first.shape[0]} inputs but {targets.shape[0]} targets")
    return Batch(inputs, targets, "given", _fingerprint("given", inputs, targets))


def ones(shape: tuple[int, ...]) -> Tensor:
    """Synflow's input: one all-ones sample (1, *shape)."""
    return torch.ones((1, *shape), device="cpu")


def noise(shape: tuple[int, ...], classes: int, size: int = 64, *, seed: int = 0) -> Batch:
    """`size` standard-normal inputs of `shape` with uniformly drawn labels, from the seed alone.

    The inputs do not depend on the number of classes, nor the labels on the shape.
    """
    inputs, targets = noise_inputs(shape, size, seed=seed), noise_labels((size,), classes, seed=seed)
    return Batch(inputs, targets, "noise", _fingerprint(f"noise:{size}:seed{seed}", inputs, targets))


def noise_inputs(shape: tuple[int, ...], size: int, *, seed: int) -> Tensor:
    """Standard-normal (size, *shape) in float32."""
    rng = np.random.default_rng([abs(seed), seed < 0, size, *shape])
    return torch.from_numpy(rng.standard_normal((size, *shape), dtype=np.float32))


def noise_labels(shape: tuple[int, ...], classes: int, *, seed: int) -> Tensor:
    """Uniform class indices of a shape; also token ids below `classes`."""
    rng = np.random.default_rng([abs(seed), seed < 0, classes, *shape])
    return torch.from_numpy(rng.integers(classes, size=shape))


def cifar10(folder: str | Path, size: int = 64, *, seed: int = 0) -> Batch:
    """`size` distinct training images with labels, drawn by the seed from `data_batch_1`.

    The first 10,000 images are in every copy of the archive, whole or part, so the batch is the same for everybody.

    Args:
        folder: the folder `cifar-10-batches-py`, or the one that holds it.
        size: at most 10,000.
        seed: which images.

    Raises:
        UsageError: the folder is not CIFAR-10 in the layout of the official Python archive.
    """
    images, labels = read_cifar10(folder, ("data_batch_1",))
    if not 0 < size <= len(images):
        raise UsageError(f"a batch of {size} images from {len(images):,}: expected 1 … {len(images):,}")
    chosen = np.random.default_rng(seed).choice(len(images), size, replace=False)
    inputs, targets = normalise_cifar10(images[chosen]), torch.from_numpy(labels[chosen])
    return Batch(inputs, targets, "cifar10", _fingerprint(f"cifar10:{size}:seed{seed}", inputs, targets))


def normalise_cifar10(images: NDArray[np.uint8]) -> Tensor:
    """(N, 3, 32, 32) bytes → float32 of mean 0 and standard deviation 1 by channel."""
    mean, std = (np.array(v, dtype=np.float32)[:, None, None] for v in (CIFAR10_MEAN, CIFAR10_STD))
    return torch.from_numpy((images.astype(np.float32) / 255.0 - mean) / std)


def read_cifar10(folder: str | Path, files: tuple[str, ...]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (N, 3, 32, 32) and labels (N,) of the named files of the archive.

    Raises:
        UsageError: a file is missing or is not a CIFAR-10 batch.
    """
    root = Path(folder)
    root = root / "cifar-10-batches-py" if (root / "cifar-10-batches-py").is_dir() else root
    images, labels = [], []
    for name in files:
        path = root / name
        if not path.is_file():
            raise UsageError(f"{folder} is not CIFAR-10: there is no {name} (expected the folder cifar-10-batches-py)")
        try:
            with path.open("rb") as stream:
                content = _ArrayUnpickler(stream, encoding="latin1").load()
            pixels = np.asarray(content["data"], dtype=np.uint8).reshape(-1, 3, 32, 32)
            classes = np.asarray(content["labels"], dtype=np.int64)
        except Exception as error:  # a damaged pickle may raise anything
            raise UsageError(f"{path} is not a batch of CIFAR-10: {one_line(error)}") from error
        images.append(pixels)
        labels.append(classes)
    return np.concatenate(images), np.concatenate(labels)


class _ArrayUnpickler(pickle.Unpickler):
    """Reads the archive's dictionaries of arrays and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}:
            return np.zeros(0).__reduce__()[0]
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return __import__("codecs").encode
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which data has no need of")


def folder_of_images(folder: str | Path, shape: tuple[int, ...], size: int = 64, *, seed: int = 0) -> Batch:
    """`size` images of a folder with one subfolder a class, scaled to [0, 1], then to mean 0 and deviation 1 overall.

    Raises:
        UsageError: no images, or fewer than `size`.
    """
    from PIL import Image

    root = Path(folder)
    kinds = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"}
    files = sorted(p for p in root.glob("*/*") if p.suffix.lower() in kinds) if root.is_dir() else []
    if len(files) < max(size, 1):
        raise UsageError(f"folder {folder}: {len(files)} images in subfolders (one a class), {size} needed")
    classes = sorted({p.parent.name for p in files})
    chosen = [files[i] for i in np.random.default_rng(seed).choice(len(files), size, replace=False)]
    channels, height, width = shape if len(shape) == 3 else (3, 224, 224)
    mode = "L" if channels == 1 else "RGB"
    arrays = []
    for path in chosen:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert(mode).resize((width, height)), dtype=np.float32) / 255.0
        arrays.append(pixels.reshape(height, width, -1).transpose(2, 0, 1))
    stacked = np.stack(arrays)
    inputs = torch.from_numpy((stacked - stacked.mean()) / max(float(stacked.std()), 1e-6))
    targets = torch.tensor([classes.index(p.parent.name) for p in chosen])
    return Batch(inputs, targets, f"folder:{root.name}", _fingerprint(f"folder:{size}:seed{seed}", inputs, targets))


def fit(batch: Batch, shape: tuple[int, ...], classes: int | None, *, seed: int = 0) -> Batch:
    """The batch at a network's input size, with labels that it has outputs for; says what it changed.

    Images of another size are resized (bilinear, antialiased); labels of another number of classes are drawn anew
    from the seed.
    """
    inputs, targets, notes = batch.inputs, batch.targets, list(batch.notes)
    if isinstance(inputs, Tensor) and inputs.dim() == 4 and len(shape) == 3 and tuple(inputs.shape[1:]) != shape:
        if inputs.shape[1] != shape[0]:
            raise UsageError(f"the batch has {inputs.shape[1]} channels, the network takes {shape[0]}")
        was = "×".join(map(str, inputs.shape[2:]))
        inputs = torch.nn.functional.interpolate(inputs, shape[1:], mode="bilinear", antialias=True)
        notes.append(f"images resized {was}→{'×'.join(map(str, shape[1:]))}")
    labels_fit = targets is None or classes is None or targets.is_floating_point()
    if not labels_fit and classes != (10 if batch.name == "cifar10" else None):
        assert targets is not None and classes is not None
        if batch.name == "cifar10" or int(targets.max()) >= classes:
            rng = np.random.default_rng([seed, classes, len(targets)])
            targets = torch.from_numpy(rng.integers(classes, size=len(targets)))
            notes.append(f"labels of {classes} classes drawn from the seed")
    if tuple(notes) == batch.notes:
        return batch
    prefix = batch.fingerprint.rsplit(":", 1)[0]
    return Batch(inputs, targets, batch.name, _fingerprint(prefix, inputs, targets), tuple(notes))


def load(source: str | None, shape: tuple[int, ...], classes: int | None, *, size: int = 64, seed: int = 0) -> Batch:
    """The batch that the command line's `--data` names, fitted to a network.

    Args:
        source: "noise", "cifar10:FOLDER", "folder:FOLDER"; None is CIFAR-10 where `$SSNR_CIFAR10` has it, else noise.
        shape: one input without its batch dimension.
        classes: number of outputs; None leaves labels alone.
        size: number of samples.
        seed: which samples, and drawn labels.

    Raises:
        UsageError: an unknown source, or a folder that does not hold it.
    """
    if size < 1:
        raise UsageError(f"batch size {size}: expected at least 1")
    if source is None:
        folder = os.environ.get("SSNR_CIFAR10")
        usable = folder and len(shape) == 3 and shape[0] == 3
        source = f"cifar10:{folder}" if usable else "noise"
    kind, _, where = source.partition(":")
    if kind == "noise" and not where:
        return noise(shape, classes or 10, size, seed=seed)
    if kind == "cifar10":
        where = where or os.environ.get("SSNR_CIFAR10", "")
        if not where:
            raise UsageError("--data cifar10: name the folder, cifar10:DIR, or set SSNR_CIFAR10")
        return fit(cifar10(where, size, seed=seed), shape, classes, seed=seed)
    if kind == "folder" and where:
        return fit(folder_of_images(where, shape, size, seed=seed), shape, classes, seed=seed)
    raise UsageError(f"data {source!r}: expected noise, cifar10:DIR or folder:DIR")


def _fingerprint(prefix: str, inputs: Any, targets: Any) -> str:
    digest = hashlib.blake2b(digest_size=6)
    for tensor in (*_tensors(inputs), *_tensors(targets)):
        whole = tensor.detach().to_dense() if tensor.layout is not torch.strided else tensor.detach()
        shape = [tuple(part.shape) for part in whole.unbind()] if whole.is_nested else tuple(whole.shape)
        flat = torch.cat([part.reshape(-1) for part in whole.unbind()]) if whole.is_nested else whole.reshape(-1)
        digest.update(f"{tensor.dtype}{shape}".encode())
        digest.update(flat.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return f"{prefix}:{digest.hexdigest()}"


def _tensors(value: Any) -> list[Tensor]:
    """The tensors of a nest, of mappings in the order of their keys."""
    if isinstance(value, Mapping):
        return [t for key in sorted(value, key=str) for t in _tensors(value[key])]
    if isinstance(value, (tuple, list)):
        return [t for item in value for t in _tensors(item)]
    return [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]
