"""Search by score, then train: the best by score come first; Optuna is told every accuracy and proposes what is next.

python examples/train_the_best.py
optuna-dashboard sqlite:///search.db        # pip install optuna-dashboard
"""

import optuna
import torch
from mlp_space import space
from torch import nn

import ssnr

torch.manual_seed(0)
images = torch.randn(600, 64)
labels = (images[:, :20] @ torch.randn(20, 10)).argmax(1)  # in place of your data


def trained(net):
    """The accuracy on 200 samples after a short training on 400 others."""
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        loss = nn.functional.cross_entropy(net(images[:400]), labels[:400])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return float((net(images[400:]).argmax(1) == labels[400:]).float().mean())


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = ssnr.search(space, store="search.sqlite", workers=1)  # no training: a score for each of the 24
    found.to_optuna("search.db", space=space, name="scored")
    study = optuna.create_study(study_name="trained", storage="sqlite:///search.db", direction="maximize",
                                sampler=optuna.samplers.TPESampler(seed=0), load_if_exists=True)  # fmt: skip
    for arch in found.ranked["architecture"][:4]:
        study.enqueue_trial(space.suggestion(arch))
    for _ in range(8):
        trial = study.ask()
        arch = space.suggest(trial)
        done = study.tell(trial, trained(space.build(arch, seed=trial.number)))
        print(arch, f"accuracy={done.value:.3f}")
