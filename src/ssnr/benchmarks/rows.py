"""The benchmarks as one table: a row of `CATALOGUE` for each pair of a benchmark and a source of its accuracies.

Validation and test, 12 and 200 epochs, one seed and the mean of several are different accuracies. Every row says which
it is, and what `load` returns says it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ssnr.benchmarks import files as sources
from ssnr.benchmarks.facts import TASKS, WHOLE, Facts, naslib_facts
from ssnr.benchmarks.readers import suitezero, tables

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Source(Facts):
    """One benchmark from one source.

    Attributes:
        files: names in `sources.FILES`.
        read: those files' paths → the table.
        stand_in: whether it loads by default where the name's first source is not on this machine.
    """

    files: tuple[str, ...]
    read: Callable[..., pd.DataFrame]
    stand_in: bool = False

    @property
    def here(self) -> bool:
        """Whether all files are on this machine; what is in them is looked at by `load`."""
        return all(sources.find(name) for name in self.files)


def _nats(dataset: str) -> Source:
    return Source(
        name=f"nasbench201/{dataset}",
        family="nasbench201",
        dataset=dataset,
        source="nats",
        files=("nats_bench.csv",),
        read=partial(tables.read_nats, dataset=dataset),
        metric="test accuracy (%)",
        split="test",
        epochs=200,
        runs="mean over the available seeds",
        note=WHOLE if dataset == "cifar10" else "",
    )


def _naslib(
    space: str, dataset: str, files: tuple[str, ...], read: Callable[..., pd.DataFrame], tag: str = ""
) -> Source:
    return Source(**asdict(naslib_facts(f"naslib{tag}", space, dataset)), files=files, read=read)


def _naslib201(dataset: str) -> Source:
    return _naslib("nasbench201", dataset, ("nb201_zen.zip",), partial(tables.read_naslib, dataset=dataset))


_ANALOG = Source(
    name="nasbench201/cifar10",
    family="nasbench201",
    dataset="cifar10",
    source="analog",
    files=("data.anb",),
    read=tables.read_analog,
    metric="accuracy (%) in digital full precision",
    split="",
    epochs=None,
    runs="runs not stated",
    note="an independent training of the same cells (AnalogNAS-Bench), not NAS-Bench-201's own: the two agree to "
    "ρ = .991, so differences of .01 between proxies may turn round",
    stand_in=True,
)

_MICRO, _MACRO = ("transbench101_micro", 4_096), ("transbench101_macro", 3_256)
_TRANSNAS, _TRANSNAS_SYNFLOW = "all_benchmarks_zen.zip", "tnb101_classification_synflow.zip"
_WITH_SYNFLOW = ("class_scene", "class_object", "jigsaw", "room_layout")


def _transnas(space: tuple[str, int], task: str, file: str) -> Source:
    read = partial(suitezero.read_zip, space=space[0], dataset=task, rows=space[1])
    return _naslib(space[0], task, (file,), read)


# 500 and 725 architectures, 7 of them in both; where two predictions differ, the first file's is taken.
_NB301 = ("zc_nasbench301.67444cd1.json", "zc_nasbench301.4e3528ed.json")


def _surrogate(files: tuple[str, ...], tag: str = "") -> Source:
    read = partial(suitezero.read_json, space="nasbench301", dataset="cifar10")
    return _naslib("nasbench301", "cifar10", files, read, tag)


_SWAP = Source(
    name="darts-swap/cifar10",
    family="darts",
    dataset="cifar10",
    source="swap",
    files=("DARTS_archs_CIFAR10.csv",),
    read=tables.read_swap,
    metric="validation accuracy (%)",
    split="validation",
    epochs=200,
    runs="trained, runs not stated",
    note="how the networks were trained is not published; both cells of a network are the same",
)

_NB101 = "zc_nasbench101.json"

# The first source of a name is its default.
CATALOGUE: tuple[Source, ...] = (
    _nats("cifar10"),
    _naslib201("cifar10"),
    _ANALOG,
    _nats("cifar100"),
    _naslib201("cifar100"),
    _nats("imagenet16-120"),
    _naslib201("imagenet16-120"),
    *(_transnas(_MICRO, task, _TRANSNAS) for task in TASKS),
    *(_transnas(_MACRO, task, _TRANSNAS_SYNFLOW) for task in _WITH_SYNFLOW),
    _surrogate(_NB301),
    _surrogate(_NB301[:1], "-500"),
    _surrogate(_NB301[1:], "-725"),
    _SWAP,
    _naslib(
        "nasbench101",
        "cifar10",
        (_NB101,),
        partial(suitezero.read_json, space="nasbench101", dataset="cifar10"),
    ),
)


def _json_proxies(space: str) -> Callable[..., pd.DataFrame]:
    return partial(suitezero.read_json_proxies, space=space, dataset="cifar10")


def _zip_proxies(space: tuple[str, int], task: str) -> Callable[..., pd.DataFrame]:
    return partial(suitezero.read_zip_proxies, space=space[0], dataset=task, rows=space[1])


class Published(NamedTuple):
    """Proxy values that others published.

    Attributes:
        files: names in `sources.FILES`.
        read: those files' paths → one column per proxy.
        columns: the proxies, as the files call them.
    """

    files: tuple[str, ...]
    read: Callable[..., pd.DataFrame]
    columns: tuple[str, ...]


_GRADIENTS = ("epe_nas", "fisher", "flops", "grad_norm", "grasp", "jacov", "l2_norm")
_OF_101 = (*_GRADIENTS, "params", "plain", "snip", "synflow")


def _zen(space: tuple[str, int], dataset: str, file: str) -> Published:
    read = partial(suitezero.read_zip_proxies, space=space[0], dataset=dataset, rows=space[1])
    return Published((file,), read, ("zen",))


# Published proxy values, by the benchmark that they were computed for. Of a proxy in two files the first is taken.
PUBLISHED: dict[str, tuple[Published, ...]] = {
    "nasbench201/cifar10": (
        Published(
            ("nb201_zc_proxies.csv",),
            tables.read_published,
            (*_GRADIENTS, "nwot", "params", "plain", "snip", "synflow", "zen"),
        ),
    ),
    **{
        f"nasbench201/{dataset}": (_zen(("nasbench201", tables.NASBENCH201_CELLS), dataset, "nb201_zen.zip"),)
        for dataset in ("cifar100", "imagenet16-120")
    },
    "nasbench301/cifar10": (Published(_NB301, _json_proxies("nasbench301"), (*_OF_101, "nwot")),),
    "nasbench101/cifar10": (Published((_NB101,), _json_proxies("nasbench101"), _OF_101),),
    **{
        f"transnasbench101-{level}/{task}": (
            *(
                (Published((_TRANSNAS_SYNFLOW,), _zip_proxies(space, task), ("synflow",)),)
                if task in _WITH_SYNFLOW
                else ()
            ),
            *((_zen(space, task, _TRANSNAS),) if level == "micro" else ()),
        )
        for level, space, tasks in (("micro", _MICRO, TASKS), ("macro", _MACRO, _WITH_SYNFLOW))
        for task in tasks
    },
}
