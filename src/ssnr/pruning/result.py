"""Masks as a value: what is kept, layer by layer, in memory and in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ssnr.core.errors import SsnrError, UsageError
from ssnr.core.views import html_table

if TYPE_CHECKING:
    import pandas as pd

_FORMAT = "ssnr masks 1"


@dataclass(frozen=True, eq=False, repr=False)
class Masks:
    """Which weights of a network are kept.

    Attributes:
        tensors: parameter name → bool tensor of the parameter's shape, True where the weight is kept.
        how: what they were computed with: saliency, density asked for, scope, rounds, recipe, seed, batch.
    """

    tensors: dict[str, Tensor]
    how: Mapping[str, Any] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of weights that could have been pruned."""
        return sum(mask.numel() for mask in self.tensors.values())

    @property
    def kept(self) -> int:
        """Number of weights that are left."""
        return sum(int(mask.sum()) for mask in self.tensors.values())

    @property
    def density(self) -> float:
        """The share of the weights that is left."""
        return self.kept / self.total

    @property
    def collapsed(self) -> tuple[str, ...]:
        """Layers that have no weight left."""
        return tuple(name for name, mask in self.tensors.items() if not bool(mask.any()))

    def table(self) -> pd.DataFrame:
        """One row per layer: name, numel, kept, density, collapsed."""
        import pandas as pd

        rows = [(name, mask.numel(), int(mask.sum())) for name, mask in self.tensors.items()]
        table = pd.DataFrame(rows, columns=["name", "numel", "kept"])
        return table.assign(density=table["kept"] / table["numel"], collapsed=table["kept"] == 0)

    def to_frame(self) -> pd.DataFrame:
        """The same as `table`: every result has `to_frame`."""
        return self.table()

    def plot(self, *, backend: str = "matplotlib") -> Any:
        """The share of each layer that is kept, with the share of all as a line.

        Raises:
            UsageError: another backend than matplotlib or plotly (extra `report`).
        """
        from ssnr.core.figures import bars

        table, label = self.table(), "share of the weights that is kept (dashed: of all layers)"
        return bars(list(table["name"]), {label: list(table["density"])}, self._headline(), mark=self.density,
                    backend=backend)  # fmt: skip

    def _headline(self) -> str:
        empty = f", {len(self.collapsed)} of {len(self.tensors)} layers empty" if self.collapsed else ""
        by = f" by {self.how['saliency']}" if "saliency" in self.how else ""
        return f"{self.kept:,} of {self.total:,} weights kept{by} ({self.density:.3g}){empty}"

    def __repr__(self) -> str:
        return f"Masks({self._headline()})"

    def _repr_html_(self) -> str:
        rows = [
            (name, f"{mask.numel():,}", f"{int(mask.sum()):,}", f"{int(mask.sum()) / mask.numel():.3g}")
            for name, mask in self.tensors.items()
        ]
        return html_table(("layer", "weights", "kept", "share"), rows, self._headline())

    def save(self, path: str | Path) -> None:
        """Write them as plain tensors: `torch.load(path, weights_only=True)["masks"]` is a dictionary of bool tensors.

        Raises:
            SsnrError: the file cannot be written.
        """
        masks = {name: mask.cpu().contiguous() for name, mask in self.tensors.items()}
        try:
            with Path(path).open("wb") as stream:
                torch.save({"format": _FORMAT, "masks": masks, "how": dict(self.how)}, stream)
        except OSError as error:
            raise SsnrError(f"cannot write {path}: {error.strerror}") from error

    @classmethod
    def load(cls, path: str | Path) -> Masks:
        """Read what `save` wrote; nothing but tensors and plain values is unpickled.

        Raises:
            UsageError: no such file, or not a file of masks.
        """
        try:
            with Path(path).open("rb") as stream:
                content = torch.load(stream, map_location="cpu", weights_only=True)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from error
        except Exception as error:  # a damaged pickle may raise anything
            raise UsageError(f"{path} is not a file of masks (`Masks.save`, `ssnr prune`)") from error
        whole = isinstance(content, dict) and content.get("format") == _FORMAT and isinstance(content.get("how"), dict)
        masks = content.get("masks") if whole else None
        if not isinstance(masks, dict) or not all(isinstance(mask, Tensor) for mask in masks.values()):
            raise UsageError(f"{path} is not a file of masks (`Masks.save`, `ssnr prune`)")
        return cls(masks, content["how"])
