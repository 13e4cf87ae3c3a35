"""What is under way between attention and experts: one layer's question, and what came of it so far.

Knows the rows and where results go. Does not know who is asked, or when again (`xpod_policy.expert_calls`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xpod.attention.hop_trace import HopSpan, Part
from xpod_policy.expert_calls import Array, Homeless, Question


@dataclass(slots=True, eq=False)
class Exchange(Question):
    """One layer's question: `rows` `[T, D]`, `experts` `[T, K]`; `out` `[T * K, D]` fills up."""

    rows: Array
    out: Array
    part: Part
    """Of whose step it is."""
    homeless: Homeless = field(default_factory=Homeless, init=False)
    span: HopSpan | None = field(default=None, init=False)
    trace: str = field(default="", init=False)
    """As a header; empty: nobody looks."""
