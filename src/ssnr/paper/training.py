"""A small honest training loop: SGD with momentum, cosine schedule, random crops and flips, checkpoints.

It is there so that the pruning figures can be made from what is here; heavier training belongs to the user's own loop,
which every function that trains takes instead.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ssnr.core.errors import SsnrError, UsageError
from ssnr.data import CIFAR10_MEAN, CIFAR10_STD, read_cifar10
from ssnr.interpret.double_backward import safe_channels_last

_PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images in memory.

    Attributes:
        train: bytes (N, 3, H, W).
        train_labels: classes (N,).
        test: bytes (M, 3, H, W).
        test_labels: classes (M,).
        name: for people.
        fingerprint: of the content: two sets with one fingerprint are equal.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    name: str
    fingerprint: str


@dataclass(frozen=True)
class Settings:
    """How a network is trained; part of every checkpoint.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step; what does not fill the last batch waits for the next epoch.
        lr: peak learning rate; falls to 0 along half a cosine, step by step (Loshchilov & Hutter, 2017).
        momentum: Nesterov's.
        weight_decay: on every parameter.
        augment: random crops of the image with 4 pixels of black around, and mirror images.
        precision: float32, or bfloat16 for convolutions and products (autocast), about twice as fast where the
            processor has it.
        seed: of the order of images and of crops and flips.
    """

    epochs: int = 20
    batch_size: int = 128
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: bool = True
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision not in _PRECISIONS:
            raise UsageError(f"precision {self.precision!r}: expected {' or '.join(_PRECISIONS)}")
        if self.epochs < 1 or self.batch_size < 1:
            raise UsageError(f"epochs {self.epochs}, batch size {self.batch_size}: expected at least 1 of each")


class Epoch(NamedTuple):
    """One pass over the training images: mean loss and accuracy in percent while training, and seconds."""

    number: int
    loss: float
    accuracy: float
    seconds: float


def cifar10_images(folder: str | Path, *, train: int | None = None, test: int | None = None) -> Images:
    """CIFAR-10 from the official Python archive, the whole of it or a part.

    Args:
        folder: `cifar-10-batches-py`, or the folder that holds it, with data_batch_1 … 5 as far as they are there.
        train: only the first so many training images.
        test: only the first so many test images.

    Raises:
        UsageError: the folder is not CIFAR-10, or holds fewer images.
    """
    root = Path(folder)
    root = root / "cifar-10-batches-py" if (root / "cifar-10-batches-py").is_dir() else root
    present = tuple(f"data_batch_{n}" for n in range(1, 6) if (root / f"data_batch_{n}").is_file())
    parts = [read_cifar10(folder, present or ("data_batch_1",)), read_cifar10(folder, ("test_batch",))]
    tensors: list[Tensor] = []
    digest = hashlib.blake2b(digest_size=6)
    for (pixels, labels), wanted, kind in zip(parts, (train, test), ("training", "test"), strict=True):
        if wanted is not None and not 0 < wanted <= len(pixels):
            raise UsageError(f"{folder} has {len(pixels):,} {kind} images: expected 1 … {len(pixels):,}, got {wanted}")
        for array in (pixels[:wanted], labels[:wanted]):
            digest.update(array.tobytes())
            tensors.append(torch.from_numpy(np.ascontiguousarray(array)))
    name = f"CIFAR-10, {len(tensors[0]):,} training and {len(tensors[2]):,} test images"
    return Images(tensors[0], tensors[1], tensors[2], tensors[3], name, digest.hexdigest())


def train(
    net: nn.Module,
    images: Images,
    settings: Settings | None = None,
    *,
    checkpoint: str | Path | None = None,
    device: str | torch.device = "cpu",
    on_step: Callable[[int, int], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Train a network in place; masks of `torch.nn.utils.prune` hold throughout.

    Same network, images, settings, machine and number of threads: same weights, also when the run was killed and
    resumed in between, at whatever moment.

    Args:
        net: its weights are changed; it is left on the device that it came from, in eval mode.
        images: what it learns from.
        settings: how.
        checkpoint: file that is written after every epoch, in one move, and continued from where it is there.
        device: where to train.
        on_step: called with (steps done, steps in all).
        on_epoch: called after every epoch.

    Raises:
        UsageError: the checkpoint is of another network, start, data or settings.
        SsnrError: the loss is not finite, or the checkpoint cannot be read or written.
    """
    chosen = settings or Settings()
    steps = len(images.train) // chosen.batch_size
    if not steps:
        raise UsageError(f"{len(images.train)} training images do not fill a batch of {chosen.batch_size}")
    path = Path(checkpoint) if checkpoint is not None else None
    identity = {"start": _digest(net), "images": images.fingerprint, **asdict(chosen)}
    home = next(net.parameters()).device
    net.to(device)
    optimiser = torch.optim.SGD(
        net.parameters(), lr=chosen.lr, momentum=chosen.momentum, weight_decay=chosen.weight_decay,
        nesterov=chosen.momentum > 0,
    )  # fmt: skip
    history = _resume(path, identity, net, optimiser) if path is not None and path.exists() else []
    with torch.random.fork_rng():
        for number in range(len(history), chosen.epochs):
            if on_step:
                on_step(number * steps, chosen.epochs * steps)
            epoch = _epoch(net, images, chosen, optimiser, number, torch.device(device), on_step)
            history.append(epoch)
            if path is not None:
                state = {"net": net.state_dict(), "optimiser": optimiser.state_dict()}
                _save(path, {"format": _FORMAT, "identity": identity, "history": [tuple(e) for e in history], **state})
            if on_epoch:
                on_epoch(epoch)
    net.eval().to(home)
    return history


def accuracy(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    device: str | torch.device = "cpu",
    precision: str = "float32",
    batch_size: int = 250,
) -> float:
    """Percent of images whose largest logit is that of their label; modes and device are put back."""
    modes = [(module, module.training) for module in net.modules()]
    home = next(net.parameters()).device
    net.eval().to(device)
    right = 0
    try:
        with torch.no_grad():
            for start in range(0, len(images), batch_size):
                part = slice(start, start + batch_size)
                with _precision(precision, torch.device(device)):
                    logits = net(_normalised(images[part].to(device)).contiguous(memory_format=torch.channels_last))
                right += int((logits.argmax(1) == labels[part].to(device)).sum())
    finally:
        net.to(home)
        for module, training in modes:
            module.training = training
    return 100.0 * right / len(images)


# --- one epoch ------------------------------------------------------------------------------------------------


def _epoch(
    net: nn.Module, images: Images, settings: Settings, optimiser: torch.optim.Optimizer, number: int,
    device: torch.device, on_step: Callable[[int, int], None] | None,
) -> Epoch:  # fmt: skip
    started = time.perf_counter()
    rng = np.random.default_rng([settings.seed, number])
    torch.manual_seed(int(rng.integers(2**62)))  # of whatever the network draws itself
    size = settings.batch_size
    steps = len(images.train) // size
    order = torch.from_numpy(rng.permutation(len(images.train)))
    layout = _layout(net)
    net.train()
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    right = torch.zeros((), dtype=torch.int64, device=device)
    for step in range(steps):
        chosen = order[step * size : (step + 1) * size]
        pixels, labels = images.train[chosen], images.train_labels[chosen].to(device)
        x = _normalised((_augmented(pixels, rng) if settings.augment else pixels).to(device))
        x = x.contiguous(memory_format=layout)
        done = number * steps + step
        for group in optimiser.param_groups:
            group["lr"] = 0.5 * settings.lr * (1.0 + math.cos(math.pi * done / (settings.epochs * steps)))
        with _precision(settings.precision, device):
            logits = net(x)
        loss = F.cross_entropy(logits.float(), labels)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        loss_sum += loss.detach()
        right += (logits.detach().argmax(1) == labels).sum()
        if on_step:
            on_step(done + 1, settings.epochs * steps)
    mean = float(loss_sum) / steps
    if not math.isfinite(mean):
        raise SsnrError(f"training diverged in epoch {number + 1}: the loss is {mean}; a smaller lr may help")
    return Epoch(number + 1, mean, 100.0 * int(right) / (steps * size), time.perf_counter() - started)


@contextmanager
def _precision(name: str, device: torch.device) -> Iterator[None]:
    kind = _PRECISIONS[name]
    with torch.autocast(device.type, dtype=kind, enabled=kind is not None):
        yield


def _augmented(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Each image shifted by −4 … 4 pixels either way, black around it, and mirrored every second time."""
    count, channels, height, width = pixels.shape
    padded = F.pad(pixels, (4, 4, 4, 4))
    down, right = (torch.from_numpy(rng.integers(0, 9, count)) for _ in range(2))
    mirrored = torch.from_numpy(rng.random(count) < 0.5)
    rows = down[:, None] + torch.arange(height)
    straight = torch.arange(width)
    columns = right[:, None] + torch.where(mirrored[:, None], straight.flip(0), straight)
    which = torch.arange(count)[:, None, None, None]
    return padded[which, torch.arange(channels)[None, :, None, None], rows[:, None, :, None], columns[:, None, None, :]]


def _normalised(pixels: Tensor) -> Tensor:
    mean, std = (torch.tensor(v, device=pixels.device).reshape(1, 3, 1, 1) for v in (CIFAR10_MEAN, CIFAR10_STD))
    normalised: Tensor = (pixels.float() / 255.0 - mean) / std
    return normalised


def _layout(net: nn.Module) -> torch.memory_format:
    """Channels last, which processors convolve faster, where all of the network's gradients are right so."""
    convolutions = (m for m in net.modules() if isinstance(m, nn.Conv2d))
    safe = all(safe_channels_last(m.in_channels, m.kernel_size, m.stride) for m in convolutions)
    return torch.channels_last if safe else torch.contiguous_format


# --- checkpoints ----------------------------------------------------------------------------------------------


def _digest(net: nn.Module) -> str:
    """Of names, shapes and values: of a network at its start, masks included."""
    digest = hashlib.blake2b(digest_size=12)
    for name, tensor in net.state_dict().items():
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        array: NDArray[Any] = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(array.tobytes())
    return digest.hexdigest()


def _save(path: Path, content: dict[str, Any]) -> None:
    """In one move: a kill leaves the file before or the file after, never a part."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, fresh)
        fresh.replace(path)
    except OSError as error:
        raise SsnrError(f"cannot write the checkpoint {path}: {error.strerror or error}") from error


def _resume(
    path: Path, identity: dict[str, Any], net: nn.Module, optimiser: torch.optim.Optimizer
) -> list[Epoch]:  # fmt: skip
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        known = content["identity"] if content["format"] == _FORMAT else None
    except Exception as error:
        raise SsnrError(f"{path} is not a checkpoint: {' '.join(str(error).split())[:200]}") from error
    if known != identity:
        names = {"start": "another network or other first weights", "images": "other images"}
        other = [name for name in identity if known is None or known.get(name) != identity[name]]
        what = ", ".join(names.get(n, f"{n} {known and known.get(n)} instead of {identity[n]}") for n in other)
        raise UsageError(f"the checkpoint {path} is of {what}: name another file, or remove it")
    net.load_state_dict(content["net"])
    optimiser.load_state_dict(content["optimiser"])
    return [Epoch(*values) for values in content["history"]]
