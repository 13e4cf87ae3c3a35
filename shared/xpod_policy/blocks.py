"""Names of KV blocks: the hash of a block's whole prefix.

A name binds the namespace (model identity, dtype, numerics, salt) and every token from the start of the prompt
to the end of the block, so equal names mean equal bits. Knows nothing of where blocks live.
Source: MemServe (2406.17565) names 16-token blocks by prompt prefix; here the prefix is folded into a hash chain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BLOCK_TOKENS = 16
NAME_BYTES = 16


@dataclass(frozen=True, slots=True)
class BlockRef:
    """One block of a sequence: its name, the position of its first token, and how many tokens it covers."""

    name: bytes
    start: int
    tokens: int

    @property
    def full(self) -> bool:
        return self.tokens == BLOCK_TOKENS

    @property
    def end(self) -> int:
        return self.start + self.tokens


def namespace(*parts: str) -> bytes:
    """The root of a hash chain: what must be equal before two prefixes may share KV."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=NAME_BYTES).digest()


def child(parent: bytes, tokens: Sequence[int]) -> bytes:
    """The name of the block that follows `parent` and holds `tokens` (1 to 16 of them)."""
    return hashlib.blake2b(parent + np.asarray(tokens, "<u4").tobytes(), digest_size=NAME_BYTES).digest()


def block_refs(root: bytes, tokens: Sequence[int]) -> list[BlockRef]:
    """All blocks of a sequence in order; the last covers fewer than 16 tokens where the length asks for it."""
    refs: list[BlockRef] = []
    parent = root
    for start in range(0, len(tokens), BLOCK_TOKENS):
        piece = tokens[start : start + BLOCK_TOKENS]
        parent = child(parent, piece)
        refs.append(BlockRef(parent, start, len(piece)))
    return refs


def blocks_for(tokens: int) -> int:
    """How many blocks a sequence of that many tokens takes."""
    return -(-tokens // BLOCK_TOKENS)
