"""A layer's operations by torch: for fp32, for any head width, and for CPUs and devices without kernels of our own."""

from collections.abc import Sequence

import torch
from torch import Tensor

from xpod_model.attention import Attention
from xpod_model.config import ModelConfig
from xpod_model.gate import combine, top_experts
from xpod_model.groups import groups_of
from xpod_model.kv import KVCache
from xpod_model.norm import rms_norm
from xpod_model.operations import Attend, Operations
from xpod_model.plan import Plan, Segment
from xpod_model.rope import Rope, rotate


class TorchOperations(Operations):
    """Holds scratch buffers: one thread at a time."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype, device: str) -> None:
        self._config, self._dtype = config, dtype
        self._attention = Attention(config.heads, config.kv_heads, config.head_dim)
        self._rope = Rope(config.rope, config.head_dim, dtype, device)

    def attention(self, segments: Sequence[Segment], plan: Plan, cache: KVCache) -> Attend:
        groups = groups_of(segments, plan, cache)
        cos, sin = self._rope.at(plan.positions, plan.highest)
        heads, kv_heads = self._config.heads, self._config.kv_heads

        def attend(layer: int, projected: Tensor, norm: Tensor | None) -> Tensor:
            qkv = projected.view(projected.shape[0], -1, self._config.head_dim)
            qk, v = torch.split(qkv, [heads + kv_heads, kv_heads], 1)
            if norm is not None:
                qk = rms_norm(qk, norm, self._config.rms_eps)
            qk = rotate(qk, cos, sin)
            cache.write(layer, plan.slots, torch.cat([qk[:, heads:], v], 1))
            return self._attention(qk[:, :heads], layer, cache, groups)

        return attend

    def add_norm(self, x: Tensor, delta: Tensor | None, weight: Tensor) -> tuple[Tensor, Tensor]:
        if delta is not None:
            x = x + delta
        return x, rms_norm(x, weight, self._config.rms_eps)

    def choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        config = self._config
        wanted = logits[:, : config.experts]
        experts, weights = top_experts(wanted, config.experts_per_token, config.norm_topk_prob)
        return experts, weights.to(self._dtype)  # rounded, as transformers does

    def combine(self, outputs: Tensor, weights: Tensor) -> Tensor:
        return combine(outputs, weights)
