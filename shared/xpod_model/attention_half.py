"""The half of the model that is not experts: embeddings, attention, norms, gates, dense MLPs, output head.

It knows how a layer is composed. Expert outputs are asked for by yielding; where they come from, it does not know.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xpod_model.attention import Attention
from xpod_model.checkpoint import Checkpoint
from xpod_model.config import ModelConfig
from xpod_model.errors import ModelError
from xpod_model.gate import Gate, combine
from xpod_model.kv import KVCache, KVSpec
from xpod_model.layer import Layer
from xpod_model.linear import Linear
from xpod_model.norm import rms_norm
from xpod_model.plan import Plan, Segment
from xpod_model.rope import Rope, rotate
from xpod_model.tensors import read, resolve_dtype

__all__ = ["AttentionHalf", "ExpertBatch", "Segment"]


@dataclass(frozen=True, slots=True)
class ExpertBatch:
    """What one MoE layer asks of its experts: each row, through each of its K experts."""

    layer: int
    rows: Tensor  # [T, D] in the model's dtype
    experts: Tensor  # [T, K] int64


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all layers of one forward share."""

    plan: Plan
    cache: KVCache
    cos: Tensor
    sin: Tensor


class AttentionHalf:
    """All of the model but its experts. Holds scratch buffers: run one step of one forward at a time.

    Forwards may interleave at their yields.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype, device: str) -> None:
        config, family = checkpoint.config, checkpoint.family
        self.config: ModelConfig = config
        self.dtype, self.device = dtype, device
        self._embedding = read(checkpoint, family.embedding(), dtype, device)  # [V, D]
        self._final_norm = read(checkpoint, family.final_norm(), dtype, device)
        self._head = Linear(read(checkpoint, family.lm_head(config), dtype, device))
        self._layers = [Layer.read(checkpoint, i, dtype, device) for i in range(config.layers)]
        self._attention = Attention(config.heads, config.kv_heads, config.head_dim)
        self._rope = Rope(config.rope, config.head_dim, dtype, device)

    @classmethod
    def load(cls, checkpoint: Checkpoint, dtype: str = "auto", device: str = "cpu") -> "AttentionHalf":
        """Map and pack the weights; raises ModelError for a bad checkpoint. dtype: auto, bf16 or fp32."""
        checkpoint.validate()
        return cls(checkpoint, resolve_dtype(checkpoint, dtype), device)

    def kv_spec(self, block_tokens: int = 16) -> KVSpec:
        """The spec of the KV cache that this half writes to."""
        return KVSpec.of(self.config, "fp32" if self.dtype == torch.float32 else "bf16", block_tokens)

    def forward(self, segments: Sequence[Segment], cache: KVCache) -> Generator[ExpertBatch, Tensor, Tensor]:
        """Compute the segments' tokens, writing their KV; returns logits fp32 [segments that want them, V].

        Yields one ExpertBatch a MoE layer, and is sent the outputs [T, K, D], of experts[t, k] on rows[t].
        A token's results depend on its sequence up to it, and on no other segment, to the bit. Segments of one
        sequence must not share a call. Raises ModelError for a token outside of the vocabulary.
        """
        shared = self._begin(segments, cache)
        with torch.inference_mode():
            x = self._embedding.index_select(0, shared.plan.tokens)  # [T, D]
        for index, layer in enumerate(self._layers):
            with torch.inference_mode():
                x = x + self._attend(layer, index, x, shared)
                h = rms_norm(x, layer.mlp_norm, self.config.rms_eps)
                batch, weights = self._ask(layer.gate, index, h)
            if batch is not None:
                outputs = yield batch
                with torch.inference_mode():
                    x = x + combine(outputs, weights)
            else:
                with torch.inference_mode():
                    x = x + layer.dense_mlp(h)
        with torch.inference_mode():
            return self._logits(x, shared.plan)

    @torch.inference_mode()
    def _begin(self, segments: Sequence[Segment], cache: KVCache) -> "_Shared":
        for segment in segments:
            if not segment.tokens:
                raise ModelError("a segment has no tokens")
            if min(segment.tokens) < 0 or max(segment.tokens) >= self.config.vocab:
                raise ModelError(f"a token is outside of the vocabulary of {self.config.vocab}")
        plan = Plan.of(segments, cache)
        return _Shared(plan, cache, *self._rope.at(plan.positions, plan.highest))

    def _attend(self, layer: Layer, index: int, x: Tensor, shared: "_Shared") -> Tensor:
        """x [T, D] -> [T, D]: project, rotate, remember, attend, project."""
        config = self.config
        h = rms_norm(x, layer.input_norm, config.rms_eps)
        qkv = layer.qkv(h).view(x.shape[0], -1, config.head_dim)  # [T, heads + 2 * KV heads, head_dim]
        qk, v = torch.split(qkv, [config.heads + config.kv_heads, config.kv_heads], 1)
        if layer.head_norm is not None:
            qk = rms_norm(qk, layer.head_norm, config.rms_eps)
        qk = rotate(qk, shared.cos, shared.sin)
        shared.cache.write(index, shared.plan.slots, torch.cat([qk[:, config.heads :], v], 1))
        return layer.out(self._attention(qk[:, : config.heads], index, shared.cache, shared.plan))

    def _ask(self, gate: Gate | None, index: int, h: Tensor) -> tuple[ExpertBatch | None, Tensor]:
        if gate is None:
            return None, h
        experts, weights = gate(h)
        return ExpertBatch(index, h, experts), weights

    def _logits(self, x: Tensor, plan: Plan) -> Tensor:
        if plan.logit_rows.numel() == 0:
            return torch.empty(0, self.config.vocab, device=self.device)
        rows = x.index_select(0, plan.logit_rows)
        return self._head(rms_norm(rows, self._final_norm, self.config.rms_eps)).float()
