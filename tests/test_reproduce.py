from __future__ import annotations

import io
import json

import pandas as pd
import pytest

from ssnr.core.errors import SsnrError, UsageError
from ssnr.paper.fig2 import FIG2_PAPER, fig2
from ssnr.store import Store
from sweeps import benchmark, fill, group, moments

ACCURACY = {f"{k:02}": 50.0 + k for k in range(20)}


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "sweep.sqlite") as opened:
        # The sum rises with accuracy but for one exchange; the spread rises with the sum's square.
        outcomes = {name: moments([k + 1.0, 3.0 * k + 1.0], [1.0, 1.0 + k * k]) for k, name in enumerate(ACCURACY)}
        outcomes["03"], outcomes["17"] = outcomes["17"], outcomes["03"]
        controls = {name: (k, k, k, 4) for k, name in enumerate(ACCURACY)}
        yield fill(opened, outcomes, controls=controls)


def test_the_papers_values_stand_beside_our_own_in_its_order(store, tmp_path):
    result = fig2(store, benchmark(ACCURACY), tmp_path / "out")
    proxies = result.table[result.table["kind"] == "proxy"]
    assert dict(zip(proxies["proxy"], proxies["paper"], strict=True)) == FIG2_PAPER
    assert list(FIG2_PAPER.values()) == [0.7754, 0.7785, 0.8178]
    assert (proxies["difference"] == proxies["spearman"] - proxies["paper"]).all()
    assert (proxies["spearman_lo"] <= proxies["spearman"]).all()
    assert set(result.table.query("kind == 'control'")["proxy"]) == {"params", "flops", "reachable_params", "layers"}


def test_picture_table_and_text_are_written(store, tmp_path):
    result = fig2(store, benchmark(ACCURACY), tmp_path / "new" / "out")
    assert [file.name for file in result.files] == ["fig2.png", "fig2.pdf", "fig2.csv", "fig2.md"]
    assert all(file.stat().st_size for file in result.files)
    written = pd.read_csv(result.files[2], keep_default_na=False, na_values={"paper": "", "difference": ""})
    assert written["proxy"].tolist() == result.table["proxy"].tolist()
    text = result.files[3].read_text(encoding="utf-8")
    row = result.table.iloc[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert any(c[:2] == ["synflow/sum", "0.7754"] and c[2].startswith(f"{row['spearman']:.4f} [") for c in cells)
    assert any(c[:4] == ["reachable_params (control)", "", "1.0000 [1.000, 1.000]", ""] for c in cells)
    assert ["layers (control)", "", "constant", "", "constant"] in cells


def test_the_protocol_is_written_down(store, tmp_path):
    result = fig2(store, benchmark(ACCURACY), tmp_path, ci=False)
    assert result.description.startswith(
        "20 architectures (100 % of toy/cifar10), test accuracy (%), 200 epochs, source hand. "
        "Synflow with recipe seed, initial weights from seed 0"
    )
    assert result.description in result.files[3].read_text(encoding="utf-8")


def test_json_and_terminal_say_the_same(store, tmp_path):
    from rich.console import Console

    result = fig2(store, benchmark(ACCURACY), tmp_path)
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert {r["proxy"]: r["paper"] for r in document["rows"] if r["kind"] == "proxy"} == FIG2_PAPER
    assert document["files"] == [str(file) for file in result.files]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(result.to_rich())
    assert f"{result.table['difference'].iloc[0]:+.4f}" in console.export_text()


def test_run_twice_the_bytes_are_the_same(store, tmp_path):
    first, second = (fig2(store, benchmark(ACCURACY), tmp_path / name) for name in "ab")
    for one, other in zip(first.files, second.files, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_another_seed_of_the_same_store_does_not_mix_in(store, tmp_path):
    fill(store, dict.fromkeys(ACCURACY, 1.0), group(seed=1))
    assert fig2(store, benchmark(ACCURACY), tmp_path).table["note"].iloc[0] == ""
    assert fig2(store, benchmark(ACCURACY), tmp_path, seed=1).table["note"].iloc[0] == "constant"


def test_a_store_without_synflow_is_refused(tmp_path):
    with Store(tmp_path / "sweep.sqlite") as store:
        fill(store, dict.fromkeys(ACCURACY, 1.0), group("plain", data="noise"))
        with pytest.raises(UsageError, match=r"^store .* does not hold what synflow/sum needs for toy"):
            fig2(store, benchmark(ACCURACY), tmp_path)


def test_a_folder_that_is_a_file_is_named(store, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(SsnrError, match=r"^cannot write .*taken/fig2\.png and \.pdf: "):
        fig2(store, benchmark(ACCURACY), tmp_path / "taken")
