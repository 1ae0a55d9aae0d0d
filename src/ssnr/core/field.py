"""The proxies of the field that are no sum over weights, as one table; imports torch only where one is called."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple


class ProxyRow(NamedTuple):
    """One proxy of the field.

    Attributes:
        name: of the proxy, and of its function.
        module: in `ssnr.proxies`, that holds the function.
        reads: "activations", "layers", "blocks", "maps", "input gradients", "gradients" or "noise".
        passes: forward (F) and backward (B) passes of its own; what several share runs once.
        formula: in symbols.
        reference: authors, place and year.
        labels: whether it needs labels.
        higher_is_better: the direction its authors use.
        data: whether it needs a batch.
    """

    name: str
    module: str
    reads: str
    passes: str
    formula: str
    reference: str
    labels: bool = False
    higher_is_better: bool = True
    data: bool = True

    def __call__(self, context: Any) -> float:
        """The number of a network; `context` is a `proxies.capture.Context`.

        Raises:
            ScoringError: the network has no such number; the message says why.
        """
        function: Callable[[Any], float] = getattr(importlib.import_module(f"ssnr.proxies.{self.module}"), self.name)
        return float(function(context))


TABLE = {
    row.name: row
    for row in (
        ProxyRow("naswot", "naswot", "activations", "1F", "ln det K, K_ij = units at which codes i and j agree",
                 "Mellor, Turner, Storkey & Crowley, ICML 2021"),
        ProxyRow("lnwot", "lnwot", "layers", "1F", "Σ_l ln det K_l, codes [output of layer l > 0]",
                 "Xiang, Hunter, Xu, Dudziak & Wen, AutoML 2023"),
        ProxyRow("relu_logdet", "lnwot", "layers", "1F", "ln det Σ_l K_l, codes [output of layer l > 0]",
                 "Xiang, Hunter, Xu, Dudziak & Wen, AutoML 2023"),
        ProxyRow("jacov", "jacov", "input gradients", "1F 1B", "−Σ ln(v + k) + 1/(v + k), v eigenvalues of corr(J)",
                 "Mellor, Turner, Storkey & Crowley, arXiv 2006.04647v1"),
        ProxyRow("epe_nas", "epe_nas", "input gradients", "1F 1B", "Σ_c |Σ ln(|corr(J_c)| + k)|",
                 "Lopes, Alirezazadeh & Alexandre, ICANN 2021", labels=True),
        ProxyRow("zen", "zen", "noise", "2F", "ln E‖f(x) − f(x + γε)‖₁ + Σ ln σ_norm, weights N(0, 1)",
                 "Lin et al., ICCV 2021", data=False),
        ProxyRow("zico", "zico", "gradients", "1F 1B", "Σ_l ln Σ_w mean|g|/σ(g), over two halves of the batch",
                 "Li, Yang, Bhardwaj & Marculescu, ICLR 2023", labels=True),
        ProxyRow("swap", "swap", "activations", "1F", "distinct patterns of units over the batch",
                 "Peng, Song, Fayek, Ciesielski & Chang, ICLR 2024"),
        ProxyRow("linear_regions", "swap", "activations", "1F", "distinct codes of images",
                 "Chen, Gong & Wang, ICLR 2021"),
        ProxyRow("meco", "meco", "maps", "1F", "Σ_maps λ_min(corr of channels), first image",
                 "Jiang, Wang & Bie, NeurIPS 2023"),
        ProxyRow("meco_opt", "meco", "maps", "1F", "Σ_maps C/8 · λ_min(corr of 8 channels)",
                 "Jiang, Wang & Bie, NeurIPS 2023"),
        ProxyRow("gradsign", "gradsign", "gradients", "1F 1B", "Σ_w |Σ_n sign g_nw|, each image alone",
                 "Zhang & Jia, ICLR 2022", labels=True),
        ProxyRow("ntk", "ntk", "gradients", "1F 1B", "λ_max/λ_min of G Gᵀ, G_n = ∂(Σ logits of n)/∂θ",
                 "Chen, Gong & Wang, ICLR 2021", higher_is_better=False),
        ProxyRow("az_nas_expressivity", "az_nas", "noise", "1F 1B", "Σ H, H the entropy of channels' spectra",
                 "Lee & Ham, CVPR 2024", data=False),
        ProxyRow("az_nas_progressivity", "az_nas", "noise", "1F 1B", "min H_next − H",
                 "Lee & Ham, CVPR 2024", data=False),
        ProxyRow("az_nas_trainability", "az_nas", "noise", "1F 1B", "mean 2 − s − 1/s, s the gain of gradients",
                 "Lee & Ham, CVPR 2024", data=False),
        ProxyRow("t_cet", "t_cet", "layers", "2F 1B", "Σ_l lnwot_l · SSNR_l of synflow, by name of layer",
                 "Xiang, Hunter, Xu, Dudziak & Wen, AutoML 2023"),
        ProxyRow("synflow_bn", "synflow_bn", "noise", "1F 1B", "Σ |θ ∂R/∂θ|, norms kept in eval mode",
                 "Abdelfattah, Mehrotra, Dudziak & Lane, ICLR 2021", data=False),
        ProxyRow("near", "near", "blocks", "1F", "Σ exp H(σ/Σσ), σ singular values of C outputs × C channels",
                 "Husistein, Reiher & Eckhoff, ICLR 2025"),
        ProxyRow("vkdnw", "vkdnw", "gradients", "1F CB", "parameter tensors + vkdnw_entropy",
                 "Týbl & Neumann, CVPR 2025"),
        ProxyRow("vkdnw_entropy", "vkdnw", "gradients", "1F CB", "H of the deciles of the Fisher matrix's eigenvalues",
                 "Týbl & Neumann, CVPR 2025"),
        ProxyRow("intrain", "intrain", "noise", "1F 1B", "Σ_l ln PR(C_l) · (1 + Σ_i σ(g_i)/max|g_i|) / ln(L + 1)",
                 "Zhou et al., CVPR 2026", data=False),
    )
}  # fmt: skip
