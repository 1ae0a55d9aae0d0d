"""Masks from saliency, applied through `torch.nn.utils.prune`.

A saliency says how much each weight contributes; a mask keeps the weights that contribute most:

    synflow      in rounds (100), each on what is left: the largest |θ ∂R/∂θ|                   (Tanaka et al., 2020)
    snip         at once: the largest |θ ∂L/∂θ|                                         (Lee, Ajanthan & Torr, 2019)
    grasp        at once: the lowest −θ ⊙ Hg, by which half the squared norm of the
                 gradient grows when the weight goes                                 (Wang, Zhang & Grosse, 2020)
    magnitude    at once: the largest |θ|                                                            (Janowsky, 1989)
    random       at once: drawn from the seed
    any other    at once: the largest |S|

In rounds, round k of n keeps density^(k/n) of the weights, and the saliency is computed anew on those.
"""

from __future__ import annotations

from ssnr.core.errors import LayerCollapseWarning as LayerCollapseWarning
from ssnr.pruning.attach import applied as applied
from ssnr.pruning.attach import apply as apply
from ssnr.pruning.attach import remove as remove
from ssnr.pruning.result import Masks as Masks
from ssnr.pruning.select import SCOPES as SCOPES
from ssnr.pruning.select import check_density as check_density
from ssnr.pruning.select import collapse as collapse
from ssnr.pruning.select import masks as masks
from ssnr.pruning.select import rounds_of as rounds_of
from ssnr.pruning.select import rule_of as rule_of
