"""Forward passes that take turns on the computing thread: while one waits for its experts, the others compute.

Micro-batches as in xDeepServe (2508.02520, two a domain) and MegaScale-Infer. Knows legs and exchanges; it knows
neither sequences nor who serves an expert.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch

from xpod.attention.exchange import Exchange
from xpod.attention.hop import Hop
from xpod_model.attention_half import AttentionHalf, ExpertBatch, Segment
from xpod_model.kv import KVCache
from xpod_model.legs import Outputs

Forward = Generator[ExpertBatch, Outputs, torch.Tensor]


@dataclass(slots=True, eq=False)
class Turn:
    """A batch's forward pass: what it waits for, how many layers have its KV, and its logits in the end."""

    forward: Forward
    exchange: Exchange | None = None
    layers: int = 0
    logits: torch.Tensor | None = None


class Passes:
    """Runs the batches of one step. Batch i computes each layer before batch i + 1 does, so that two batches may
    hold consecutive pieces of one sequence."""

    def __init__(self, half: AttentionHalf, cache: KVCache, hop: Hop) -> None:
        self._half, self._cache, self._hop = half, cache, hop

    def run(
        self, batches: Sequence[list[Segment]], finished: Callable[[int], None] | None = None
    ) -> torch.Tensor:
        """The logits of all batches, one under the other. Raises what the hop raises; then nothing is under way.

        `finished(n)` is called when all batches have their KV in the layers below n, with the experts at work on
        what was asked last; in the end with the number of layers.
        """
        turns = [Turn(self._half.forward(batch, self._cache)) for batch in batches]
        told, waiting = 0, deque(turns)
        try:
            while waiting:
                turn = waiting.popleft()
                self._advance(turn)
                if turn.exchange is not None:
                    waiting.append(turn)
                if finished is not None and (below := min(each.layers for each in turns)) > told:
                    finished(below)
                    told = below
        except BaseException:
            self._hop.abandon([turn.exchange for turn in turns if turn.exchange is not None])
            raise
        logits = [turn.logits for turn in turns if turn.logits is not None]
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    def _advance(self, turn: Turn) -> None:
        """One leg: to the next layer's question, or to the logits."""
        exchange = turn.exchange
        try:
            forward = turn.forward
            batch = next(forward) if exchange is None else forward.send(self._hop.finish(exchange))
        except StopIteration as end:
            turn.exchange, turn.layers, turn.logits = None, self._half.config.layers, end.value
            return
        turn.exchange = self._hop.begin(batch.layer, *batch.bits)
        turn.layers = batch.layer + 1
