"""Per-parameter signals: network and batch → one tensor per layer, of the layer's shape.

Five families, each one set of passes for all of its members:

    weights    magnitude, l2_norm                              no pass
    synflow    synflow                                         1 forward, 1 backward, on ones and |θ|
    gradient   plain, snip, grad_norm, fisher, grasp           1 forward, 1 backward, and for grasp one
                                                               Hessian-vector product
    noise      snip_noise, plain_noise, grasp_noise …          the gradient family, on drawn images
    custom     a function of the user's own                    its own

None of them changes the network: weights are handed in through `Model.call`, gradients come from `autograd.grad`.
"""

from __future__ import annotations

from ssnr.saliencies.gradients import gradient_saliencies as gradient_saliencies
from ssnr.saliencies.signal import Loss as Loss
from ssnr.saliencies.signal import Signal as Signal
from ssnr.saliencies.synflow import ones_like as ones_like
from ssnr.saliencies.synflow_inputs import WHOLE as WHOLE
from ssnr.saliencies.synflow_inputs import synflow_of as synflow_of
from ssnr.saliencies.weights import weight_saliencies as weight_saliencies
