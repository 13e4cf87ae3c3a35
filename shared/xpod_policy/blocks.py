"""Names of KV blocks: the hash of a block's whole prefix.

A name binds the namespace (model identity, dtype, numerics, salt) and every token from the start of the prompt
to the end of the block, so equal names mean equal bits. Knows nothing of where blocks live.
Source: MemServe (2406.17565) names 16-token blocks by prompt prefix; here the prefix is folded into a hash chain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

BLOCK_TOKENS = 16
NAME_BYTES = 16
TOKEN_BYTES = 4


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


def salted(root: bytes, salt: str) -> bytes:
    """The root for sessions of one `salt`: they share KV with one another only. An empty salt changes nothing."""
    if not salt:
        return root
    return hashlib.blake2b(root + b"\0salt\0" + salt.encode(), digest_size=NAME_BYTES).digest()


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


def names(root: bytes, tokens: bytes | bytearray | memoryview) -> Iterator[bytes]:
    """The names of a sequence's blocks, one at a time, as in `block_refs`; `tokens` are u32, little-endian."""
    size = BLOCK_TOKENS * TOKEN_BYTES
    data, parent = bytes(tokens), root
    for start in range(0, len(data), size):
        parent = hashlib.blake2b(parent + data[start : start + size], digest_size=NAME_BYTES).digest()
        yield parent


def covering(candidates: Sequence[BlockRef], found: Container[bytes], begin: int = 0) -> list[BlockRef]:
    """What the found blocks cover from `begin` on without a gap; of two at one place, the one with more tokens."""
    prefix: list[BlockRef] = []
    by_start: dict[int, BlockRef] = {}
    for ref in candidates:
        best = by_start.get(ref.start)
        if ref.name in found and (best is None or best.tokens < ref.tokens):
            by_start[ref.start] = ref
    following = by_start.get(begin)
    while following is not None:
        prefix.append(following)
        following = by_start.get(following.end)
    return prefix


def blocks_for(tokens: int) -> int:
    """How many blocks a sequence of that many tokens takes."""
    return -(-tokens // BLOCK_TOKENS)
