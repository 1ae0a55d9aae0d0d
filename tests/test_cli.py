"""The command line as a user meets it: what it prints, where, and the exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from commands import ssnr
from ssnr.core.catalogue import PAPER
from ssnr.core.errors import one_line

CELL = "|nor_conv_1x1~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|"

GOLDEN = """
import torch
from torch import nn

def golden():
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.5]]))
        net[2].weight.copy_(torch.tensor([[-1.0, 2.0], [0.5, 1.0]]))
    return net

def raises():
    raise OSError("no weights here")

class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)

    def forward(self, x):
        raise ValueError("half-way")

number = 3
"""


def process(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A real process, for what a runner cannot show."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("SSNR_")} | {"COLUMNS": "200"}
    command = [sys.executable, "-m", "ssnr", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=variables, timeout=300)


@pytest.fixture
def nets(tmp_path):
    (tmp_path / "nets.py").write_text(GOLDEN)
    return tmp_path


def test_score_json_is_one_document_on_stdout(nets):
    run = ssnr("score", "nets.py:golden", "--input-shape", "2", "-p", "synflow/layerwise_ssnr", "-p", "l2_norm",
               "--json", cwd=nets)  # fmt: skip
    assert run.exit_code == 0
    document = json.loads(run.stdout)
    assert set(document) == {"targets", "recipe", "seed", "versions"}
    (target,) = document["targets"]
    assert (target["target"], target["params"], document["recipe"], document["seed"]) == (
        "nets.py:golden",
        8,
        "seed",
        0,
    )
    score = target["scores"]["synflow/layerwise_ssnr"]
    assert score["value"] == pytest.approx(12.2927965761)
    assert (score["status"], score["reason"]) == ("ok", None)
    assert [set(layer) for layer in score["layers"]] == [{"name", "numel", "total", "sigma", "ratio", "flag"}] * 2
    assert target["scores"]["l2_norm"]["value"] == pytest.approx(6.27491721764)


def test_score_shows_a_table_and_the_layers(nets):
    run = ssnr("score", "nets.py:golden", "--input-shape", "2", "-p", PAPER, "--per-layer", cwd=nets)
    assert run.exit_code == 0
    assert "12.2928" in run.stdout
    assert "0.weight" in run.stdout
    assert run.stderr == ""


def test_score_of_a_space_and_of_an_importable_factory(nets):
    run = ssnr("score", f"nasbench201:{CELL}", "nets:golden", "--input-shape", "3,32,32", "-p", PAPER, cwd=nets)
    assert run.exit_code == 1  # golden takes two numbers, not an image
    assert f"nasbench201:{CELL}" in run.stdout
    assert run.stderr.startswith("ssnr: nets:golden: synflow/layerwise_ssnr: layer '0' (Linear) raised RuntimeError")
    assert "on input (1, 3, 32, 32), weight (2, 2)" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_the_batch_that_was_used_is_said_and_its_labels_fit_the_network(nets):
    options = ("--input-shape", "2", "-p", "magnitude", "-p", "snip", "--data", "noise", "--batch-size", "8", "--json")
    run = ssnr("score", "nets.py:golden", *options, cwd=nets)
    assert run.exit_code == 0, run.stderr
    (target,) = json.loads(run.stdout)["targets"]
    assert target["batch"]["fingerprint"].startswith("noise:8:seed0:")
    assert run.stderr == f"batch: {target['batch']['fingerprint']}\n"
    assert ssnr("score", "nets.py:golden", *options, cwd=nets).stdout == run.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["score", "nets.py:golden"], 2, "nets.py:golden: name the shape of one input, such as --input-shape 3,32,32"),
        (["score", "nets.py:goldn"], 2, "unknown name in nets.py 'goldn': did you mean golden?"),
        (["score", "nets.py:number"], 2, "target 'nets.py:number': number is a int, expected a Module"),
        (["score", "nets.py:raises"], 1, "calling raises() raised OSError: no weights here"),
        (["score", "nets.py:golden", "--seed", "9" * 20], 2, f"--seed {'9' * 20}: expected a whole number of at most"),
        (["score", "nowhere.py:f"], 2, "there is no file nowhere.py"),
        (["score", "nasbench201"], 2, "target 'nasbench201': expected SPACE:ARCH, pkg.mod:factory or file.py:factory"),
        (["score", "nasbench21:0"], 2, "unknown space or module 'nasbench21': did you mean nasbench201"),
        (["score", "nasbench201:99999"], 2, "NAS-Bench-201 index 99999: expected 0 … 15,624"),
        (["score", "nasbench201:-1"], 2, "NAS-Bench-201 index -1: expected 0 … 15,624"),
        (["score", "model.pt"], 2, "(saved weights need what builds the network: file.py:factory@FILE)"),
        (["score", "nasbench201:|a~0|"], 2, "1 nodes joined by '+', expected |op~0|+|op~0|op~1|+|op~0|op~1|op~2|"),
        (["score", "nasbench201/cifar1:0"], 2, "unknown NAS-Bench-201 data set 'cifar1': did you mean cifar10"),
        (["score", "nasbench201:0", "-p", "az-nas"], 2, "unknown proxy 'az-nas': did you mean az_nas?"),
        (["score", "nasbench201:0", "-p", "speed"], 2, "unknown proxy 'speed': known are az_nas"),
        (["score", "nasbench201:0", "-p", "snip,synflow"], 2, "repeat -p for each proxy: -p snip -p synflow"),
        (["score", "nasbench201:0", "--recipe", "seed(dtype=float64)", "--dtype", "float32"], 2, "contradict"),
        (["sweep", "nasbench201", "--init", "sharde"], 2, "--init 'sharde': expected independent or shared"),
        (["sweep", "nasbench201", "--executor", "slurm"], 2, "executor 'slurm': expected local, ray or ray:ADDRESS"),
        (["reproduce", "fig2", "--quick"], 2, "No such option: --quick"),
        (["reproduce", "fig2", "--saliency", "snip"], 2, "No such option: --saliency"),
        (["reproduce", "fig2", "--workers", "-1"], 2, "--workers -1: expected at least 1"),
        (["reproduce", "table1", "--workers", "-1"], 2, "--workers -1: expected at least 1"),
        (["score", "nasbench201:0", "-p", "synflw"], 2, "unknown proxy 'synflw': did you mean synflow"),
        (["score", "nasbench201:0", "-p", "synflow/snr"], 2, "unknown aggregate 'snr': did you mean ssnr"),
        (["score", "nasbench201:0", "--recipe", "sed"], 2, "unknown recipe 'sed': did you mean seed"),
        (["score", "nasbench201:0", "--recipe", "seed(dtype=float16)"], 2, "expected float64 or float32"),
        (["score", "nasbench201:0", "--dtype", "half"], 2, "--dtype 'half': expected float64 or float32"),
        (["score", "nasbench201:0", "--input-shape", "a"], 2, "--input-shape 'a': expected positive whole numbers"),
        (["score", "nasbench201:0", "--device", "gpu"], 2, "--device 'gpu': expected auto, cpu, cuda, cuda:1 … or mps"),
        (["score", "nasbench201:0", "-p", "snip", "--data", "imagenet"], 2, "data 'imagenet': expected noise"),
        (["score", "nasbench201:0", "-p", "snip", "--data", "cifar10:."], 2, ". is not CIFAR-10: there is no data"),
        (["score", "nasbench201:0", "-p", "snip", "--batch-size", "0"], 2, "batch size 0: expected at least 1"),
        (["sweep", "nasbench20"], 2, "unknown space 'nasbench20': did you mean nasbench201"),
        (["sweep", "nasbench201", "--archs", "20000"], 2, "cannot draw 20,000 distinct ones"),
        (["sweep", "darts"], 2, "darts has 1,076,746,950,455,072,400 architectures: draw a number with --archs N"),
        (["sweep", "nasbench201", "--archs", "no.txt"], 2, "--archs 'no.txt': expected all, a number, or a file"),
        (["sweep", "nasbench201", "--archs", "bad.txt"], 2, "bad.txt, line 2: NAS-Bench-201 cell 'oops': 1 nodes"),
        (["sweep", "nasbench201", "--archs", "1", "--store", "no/s.sqlite"], 1, "cannot create no/s.sqlite: there"),
        (["sweep", "nasbench201", "--archs", "1", "--store", "nets.py"], 1, "it is not a store, or it is damaged"),
        (["sweep", "nasbench201", "--workers", "0"], 2, "--workers 0: expected at least 1"),
        (["correlate", "no.sqlite", "--benchmark", "nasbench201/cifar10"], 1, "no store at no.sqlite"),
        (["correlate", "no.sqlite", "--benchmark", "nasbench201/cifar11"], 2, "unknown benchmark 'nasbench201/cifar1"),
        (["correlate", "no.sqlite", "--benchmark", "nasbench201/cifar10", "--top", "1,ten"], 2,
         "--top 1,ten: expected percentages such as 1,5,10"),
        (["correlate", "no.sqlite", "--benchmark", "nasbench201/cifar10", "--top", "0"], 2,
         "--top 0: 0 is no percentage above 0 and up to 100"),
        (["correlate", "no.sqlite", "--benchmark", "nasbench201/cifar10", "--population", "use"], 2,
         "unknown population 'use': did you mean used"),
        (["score", "nasbench201:0", "-p", "rank(snip/layerwise_ssnr(0.5,8),zen)"], 2,
         "a combination of ranks, which one network does not have"),
        (["reproduce", "fig3"], 2, "unknown command 'fig3': expected evidence, fig1, fig2, proxies, search or table1"),
        (["list", "proxy"], 2, "unknown list 'proxy': did you mean proxies"),
        (["fetch", "nasbench"], 2, "unknown benchmark 'nasbench'"),
        (["score"], 2, "Missing argument"),
        (["nonsense"], 2, "unknown command 'nonsense': expected build, check, correlate, export"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_bad_input_gets_one_clear_line(nets, arguments, code, said):
    (nets / "bad.txt").write_text(f"{CELL}\noops\n")
    run = ssnr(*arguments, cwd=nets)
    assert run.exit_code == code, run.stderr
    assert said in run.stderr
    assert run.stdout == ""
    assert len(run.stderr.splitlines()) == 1


def test_what_a_users_code_prints_is_no_part_of_the_document(nets):
    (nets / "nets.py").write_text(
        'print("imported")\n' + GOLDEN.replace("    net = nn", '    print("made")\n    net = nn')
    )
    run = ssnr("score", "nets.py:golden", "--input-shape", "2", "-p", "grasp", "--data", "noise", "--check", "--json",
               cwd=nets)  # fmt: skip
    assert json.loads(run.stdout)["targets"][0]["scores"]["grasp"]["notes"] == []
    assert run.stderr.split("batch: ")[0].split() == ["imported", "made"]


def test_a_forward_that_raises_is_a_failed_score_with_exit_1(nets):
    run = ssnr("score", "nets.py:Broken", "--input-shape", "2", "-p", PAPER, "--json", cwd=nets)
    assert run.exit_code == 1
    score = json.loads(run.stdout)["targets"][0]["scores"]["synflow/layerwise_ssnr"]
    assert (score["value"], score["status"]) == (None, "failed")
    assert "the network (Broken) raised ValueError on input (1, 2): half-way" in score["reason"]
    assert len(run.stderr.splitlines()) == 1


def test_debug_shows_the_traceback(nets):
    run = ssnr("score", "nets.py:raises", "--debug", cwd=nets)
    assert run.exit_code == 1
    assert "Traceback" in run.stderr


def test_sweep_correlate_and_a_new_aggregate_that_scores_nothing_again(nets):
    (nets / "table.csv").write_text(
        "architecture,accuracy\n" + "".join(f'"({",".join(map(str, t))})",{90 - n}\n' for n, t in enumerate(TUPLES))
    )
    (nets / "archs.txt").write_text("# five cells\n" + "\n".join(map(str, TUPLES)))
    run = ssnr(
        "sweep", "nasbench201", "-p", "synflow", "--archs", "archs.txt", "--store", "s.sqlite", "--json", cwd=nets
    )
    assert run.exit_code == 0, run.stderr
    assert json.loads(run.stdout) == {
        "space": "nasbench201", "store": "s.sqlite", "architectures": 5, "networks": 5, "scored": 5, "failed": 0,
        "lost": [], "repeats": 0, "drawn": None,
    }  # fmt: skip
    proxy = "synflow/layerwise_ssnr(0.75,3)"
    run = ssnr("correlate", "s.sqlite", "--benchmark", "table.csv", "-p", proxy, "--json", cwd=nets)
    assert run.exit_code == 0, run.stderr
    document = json.loads(run.stdout)
    assert (document["n"], document["coverage"]) == (5, 1.0)
    rows = {row["proxy"]: row for row in document["rows"]}
    assert set(rows) == {proxy, "params", "flops", "reachable_params", "layers"}
    assert {row["kind"] for row in document["rows"]} == {"proxy", "control"}
    assert {"spearman", "spearman_ci", "kendall", "kendall_ci", "n", "failed", "dead", "ties"} <= set(rows[proxy])
    taus = [row["kendall"] for row in document["rows"] if row["kendall"] is not None]
    assert taus == sorted(taus, reverse=True)
    run = ssnr("correlate", "s.sqlite", "--benchmark", "table.csv", "-p", proxy, "--json", "--population", "used",
               "--top", "50,100%", cwd=nets)  # fmt: skip
    document = json.loads(run.stdout)
    assert (document["population"], document["n"]) == ("used", 4)
    assert [[top["share"] for top in row["top"]] for row in document["rows"]] == [[0.5, 1.0]] * 5
    shown = ssnr("correlate", "s.sqlite", "--benchmark", "table.csv", "--top", "50", cwd=nets)
    assert "the top 50 %" in shown.stdout
    for form, start in (("--csv", "benchmark,"), ("--latex", "% table.csv")):
        shown = ssnr("correlate", "s.sqlite", "--benchmark", "table.csv", form, cwd=nets)
        assert shown.exit_code == 0, shown.stderr
        assert shown.stdout.startswith(start), shown.stdout


TUPLES = [(4, 0, 3, 1, 4, 3), (2, 2, 2, 2, 2, 2), (0, 0, 0, 0, 0, 0), (3, 1, 0, 4, 1, 3), (1, 3, 0, 1, 0, 4)]


@pytest.mark.parametrize("kind", ["proxies", "aggregates", "spaces", "benchmarks", "published", "recipes"])
def test_list_shows_each_registry_and_its_json_has_the_same_rows(kind):
    shown, document = ssnr("list", kind), ssnr("list", kind, "--json")
    assert shown.exit_code == document.exit_code == 0
    for row in json.loads(document.stdout):
        assert str(next(iter(row.values()))) in shown.stdout


def test_every_proxy_says_which_direction_is_better():
    rows = {row["proxy"]: row["better"] for row in json.loads(ssnr("list", "proxies", "--json").stdout)}
    assert rows["synflow"] == rows["naswot"] == "higher" and rows["ntk"] == rows["latency"] == "lower"
    assert set(rows.values()) == {"higher", "lower"}


def test_help_and_version_import_no_torch():
    code = (
        "import sys\nfrom ssnr import cli\nsys.argv = ['ssnr', '--help']\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "assert not {'torch', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert process("--version").stdout == "ssnr 0.1.0\n"


def test_a_folder_that_cannot_be_written_is_named(nets):
    (nets / "out").write_text("a file")
    run = ssnr("reproduce", "fig2", "--out", "out", "--source", "analog", cwd=nets)
    assert run.exit_code == 1
    assert run.stderr.startswith("ssnr: cannot create the folder out: File exists")


def test_debug_keeps_the_exit_code(nets):
    run = ssnr("score", "nasbench201:0", "-p", "synflw", "--debug", cwd=nets)
    assert run.exit_code == 2
    assert "Traceback" in run.stderr and run.stderr.splitlines()[-1].startswith("ssnr: unknown proxy 'synflw'")


@pytest.mark.parametrize("group", [(), ("reproduce",)])
def test_a_group_alone_shows_its_help_and_no_blank_line(group):
    run = ssnr(*group)
    assert run.exit_code == 2
    assert "Usage:" in run.output and "ssnr: \n" not in run.output


def test_a_module_of_this_folder_and_a_neighbour_of_a_file_are_found(nets):
    (nets / "sub").mkdir()
    (nets / "sub" / "sibling_w.py").write_text(GOLDEN)
    (nets / "sub" / "j.py").write_text("from sibling_w import golden as w\n")
    (nets / "models_here.py").write_text(GOLDEN)
    run = ssnr("score", "sub/j.py:w", "models_here:golden", "--input-shape", "2", "--json", cwd=nets)
    assert run.exit_code == 0, run.stderr
    assert [t["params"] for t in json.loads(run.stdout)["targets"]] == [8, 8]


def test_shapes_one_each_and_rows_by_score(nets):
    (nets / "more.py").write_text("from torch import nn\ndef wide(): return nn.Linear(3, 50)\n")
    targets = ("nets.py:golden", "more.py:wide")
    run = ssnr("score", *targets, "--input-shape", "2", "--input-shape", "3", "-p", "params", "--sort", "--json",
               cwd=nets)  # fmt: skip
    assert run.exit_code == 0, run.stderr
    assert [t["target"] for t in json.loads(run.stdout)["targets"]] == ["more.py:wide", "nets.py:golden"]
    wrong = ssnr("score", *targets, *("--input-shape", "2") * 3, cwd=nets)
    assert (wrong.exit_code, wrong.stderr) == (
        2, "ssnr: 3 times --input-shape for 2 targets: expected one for all, or one each\n",
    )  # fmt: skip


def test_too_large_an_input_says_how_much_memory_it_asked_for(nets):
    assert one_line(RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you "
                                 "tried to allocate 42949672960 bytes. Error code 12")) == (
        "not enough memory: it asked for 40.0 GiB at once"
    )  # fmt: skip
    run = ssnr("score", "nets.py:golden", "--input-shape", "99999,99999", cwd=nets)
    assert (run.exit_code, run.stderr) == (
        2, "ssnr: --input-shape '99999,99999': one input has 9,999,800,001 numbers, expected at most 2³¹\n",
    )  # fmt: skip


def test_a_shell_can_complete_commands_and_options():
    asked = {"_SSNR_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    assert ssnr(COMP_WORDS="ssnr swe", **asked).stdout == "sweep\n"
    script = ssnr("--show-completion", "bash")
    assert (script.exit_code, script.stdout.splitlines()[0]) == (0, "_ssnr_completion() {")
