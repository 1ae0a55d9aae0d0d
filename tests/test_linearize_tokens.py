"""Tokens in every form: whatever is looked up with them is the sum of all rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ssnr

TOKENS = torch.tensor([[0, 1, 1]])


class Reads(nn.Module):
    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.table, self.kinds = nn.Embedding(6, 2), nn.Embedding(3, 2)
        self.head = nn.Linear(2, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.function(self, tokens))


def rows(net: nn.Module, times: float) -> Tensor:
    return times * net.table.weight.sum(0)


def bags(**options: object) -> Callable[[nn.Module, Tensor], Tensor]:
    return lambda net, tokens: F.embedding_bag(tokens, net.table.weight, **options)


WEIGHTS = torch.tensor([[1.0, 2.0, 4.0]])
CASES: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], Callable[[nn.Module], Tensor]]] = {
    "parts": (lambda n, t: sum(n.table(part) for part in t.unbind(1)), lambda n: rows(n, 3)),
    "chunks": (lambda n, t: sum(n.table(part)[:, 0] for part in t.split(1, 1)), lambda n: rows(n, 3)),
    "one after the other": (lambda n, t: torch.stack([n.table(row).sum(0) for row in t]), lambda n: rows(n, 3)),
    "joined": (lambda n, t: n.table(torch.cat([t[:, :1] * 0, t], 1)).sum(1), lambda n: rows(n, 4)),
    "weighted bags": (bags(mode="sum", per_sample_weights=WEIGHTS), lambda n: rows(n, 7)),
    "mean bags": (bags(mode="mean", padding_idx=0), lambda n: rows(n, 1)),
    "largest of bags": (bags(mode="max", max_norm=1.0), lambda n: rows(n, 1)),
    "bags of two sizes": (
        lambda n, t: F.embedding_bag(t[0], n.table.weight, torch.tensor([0, 1]), mode="sum"),
        lambda n: torch.stack([rows(n, 1), rows(n, 2)]),
    ),
    "kinds of their shape": (
        lambda n, t: (n.table(t) + n.kinds(torch.zeros_like(t))).sum(1),
        lambda n: rows(n, 3) + 3 * n.kinds.weight[0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_tokens_are_one_hot_vectors_of_ones_however_they_are_passed_on(case):
    function, by_hand = CASES[case]
    net = Reads(function)
    found = ssnr.saliency(net, "synflow", TOKENS)
    net.double()
    with torch.no_grad():
        for p in net.parameters():
            p.abs_()
    net.head(by_hand(net)).sum().backward()
    for name, values in found.items():
        p = net.get_parameter(name)
        expected = torch.zeros_like(p) if p.grad is None else (p * p.grad).detach()
        assert torch.allclose(values.double(), expected, rtol=1e-6 if values.dtype is torch.float32 else 1e-12), name


def test_places_computed_from_a_mask_are_places():
    class Decoder(nn.Module):
        """Positions as language models with padding on the left count them."""

        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(6, 2), nn.Embedding(5, 2)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            places = attention_mask.cumsum(1) * attention_mask - 1
            return self.words(input_ids) + self.places(places)

    batch = {"input_ids": TOKENS, "attention_mask": torch.ones_like(TOKENS)}
    found = ssnr.saliency(Decoder(), "synflow", batch)
    assert (found["words.weight"] > 0).all()
    assert (found["places.weight"] > 0).all(1).tolist() == [True] * 3 + [False] * 2
