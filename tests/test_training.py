from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ssnr.core.errors import SsnrError, UsageError
from ssnr.paper.training import Images, Settings, accuracy, cifar10_images, train
from ssnr.pruning import apply

FOLDER = os.environ.get("SSNR_CIFAR10", "")
QUICK = Settings(epochs=3, batch_size=16, lr=0.02)


@pytest.fixture(scope="module")
def images() -> Images:
    """Two classes that differ in brightness: learnt in a few steps."""
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(2, size=160))
    pixels = torch.from_numpy(rng.integers(0, 128, size=(160, 3, 8, 8), dtype=np.uint8))
    pixels += (labels * 100).to(torch.uint8)[:, None, None, None]
    return Images(pixels[:128], labels[:128], pixels[128:], labels[128:], "bright or dark", "made for this test")


def small(seed: int = 0, width: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, width, 3),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Flatten(),
        nn.Linear(36 * width, 2),
    )


def state(net: nn.Module) -> list[torch.Tensor]:
    return list(net.state_dict().values())


def equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(state(one), state(other), strict=True))


class KilledError(Exception):
    pass


def test_it_learns(images):
    net = small()
    before = accuracy(net, images.test, images.test_labels)
    history = train(net, images, QUICK)
    assert [epoch.number for epoch in history] == [1, 2, 3]
    assert history[-1].loss < history[0].loss
    assert accuracy(net, images.test, images.test_labels) == 100.0 > before
    assert not net.training


def test_the_same_seed_gives_the_same_weights_whatever_else_draws(images):
    one, two, other = small(), small(), small()
    train(one, images, QUICK)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    train(two, images, QUICK)
    train(other, images, Settings(epochs=3, batch_size=16, lr=0.02, seed=1))
    assert equal(one, two) and not equal(one, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("step", [9, 16, 21])
def test_a_killed_training_goes_on_to_the_same_weights(images, tmp_path, step):
    whole = small()
    history = train(whole, images, QUICK)

    def kill(done: int, total: int) -> None:
        assert total == 24
        if done == step:
            raise KilledError

    net = small()
    with pytest.raises(KilledError):
        train(net, images, QUICK, checkpoint=tmp_path / "net.pt", on_step=kill)
    again = small()
    seen: list[int] = []
    resumed = train(again, images, QUICK, checkpoint=tmp_path / "net.pt", on_epoch=lambda e: seen.append(e.number))
    assert equal(whole, again)
    assert [e[:3] for e in resumed] == [e[:3] for e in history]
    # What was done before the kill is not done again.
    assert seen == [n for n in (1, 2, 3) if n > step // 8 or n * 8 == step]


def test_a_finished_training_is_read_from_its_checkpoint(images, tmp_path):
    net, again = small(), small()
    train(net, images, QUICK, checkpoint=tmp_path / "net.pt")

    def never(done: int, total: int) -> None:
        raise AssertionError

    train(again, images, QUICK, checkpoint=tmp_path / "net.pt", on_step=never)
    assert equal(net, again)


@pytest.mark.parametrize(("channels", "stride", "expected"), [(15, 2, False), (16, 2, True), (15, 1, True)])
def test_gradients_of_strided_pointwise_convolutions_of_few_channels_are_not_taken_channels_last(
    channels, stride, expected, images
):
    seen = []
    net = nn.Sequential(
        nn.Conv2d(3, channels, 3), nn.Conv2d(channels, 2, 1, stride=stride), nn.Flatten(), nn.Linear(2, 2)
    )
    net[2].register_forward_pre_hook(lambda _, args: (args[0][:, :, 0, 0],))
    net[1].register_forward_hook(
        lambda _, args, out: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
    )
    train(net, images, Settings(epochs=1, batch_size=64))
    assert seen == [expected] * 2


def test_masks_hold_in_training(images):
    net = small()
    mask = torch.zeros(4, 3, 3, 3)
    mask[:, 0] = 1
    apply(net, {"0.weight": mask})
    train(net, images, QUICK)
    assert torch.equal(net[0].weight != 0, mask.bool())


@pytest.mark.parametrize(
    ("other", "settings", "message"),
    [
        (small(1), QUICK, "another network or other first weights"),
        (small(0, width=5), QUICK, "another network or other first weights"),
        (
            small(),
            Settings(epochs=4, batch_size=16, lr=0.02),
            "epochs 3 instead of 4",
        ),
    ],
)
def test_the_checkpoint_of_another_training_is_refused(images, tmp_path, other, settings, message):
    path = tmp_path / "net.pt"
    train(small(), images, QUICK, checkpoint=path)
    with pytest.raises(UsageError) as caught:
        train(other, images, settings, checkpoint=path)
    assert str(caught.value) == f"the checkpoint {path} is of {message}: name another file, or remove it"


def test_a_file_that_is_no_checkpoint_is_refused(images, tmp_path):
    path = tmp_path / "net.pt"
    for content in (b"", b"not a checkpoint", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(SsnrError, match=rf"^{path} is not a checkpoint: "):
            train(small(), images, QUICK, checkpoint=path)


def test_a_training_that_diverges_says_so(images):
    with pytest.raises(SsnrError, match=r"^training diverged in epoch \d: the loss is nan; a smaller lr may help$"):
        train(small(), images, Settings(epochs=3, batch_size=16, lr=1e30))


def test_settings_are_checked():
    with pytest.raises(UsageError, match="precision 'half': expected float32 or bfloat16"):
        Settings(precision="half")
    with pytest.raises(UsageError, match="epochs 0, batch size 128: expected at least 1 of each"):
        Settings(epochs=0)


def test_too_few_images_for_a_batch(images):
    with pytest.raises(UsageError, match="128 training images do not fill a batch of 129"):
        train(small(), images, Settings(batch_size=129))


def test_accuracy_counts_and_puts_modes_back(images):
    net = small().train()
    net[1].eval()
    percent = accuracy(net, images.test, images.test_labels, batch_size=7)
    with torch.no_grad():
        own = small().eval()
        x = images.test.float() / 255.0
        x = (x - torch.tensor([0.4914, 0.4822, 0.4465]).reshape(3, 1, 1)) / torch.tensor(
            [0.2470, 0.2435, 0.2616]
        ).reshape(3, 1, 1)
        expected = 100.0 * float((own(x).argmax(1) == images.test_labels).double().mean())
    assert percent == pytest.approx(expected)
    assert [m.training for m in net] == [True, False, True, True, True, True]


def test_bfloat16_learns_too(images):
    net = small()
    train(net, images, Settings(epochs=4, batch_size=16, lr=0.02, precision="bfloat16"))
    assert accuracy(net, images.test, images.test_labels, precision="bfloat16") >= 95
    assert all(p.dtype == torch.float32 for p in net.parameters())


@pytest.mark.skipif(not FOLDER, reason="SSNR_CIFAR10 is not set")
def test_cifar10_is_read_whole_or_in_part():
    images = cifar10_images(FOLDER, train=100, test=50)
    assert images.train.shape == (100, 3, 32, 32) and images.train.dtype == torch.uint8
    assert images.test_labels.shape == (50,)
    assert images.name == "CIFAR-10, 100 training and 50 test images"
    assert images.fingerprint == cifar10_images(Path(FOLDER).parent, train=100, test=50).fingerprint
    assert images.fingerprint != cifar10_images(FOLDER, train=100, test=51).fingerprint
    with pytest.raises(UsageError, match=r"has 10,000 test images: expected 1 … 10,000, got 10001"):
        cifar10_images(FOLDER, test=10_001)


def test_a_folder_that_is_not_cifar10(tmp_path):
    with pytest.raises(UsageError) as caught:
        cifar10_images(tmp_path)
    expected = f"{tmp_path} is not CIFAR-10: there is no data_batch_1 (expected the folder cifar-10-batches-py)"
    assert str(caught.value) == expected
