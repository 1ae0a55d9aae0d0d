"""Latency and memory of an architecture: measured on this device, one network at a time, or looked up in a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ssnr.core.errors import SsnrError, UsageError
from ssnr.spaces import Space

# Columns of a table, and how many seconds their unit is.
_SECONDS = {"latency": 1.0, "latency_s": 1.0, "latency_ms": 1e-3, "latency_us": 1e-6}


class OnDevice:
    """Measures what it is asked for by running the network here; nothing else should run beside it.

    Attributes:
        note: how it measures, for people.
    """

    def __init__(
        self,
        names: Iterable[str] = ("latency", "memory"),
        *,
        device: str = "cpu",
        batch_size: int = 1,
        threads: int = 1,
    ) -> None:
        self.names, self.device, self.batch_size, self.threads = tuple(names), device, batch_size, threads
        shown = f"{threads} thread{'s' if threads != 1 else ''}"
        self.note = f"{' and '.join(self.names)} of a forward pass: batch {batch_size}, {shown}, {device}"

    def __call__(self, space: Space, arch: str, seed: int) -> Mapping[str, float]:
        """Latency in seconds, the median of many passes; memory in bytes.

        Raises:
            UsageError: the device is not there.
            Exception: the network cannot be built, or its forward pass raises.
        """
        from ssnr.proxies.device import latency, memory

        net, found = space.build(arch, seed=seed), dict[str, float]()
        if "latency" in self.names:
            taken = latency(
                net, space.input_shape, batch_size=self.batch_size, device=self.device, threads=self.threads
            )
            found["latency"] = taken.median
        if "memory" in self.names:
            held = memory(net, space.input_shape, batch_size=self.batch_size, device=self.device)
            found["memory"] = float(held.peak)
        return found


class FromTable:
    """Looks latencies up in a CSV, TSV or Parquet file with an architecture column.

    The other column is `latency_ms`, `latency_us`, or in seconds `latency` or `latency_s`.

    Raises:
        UsageError: no such column, or several.
        BenchmarkError: no such file, or a row that is wrong.
    """

    def __init__(self, path: str | Path, space: Space) -> None:
        from ssnr.benchmarks.readers import tables

        file = Path(path)
        if not file.is_file():
            raise UsageError(f"{file}: there is no such file")
        columns = tables.columns_of(file)
        found = [name for name in columns if name.lower() in _SECONDS]
        if len(found) != 1:
            raise UsageError(f"{file}: expected one column of {', '.join(_SECONDS)}; columns are {', '.join(columns)}")
        _, _, table = tables.read_user(file, accuracy=found[0], family=space.family)
        unit = _SECONDS[found[0].lower()]
        self._seconds = {str(arch): unit * float(value) for arch, value in table["accuracy"].items()}
        self.path, self.note = file, f"latency looked up in {file}"

    def __call__(self, space: Space, arch: str, seed: int) -> Mapping[str, float]:
        """Latency in seconds.

        Raises:
            SsnrError: the table does not have the architecture.
        """
        if arch not in self._seconds:
            raise SsnrError(f"{self.path} has no latency of {arch}")
        return {"latency": self._seconds[arch]}


class Together:
    """Several measures as one."""

    def __init__(self, *measures: OnDevice | FromTable) -> None:
        self._measures = measures
        self.note = "; ".join(measure.note for measure in measures)

    def __call__(self, space: Space, arch: str, seed: int) -> Mapping[str, float]:
        """What each of them gives."""
        return {name: value for measure in self._measures for name, value in measure(space, arch, seed).items()}


def measure_of(
    names: Iterable[str], space: Space, *, device: str = "cpu", table: str | Path | None = None
) -> OnDevice | FromTable | Together | None:
    """What measures the named quantities: a table for latency where there is one, this device for the rest.

    Raises:
        UsageError: the table is none.
    """
    asked = list(dict.fromkeys(names))
    here = [name for name in asked if name != "latency" or table is None]
    measures: list[OnDevice | FromTable] = [OnDevice(here, device=device)] if here else []
    if table is not None and "latency" in asked:
        measures.insert(0, FromTable(table, space))
    if not measures:
        return None
    return measures[0] if len(measures) == 1 else Together(*measures)
