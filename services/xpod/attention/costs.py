"""What this worker's steps and loads have cost lately, as a model that its routers can use."""

from __future__ import annotations

from collections import deque

from xpod_policy.cost import LoadCost, PrefillCost, fitted, fitted_load
from xpod_proto.messages import Value

SAMPLES = 128
FIT_EVERY = 8
"""Steps from one fit to the next: fits cost 0.1 ms."""
LOADS = LoadCost(0.005, 0.001)
"""Until something was loaded."""


class Costs:
    """`took` and `loaded` take in what was measured; a step has at most `step_tokens` tokens."""

    def __init__(self, step_tokens: int) -> None:
        self._step_tokens = step_tokens
        self._steps: deque[tuple[int, float, float]] = deque(maxlen=SAMPLES)
        self._loads: deque[tuple[int, float]] = deque(maxlen=SAMPLES)
        self._unfitted = 0
        self.prefill: PrefillCost | None = None
        self.load = LOADS

    def took(self, tokens: int, pairs: float, seconds: float) -> None:
        """A step of so many tokens, which attended to `pairs` tokens in all."""
        self._steps.append((tokens, pairs, seconds))
        self._unfitted += 1
        if len(self._steps) <= FIT_EVERY or self._unfitted >= FIT_EVERY:
            self.prefill, self._unfitted = fitted(self._steps, self._step_tokens), 0

    def loaded(self, blocks: int, seconds: float) -> None:
        """So many blocks came from MemPool."""
        if blocks:
            self._loads.append((blocks, seconds))
            self.load = fitted_load(self._loads)

    def worth_loading(self, blocks: int, tokens: int, after: int) -> bool:
        """Is it quicker to load `blocks` than to compute their `tokens` behind `after` others?"""
        return self.prefill is None or self.load.seconds(blocks) <= self.prefill.seconds(tokens, after)

    def told(self) -> dict[str, Value]:
        """As heartbeats tell it; what is not known yet is left out."""
        told: dict[str, Value] = {
            "cost_load_call": round(self.load.call, 6),
            "cost_load_block": round(self.load.block, 6),
        }
        if self.prefill is not None:
            told |= {
                "cost_step": round(self.prefill.step, 6),
                "cost_token": round(self.prefill.token, 9),
                "cost_pair": round(self.prefill.pair, 12),
            }
        return told
