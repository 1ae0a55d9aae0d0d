"""Vision transformers for 32×32 images: what a trial is asked for may depend on what it said before.

python examples/transformer_space.py
ssnr sweep examples/transformer_space.py:ViT --archs 20 --store vit.sqlite
"""

import torch
from torch import nn

import ssnr


class ViT(nn.Module):
    """Patches, learnt positions, encoder layers, the mean of all tokens, and a linear head."""

    input_shape = (3, 32, 32)

    def __init__(self, trial):
        super().__init__()
        patch = trial.suggest_categorical("patch", [4, 8])
        width = trial.suggest_int("width", 32, 96, step=32)
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.places = nn.Parameter(0.02 * torch.randn(1, (32 // patch) ** 2, width))
        layers = []
        for k in range(trial.suggest_int("depth", 1, 4)):
            heads = trial.suggest_categorical(f"heads{k}", [2, 4])
            hidden = width * trial.suggest_int(f"ratio{k}", 1, 4)
            layers.append(nn.TransformerEncoderLayer(width, heads, hidden, 0.0, batch_first=True, norm_first=True))
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(width, 10)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return self.head(self.layers(tokens).mean(1))


if __name__ == "__main__":
    found = ssnr.search(ssnr.space(ViT), store="vit.sqlite", trials=8, workers=1)
    print(found.best["architecture"])
