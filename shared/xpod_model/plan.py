"""What one forward computes: its segments' tokens side by side. It knows positions and block tables, and no tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xpod_model.kv import KVCache
from xpod_model.scores import Scores

Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class Segment:
    """Tokens of one sequence to compute now.

    tokens[0] stands at position `start`; `blocks` is the sequence's KV block table and covers at least
    start + len(tokens) tokens. With `wants_logits`, forward returns logits for the last of the tokens; `scores`
    are told those of all of them.
    """

    tokens: list[int]
    start: int
    blocks: list[int]
    wants_logits: bool = True
    scores: Scores | None = None

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


@dataclass(frozen=True, slots=True)
class Plan:
    """T flat tokens, their positions and KV slots; segment i has rows offsets[i] … offsets[i + 1]."""

    tokens: Tensor  # [T]
    positions: Tensor  # [T]
    slots: Tensor  # [T]
    offsets: Ints  # [segments + 1]
    highest: int
    logit_rows: Tensor  # [segments that want logits]

    @classmethod
    def of(cls, segments: Sequence[Segment], cache: KVCache) -> "Plan":
        """The plan for a batch; every segment has at least one token."""
        offsets = np.cumsum([0] + [len(segment.tokens) for segment in segments])
        positions = [np.arange(segment.start, segment.end) for segment in segments]
        slots = np.concatenate([cache.slots(s.blocks, s.start, len(s.tokens)) for s in segments])
        wanted = [offsets[i + 1] - 1 for i, segment in enumerate(segments) if segment.wants_logits]
        device = cache.device
        return cls(
            tokens=ints([token for segment in segments for token in segment.tokens], device),
            positions=ints(np.concatenate(positions), device),
            slots=ints(slots, device),
            offsets=offsets,
            highest=max(segment.end for segment in segments) - 1,
            logit_rows=ints(wanted, device),
        )


def ints(values: Sequence[int] | Ints, device: str) -> Tensor:
    """Whole numbers as an int64 tensor."""
    return torch.as_tensor(np.asarray(values, dtype=np.int64), device=device)
