"""Spaces of a user's own: a function of a trial, or of arguments with values to choose from."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from itertools import count as counting
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ssnr
from commands import ssnr as command
from spaces.contract import SpaceContract
from ssnr.spaces.functions import FunctionSpace, making
from ssnr.spaces.functions.trial import Drawn

torch.set_num_threads(1)


def mlp(depth: int, width: int, act: type[nn.Module]) -> nn.Module:
    """Layers of one width."""
    layers: list[nn.Module] = [nn.Linear(12, width), act()]
    for _ in range(depth):
        layers += [nn.Linear(width, width), act()]
    return nn.Sequential(*layers, nn.Linear(width, 5))


def staged(trial: Any) -> nn.Module:
    """As many stages as the trial says, each of a width of its own, and what a kernel needs where there is one."""
    layers, channels = [], 3
    for stage in range(trial.suggest_int("stages", 1, 3)):
        width = trial.suggest_categorical(f"width{stage}", [4, 6])
        kind = trial.suggest_categorical("kind", ["conv", "pool"])
        if kind == "conv":
            kernel = trial.suggest_int("kernel", 1, 3, step=2)
            layers += [nn.Conv2d(channels, width, kernel, padding=kernel // 2), nn.ReLU()]
            channels = width
        else:
            layers.append(nn.AvgPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 7))


MLP = ssnr.space(mlp, name="own-mlp", input_shape=(12,), depth=[0, 1, 2], width=range(4, 41, 4), act=[nn.ReLU, nn.GELU])
STAGED = ssnr.space(staged, name="own-staged", input_shape=(3, 8, 8))
PAIRS = "expected NAME=VALUE,…, such as depth=3,width=64"


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """What a test makes known is forgotten after it."""
    for owner, name in ((ssnr.spaces.SPACES, "_entries"), (making, "_own")):
        monkeypatch.setattr(owner, name, dict(getattr(owner, name)))


def differing(one: str, other: str) -> int:
    """Parameters that both have, with another value."""
    a, b = (dict(part.split("=") for part in arch.split(",")) for arch in (one, other))
    return sum(a[name] != b[name] for name in a.keys() & b.keys())


class OwnContract(SpaceContract):
    def changes(self, arch: str, near: str) -> int:
        return differing(arch, near)

    def small_shape(self) -> tuple[int, ...]:
        return self.space.input_shape

    def test_nothing_but_building_imports_torch(self):
        """Not promised: the user's own file imports it."""


class TestArguments(OwnContract):
    space = MLP
    archs = ("depth=0,width=4,act=ReLU", "depth=2,width=16,act=GELU")
    bad = (
        ("depth=0,width=5,act=ReLU", "own-mlp 'depth=0,width=5,act=ReLU': "
         "width=5 is not one of 4, 8, 12, 16, 20, 24, 28, … 40"),
        ("depth=3,width=4,act=ReLU", "own-mlp 'depth=3,width=4,act=ReLU': depth=3 is not one of 0, 1, 2"),
        ("depth=0,act=ReLU", "own-mlp 'depth=0,act=ReLU': width is missing"),
        ({"depth": 0, "width": 4, "act": nn.Tanh}, "own-mlp {'depth': 0, 'width': 4, 'act': <class "
         "'torch.nn.modules.activation.Tanh'>}: act=Tanh is not one of ReLU, GELU"),
        ("3", f"own-mlp '3': '3' is no NAME=VALUE; {PAIRS}"),
        (None, f"own-mlp None: {PAIRS}"),
    )  # fmt: skip

    def test_neighbours_are_all_values_of_each_parameter(self):
        assert len(list(MLP.neighbours(self.archs[0]))) == 2 + 9 + 1


class TestTrial(OwnContract):
    space = STAGED
    archs = ("stages=1,width0=4,kind=conv,kernel=3", "stages=3,width0=6,kind=pool,width1=4,width2=4")
    whole = False
    bad = (
        ("stages=4", "own-staged 'stages=4': stages=4 is not a whole number from 1 to 3"),
        ("stages=1,width0=4,kind=conv", "own-staged 'stages=1,width0=4,kind=conv': kernel is missing"),
        ("stages=1,width0=4,kind=pool,kernel=3",
         "own-staged 'stages=1,width0=4,kind=pool,kernel=3': unknown parameter 'kernel': known are kind, stages, "
         "width0"),
        ("stages=1,stages=1", "own-staged 'stages=1,stages=1': stages is given twice"),
    )  # fmt: skip

    def test_all_lists_every_architecture_once(self):
        # Widths 2 + 4 + 8 ways; each with a pooling, or with a convolution of two kernels.
        listed = list(STAGED.all())
        assert len(set(listed)) == len(listed) == (2 + 4 + 8) * 3
        assert all(STAGED.parse(arch) == arch for arch in listed)
        assert STAGED.size is None
        with pytest.raises(ssnr.UsageError, match=r"^space own-staged: the number of its architectures is not known$"):
            len(STAGED)

    def test_drawing_many_gives_different_ones(self):
        assert len(set(STAGED.sample_many(40, random.Random(0)))) == 40
        with pytest.raises(ssnr.UsageError, match=r"42 distinct architectures, and nothing new in 300 draws: cannot"):
            STAGED.sample_many(43, random.Random(0))

    def test_what_comes_with_a_change_takes_every_value_it_can_have(self):
        near = set(STAGED.neighbours("stages=1,width0=4,kind=pool"))
        assert near == {
            "stages=1,width0=6,kind=pool",
            "stages=1,width0=4,kind=conv,kernel=1",
            "stages=1,width0=4,kind=conv,kernel=3",
            *(f"stages=2,width0=4,kind=pool,width1={w}" for w in (4, 6)),
            *(f"stages=3,width0=4,kind=pool,width1={v},width2={w}" for v in (4, 6) for w in (4, 6)),
        }


# --- values ---


def walked(ask: Any, seed: int = 0) -> dict[str, Any]:
    """What a function asks of a trial that draws."""
    trial = ssnr.Trial(Drawn(random.Random(seed)))
    ask(trial)
    return trial.params


def one_of(ask: Any, **options: Any) -> FunctionSpace:
    """A space of one parameter."""

    def build(trial: Any) -> nn.Module:
        ask(trial)
        return nn.Linear(2, 2)

    return ssnr.space(build, name="own-one", input_shape=(2,), **options)


@pytest.mark.parametrize(
    ("ask", "values"),
    [
        (lambda t: t.suggest_int("n", 2, 9, step=3), ["n=2", "n=5", "n=8"]),
        (lambda t: t.suggest_float("x", 0.1, 0.45, step=0.1), ["x=0.1", "x=0.2", "x=0.3", "x=0.4"]),
        (lambda t: t.suggest_categorical("c", ["a,b=c", None, True, 1.5, (3, 5), len, ""]),
         ["c=a%2Cb%3Dc", "c=None", "c=True", "c=1.5", "c=3x5", "c=len", "c=''"]),
    ],
)  # fmt: skip
def test_values_are_written_so_that_they_can_be_read_again(ask, values):
    space = one_of(ask)
    assert list(space.all()) == values
    assert [space.parse(text) for text in values] == values


@pytest.mark.parametrize("log", [False, True])
def test_drawn_values_stay_in_their_range(log):
    found = [walked(lambda t: (t.suggest_int("n", 1, 20, log=log), t.suggest_float("x", 0.5, 8, log=log)), s)
             for s in range(300)]  # fmt: skip
    assert {params["n"] for params in found} == set(range(1, 21))
    assert all(0.5 <= params["x"] <= 8 for params in found)
    # Half of the draws are below the middle: 4.25, or 2 where it is the logarithm that is uniform.
    assert 110 < sum(params["x"] < (2 if log else 4.25) for params in found) < 190


def test_real_numbers_have_no_list_but_neighbours_on_a_grid():
    space = one_of(lambda t: t.suggest_float("x", 0, 7))
    assert list(space.neighbours("x=2.5")) == [f"x={k}.0" for k in range(8)]
    assert list(space.neighbours("x=3.0")) == [f"x={k}.0" for k in range(8) if k != 3]
    with pytest.raises(
        ssnr.UsageError, match=r"^space own-one: x is a real number, so its architectures have no list$"
    ):
        list(space.all())
    assert space.parse(space.sample(random.Random(1))) == space.sample(random.Random(1))
    assert space.mutate("x=2.5", random.Random(1)) != "x=2.5"


def test_a_name_that_is_asked_for_twice_keeps_its_value():
    assert walked(lambda t: [t.suggest_int("n", 1, 1000) for _ in range(2)]).keys() == {"n"}
    found = []
    walked(lambda t: found.extend(t.suggest_int("n", 1, 1000) for _ in range(2)))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda t: t.suggest_int("n", 5, 3), r"trial.suggest_int\('n', …\): the range from 5 to 3 is empty"),
        (lambda t: t.suggest_int("n", 0.5, 3), r"trial.suggest_int\('n', …\): 0.5 is no whole number"),
        (lambda t: t.suggest_int("n", 0, 3, log=True), r"a logarithmic range of whole numbers starts at 1 or above"),
        (lambda t: t.suggest_int("n", 1, 3, step=0), r"a step of 0: expected one above 0"),
        (lambda t: t.suggest_float("x", 0, 1, log=True), r"a logarithmic range starts above 0, got 0"),
        (lambda t: t.suggest_float("x", 0.1, 1, step=0.1, log=True), r"a logarithmic range has no step"),
        (lambda t: t.suggest_float("x", 0, float("inf")), r"inf is no finite number"),
        (lambda t: t.suggest_categorical("c", []), r"trial.suggest_categorical\('c', …\): no values to choose from"),
        (lambda t: t.suggest_categorical("c", [1, "1"]), r"1 and '1' are both written 1"),
        (lambda t: t.suggest_categorical("c", [object()]), r"has no name to write it by: expected numbers, texts"),
        (lambda t: t.suggest_int("a,b", 1, 2), r"a parameter named 'a,b': expected a text without , = and :"),
        (lambda t: (t.suggest_int("n", 1, 2), t.suggest_int("n", 1, 3)), r"'n' was asked for twice, as Whole"),
        (lambda t: None, r"build\(trial\) asks its trial for nothing \(trial.suggest_int, …\)"),
    ],
)  # fmt: skip
def test_a_trial_that_is_asked_wrongly_says_so(ask, said):
    with pytest.raises(ssnr.UsageError, match=rf"^space own-one: .*{said}"):
        one_of(ask).sample(random.Random(0))


# --- making ---


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ssnr.space(mlp), r"mlp: mlp\(depth, width, act\) does not take a trial alone: expected build\(trial"),
        (lambda: ssnr.space(mlp, depth=[1], widht=[2]), r"does not take depth, widht: missing a required arg"),
        (lambda: ssnr.space(mlp, depth=3, width=[4], act=[nn.ReLU]), r"depth: expected a list or range of values"),
        (lambda: ssnr.space(mlp, depth=[], width=[4], act=[nn.ReLU]), r"depth: no values to choose from$"),
        (lambda: ssnr.space(lambda trial: None), r"has no name of its own: give the space one, name=…$"),
        (lambda: ssnr.space(staged, name="vgg"), r"^a space named 'vgg' comes with ssnr: give yours another name$"),
        (lambda: ssnr.space(staged, name="a b"), r"^a space named 'a b': expected a text without spaces, / , and =$"),
        (lambda: ssnr.space("x.py:build"), r"^expected a function that builds a network, got str"),
        (lambda: ssnr.space(staged, input_shape=(3, 0)), r"its input_shape is \(3, 0\), expected whole numbers"),
    ],
)  # fmt: skip
def test_what_makes_no_space_says_so(make, said):
    with pytest.raises(ssnr.UsageError, match=said):
        make()


def test_it_is_a_decorator_too_and_a_new_one_takes_the_place_of_an_old_one():
    @ssnr.space(name="own-decorated", input_shape=(3, 8, 8))
    def build(trial):
        """A doc."""
        return staged(trial)

    assert ssnr.get_space("own-decorated") is build
    assert build.parse({"stages": 1, "width0": 4, "kind": "pool"}) == "stages=1,width0=4,kind=pool"
    assert ssnr.space(build, name="own-decorated", input_shape=(3, 4, 4)).input_shape == (3, 4, 4)
    assert ssnr.get_space("own-decorated").input_shape == (3, 4, 4)


def test_the_input_shape_may_be_the_function_s_or_the_network_s():
    def build(trial):
        return staged(trial)

    with pytest.raises(ssnr.UsageError, match=r"the shape of one input is not known: ssnr.space\(…, input_shape="):
        ssnr.space(build, name="own-shape").input_shape  # noqa: B018 - it raises
    build.input_shape = [3, 6, 6]
    assert ssnr.space(build, name="own-shape").input_shape == (3, 6, 6)

    def telling(trial):
        net = staged(trial)
        net.input_shape = (3, 5, 5)
        return net

    own = ssnr.space(telling, name="own-shape")
    assert (own.input_shape, own.num_classes) == ((3, 5, 5), 7)


def test_a_function_that_is_not_deterministic_is_refused():
    turns = counting()

    def grows(trial):
        return nn.Linear(trial.suggest_int("n", 1, 9), 10 + next(turns))

    own = ssnr.space(grows, name="own-grows", input_shape=(3,))
    said = (
        r"^space own-grows: n=3 built twice gives two networks: weight is 1\dx3 and then 1\dx3; a build may depend on"
    )
    with pytest.raises(ssnr.UsageError, match=said.replace("x", "×")):
        own.build("n=3")

    def wavers(trial):
        trial.suggest_int(f"n{next(turns) % 2}", 1, 2)
        return nn.Linear(2, 2)

    own = ssnr.space(wavers, name="own-wavers", input_shape=(2,))
    with pytest.raises(ssnr.UsageError, match=r"built twice gives two networks: the second time n\d is missing"):
        own.build(own.sample(random.Random(0)))

    def drawing(trial):
        return nn.Linear(trial.suggest_int("n", 1, 9), int(torch.randint(1, 1 << 40, ()) % 1000 + 1))

    with pytest.raises(ssnr.UsageError, match="two networks: weight is"):
        ssnr.space(drawing, name="own-drawing", input_shape=(2,)).counts("n=2")


# --- elsewhere: workers, stores, the command line ---

FILE = '''
from torch import nn

print("this is no part of any answer")


class Wide(nn.Linear):
    """Of the file's own."""


def build(trial):
    """Three wide layers."""
    width = trial.suggest_int("width", 2, 9)
    if width == 5:
        raise ValueError("five is\\nright out")
    if width == 6:
        return "six"
    return nn.Sequential(Wide(4, width), nn.ReLU(), trial.suggest_categorical("kind", [Wide, nn.Linear])(width, 3))


build.input_shape = (4,)


def plain(width, kind):
    return build.__globals__["nn"].Sequential(kind(4, width), kind(width, 3))


import ssnr
few = ssnr.space(plain, name="own-few", input_shape=(4,), width=[2, 3], kind=[Wide, nn.Linear])
'''


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "layers.py").write_text(FILE)
    return tmp_path


def test_a_file_s_function_is_swept_by_workers_and_failures_stay_their_own(folder):
    archs = [f"width={w},kind={k}" for w in (2, 3, 9) for k in ("Wide", "Linear")]
    done = command(
        "sweep", "layers.py:build", "--archs", "8", "--store", "s.sqlite", "--workers", 2, "--json", cwd=folder
    )
    assert done.exit_code == 0, done.stderr
    assert '"space": "layers:build"' in done.stdout and "no part of any answer" not in done.stdout
    space = ssnr.get_space(f"{folder}/layers.py:build")
    assert space.name == "layers:build"
    two = {
        row.architecture: row.scores
        for row in ssnr.sweep(
            space, [*archs, "width=5", "width=6"], ["synflow", "params"], store=folder / "t.sqlite", workers=2
        )
    }
    one = {
        row.architecture: row.scores
        for row in ssnr.sweep(
            space, [*archs, "width=5", "width=6"], ["synflow", "params"], store=folder / "u.sqlite", workers=1
        )
    }
    assert one == two
    for arch in archs:
        assert two[arch]["synflow"] == ssnr.score(space.build(arch), input_shape=(4,), proxies=["synflow"])["synflow"]
    reasons = {arch: {name: s.reason for name, s in two[arch].items()} for arch in ("width=5", "width=6")}
    raised, none = "ValueError: five is right out", "TypeError: it returned str, expected a torch.nn.Module"
    assert reasons["width=5"] == {"synflow": f"building it raised {raised}", "params": raised}
    assert reasons["width=6"] == {"synflow": f"building it raised {none}", "params": none}


def test_a_file_s_own_space_reaches_another_process_with_the_file_s_own_classes(folder):
    space = ssnr.get_space(f"{folder}/layers.py:few")
    assert (space.name, space.size) == ("own-few", 4)
    (folder / "sent.pickle").write_bytes(pickle.dumps((space, dict(space.build("width=3,kind=Wide").state_dict()))))
    program = """if True:
        import pickle, sys, torch
        space, state = pickle.load(open("sent.pickle", "rb"))
        net = space.build("width=3,kind=Wide")
        assert type(net[0]).__module__.startswith("layers") and type(net[0]).__name__ == "Wide"
        assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    """
    subprocess.run([sys.executable, "-c", program], check=True, cwd=folder, stdout=subprocess.DEVNULL)


SCRIPT = """
import ssnr
from torch import nn

class Own(nn.Linear):
    pass

def build(trial):
    return Own(4, trial.suggest_int("width", 2, 9))

space = ssnr.space(build, input_shape=(4,))
rows = list(ssnr.sweep(space, ["width=2", "width=9"], ["params", "synflow"], store="s.sqlite", workers=2))
print(space.name, [(row.architecture, row.scores["params"].value, row.scores["synflow"].status) for row in rows])
"""


def test_what_a_script_defines_is_swept_by_workers(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    run = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout == "script:build [('width=2', 10.0, 'ok'), ('width=9', 45.0, 'ok')]\n"


def test_a_module_s_function_is_imported_by_name(folder):
    (folder / "pack").mkdir()
    (folder / "pack" / "__init__.py").write_text("")
    (folder / "pack" / "sizes.py").write_text("SIZES = [2, 3]\n")
    (folder / "pack" / "nets.py").write_text(
        "from torch import nn\nfrom .sizes import SIZES\n\ndef build(trial):\n"
        "    return nn.Linear(4, trial.suggest_categorical('width', SIZES))\n"
    )
    options = ("--input-shape", "4", "--archs", "all", "--store", "s.sqlite", "--workers", 2)
    done = command("sweep", "pack.nets:build", *options, cwd=folder)
    assert (done.exit_code, done.stdout) == (
        0, "2 architectures of pack.nets:build, 2 distinct networks, 2 scored now, 0 failed → s.sqlite\n"
    )  # fmt: skip


def test_a_study_of_a_space_of_one_s_own_and_a_csv(folder):
    archs = [f"width={w},kind=Linear" for w in (2, 3, 4, 7, 8, 9)]
    (folder / "archs.txt").write_text("\n".join(archs))
    rows = [f'"kind=Linear,width={w}",{w}' for w in (2, 3, 4, 7, 8, 9)]
    (folder / "mine.csv").write_text("\n".join(["architecture,accuracy", *rows]))
    command("sweep", "layers.py:build", "--archs", "archs.txt", "--store", "s.sqlite", "-p", "params", "-p", "synflow",
            "--workers", 1, cwd=folder)  # fmt: skip
    wanted = ("correlate", "s.sqlite", "--benchmark", "mine.csv", "--csv")
    done = command(*wanted, "--space", "layers.py:build", cwd=folder)
    assert done.exit_code == 0, done.stderr
    params = next(line for line in done.stdout.splitlines() if ",params," in line).split(",")
    assert "1.0" in params
    for name in ("layers:build", "own-few"):
        ssnr.spaces.SPACES.remove(name)
    done = command(*wanted, cwd=folder)
    assert done.exit_code == 1
    assert done.stderr.endswith("one of your own is known after --space file.py:build or --import file.py\n")


@pytest.mark.parametrize("sampler", ["random", "evolution", "tpe", "nsga2", "exhaustive"])
def test_a_space_of_one_s_own_is_searched_and_what_cannot_be_built_is_a_failed_trial(folder, sampler):
    if sampler in ("tpe", "nsga2"):
        pytest.importorskip("optuna")
    space = ssnr.get_space(f"{folder}/layers.py:build")
    found = ssnr.search(space, ["synflow"], store=folder / "s.sqlite", trials=14, constraints={"params": (None, 60)},
                        sampler=sampler, workers=1)  # fmt: skip
    rows = found.table.set_index("architecture")
    assert rows["params"].max() <= 60
    # 8·width + 3 parameters: 9 is too wide; 5 and 6 cannot be built, however wide they would be.
    allowed = {f"width={w},kind={k}" for w in (2, 3, 4, 7) for k in ("Wide", "Linear")}
    assert set(rows.index) == allowed | {"width=5", "width=6"}
    failed = rows[rows["status"] == "failed"]["reason"].to_dict()
    assert failed == {
        "width=5": "building it raised ValueError: five is right out",
        "width=6": "building it raised TypeError: it returned str, expected a torch.nn.Module",
    }


def test_a_function_that_has_changed_does_not_go_on_with_its_old_store(folder):
    options = ("--archs", "archs.txt", "--store", "s.sqlite", "--workers", 1)
    (folder / "archs.txt").write_text("width=2,kind=Linear\nwidth=3,kind=Linear\n")
    assert command("sweep", "layers.py:build", *options, cwd=folder).exit_code == 0
    (folder / "layers.py").write_text(FILE.replace("Wide(4, width)", "Wide(4, width, bias=False)"))
    done = command("sweep", "layers.py:build", *options, cwd=folder)
    assert (done.exit_code, done.stderr) == (
        2, "this is no part of any answer\nssnr: space layers:build has changed since the store was written: "
        "width=2,kind=Linear has 19 parameters and 17 parameters, then and now; name another store, or give the space "
        "another name\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("sweep", "none.py:build"), 2, "space none.py:build: there is no file none.py"),
        (("sweep", "layers.py:buld"), 2, "unknown name in layers.py 'buld': did you mean build?"),
        (("sweep", "layers.py:nn"), 2, "space layers.py:nn: nn is a module, expected a function of a trial"),
        (("sweep", "layers.py"), 2, "unknown space 'layers.py': known are "),
        (("sweep", "layers.py:plain"), 2, "space layers:plain: plain(width, kind) does not take a trial "),
        (("sweep", "broken.py:build"), 1, "space broken.py:build: importing broken.py raised NameError: name 'x' is "),
        (("sweep", "layers.py:build", "--input-shape", "4", "--archs", "1000"), 2, "layers:build: 14 distinct "),
        (("sweep", "vgg", "--input-shape", "3,8,8"), 2, "--input-shape 3,8,8: vgg has an input shape of its own"),
        (("score", "layers.py:build:width=10"), 2, "layers:build 'width=10': width=10 is not a whole number"),
        (("score", "layers.py:build:width=5"), 1, "target 'layers.py:build:width=5': building it raised ValueError"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_space_says_so_in_one_line(folder, arguments, code, said):
    (folder / "broken.py").write_text("x\n")
    done = command(*arguments, cwd=folder)
    assert done.exit_code == code
    assert f"ssnr: {said}" in done.stderr.splitlines()[-1]


def test_one_architecture_of_an_own_space_is_a_target(folder):
    done = command("score", "layers.py:build:kind=Wide,width=3", "-p", "params", "--json", cwd=folder)
    assert done.exit_code == 0, done.stderr
    assert '"value": 27.0' in done.stdout and '"init": "drawn from (seed 0, space, network)"' in done.stdout


def test_files_of_one_name_in_two_folders_are_two_modules(folder):
    other = folder / "other"
    other.mkdir()
    (other / "layers.py").write_text(FILE.replace("2, 9)", "2, 3)"))
    first, second = (ssnr.get_space(f"{where}/layers.py:build") for where in (folder, other))
    assert first.parse("width=9,kind=Wide") == "width=9,kind=Wide"
    with pytest.raises(ssnr.ArchitectureError, match="width=9 is not a whole number from 2 to 3"):
        second.parse("width=9,kind=Wide")
    assert Path(sys.modules[second.function.__module__].__file__) == (other / "layers.py").resolve()


def test_a_function_that_is_the_first_to_use_cuda_finds_it_seeded(monkeypatch):
    noted: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", noted.append)
    own = ssnr.space(lambda width: nn.Linear(8, width), name="on-cuda", input_shape=(8,), width=[4, 8])
    own.build("width=4", seed=1), own.build("width=4", seed=1), own.build("width=8", seed=1)
    first, again, third, other = noted  # the first build is made twice, to see whether it comes out alike
    assert first == third != other and again == first + 1
