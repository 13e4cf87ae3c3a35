"""What a prompt costs a prefill worker, and what it costs to fetch blocks instead of computing them.

An operator-level model: a step costs something by itself, every token passes the linear layers, and every token
attends to all before it. Its three numbers are fitted to steps that a worker measured; they know nothing of models.
Source: MemServe (2406.17565) §6, exec(x, y) of its global scheduler, and when to fetch: T_transfer ≤ what it saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class PrefillCost:
    """Seconds: `step` for each step of at most `step_tokens` tokens, `token` for each token, `pair` for each pair of a
    token and one that it attends to."""

    step: float
    token: float
    pair: float
    step_tokens: int = 512

    def seconds(self, count: int, after: int = 0) -> float:
        """For `count` tokens that follow `after` known ones."""
        if count <= 0:
            return 0.0
        steps = -(-count // self.step_tokens)
        return self.step * steps + self.token * count + self.pair * pairs_of(count, after)


@dataclass(frozen=True, slots=True)
class LoadCost:
    """Seconds to have blocks from MemPool: `call` once, `block` for each."""

    call: float
    block: float

    def seconds(self, blocks: int) -> float:
        return self.call + self.block * blocks if blocks > 0 else 0.0


def fitted(samples: Sequence[tuple[int, float, float]], step_tokens: int) -> PrefillCost:
    """The model nearest to steps (tokens, pairs, seconds). Raises ValueError without samples."""
    columns = [(1.0, tokens, pairs) for tokens, pairs, _ in samples]
    step, token, pair = _nearest(columns, [seconds for *_, seconds in samples])
    return PrefillCost(step, token, pair, step_tokens)


def fitted_load(samples: Sequence[tuple[int, float]]) -> LoadCost:
    """The model nearest to loads (blocks, seconds). Raises ValueError without samples."""
    columns = [(1.0, float(blocks)) for blocks, _ in samples]
    return LoadCost(*_nearest(columns, [seconds for _, seconds in samples]))


def _nearest(rows: Sequence[tuple[float, ...]], seconds: Sequence[float]) -> list[float]:
    """Factors, none of them negative, whose sums are nearest to `seconds`; each row counts by its relative error."""
    if not rows:
        raise ValueError("nothing was measured")
    wanted = np.array(seconds)
    weighed = np.array(rows) / wanted[:, None]
    free = list(range(weighed.shape[1]))
    while True:
        found, *_ = np.linalg.lstsq(weighed[:, free], np.ones_like(wanted), rcond=None)
        worst = int(np.argmin(found))
        if found[worst] >= 0 or len(free) == 1:
            break
        del free[worst]
    factors = [0.0] * weighed.shape[1]
    for column, factor in zip(free, np.maximum(found, 0.0).tolist(), strict=True):
        factors[column] = factor
    return factors


def pairs_of(count: int, after: int) -> float:
    """Pairs of `count` tokens and those that they attend to, themselves included, behind `after` others."""
    return count * after + count * (count + 1) / 2
