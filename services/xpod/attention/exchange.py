"""What is under way between attention and experts: one layer's question, and its calls.

Knows which pairs (a row and an expert) a call is for. Does not know who is asked, or when again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from xpod.attention.hop_trace import HopSpan
from xpod_policy.holdings import ShardRows

Array = npt.NDArray[Any]


@dataclass(slots=True, eq=False)
class Exchange:
    """One layer's question: `rows` `[T, D]`, `experts` `[T, K]`; `out` `[T * K, D]` fills up."""

    layer: int
    rows: Array
    experts: Array
    out: Array
    calls: int = 0
    avoid: frozenset[str] = frozenset()
    homeless: Array | None = None
    version: int = -1
    retry_at: float = 0.0
    give_up: float = math.inf
    span: HopSpan | None = None
    trace: str = ""
    """As a header; empty: nobody looks."""


@dataclass(slots=True, eq=False)
class Call:
    """A call under way. `hedges` are calls for the same pairs; `hedged` is the call that this one is a hedge of.

    Nobody answered the `tries` before it. `late`: what it was asked for is there already; its answer only says that the
    shard answers.
    """

    exchange: Exchange
    part: ShardRows
    posted: float
    deadline: float
    hedge_at: float
    tries: int = 0
    hedges: set[int] = field(default_factory=set)
    hedged: int = 0
    late: bool = False

    def pairs(self) -> Array:
        """The experts `[T, K]` that it asks for, -1 elsewhere."""
        experts = self.exchange.experts
        wanted = np.full_like(experts, -1)
        wanted.reshape(-1)[self.part.place] = experts.reshape(-1)[self.part.place]
        return wanted
