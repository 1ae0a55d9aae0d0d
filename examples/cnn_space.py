"""Convolutional networks for 32×32 images, 10⁴ to 10⁶ parameters: a space of your own.

python examples/cnn_space.py
ssnr sweep examples/cnn_space.py:build --archs 20 --store cnn.sqlite
ssnr search examples/cnn_space.py:build --max-params 300k --trials 200
"""

from torch import nn

import ssnr


def build(trial):
    """Three stages of convolutions; each stage has its own depth, kernel and width."""
    width = trial.suggest_int("width", 24, 32, step=4)
    act = trial.suggest_categorical("act", [nn.ReLU, nn.SiLU])
    layers, channels = [], 3
    for stage in range(3):
        kernel = trial.suggest_int(f"kernel{stage}", 3, 5, step=2)
        for _ in range(trial.suggest_int(f"depth{stage}", 1, 3 - stage // 2)):
            layers += [
                nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(width),
                act(),
            ]
            channels = width
        layers.append(nn.MaxPool2d(2))
        width = int(width * trial.suggest_categorical(f"wider{stage}", [1, 1.5, 2])) if stage < 2 else width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


build.input_shape = (3, 32, 32)

if __name__ == "__main__":
    space = ssnr.space(build)
    found = ssnr.search(space, store="cnn.sqlite", constraints={"params": 300_000}, trials=20, workers=1)
    print(found.best["architecture"])
