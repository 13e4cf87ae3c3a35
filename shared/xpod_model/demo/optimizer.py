"""Muon for the hidden matrices, AdamW for the rest. It knows parameters and gradients, nothing of schedules or data."""

import torch
from torch import Tensor, nn

from xpod_model.demo.network import Network

__all__ = ["Muon", "optimizers"]


def orthogonal(g: Tensor, rounds: int = 5) -> Tensor:
    """The nearest matrix with singular values near one, by Newton-Schulz. g [..., R, C]; any leading dimensions."""
    x: Tensor = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, then orthogonalised; stacked experts [E, R, C] are E matrices."""

    def __init__(
        self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.01
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                kept = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = orthogonal(torch.lerp(p.grad, kept, group["momentum"]))
                scale = max(1.0, p.shape[-2] / p.shape[-1]) ** 0.5
                p.mul_(1 - group["lr"] * group["decay"])
                p.add_(update.to(p.dtype), alpha=-group["lr"] * scale)


def optimizers(network: Network, muon: float = 0.02, adam: float = 3e-3) -> list[torch.optim.Optimizer]:
    """Muon for attention and experts; AdamW for embedding, norms and routers."""
    names = {"q", "k", "v", "o", "gate", "up", "down"}
    hidden = [p for n, p in network.named_parameters() if n.rpartition(".")[2] in names]
    rest = [p for n, p in network.named_parameters() if n.rpartition(".")[2] not in names]
    adamw = torch.optim.AdamW(rest, adam, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    return [Muon(hidden, muon), adamw]
