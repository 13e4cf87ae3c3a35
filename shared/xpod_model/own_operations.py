"""A layer's operations by our own kernels, for bf16 on CPUs that have the instructions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from xpod_model.config import ModelConfig
from xpod_model.kernels import kernels
from xpod_model.kernels.attend import BLOCK, WIDTH_STEP
from xpod_model.kernels.choose import MOST_CHOSEN, MOST_EXPERTS
from xpod_model.kernels.code import LANES
from xpod_model.kernels.library import Kernels
from xpod_model.kv import KVCache
from xpod_model.operations import Attend, Operations
from xpod_model.plan import Ints, Plan, Segment
from xpod_model.rope import Rope

# queries of one segment that share their turned keys: several pieces occupy several threads
PIECE = 64


class OwnOperations(Operations):
    """Holds no state but the table of rotations, which grows."""

    def __init__(self, config: ModelConfig, own: Kernels) -> None:
        self._config, self.kernels = config, own
        self._rope = Rope(config.rope, config.head_dim, torch.bfloat16)

    @classmethod
    def where_possible(cls, config: ModelConfig, dtype: torch.dtype, device: str) -> Self | None:
        """None where the kernels are not to be had, or do not fit the model."""
        fits = (
            dtype == torch.bfloat16
            and device == "cpu"
            and config.hidden % LANES == 0
            and config.head_dim % WIDTH_STEP == 0
            and (not config.moe_layers or config.experts % LANES == 0)
            and config.experts <= MOST_EXPERTS
            and config.experts_per_token <= MOST_CHOSEN
        )
        own = kernels() if fits else None
        return None if own is None else cls(config, own)

    def angles(self, highest: int) -> Tensor:
        """The table of rotations, for positions up to `highest`."""
        return self._rope.table(highest)

    def attention(self, segments: Sequence[Segment], plan: Plan, cache: KVCache) -> Attend:
        assert cache.spec.block_tokens == BLOCK
        pages = Pages.of(segments, plan.offsets)
        angles = self.angles(plan.highest)
        heads, eps = self._config.heads, self._config.rms_eps

        def attend(layer: int, projected: Tensor, norm: Tensor | None) -> Tensor:
            qkv = projected.view(projected.shape[0], -1, self._config.head_dim)
            planes = cache.layers[layer]
            queries = self.kernels.heads(
                qkv,
                heads,
                norm=None if norm is None else (norm, eps),
                angles=angles,
                positions=plan.positions,
                slots=plan.slots,
                cache=planes,
            )
            return self.kernels.attend(queries, planes, pages.pieces, plan.highest + 1).flatten(1)

        return attend

    def add_norm(self, x: Tensor, delta: Tensor | None, weight: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.kernels.add_norm(x, delta, weight, self._config.rms_eps)

    def choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        config = self._config
        return self.kernels.choose(logits, config.experts, config.experts_per_token, config.norm_topk_prob)

    def combine(self, outputs: Tensor, weights: Tensor) -> Tensor:
        return self.kernels.combine(outputs.contiguous(), weights)


@dataclass(frozen=True, slots=True)
class Pages:
    """What `Kernels.attend` wants to know of a forward: pieces [P, 4], which point into the tables."""

    pieces: Ints
    tables: Ints

    @classmethod
    def of(cls, segments: Sequence[Segment], offsets: Ints) -> "Pages":
        """Every segment in pieces of up to PIECE tokens; `offsets`: their first rows."""
        tables = np.array([block for segment in segments for block in segment.blocks], np.int64)
        pieces, address = [], tables.ctypes.data
        for segment, offset in zip(segments, offsets.tolist(), strict=False):
            count = len(segment.tokens)
            for begin in range(0, count, PIECE):
                size = min(PIECE, count - begin)
                pieces.append((offset + begin, size, segment.start + begin, address))
            address += 8 * len(segment.blocks)
        return cls(np.array(pieces, np.int64), tables)
