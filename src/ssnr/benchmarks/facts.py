"""What an accuracy is: data set, split, epochs, runs. And what the public benchmarks' accuracies are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What an accuracy is.

    Attributes:
        name: family or set, and data set: `nasbench201/cifar10`.
        family: of the space whose strings index the table.
        dataset: what the networks were trained on; empty where the source does not say.
        source: short name of who published the accuracies.
        metric: what the number is, with its unit; more is better, always.
        split: the images that it was measured on; empty where the source does not say.
        epochs: of training; None where the source does not say.
        runs: how many trainings a number stands for.
        note: what to know before comparing it with another source.
    """

    name: str
    family: str
    dataset: str
    source: str
    metric: str
    split: str
    epochs: int | None
    runs: str
    note: str = ""

    @property
    def label(self) -> str:
        """One line that tells this accuracy apart from all others."""
        parts = [
            self.metric,
            "" if self.split and self.split in self.metric else f"split {self.split or 'not stated'}",
            "epochs not stated" if self.epochs is None else f"{self.epochs} epochs",
            self.runs,
        ]
        return f"{self.name} from {self.source}: {', '.join(filter(None, parts))}"


HALF = "networks trained on half of the training set"
WHOLE = "networks trained on the whole training set"

# --- TransNAS-Bench-101 ---------------------------------------------------------------------------------------


class Task(NamedTuple):
    """What TransNAS-Bench-101 measures for a task, and how long it trains."""

    metric: str
    epochs: int
    note: str = ""


_OTHER_HEAD = "accuracies are of networks with {} classes, NASLib's published proxies of networks with {}"

TASKS = {
    "class_scene": Task("accuracy (%)", 25, _OTHER_HEAD.format(47, 63)),
    "class_object": Task("accuracy (%)", 25, _OTHER_HEAD.format(75, 100)),
    "jigsaw": Task("accuracy (%)", 10),
    "room_layout": Task("negative loss (higher is better)", 25, "a loss with a minus sign, not a percentage"),
    "autoencoder": Task("SSIM (higher is better)", 30, "structural similarity, at most 1, not a percentage"),
    "normal": Task("SSIM (higher is better)", 30, "structural similarity, at most 1, not a percentage"),
    "segmentsemantic": Task("pixel accuracy (%)", 30),
}

_SPLITS = {"valid": "validation", "val": "validation", "test": "test"}
_METRICS = {
    "top1": "accuracy (%)",
    "acc": "pixel accuracy (%)",
    "mIoU": "mean IoU (higher is better)",
    "ssim": "SSIM (higher is better)",
    "neg_loss": "negative loss (higher is better)",
}


@cache
def transnas_facts(source: str, space: str, task: str, column: str, epochs: int) -> Facts | None:
    """Of a metric in TransNAS-Bench-101's own file, such as `valid_top1`; None for what no architecture is ranked by.

    >>> transnas_facts("a.pth", "micro", "room_layout", "valid_neg_loss", 25).metric
    'validation negative loss (higher is better)'
    """
    split, _, name = column.partition("_")
    if split not in _SPLITS or name not in _METRICS:
        return None
    return Facts(
        name=f"transnasbench101-{space}/{task}",
        family=f"transnasbench101-{space}",
        dataset=task,
        source=source,
        metric=f"{_SPLITS[split]} {_METRICS[name]}",
        split=_SPLITS[split],
        epochs=epochs,
        runs="one run, last epoch",
    )


# --- NAS-Bench-201 and NATS-Bench -----------------------------------------------------------------------------

# Data set and set of images in the files → data set and split here. `cifar10-valid` is CIFAR-10 where half of the
# training images are held out; its validation accuracy is what the literature calls CIFAR-10's.
_NATS_SETS = {
    ("cifar10", "ori-test"): ("cifar10", "test", WHOLE),
    ("cifar10-valid", "x-valid"): ("cifar10", "validation", HALF),
    ("cifar10-valid", "ori-test"): ("cifar10-valid", "test", HALF),
    ("cifar100", "x-test"): ("cifar100", "test", ""),
    ("cifar100", "x-valid"): ("cifar100", "validation", ""),
    ("cifar100", "ori-test"): ("cifar100", "validation and test", ""),
    ("ImageNet16-120", "x-test"): ("imagenet16-120", "test", ""),
    ("ImageNet16-120", "x-valid"): ("imagenet16-120", "validation", ""),
    ("ImageNet16-120", "ori-test"): ("imagenet16-120", "validation and test", ""),
}


@cache
def nats_facts(source: str, dataset: str, images: str, epochs: int) -> Facts | None:
    """Of one data set and set of images in NAS-Bench-201's or NATS-Bench's files; None where they are not known.

    >>> nats_facts("simple", "ImageNet16-120", "x-test", 12).label
    'nasbench201/imagenet16-120 from simple: test accuracy (%), 12 epochs, mean over the available seeds'
    """
    if (dataset, images) not in _NATS_SETS:
        return None
    name, split, note = _NATS_SETS[dataset, images]
    return Facts(
        name=f"nasbench201/{name}",
        family="nasbench201",
        dataset=name,
        source=source,
        metric=f"{split} accuracy (%)",
        split=split,
        epochs=epochs,
        runs="mean over the available seeds",
        note=note,
    )


# --- NASLib and NAS-Bench-Suite-Zero --------------------------------------------------------------------------

# NASLib's name of a space → the space's family, and the name of the benchmark's set.
NASLIB_SPACES = {
    "nasbench101": ("nasbench101", "nasbench101"),
    "nasbench201": ("nasbench201", "nasbench201"),
    "nasbench301": ("darts", "nasbench301"),
    "darts": ("darts", "nasbench301"),
    "transbench101_micro": ("transnasbench101-micro", "transnasbench101-micro"),
    "transbench101_macro": ("transnasbench101-macro", "transnasbench101-macro"),
}

_SURROGATE = "accuracies are predicted by a model and noisy: no network of this table was trained for it"


@cache
def naslib_facts(source: str, space: str, dataset: str) -> Facts:
    """Of NASLib's `val_accuracy` for a space and data set, by NASLib's names.

    >>> naslib_facts("naslib", "nasbench301", "cifar10").label
    'nasbench301/cifar10 from naslib: surrogate validation accuracy (%) by XGB v1.0, epochs not stated, predicted, \
not trained'
    """
    family, benchmark = NASLIB_SPACES[space]
    task = TASKS.get(dataset) if family.startswith("transnasbench101") else None
    metric, epochs, runs, note = "accuracy (%)", None, "one run, last epoch", ""
    if task is not None:
        metric, epochs, note = task
    elif benchmark == "nasbench101":
        epochs, runs = 108, "one run"
    elif benchmark == "nasbench201":
        epochs, note = 200, HALF if dataset == "cifar10" else ""
    surrogate = benchmark == "nasbench301"
    return Facts(
        name=f"{benchmark}/{dataset}",
        family=family,
        dataset=dataset,
        source=source,
        metric="surrogate validation accuracy (%) by XGB v1.0" if surrogate else f"validation {metric}",
        split="validation",
        epochs=epochs,
        runs="predicted, not trained" if surrogate else runs,
        note=_SURROGATE if surrogate else note,
    )
