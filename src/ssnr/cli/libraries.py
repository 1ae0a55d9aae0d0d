"""Networks of timm, torchvision and transformers by name, where the user has those libraries; nothing is downloaded."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ssnr.core.errors import ScoringError, UsageError, one_line

TOKENS = 16  # length of a sequence of tokens
MOST = 2_000_000_000  # parameters of a network that is built for its name alone

_PIXELS = {"inception_v3": (3, 299, 299)}


class Made(NamedTuple):
    """A network, and what it takes: the shape of one input, or a function (size, seed) → inputs."""

    net: nn.Module
    input_shape: tuple[int, ...] | None = None
    classes: int | None = None
    inputs: Callable[[int, int], Any] | None = None


def build(library: str, name: str) -> Made:
    """The network that a library builds for a name, with random weights from torch's generator.

    Raises:
        UsageError: the library is not there, or has no such network.
        ScoringError: importing the library or building the network raised.
    """
    package = {"hf": "transformers"}.get(library, library)
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise ScoringError(f"target {library}:{name}: importing {package} raised {one_line(error)}") from error
        raise UsageError(f"target {library}:{name}: {package} is not installed (pip install {package})") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise ScoringError(f"target {library}:{name}: importing {package} raised {reason}") from error
    try:
        return LIBRARIES[library](module, name)
    except (UsageError, ScoringError):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise ScoringError(f"target {library}:{name}: building it raised {reason}") from error


def _unknown(library: str, name: str, names: list[str]) -> UsageError:
    near = difflib.get_close_matches(name, names, n=3)
    hint = f": did you mean {' or '.join(near)}?" if near else ""
    return UsageError(f"target {library}:{name}: {library} has no {name!r}{hint}")


def _timm(timm: Any, name: str) -> Made:
    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    net = timm.create_model(name, pretrained=False)
    shape = net.pretrained_cfg["input_size"]
    return Made(net, tuple(shape), net.num_classes or None)


def _torchvision(torchvision: Any, name: str) -> Made:
    models = torchvision.models
    if name not in (names := models.list_models()):
        raise _unknown("torchvision", name, names)
    kind = models.get_model_builder(name).__module__.split(".")[2]
    if kind == "detection":
        raise UsageError(
            f"target torchvision:{name}: detection networks take lists of images, and boxes to train: score it from "
            "Python, ssnr.score(net, (images, None), …)"
        )
    if kind in ("inception", "googlenet"):
        options: dict[str, Any] = {"init_weights": True}
    else:
        options = {"weights_backbone": None} if kind == "segmentation" else {}
    net = models.get_model(name, weights=None, **options)
    shape = (3, 16, 112, 112) if kind == "video" else _PIXELS.get(name, (3, 224, 224))
    return Made(net, shape)


def _transformers(transformers: Any, name: str) -> Made:
    make = _maker(transformers, name)
    with torch.device("meta"):
        numbers = sum(p.numel() for p in make().parameters())
    if numbers > MOST:
        raise UsageError(
            f"target hf:{name}: {numbers:,} parameters by default; write a smaller config.json and name its folder"
        )
    net = make()
    net.tie_weights()
    return Made(net, inputs=_hf_inputs(net))


def _maker(transformers: Any, name: str) -> Callable[[], Any]:
    """What builds the network of a class name, a model type, a folder with a config.json, or a cached repository."""
    kind: Any = getattr(transformers, name, None) if name.isidentifier() else None
    config_class = getattr(kind, "config_class", None)
    if config_class is not None:
        return lambda: kind(_plain(config_class()))
    types = list(transformers.models.auto.configuration_auto.CONFIG_MAPPING)
    known = name in types
    config = _plain(transformers.AutoConfig.for_model(name) if known else _config(transformers, name, types))
    wanted: list[Any] = [getattr(transformers, n, None) for n in getattr(config, "architectures", None) or ()]
    if wanted and wanted[0] is not None:
        return lambda: wanted[0](config)
    return lambda: transformers.AutoModel.from_config(config)


def _config(transformers: Any, name: str, types: list[str]) -> Any:
    try:
        return transformers.AutoConfig.from_pretrained(name, local_files_only=True)
    except Exception as error:
        if Path(name).exists():
            raise UsageError(f"target hf:{name}: no model configuration there: {one_line(error, 160)}") from error
        if "/" in name:
            raise UsageError(
                f"target hf:{name}: its configuration is not in the cache, and nothing is downloaded: fetch it with "
                f"`hf download {name} config.json`, or name a model type such as hf:bert"
            ) from error
        raise _unknown("hf", name, types) from error


def _plain(config: Any) -> Any:
    """Without caches of keys and values among the outputs."""
    if hasattr(config, "use_cache"):
        config.use_cache = False
    return config


def _hf_inputs(net: Any) -> Callable[[int, int], dict[str, Tensor]]:
    """Random tokens, pixels or sound of the sizes in the configuration, for each input that the network needs."""
    config = net.config
    takes = set(inspect.signature(net.forward).parameters)

    def find(*names: str, default: int) -> int:
        for part in (config, *(getattr(config, p, None) for p in ("text_config", "vision_config", "encoder"))):
            for name in names:
                value = getattr(part, name, None)
                if value:
                    return int(value if isinstance(value, int) else value[0])
        return default

    def inputs(size: int, seed: int) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed(seed)

        def floats(*shape: int) -> Tensor:
            return torch.randn(size, *shape, generator=draw)

        def tokens() -> Tensor:
            length = min(TOKENS, find("max_position_embeddings", "n_positions", default=TOKENS))
            return torch.randint(find("vocab_size", default=2), (size, length), generator=draw)

        both = getattr(config, "vision_config", None) is not None
        main = net.main_input_name
        found: dict[str, Tensor] = {}
        if "input_ids" in takes and (main == "input_ids" or both):
            found["input_ids"] = tokens()
        if "pixel_values" in takes and (main == "pixel_values" or both):
            edge = find("image_size", default=224)
            found["pixel_values"] = floats(find("num_channels", default=3), edge, edge)
        if main == "input_values":
            found["input_values"] = floats(16000)
        if main == "input_features":
            frames = 2 * find("max_source_positions", default=1500)
            found["input_features"] = floats(find("num_mel_bins", default=80), frames)
        if config.is_encoder_decoder and "decoder_input_ids" in takes:
            found["decoder_input_ids"] = tokens()
        if not found:
            raise ScoringError(f"its main input is {main!r}: score it from Python, ssnr.score(net, ({{…}}, labels), …)")
        return found

    return inputs


LIBRARIES: dict[str, Callable[[Any, str], Made]] = {"timm": _timm, "torchvision": _torchvision, "hf": _transformers}
