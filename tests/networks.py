"""Small networks that tests share, and the naive reading of each saliency that the package is held against."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssnr import Score
from ssnr.testing.naive import matrices as matrices
from ssnr.testing.naive import naive_gradients as naive_gradients
from ssnr.testing.naive import naive_synflow as naive_synflow


def golden() -> nn.Sequential:
    """x → Linear [[1, −2], [3, ½]] → ReLU → Linear [[−1, 2], [½, 1]], solved by hand."""
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.5]]))
        net[2].weight.copy_(torch.tensor([[-1.0, 2.0], [0.5, 1.0]]))
    return net


def golden_batch() -> tuple[Tensor, Tensor]:
    """Two images with labels."""
    return torch.tensor([[1.0, 1.0], [2.0, -1.0]]), torch.tensor([0, 1])


class Small(nn.Module):
    """Convolutions with batch norm, an in-place activation, dropout, a buffer that changes and two heads of biases."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.3)
        self.mix = nn.Conv2d(4, 4, 1, bias=False)
        self.head = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.drop(self.act(self.norm(self.conv(x))))
        x = x + self.mix(x)
        out: Tensor = self.head(x.mean((2, 3)))
        return out


def small(seed: int = 0) -> Small:
    torch.manual_seed(seed)
    return Small()


def small_batch(size: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(size, 1, 5, 5, generator=generator), torch.arange(size) % 3


def state(net: nn.Module) -> list[object]:
    """Everything that scoring must leave alone, as comparable values."""
    seen: list[object] = []
    for name, module in net.named_modules():
        seen += [
            name,
            module.training,
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
            sorted(module.__dict__),
        ]
    for name, p in net.named_parameters():
        seen += [name, id(p), p.requires_grad, p.detach().clone().numpy().tobytes()]
        seen.append(None if p.grad is None else (id(p.grad), p.grad.clone().numpy().tobytes()))
    for name, b in net.named_buffers():
        seen += [name, id(b), b.clone().numpy().tobytes()]
    seen.append(torch.get_rng_state().numpy().tobytes())
    return seen


def brief(score: Score) -> tuple[float | None, float | None, str, str | None]:
    """Value, logarithm, status and reason, without the layers."""
    return score.value, score.log_value, score.status, score.reason
