"""A Qwen3-MoE written to be trained on a CPU.

It knows the architecture and the matrices. It knows nothing of data, optimizers or serving; xpod never serves with it.
Shapes: B sequences, N positions, T = B * N tokens, D hidden, H query heads, G key heads, C head size, E experts,
K experts per token, M expert width, V vocabulary. Weights are fp32; matrix products run in `compute`.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xpod_model.demo.attention import causal_attention

__all__ = ["Config", "Layer", "Network"]


@dataclass(frozen=True, slots=True)
class Config:
    vocabulary: int = 6144
    hidden: int = 256
    layers: int = 8
    heads: int = 8
    key_heads: int = 2
    head_size: int = 32
    experts: int = 16
    chosen: int = 4
    width: int = 128
    positions: int = 2048
    theta: float = 10000.0
    epsilon: float = 1e-6


class Gather(torch.autograd.Function):
    """Rows of x repeated K times and sorted: `x[order // K]`. The gradient is a gather too, not a scatter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor, chosen: int) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.chosen = chosen
        return x[order // chosen]  # [T * K, D]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (inverse,) = ctx.saved_tensors
        rows = grads[0][inverse].view(-1, ctx.chosen, grads[0].shape[1])
        return rows.sum(1), None, None, None


class Permute(torch.autograd.Function):
    """`x[inverse]`, for a permutation whose inverse is known."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return x[inverse]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0][ctx.saved_tensors[0]], None, None


def gather(x: Tensor, order: Tensor, inverse: Tensor, chosen: int) -> Tensor:
    return cast(Tensor, Gather.apply(x, order, inverse, chosen))  # type: ignore[no-untyped-call]


def permute(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    return cast(Tensor, Permute.apply(x, order, inverse))  # type: ignore[no-untyped-call]


def rope(positions: int, config: Config) -> tuple[Tensor, Tensor]:
    """cos and sin, each [1, 1, N, C / 2]."""
    frequency = config.theta ** (-torch.arange(0, config.head_size, 2).float() / config.head_size)
    angle = torch.outer(torch.arange(positions).float(), frequency)[None, None]
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)  # [B, H, N, C / 2]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Layer(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        c = self.config = config
        query, key = c.heads * c.head_size, c.key_heads * c.head_size
        self.input_norm = nn.Parameter(torch.ones(c.hidden))
        self.post_norm = nn.Parameter(torch.ones(c.hidden))
        # With ones the sharpest score of a head of 32 is sqrt(32): too flat to look anything up. This gives 16.
        self.q_norm = nn.Parameter(torch.full((c.head_size,), 1.7))
        self.k_norm = nn.Parameter(torch.full((c.head_size,), 1.7))
        self.q = matrix(query, c.hidden)
        self.k = matrix(key, c.hidden)
        self.v = matrix(key, c.hidden)
        self.o = nn.Parameter(torch.zeros(c.hidden, query))
        self.router = nn.Parameter(torch.randn(c.experts, c.hidden) * 0.02)
        self.gate = matrix(c.experts, c.width, c.hidden)
        self.up = matrix(c.experts, c.width, c.hidden)
        self.down = nn.Parameter(torch.zeros(c.experts, c.hidden, c.width))

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, compute: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, N, D] -> the new x, the balance loss, tokens per expert [E]."""
        x = x + self.attend(self.norm(x, self.input_norm), cos, sin, compute)
        y, balance, load = self.mix(self.norm(x, self.post_norm).flatten(0, 1), compute)
        return x + y.view_as(x), balance, load

    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self.config.epsilon)

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor, compute: torch.dtype) -> Tensor:
        c, (b, n, _) = self.config, x.shape
        qkv = F.linear(x.to(compute), torch.cat((self.q, self.k, self.v)).to(compute))
        heads = qkv.view(b, n, -1, c.head_size).transpose(1, 2).float()  # [B, H + 2 G, N, C]
        q, k, v = torch.split(heads, [c.heads, c.key_heads, c.key_heads], 1)
        q = rotate(self.norm(q, self.q_norm), cos, sin).to(compute)
        k = rotate(self.norm(k, self.k_norm), cos, sin).to(compute)
        group = c.heads // c.key_heads
        k, v = k.repeat_interleave(group, 1), v.to(compute).repeat_interleave(group, 1)
        y = causal_attention(q, k, v)
        return F.linear(y.transpose(1, 2).reshape(b, n, -1), self.o.to(compute)).float()

    def mix(self, x: Tensor, compute: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        c = self.config
        share = F.linear(x, self.router).softmax(-1)  # [T, E], fp32
        weight, expert = share.topk(c.chosen, -1)  # [T, K]
        weight = weight / weight.sum(-1, keepdim=True)
        order = expert.flatten().argsort(stable=True)
        inverse = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
        load = expert.flatten().bincount(minlength=c.experts)
        balance = c.experts * (load / load.sum() * share.mean(0)).sum()  # 1 when even

        sizes = load.tolist()
        rows = torch.split(gather(x.to(compute), order, inverse, c.chosen), sizes)
        up = torch.cat((self.gate, self.up), 1).to(compute).unbind()  # E times [2 M, D]
        h = torch.cat([F.linear(row, w) for row, w in zip(rows, up, strict=True)])
        a, b = h.chunk(2, -1)
        hidden = torch.split(F.silu(a) * b, sizes)  # E times [., M]
        down = self.down.to(compute).unbind()
        y = torch.cat([F.linear(row, w) for row, w in zip(hidden, down, strict=True)])
        y = permute(y, order, inverse).view(-1, c.chosen, c.hidden)  # [T, K, D]
        return torch.bmm(weight[:, None].to(y.dtype), y)[:, 0].float(), balance, load


def matrix(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * shape[-1] ** -0.5)


class Network(nn.Module):
    def __init__(self, config: Config, compute: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.config, self.compute = config, compute
        self.embedding = nn.Parameter(torch.randn(config.vocabulary, config.hidden) * 0.02)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.final_norm = nn.Parameter(torch.ones(config.hidden))

    def hidden(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ids [B, N] -> normed hidden states [B, N, D], mean balance loss, tokens per layer and expert [L, E]."""
        cos, sin = rope(ids.shape[1], self.config)
        x, balances, loads = F.embedding(ids, self.embedding), [], []
        for layer in self.layers:
            x, balance, load = layer(x, cos, sin, self.compute)
            balances.append(balance)
            loads.append(load)
        x = F.rms_norm(x, (x.shape[-1],), self.final_norm, self.config.epsilon)
        return x, torch.stack(balances).mean(), torch.stack(loads)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., V], fp32."""
        return F.linear(hidden.to(self.compute), self.embedding.to(self.compute)).float()

    def forward(self, ids: Tensor) -> Tensor:
        return self.logits(self.hidden(ids)[0])
