"""Rendezvous hashing: which nodes keep which key.

When a node joins or leaves, only the keys that it wins or loses move. Knows nothing of what the keys stand for.
Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998 (highest random weight).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def _weight(key: bytes, node: str) -> bytes:
    return hashlib.blake2b(key, key=node.encode()[:64], digest_size=8).digest()


def ranked(key: bytes, nodes: Iterable[str]) -> list[str]:
    """All nodes, the key's first choice first; equal for every caller that knows the same nodes."""
    return sorted(nodes, key=lambda node: (_weight(key, node), node), reverse=True)


def replicas(key: bytes, nodes: Iterable[str], count: int) -> list[str]:
    """The `count` nodes (fewer if there are fewer) that should hold the key."""
    return ranked(key, nodes)[:count]
