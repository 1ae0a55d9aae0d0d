"""Multilayer perceptrons for 64 numbers, from plain lists of values: a space of your own in five lines.

python examples/mlp_space.py
ssnr sweep examples/mlp_space.py:space --archs all --store mlp.sqlite
"""

from torch import nn

import ssnr


def mlp(depth, width, act):
    """`depth` hidden layers of one width."""
    layers = [nn.Linear(64, width), act()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), act()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


space = ssnr.space(mlp, input_shape=(64,), depth=[1, 2, 3], width=range(16, 65, 16), act=[nn.ReLU, nn.GELU])

if __name__ == "__main__":
    for row in ssnr.sweep(space, space.all(), ["noise_ssnr", "params"], store="mlp.sqlite", workers=1):
        print(row.architecture, f"{row.scores['noise_ssnr'].value:.4g}", f"{row.scores['params'].value:,.0f}")
