"""vkdnw: how evenly the Fisher information of a network's predictions is spread over its weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ssnr.core.errors import ScoringError
from ssnr.networks.calling import outputs_of
from ssnr.networks.trees import flatten
from ssnr.proxies.capture import Capture, capture_of, gradients, part
from ssnr.proxies.first_entries import FirstEntries

PARAMETERS = 128  # of which the first entry is looked at
SMOOTHING = 0.05  # of the uniform distribution in the class probabilities
EPSILON = 1e-10


def covariance_root(logits: Tensor) -> Tensor:
    """A (N, C, C − 1) with A Aᵀ = diag(p) − p pᵀ, p = 0.95 softmax + 0.05/C (Tanabe & Sagae, 1992).

    With q_k = 1 − Σ_{j ≤ k} p_j column k is √(p_k q_k / q_{k−1}) times 1 at k and −p_j/q_k at j > k.

    >>> a = covariance_root(torch.zeros(1, 2, dtype=torch.float64))
    >>> (a @ a.mT).tolist()
    [[[0.25, -0.25], [-0.25, 0.25]]]
    """
    c = logits.shape[1]
    p = logits.double().softmax(1) * (1 - SMOOTHING) + SMOOTHING / c
    after = p.flip(1).cumsum(1).flip(1)  # q_{k−1}: no difference of numbers near 1
    q, size = after[:, 1:], (p[:, :-1] * after[:, 1:] / after[:, :-1]).sqrt()
    below = torch.tril(-p[:, :, None] / q[:, None, :], -1)
    ones = torch.eye(c, c - 1, dtype=p.dtype, device=p.device)
    return (below + ones) * size[:, None, :]


def decile_entropy(values: Tensor) -> float:
    """−Σ d ln(d + 1e−10), d the nine deciles of the values as shares of their sum.

    >>> round(decile_entropy(torch.ones(20)), 6)  # ln 9
    2.197225
    """
    deciles = torch.quantile(values.double(), torch.arange(1, 10, dtype=torch.float64, device=values.device) / 10)
    shares = deciles / (deciles.sum() + EPSILON)
    return 0.0 - float((shares * (shares + EPSILON).log()).sum())


def fisher_of(capture: Capture) -> Tensor:
    """F = (1/N) Σ_n J_nᵀ (diag(p_n) − p_n p_nᵀ) J_n, float64.

    J_n are the gradients of image n's logits with respect to the first entry of each of the first 128 parameters, each
    image with the batch statistics of a batch of one. One forward and C − 1 backward passes for C classes where every
    layer is linear, a convolution or a batch norm, or as many as a linear head has features where these are fewer; and
    else C − 1 for each image.
    """
    names = capture.model.parameters()[:PARAMETERS]
    rows = _of_batch(capture, names)
    if rows is None:
        each = (_of_sample(capture, names, n) for n in range(capture.samples))
        rows = torch.cat(list(each))
    return rows.T @ rows / capture.samples


def _of_batch(capture: Capture, names: list[str]) -> Tensor | None:
    """Aᵀ J of all images (N · (C − 1), parameters); None where layers cannot be told apart by sample."""
    with capture.watched(lambda ids: FirstEntries(ids, capture.samples), names) as (watch, output, leaves, sources):
        logits = _classes(output)
        if not watch.sees_all(logits, leaves):
            return None
        root, wanted = covariance_root(logits.detach()), [*sources, *watch.roots]
        head = watch.head((flatten(output) or outputs_of(output))[0])
        if head is None or head.features.shape[1] >= root.shape[2]:
            columns = (column.to(logits) for column in root.unbind(2))
            rows = _rows(watch, logits, columns, wanted, names)
            return None if rows is None else rows.flatten(0, 1)
        # Of many classes, few features: logits = W f + b, and the gradients of f are all that is needed.
        ones = torch.eye(head.features.shape[1]).to(logits)
        rows = _rows(watch, head.features, (row.expand_as(head.features) for row in ones), wanted, names)
        if rows is None:
            return None
        found = torch.einsum("nck,cf,fnp->knp", root, head.weight.detach().double(), rows)
        for name, factor in ((head.name, head.features[:, 0].detach().double()), (head.bias, root.new_ones(len(root)))):
            if name in names:
                found[:, :, names.index(name)] += root[:, 0].T * factor
        return found.flatten(0, 1)


def _rows(
    watch: FirstEntries, value: Tensor, directions: Iterable[Tensor], wanted: list[Tensor], names: list[str]
) -> Tensor | None:
    """A backward pass for each direction: (directions, N, parameters), float64; None where one missed a layer."""
    nothing = torch.zeros(len(value), dtype=torch.float64, device=value.device)
    found = []
    for direction in directions:
        watch.found.clear()
        gradients(value, wanted, grad_outputs=direction, retain_graph=True)
        if not watch.all_came(value):
            return None
        found.append(torch.stack([watch.found.get(name, nothing).double() for name in names], 1))
    return torch.stack(found)


def _of_sample(capture: Capture, names: list[str], n: int) -> Tensor:
    """The same of one image (C − 1, parameters)."""
    assert capture.batch is not None
    one = part(capture.batch.inputs, slice(n, n + 1))
    with capture.of_one_sample():
        seen, leaves = capture.forward(one, weights=True, watch=False, every=True)
    logits = _classes(seen.output)
    wanted = [leaves[name] for name in names]
    found = []
    for column in covariance_root(logits.detach()).unbind(2):
        rows = gradients(logits, wanted, grad_outputs=column.to(logits), retain_graph=True)
        found.append([0.0 if g is None else float(g.flatten()[0]) for g in rows])
    return torch.tensor(found, dtype=torch.float64, device=logits.device)


def _classes(output: Any) -> Tensor:
    """The logits, (N, C).

    Raises:
        ScoringError: one output only, a map of classes, or no graph of the weights.
    """
    first = (flatten(output) or outputs_of(output))[0]
    if first.dim() > 2 and first[0, 0].numel() > 1:
        shape = tuple(first.shape)
        raise ScoringError(
            f"vkdnw reads the probabilities of classes: got outputs of shape {shape}, expected (samples, classes)"
        )
    logits = first.reshape(len(first), -1)
    if logits.shape[1] < 2:
        raise ScoringError("vkdnw reads the probabilities of classes: got 1 output for each sample, expected 2 or more")
    if not logits.requires_grad:
        raise ScoringError("vkdnw: the output depends on no weight")
    return logits


def vkdnw_entropy(context: Any) -> float:
    """H of the deciles of the spectrum of the Fisher information (VKDNW of Týbl & Neumann, CVPR 2025)."""
    if "vkdnw" not in context.cache:
        capture = capture_of(context)
        values = torch.linalg.eigvalsh(fisher_of(capture).cpu()).clamp_min(0)
        if not bool(values[-1] > 0):
            raise ScoringError("vkdnw: the class probabilities do not depend on the weights that are looked at")
        context.cache["vkdnw"] = decile_entropy(values)
    return float(context.cache["vkdnw"])


def vkdnw(context: Any) -> float:
    """The number of parameter tensors plus `vkdnw_entropy`, which is below ln 9 (VKDNW_single, CVPR 2025)."""
    return len(capture_of(context).model.parameters()) + vkdnw_entropy(context)
