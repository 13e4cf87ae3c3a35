"""The half of the model that is not experts: embeddings, attention, norms, gates, dense MLPs, output head.

It knows how a layer is composed. Expert outputs are asked for by yielding; where they come from, it does not know.
"""

from collections.abc import Generator, Sequence

import torch
from torch import Tensor

from xpod_model.checkpoint import Checkpoint
from xpod_model.config import ModelConfig
from xpod_model.errors import ModelError
from xpod_model.kernels import FEW_ROWS
from xpod_model.kv import KVCache, KVSpec
from xpod_model.layer import Layer
from xpod_model.legs import ExpertBatch, Legs, Outputs, PlainLegs
from xpod_model.linear import Linear
from xpod_model.makes import operations_for
from xpod_model.plan import Plan, Segment
from xpod_model.program import ProgramLegs, Programs
from xpod_model.scores import TILE_ROWS
from xpod_model.tensors import read, resolve_dtype

__all__ = ["AttentionHalf", "ExpertBatch", "Segment"]


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
        self._do = operations_for(config, dtype, device)
        self._programs = Programs.where_possible(config, self._layers, self._do)

    @classmethod
    def load(cls, checkpoint: Checkpoint, dtype: str = "auto", device: str = "cpu") -> "AttentionHalf":
        """Map and pack the weights; raises ModelError for a bad checkpoint. dtype: auto, bf16 or fp32."""
        checkpoint.validate()
        return cls(checkpoint, resolve_dtype(checkpoint, dtype), device)

    def kv_spec(self, block_tokens: int = 16) -> KVSpec:
        """The spec of the KV cache that this half writes to."""
        return KVSpec.of(self.config, "fp32" if self.dtype == torch.float32 else "bf16", block_tokens)

    def forward(self, segments: Sequence[Segment], cache: KVCache) -> Generator[ExpertBatch, Outputs, Tensor]:
        """Compute the segments' tokens, writing their KV; returns logits fp32 [segments that want them, V].

        Yields one ExpertBatch a MoE layer, and is sent the outputs [T, K, D], of experts[t, k] on rows[t].
        A token's results depend on its sequence up to it, and on no other segment, to the bit. Segments of one
        sequence must not share a call. Raises ModelError for a token outside of the vocabulary.
        """
        self._check(segments)
        with torch.inference_mode():
            plan = Plan.of(segments, cache)
            legs = self._legs(segments, plan, cache)
        outputs: Outputs | None = None
        for layer in range(len(self._layers)):
            batch = legs.run(layer, outputs)
            outputs = None if batch is None else (yield batch)
        with torch.inference_mode():
            x, delta = legs.end(outputs)
            self._score(x, delta, segments, plan)
            return self._logits(x, delta, plan.logit_rows)

    def _legs(self, segments: Sequence[Segment], plan: Plan, cache: KVCache) -> Legs:
        x = self._embedding.index_select(0, plan.tokens)  # [T, D]
        if self._programs is not None and x.shape[0] <= FEW_ROWS:
            return ProgramLegs(self._programs, segments, plan, cache, x)
        return PlainLegs(self._layers, self._do, self._do.attention(segments, plan, cache), x)

    def _check(self, segments: Sequence[Segment]) -> None:
        for segment in segments:
            if not segment.tokens:
                raise ModelError("a segment has no tokens")
            if min(segment.tokens) < 0 or max(segment.tokens) >= self.config.vocab:
                raise ModelError(f"a token is outside of the vocabulary of {self.config.vocab}")

    def _score(self, x: Tensor, delta: Tensor | None, segments: Sequence[Segment], plan: Plan) -> None:
        for segment, offset in zip(segments, plan.offsets, strict=False):
            if segment.scores is None:
                continue
            rows = torch.arange(int(offset), int(offset) + len(segment.tokens), device=self.device)
            for first in range(0, len(segment.tokens), TILE_ROWS):
                logits = self._logits(x, delta, rows[first : first + TILE_ROWS])
                segment.scores.take(segment.start + first, logits)

    def _logits(self, x: Tensor, delta: Tensor | None, which: Tensor) -> Tensor:
        """Of rows `which` [n]: [n, V]; a row's are the same whichever others there are."""
        if which.numel() == 0:
            return torch.empty(0, self.config.vocab, device=self.device)
        rows = x.index_select(0, which)
        last = None if delta is None else delta.index_select(0, which)
        return self._head(self._do.add_norm(rows, last, self._final_norm)[1]).float()
