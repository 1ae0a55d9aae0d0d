"""Writes small files in the official releases' formats: what their own programs write, with few architectures."""

from __future__ import annotations

import bz2
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssnr.core.errors import BenchmarkError
from ssnr.spaces.nasbench201.space import NasBench201

CELLS = [NasBench201().parse(index) for index in range(4)]
SETS = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("x-valid", "x-test", "ori-test"),
    "ImageNet16-120": ("x-valid", "x-test", "ori-test"),
}
SEEDS = {12: (777,), 200: (777, 888)}


def accuracy(index: int, dataset: str, images: str, epochs: int, seed: int) -> float:
    """A number that says where it belongs: all that these files hold are different."""
    position = list(SETS).index(dataset) * 4 + SETS[dataset].index(images)
    return index + position / 16 + (epochs + seed) / 16384


def training(index: int, dataset: str, epochs: int, seed: int) -> dict[str, Any]:
    """One trial's state: the last epoch of every set of images, every epoch of the first."""
    accuracies: dict[str, Any] = {}
    for images in SETS[dataset]:
        last = accuracy(index, dataset, images, epochs, seed)
        if images == SETS[dataset][0]:
            accuracies |= {f"{images}@{epoch}": last - 1 for epoch in range(epochs - 1)}
        accuracies[f"{images}@{epochs - 1}"] = last
    every = dict.fromkeys(range(epochs), 1.5)
    return {
        "name": dataset,
        "train_acc1es": every,
        "train_losses": every,
        "train_times": None,
        "arch_config": {"channel": 16, "num_cells": 5, "arch_str": CELLS[index], "class_num": 10},
        "params": np.float64(0.1),
        "flop": 15.6,
        "seed": f"{seed:04d}",
        "epochs": epochs,
        "latency": [np.float64(0.01)],
        "eval_names": list(SETS[dataset]),
        "eval_acc1es": accuracies,
        "eval_times": {},
        "eval_losses": dict.fromkeys(accuracies, 2.5),
    }


def results(index: int, epochs: int) -> dict[str, Any]:
    """All trials of one architecture with one number of epochs."""
    return {
        "arch_index": index,
        "arch_str": CELLS[index],
        "all_results": {
            (dataset, seed): training(index, dataset, epochs, seed) for dataset in SETS for seed in SEEDS[epochs]
        },
        "dataset_seed": {dataset: list(SEEDS[epochs]) for dataset in SETS},
        "clear_net_done": True,
    }


def write_pickle(path: Path, content: Any) -> Path:
    with bz2.open(path, "wb") as file:
        pickle.dump(content, file, protocol=4)
    return path


def nats_folder(path: Path, count: int = 3) -> Path:
    """`NATS-tss-v1_0-….-simple`: `meta` and a file for each of the first architectures."""
    folder = path / "NATS-tss-simple"
    folder.mkdir()
    meta = {"meta_archs": CELLS, "total_archs": len(CELLS), "arch2infos": None, "evaluated_indexes": set()}
    write_pickle(folder / "meta.pickle.pbz2", meta)
    for index in range(count):
        write_pickle(folder / f"{index:06d}.pickle.pbz2", {str(epochs): results(index, epochs) for epochs in (12, 200)})
    return folder


def root(keys: tuple[str, str] = ("less", "full")) -> dict[str, Any]:
    """What NAS-Bench-201's single file holds."""
    infos = {i: dict(zip(keys, (results(i, 12), results(i, 200)), strict=True)) for i in range(len(CELLS))}
    return {
        "meta_archs": CELLS,
        "total_archs": len(CELLS),
        "arch2infos": infos,
        "evaluated_indexes": set(range(len(CELLS))),
    }


def save(path: Path, content: Any, *, as_zip: bool) -> Path:
    """`torch.save` in today's format, a zip, or in the one of before torch 1.6."""
    torch.save(content, path, _use_new_zipfile_serialization=as_zip)
    return path


MICRO = ("64-41414-0_00_000", "64-41414-1_02_333")
MACRO = ("64-1234-basic", "64-4111-basic")
COLUMNS = {
    "class_scene": ("train_top1", "valid_top1", "valid_loss", "test_top1"),
    "room_layout": ("train_loss", "valid_loss", "valid_neg_loss", "test_neg_loss"),
    "autoencoder": ("valid_l1_loss", "valid_ssim"),
    "segmentsemantic": ("valid_mIoU", "valid_acc"),
}
EPOCHS = {"class_scene": 25, "room_layout": 25, "autoencoder": 30, "segmentsemantic": 30}


def value(index: int, column: str) -> float:
    return index + len(column) / 64


def transnas() -> dict[str, Any]:
    """What TransNAS-Bench-101's file holds, for four of the seven tasks."""

    def tasks(index: int) -> dict[str, Any]:
        return {
            task: {
                "total_epochs": EPOCHS[task],
                "model_info": {"encoder_params": 100, "inference_time": np.float64(0.5)},
                "metrics": {c: [0.0] * (EPOCHS[task] - 1) + [value(index, c)] for c in columns},
            }
            for task, columns in COLUMNS.items()
        }

    return {
        "metrics_dict": {task: list(columns) for task, columns in COLUMNS.items()},
        "info_names": ["inference_time", "encoder_params"],
        "task_list": list(COLUMNS),
        "data": {
            "macro": {arch: tasks(index) for index, arch in enumerate(MACRO)},
            "micro": {arch: tasks(index) for index, arch in enumerate(MICRO)},
        },
    }


FORMS = ("folder", "pickle", "zip", "legacy")


def single(path: Path, form: str) -> Path:
    """One of the four forms in which the same four cells are published."""
    if form == "folder":
        return nats_folder(path, 4)
    if form == "pickle":
        return write_pickle(path / "NATS-tss.pickle.pbz2", root(("12", "200")))
    return save(path / "NAS-Bench-201.pth", root(), as_zip=form == "zip")


def refused(call: Callable[..., Any], *args: Any, error: type[Exception] = BenchmarkError, **kwargs: Any) -> str:
    """The one line that a call raises."""
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)
