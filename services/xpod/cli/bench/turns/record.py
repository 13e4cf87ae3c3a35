"""What one pod's conversations come to.

Knows: which part of a trace is which figure, and that a failed request has none.
Does not know: other pods. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from xpod.cli.bench.figures import figures
from xpod.cli.bench.turns_load import Turn

Json = dict[str, Any]
MS = 1000


def run_record(turns: Sequence[Turn], expected: int) -> Json:
    """`expected`: turns that all conversations have; those after a failed one are never asked."""
    good = [turn for turn in turns if turn.failure is None]
    prompt, computed = sum(t.prompt_tokens for t in good), sum(t.computed_tokens for t in good)
    return {
        "requests": len(turns),
        "failed": len(turns) - len(good),
        "unasked": expected - len(turns),
        "prompt_tokens": prompt,
        "computed_tokens": computed,
        "hit_rate": round(1 - computed / prompt, 6) if prompt else None,
        "ttft_ms": _figures([turn.trace.ttft for turn in good]),
        "jct_ms": _figures([turn.trace.to_last for turn in good]),
        "recoveries": sum(turn.trace.recoveries for turn in good),
    }


def request_record(turn: Turn) -> Json:
    good = turn.failure is None
    return {
        "conversation": turn.conversation,
        "turn": turn.number,
        "prompt_tokens": turn.prompt_tokens,
        "cached_tokens": turn.trace.cached_tokens,
        "ttft_ms": round(turn.trace.ttft * MS, 3) if good else None,
        "jct_ms": round(turn.trace.to_last * MS, 3) if good else None,
        "answer": _digest(turn.trace.tokens) if good else None,
        "error": f"{turn.failure.kind}: {turn.failure.message}" if turn.failure else None,
    }


def _digest(tokens: Sequence[int]) -> str:
    """By which answers of different runs of one seed are compared."""
    return hashlib.sha256(" ".join(map(str, tokens)).encode()).hexdigest()[:16]


def _figures(seconds: Sequence[float]) -> Json | None:
    found = figures([value * MS for value in seconds])
    return found.as_json() if found else None
