"""The page itself: one HTML file with its data, its program and Plotly inside, for any browser, without a network."""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from importlib import resources
from pathlib import Path

from ssnr import benchmarks as tables
from ssnr.core.errors import SsnrError, UsageError
from ssnr.reports.content import content
from ssnr.store import Store
from ssnr.studies.selection import BenchmarkTable


def report(
    stores: str | Path | Store | Sequence[str | Path | Store],
    path: str | Path,
    *,
    benchmarks: Sequence[str | BenchmarkTable] = (),
    proxies: Iterable[str] | None = None,
    title: str | None = None,
) -> Path:
    """Write a sweep as one self-contained page.

    Correlations with controls and intervals, score against accuracy, the front over a count, the top of the ranking,
    ranks of two scores, layers of a network, searches, and what was measured. It opens from a mail: nothing is loaded
    from elsewhere. Where there are no accuracies, scores stand against counts.

    Args:
        stores: what to show: a store or several.
        path: of the page.
        benchmarks: accuracies by name, as `load_benchmark` knows them; by default all that belong to the stores'
            spaces and are on this machine, or none.
        proxies: as in `study`; by default all that the stores hold.
        title: above the page.

    Raises:
        UsageError: nothing of what is asked for is in the stores; Plotly is not installed.
        SsnrError: the page cannot be written.
    """
    several = [stores] if isinstance(stores, (str, Path, Store)) else list(stores)
    program = _plotly()
    with ExitStack() as stack:
        opened = [one if isinstance(one, Store) else stack.enter_context(Store(one, create=False)) for one in several]
        chosen = [tables.load(one) if isinstance(one, str) else one for one in benchmarks] or _all_of(opened)
        named = title or f"Scores of {', '.join(sorted({s for store in opened for s in store.spaces()}))}"
        document = content(opened, chosen, proxies, named)
    page = render(document, program)
    try:
        Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        raise SsnrError(f"cannot write {path}: {error.strerror or error}") from error
    return Path(path)


def render(document: dict[str, object], plotly: str) -> str:
    """The HTML of a document; everything in it is data, never markup."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    parts = {name: _file(name) for name in ("page.html", "page.css", "search.js", "page.js")}
    return (
        parts["page.html"]
        .replace("{{title}}", html.escape(str(document["title"])))
        .replace("{{css}}", parts["page.css"])
        .replace("{{data}}", _packed(text))
        .replace("{{plotly}}", _packed(plotly))
        .replace("{{js}}", parts["search.js"] + parts["page.js"])
    )


def _packed(text: str) -> str:
    """Gzip in base64: a third of the size, and nothing that HTML could take for its own."""
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def _file(name: str) -> str:
    return (resources.files("ssnr.reports") / name).read_text(encoding="utf-8")


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise UsageError("a report needs Plotly: pip install 'ssnr[report]'") from error
    return str(get_plotlyjs())


def _all_of(stores: Sequence[Store]) -> list[BenchmarkTable]:
    """Every benchmark of the stores' families whose file is here, in the first such source; nothing is downloaded."""
    families = {space.partition("/")[0] for store in stores for space in store.spaces()}
    here: dict[str, str] = {}
    for row in tables.CATALOGUE:
        if row.name.partition("/")[0] in families and row.here:
            here.setdefault(row.name, row.source)
    return [tables.load(name, source) for name, source in here.items()]
