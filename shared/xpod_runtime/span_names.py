"""The name of every span. docs/tracing.md says what each of them is."""

from __future__ import annotations

from typing import Final

# routers
REQUEST: Final = "request"
PREPARE: Final = "prepare"
FIND: Final = "find"
RECALL: Final = "recall"
SESSION: Final = "session"
ADMISSION: Final = "admission"
PLACE: Final = "place"
ATTEMPT: Final = "attempt"
RECOVERY: Final = "recovery"

# prefill and decode workers
PREFILL: Final = "prefill"
DECODE: Final = "decode"
QUEUE: Final = "queue"
TRANSFER: Final = "transfer"
CHUNK: Final = "chunk"
STEP: Final = "step"
STORE: Final = "store"
HOP: Final = "hop"
HEDGE: Final = "hedge"
REDISPATCH: Final = "redispatch"

# expert shards
EXPERT: Final = "expert"

# MemPool nodes
POOL_FETCH: Final = "pool.fetch"
POOL_MATCH: Final = "pool.match"
POOL_STORE: Final = "pool.store"
POOL_ALLOC: Final = "pool.alloc"
POOL_FILL: Final = "pool.fill"
POOL_INSERT: Final = "pool.insert"

RECOVERIES: Final = frozenset({RECOVERY, RECALL, HEDGE, REDISPATCH})
"""Those that tell of a fault and of what was done about it."""


def all_names() -> frozenset[str]:
    """All of them."""
    return frozenset(value for name, value in globals().items() if name.isupper() and isinstance(value, str))
