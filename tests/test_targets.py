"""What users name on the command line becomes a network with its inputs; libraries stand in here as small modules."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ssnr
from networks import golden
from ssnr.cli.libraries import MOST
from ssnr.cli.targets import Target, batch_for, resolve


class Image(nn.Sequential):
    def __init__(self, edge: int, classes: int) -> None:
        super().__init__(nn.Conv2d(3, 2, edge), nn.Flatten(), nn.Linear(2, classes))
        self.num_classes, self.pretrained_cfg = classes, {"input_size": (3, edge, edge)}


class Tokens(nn.Module):
    """As transformers' networks: a configuration, a main input, and outputs by name."""

    config_class = SimpleNamespace
    main_input_name = "input_ids"

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.vocab_size, config.width)
        self.head = nn.Linear(config.width, config.vocab_size)

    def tie_weights(self) -> None:
        self.head.weight = self.table.weight

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> dict[str, Tensor]:
        hidden = self.table(input_ids)
        return {"hidden": hidden, "logits": self.head(hidden)}


class Pictures(Tokens):
    main_input_name = "pixel_values"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.stem = nn.Conv2d(3, config.vocab_size, config.image_size)

    def forward(self, pixel_values: Tensor) -> Tensor:  # type: ignore[override]
        return self.stem(pixel_values).flatten(1)


def config(**options: Any) -> SimpleNamespace:
    given = {"vocab_size": 11, "width": 4, "image_size": 6, "is_encoder_decoder": False, "use_cache": True}
    return SimpleNamespace(**given | options)


class Small(Tokens):
    config_class = config  # type: ignore[assignment]


def _timm() -> ModuleType:
    module: Any = ModuleType("timm")
    module.list_models = lambda: ["resnet18", "resnet34"]
    module.is_model = lambda name: name in module.list_models()
    module.create_model = lambda name, pretrained: Image(5, 7)
    return module


def _torchvision() -> ModuleType:
    module: Any = ModuleType("torchvision")

    def builder(name: str) -> Any:
        kind = {"fasterrcnn": "detection", "fcn": "segmentation"}.get(name, name.rstrip("0123456789_v"))
        return SimpleNamespace(__module__=f"torchvision.models.{kind}")

    def get_model(name: str, weights: None, **options: Any) -> nn.Module:
        assert options == ({"weights_backbone": None} if name == "fcn" else {})
        return Image(3, 7)

    names = ["vgg16", "fasterrcnn", "fcn"]
    module.models = SimpleNamespace(list_models=lambda: names, get_model_builder=builder, get_model=get_model)
    return module


def _transformers() -> ModuleType:
    module: Any = ModuleType("transformers")
    configs = {"bert": config(), "vit": config(kind="vit"), "llama": config(vocab_size=MOST, width=4)}

    def from_pretrained(name: str, local_files_only: bool) -> Any:
        assert local_files_only
        raise OSError("not a local folder\nand not in the cache")

    def from_config(given: Any) -> nn.Module:
        assert given.use_cache is False
        return Pictures(given) if hasattr(given, "kind") else Tokens(given)

    module.AutoConfig = SimpleNamespace(from_pretrained=from_pretrained, for_model=configs.__getitem__)
    module.AutoModel = SimpleNamespace(from_config=from_config)
    module.models = SimpleNamespace(auto=SimpleNamespace(configuration_auto=SimpleNamespace(CONFIG_MAPPING=configs)))
    module.BertLike = Small
    return module


@pytest.fixture(autouse=True)
def libraries(monkeypatch):
    for make in (_timm, _torchvision, _transformers):
        module = make()
        monkeypatch.setitem(sys.modules, module.__name__, module)


def test_timm_networks_know_their_input_and_their_classes():
    target = resolve("timm:resnet18")
    assert (target.input_shape, target.classes) == ((3, 5, 5), 7)
    assert ssnr.score(target.net, input_shape=target.input_shape)["noise_ssnr"].status == "ok"


def test_torchvision_networks_take_images_of_224_and_download_nothing():
    assert resolve("torchvision:vgg16").input_shape == (3, 224, 224)
    assert resolve("torchvision:fcn").input_shape == (3, 224, 224)


def test_weights_are_drawn_from_the_seed():
    one, same, other = (resolve("timm:resnet18", seed=seed).net[0].weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", ["bert", "BertLike"])
def test_transformers_networks_by_model_type_and_by_class_take_tokens_by_name(name):
    target = resolve(f"hf:{name}")
    batch = batch_for(target, 3, labels=True, seed=5)
    assert set(batch.inputs) == {"input_ids"}
    assert batch.inputs["input_ids"].shape == batch.targets.shape == (3, 16)
    assert int(batch.inputs["input_ids"].max()) < 11
    score = ssnr.score(target.net, batch, ["snip"])["snip"]
    assert [(layer.name, layer.flag) for layer in score.layers] == [("table.weight", None)]
    again = batch_for(target, 3, labels=True, seed=5)
    assert again.fingerprint == batch.fingerprint != batch_for(target, 3, labels=True, seed=6).fingerprint


def test_transformers_networks_of_images_take_pixels():
    batch = batch_for(resolve("hf:vit"), 2, labels=True)
    assert batch.inputs["pixel_values"].shape == (2, 3, 6, 6)
    assert batch.targets.shape == (2,)


def test_without_labels_only_the_inputs():
    batch = batch_for(resolve("hf:bert"), 1, labels=False)
    assert (batch.inputs["input_ids"].shape, batch.targets) == ((1, 16), None)


def test_a_network_may_bring_its_example_input(tmp_path):
    (tmp_path / "nets.py").write_text(
        "import torch\nfrom torch import nn\n\ndef net():\n    made = nn.Bilinear(2, 3, 4)\n"
        "    made.example_input_array = (torch.ones(5, 2), torch.ones(5, 3))\n    return made\n"
    )
    target = resolve(f"{tmp_path / 'nets.py'}:net")
    batch = batch_for(target, 64, labels=True)
    assert [tuple(x.shape) for x in batch.inputs] == [(5, 2), (5, 3)]
    assert ssnr.score(target.net, batch, ["snip"])["snip"].status == "ok"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("timm:resnet19", "target timm:resnet19: timm has no 'resnet19': did you mean resnet18"),
        ("torchvision:vgg17", "target torchvision:vgg17: torchvision has no 'vgg17': did you mean vgg16?"),
        ("torchvision:fasterrcnn", "detection networks take lists of images, and boxes to train: score it from Python"),
        ("hf:bret", "target hf:bret: hf has no 'bret': did you mean bert?"),
        ("hf:google-bert/bert-base-uncased", "its configuration is not in the cache, and nothing is downloaded: fetch"),
        ("hf:llama", r"target hf:llama: 18,000,000,000 parameters by default; write a smaller config.json"),
        (
            "timm:",
            "target 'timm:': expected SPACE:ARCH, pkg.mod:factory or file.py:factory; or timm:NAME, torchvision:NAME",
        ),
    ],
)
def test_names_that_a_library_has_not_say_what_it_has(text, said):
    with pytest.raises(ssnr.UsageError, match=said):
        resolve(text)


@pytest.mark.parametrize(
    ("target", "package"),
    [("timm:resnet18", "timm"), ("torchvision:vgg16", "torchvision"), ("hf:bert", "transformers")],
)
def test_a_library_that_is_not_installed_says_what_to_install(target, package, monkeypatch):
    monkeypatch.delitem(sys.modules, package)
    monkeypatch.setattr(sys, "meta_path", [Absent(package), *sys.meta_path])
    with pytest.raises(
        ssnr.UsageError, match=f"^target {target}: {package} is not installed \\(pip install {package}\\)$"
    ):
        resolve(target)


class Absent:
    """No such module, whether it is installed or not."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_a_library_that_is_broken_says_how(monkeypatch):
    class Broken(Absent):
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == self.name:
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.delitem(sys.modules, "torchvision")
    monkeypatch.setattr(sys, "meta_path", [Broken("torchvision"), *sys.meta_path])
    with pytest.raises(ssnr.ScoringError) as caught:
        resolve("torchvision:vgg16")
    reason = "RuntimeError: operator torchvision::nms does not exist"
    assert str(caught.value) == f"target torchvision:vgg16: importing torchvision raised {reason}"


def test_a_network_that_a_library_cannot_build_says_why(monkeypatch):
    def create(name: str, pretrained: bool) -> nn.Module:
        raise ValueError("no weights\nfor that")

    monkeypatch.setattr(sys.modules["timm"], "create_model", create)
    with pytest.raises(ssnr.ScoringError) as caught:
        resolve("timm:resnet18")
    assert str(caught.value) == "target timm:resnet18: building it raised ValueError: no weights for that"


def test_labels_are_only_drawn_for_outputs_with_classes():
    target = Target("own", golden(), None, None, "given", lambda size, seed: torch.ones(size, 2))
    assert batch_for(target, 4, labels=True).targets.shape == (4,)
    target = Target("own", nn.Conv2d(1, 2, 1), None, None, "given", lambda size, seed: torch.ones(size, 1, 3, 3))
    assert batch_for(target, 4, labels=True).targets is None


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        ("def make(): raise SystemExit(4)", ssnr.ScoringError, r"calling make\(\) raised SystemExit: 4$"),
        ("import sys\nsys.exit(2)", ssnr.ScoringError, "importing .*made.py raised SystemExit: 2$"),
        (
            "from torch import nn\nmake = nn.Linear(2, 2)\nmake.input_shape = 2",
            ssnr.UsageError,
            r"its input_shape is 2, expected whole numbers such as \(3, 32, 32\)$",
        ),
    ],
)
def test_code_that_exits_or_says_a_wrong_shape_is_refused_in_one_line(tmp_path, code, error, said):
    (tmp_path / "made.py").write_text(code)
    with pytest.raises(error, match=said):
        resolve(f"{tmp_path / 'made.py'}:make")


WIDE = "from torch import nn\ndef make(width=2, act='relu'):\n    return nn.Linear(3, width)\nnet = make()\n"


@pytest.mark.parametrize(("call", "width"), [("make(5)", 5), ("make(width=6)", 6), ("make?width=7&act=tanh", 7)])
def test_a_factory_takes_arguments(tmp_path, call, width):
    (tmp_path / "wide.py").write_text(WIDE)
    assert resolve(f"{tmp_path / 'wide.py'}:{call}").net.out_features == width


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("make(open('x'))", r"^make\(open\('x'\)\): arguments are literals, such as MyCNN\(64\)"),
        ("net(3)", "net is a network already and takes no arguments$"),
    ],
)
def test_arguments_are_literals_of_a_factory(tmp_path, call, said):
    (tmp_path / "wide.py").write_text(WIDE)
    with pytest.raises(ssnr.UsageError, match=said):
        resolve(f"{tmp_path / 'wide.py'}:{call}")


def test_weights_are_read_from_a_file_and_nothing_pickled_is_run(tmp_path):
    (tmp_path / "wide.py").write_text(WIDE)
    where, own = f"{tmp_path / 'wide.py'}:make", nn.Linear(3, 2)
    torch.save(own.state_dict(), tmp_path / "own.pt")
    target = resolve(f"{where}@{tmp_path / 'own.pt'}")
    assert torch.equal(target.net.weight, own.weight)
    assert target.init == f"read from {tmp_path / 'own.pt'}"
    torch.save(own, tmp_path / "whole.pt")
    with pytest.raises(ssnr.UsageError, match=r"whole.pt holds more than tensors, .* save net.state_dict\(\)"):
        resolve(f"{where}@{tmp_path / 'whole.pt'}")
    torch.save(nn.Linear(4, 4).state_dict(), tmp_path / "other.pt")
    with pytest.raises(ssnr.ScoringError, match=r"other.pt is of another network"):
        resolve(f"{where}@{tmp_path / 'other.pt'}")
    with pytest.raises(ssnr.UsageError, match=r"^there is no file "):
        resolve(f"{where}@{tmp_path / 'none.safetensors'}")
