"""Which prefill worker gets a prompt, by one of four rules, and what is expected of it there.

Pure: who has which prefix, what waits where and what it costs are handed in.
Source: MemServe (2406.17565) §6: the worker where Σ queued exec(x, y) + exec(x, y_p) is least; blocks are fetched only
where T_transfer ≤ exec(x, y_p) − exec(x, y_p′). Its §7 compares prompt trees with session ids and with least load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from xpod_policy.blocks import blocks_for
from xpod_policy.cost import LoadCost, PrefillCost
from xpod_policy.rendezvous import ranked

FREE = LoadCost(0.0, 0.0)


class Routing(StrEnum):
    """The least time until a prompt is through, caches counted; one after the other; a conversation always to the
    same worker; the fewest tokens waiting."""

    PROMPT_TREE = "prompt-tree"
    ROUND_ROBIN = "round-robin"
    SESSION = "session"
    LEAST_LOAD = "least-load"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker that may get the prompt. `tokens` and `seconds` of work wait there; of the prompt, it has the first
    `kept` tokens itself, and MemPool has the first `pooled`. `cost`: None until it has told one."""

    name: str
    tokens: float = 0.0
    seconds: float = 0.0
    kept: int = 0
    pooled: int = 0
    cost: PrefillCost | None = None
    load: LoadCost = FREE


@dataclass(frozen=True, slots=True)
class Route:
    """Who gets it, and what is expected there: so many of the prompt's tokens are `cached`, the others (`tokens`) are
    computed, and both together take so many seconds (0 where that is not known)."""

    name: str
    cached: int
    tokens: int
    seconds: float


def route(
    routing: Routing, candidates: Sequence[Candidate], length: int, *, conversation: str = "", turn: int = 0
) -> Route | None:
    """The worker for a prompt of `length` tokens; None where there is none.

    `conversation` is what prompts of one conversation share; `turn` counts a router's prompts. Ties go by name.
    """
    if not candidates:
        return None
    by_name = {candidate.name: candidate for candidate in sorted(candidates, key=lambda each: each.name)}
    match routing:
        case Routing.ROUND_ROBIN:
            chosen = list(by_name.values())[turn % len(by_name)]
        case Routing.SESSION:
            chosen = by_name[ranked(conversation.encode(), by_name)[0]]
        case Routing.LEAST_LOAD:
            chosen = min(by_name.values(), key=lambda each: each.tokens)
        case Routing.PROMPT_TREE:
            chosen = _soonest(list(by_name.values()), length)
    return expected(chosen, length)


def expected(worker: Candidate, length: int) -> Route:
    """What a prompt of `length` tokens will be there. Its last token is computed whatever is cached."""
    most = max(0, length - 1)
    kept = min(worker.kept, most)
    pooled = min(worker.pooled, most)
    if worker.cost is None:
        return Route(worker.name, kept, length - kept, 0.0)
    cached, seconds = kept, worker.cost.seconds(length - kept, kept)
    if pooled > kept:
        computing = worker.cost.seconds(length - pooled, pooled)
        fetching = worker.load.seconds(blocks_for(pooled - kept))
        if fetching <= seconds - computing:
            cached, seconds = pooled, computing + fetching
    return Route(worker.name, cached, length - cached, seconds)


def _soonest(workers: Sequence[Candidate], length: int) -> Candidate:
    """Where the prompt is through first; while somebody's costs are unknown, where the fewest tokens are to compute."""
    routes = [(worker, expected(worker, length)) for worker in workers]
    if any(worker.cost is None for worker in workers):
        return min(routes, key=lambda each: each[0].tokens + each[1].tokens)[0]
    return min(routes, key=lambda each: each[0].seconds + each[1].seconds)[0]
