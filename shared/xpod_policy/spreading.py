"""Over how many shards a batch's experts are spread: as few as can serve it, or all that hold any.

One shard more takes a part of the weights that have to be read, and costs a call. Knows: sizes. Does not know: shards.
"""

from __future__ import annotations

MOST_TOKENS = 32
"""Larger batches compute for longer than a call takes, whatever the experts' size."""
WORTH_BYTES = 45 << 20
"""Of weights: with so many to read for a layer, a third shard beside two saves as much time as its call costs.

It saves a sixth of reading them, at 15 GB/s 0.5 ms, which is what a call costs on two busy cores.
"""


def few_tokens(experts: int, experts_per_token: int, expert_bytes: int) -> int:
    """Batches of at most so many tokens are better served by few shards; `expert_bytes` are one expert's weights."""
    if experts * expert_bytes <= WORTH_BYTES:
        return MOST_TOKENS
    return min(MOST_TOKENS, WORTH_BYTES // (experts_per_token * expert_bytes))
