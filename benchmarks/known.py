"""Synflow of well-known networks at their published sizes, random weights of seed 0, as a Markdown table.

python -m benchmarks.known [TARGET…]      needs timm, torchvision and transformers for the default list
"""

from __future__ import annotations

import sys
import time

import torch

import ssnr
from ssnr.cli.targets import batch_for, resolve
from ssnr.core.errors import SsnrError

LISTED = {
    "torchvision": "alexnet vgg16 vgg16_bn googlenet inception_v3 resnet18 resnet50 wide_resnet50_2 resnext50_32x4d "
    "densenet121 squeezenet1_0 mobilenet_v2 mobilenet_v3_large mnasnet1_0 shufflenet_v2_x1_0 efficientnet_b0 "
    "regnet_y_400mf convnext_tiny vit_b_16 swin_t swin_v2_t fcn_resnet50 r3d_18",
    "timm": "deit_small_patch16_224 mixer_s16_224 gmlp_s16_224 poolformer_s12 ghostnet_100 repvgg_a0 levit_128 "
    "edgenext_small mobilevit_s coatnet_nano_rw_224 xcit_tiny_12_p16_224 efficientformer_l1",
    "hf": "bert distilbert roberta electra gpt2 t5 bart vit swin convnext clip wav2vec2 whisper mamba",
}
PROXIES = ("synflow/sum", "synflow/ssnr", "synflow/layerwise_ssnr")


def row(text: str) -> str:
    """One line of the table."""
    try:
        target = resolve(text, seed=0)
        batch = None if target.input_shape else batch_for(target, 1, labels=False)
        scores = ssnr.score(target.net, batch, PROXIES, input_shape=target.input_shape)
    except SsnrError as error:
        return f"| {text} | | | | | | | {error} |"
    params = sum(p.numel() for p in target.net.parameters())
    total, overall, layerwise = scores.values()
    if total.status == "failed":
        return f"| {text} | {params:,} | | | | | | {total.status}: {total.reason} |"
    approximated = len(getattr(total, "approximated", ()))
    live = sum(layer.flag is None for layer in total.layers)
    log = "" if total.log_value is None else f"{total.log_value:.2f}"
    numbers = f"{live}/{len(total.layers)} | {log} | {overall.value:.4g} | {layerwise.value:.5g}"
    return f"| {text} | {params:,} | {numbers} | {approximated or ''} | {total.status} |"


def main(targets: list[str]) -> None:
    targets = targets or [f"{library}:{name}" for library, names in LISTED.items() for name in names.split()]
    print("| network | parameters | live layers | ln sum | ssnr | layerwise_ssnr | approximated | status |")
    print("|---|---:|---:|---:|---:|---:|---:|---|")
    started = time.perf_counter()
    for text in targets:
        print(row(text), flush=True)
    minutes = (time.perf_counter() - started) / 60
    print(f"\ntorch {torch.__version__}, {torch.get_num_threads()} threads, {minutes:.1f} minutes", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
