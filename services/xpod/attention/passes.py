"""Forward passes that take turns on the computing thread: while one waits for its experts, the others compute.

Micro-batches as in xDeepServe (2508.02520, two a domain) and MegaScale-Infer. Knows legs and exchanges; it knows
neither sequences nor who serves an expert.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence

import torch

from xpod.attention.exchange import Exchange
from xpod.attention.hop import Hop
from xpod_model.attention_half import AttentionHalf, ExpertBatch, Segment
from xpod_model.kv import KVCache
from xpod_model.legs import Outputs

Forward = Generator[ExpertBatch, Outputs, torch.Tensor]


class Passes:
    """Runs the batches of one step. Batch i computes each layer before batch i + 1 does, so that two batches may
    hold consecutive pieces of one sequence."""

    def __init__(self, half: AttentionHalf, cache: KVCache, hop: Hop) -> None:
        self._half, self._cache, self._hop = half, cache, hop

    def run(self, batches: Sequence[list[Segment]]) -> torch.Tensor:
        """The logits of all batches, one under the other. Raises what the hop raises; then nothing is under way."""
        logits: list[torch.Tensor] = []
        turns: deque[tuple[Forward, Exchange]] = deque()
        try:
            for batch in batches:
                self._advance(self._half.forward(batch, self._cache), None, turns, logits)
            while turns:
                forward, exchange = turns.popleft()
                self._advance(forward, self._hop.finish(exchange), turns, logits)
        except BaseException:
            self._hop.abandon()
            raise
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    def _advance(
        self,
        forward: Forward,
        outputs: Outputs | None,
        turns: deque[tuple[Forward, Exchange]],
        logits: list[torch.Tensor],
    ) -> None:
        """One leg: to the next layer's question, or to the logits."""
        try:
            batch = next(forward) if outputs is None else forward.send(outputs)
        except StopIteration as end:
            logits.append(end.value)
            return
        turns.append((forward, self._hop.begin(batch.layer, *batch.bits)))
