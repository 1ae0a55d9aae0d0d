"""Widths of NAS-Bench-101's network: plain data."""

from __future__ import annotations

from collections.abc import Iterator

from ssnr.spaces.nasbench101.cells import Cell

WIDTHS, CELLS_PER_STACK, STEM = (128, 256, 512), 3, 128


# --- arithmetic -----------------------------------------------------------------------------------------------


def vertex_widths(cell: Cell, width_out: int) -> list[int]:
    """Channels of the interior vertices of a pruned cell.

    Those that feed the output share its channels, the first ones getting one more where that does not divide; any
    other is as wide as the widest that it feeds.

    >>> from ssnr.spaces.nasbench101.text import parse_cell
    >>> vertex_widths(parse_cell("conv1x1~0+conv3x3~0+conv3x3~0,1+output~1,2,3"), 128)
    [43, 43, 42]
    """
    ends = [v for v in cell.sources[-1] if v > 0]
    widths = [0] * (len(cell.ops) + 1)  # by vertex; 0 for the input
    for place, vertex in enumerate(ends):
        widths[vertex] = width_out // len(ends) + (place < width_out % len(ends))
    for vertex in range(len(cell.ops), 0, -1):
        if not widths[vertex]:
            widths[vertex] = max(widths[t] for t in range(vertex + 1, len(widths)) if vertex in cell.sources[t - 1])
    return widths[1:]


def cell_channels() -> Iterator[tuple[int, int, int]]:
    """(channels in, channels out, halvings of the size before it) of the nine cells."""
    width = STEM
    for stack, wide in enumerate(WIDTHS):
        for _ in range(CELLS_PER_STACK):
            yield width, wide, stack
            width = wide
