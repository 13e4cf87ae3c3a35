"""The block tables of a worker's sequences: whole blocks that are kept are shared, the others are their own.

Knows the KV cache's free blocks, and who uses which. Does not know what is computed, or what MemPool has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from xpod.attention.sequence import Sequence
from xpod_model.kv import KVCache
from xpod_policy.blocks import BLOCK_TOKENS, BlockRef
from xpod_policy.kept import KeptBlocks


@dataclass(frozen=True, slots=True)
class Keeping:
    """How many blocks that nobody uses are kept, and who is told the names of those that come and go."""

    limit: int = 0
    came: Callable[[bytes], None] = lambda name: None
    went: Callable[[bytes], None] = lambda name: None


class Tables:
    """Of each sequence that `take`s one and does not `leave` yet."""

    def __init__(self, cache: KVCache, keeping: Keeping) -> None:
        self._cache, self._keeping = cache, keeping
        self._kept = KeptBlocks(keeping.limit)
        self._coming: Counter[bytes] = Counter()

    @property
    def names(self) -> Iterable[bytes]:
        """Of the blocks that are kept."""
        return self._kept.names()

    @property
    def kept(self) -> int:
        """Blocks that nobody uses."""
        return self._kept.idle

    def take(self, sequence: Sequence, room: int) -> None:
        """A table of `room` blocks; those that are kept of what the sequence begins with stand first."""
        shared = self._leading(sequence)
        self._kept.use(shared)
        own = room - len(shared)
        self._make_room(own)
        sequence.table = [*shared, *self._cache.alloc(own)]
        sequence.kept = len(shared)
        if self._keeping.limit:
            sequence.coming = tuple(ref.name for ref in sequence.sharable()[len(shared) :])
            self._coming.update(sequence.coming)

    def leave(self, sequence: Sequence) -> None:
        """It reads and writes its blocks no more."""
        self._forget(*self._kept.leave(sequence.table))
        self._coming -= Counter(sequence.coming)

    @contextmanager
    def spare(self, blocks: int) -> Iterator[list[int]]:
        """A table for nobody, for a moment."""
        self._make_room(blocks)
        table = self._cache.alloc(blocks)
        try:
            yield table
        finally:
            self._cache.free(table)

    @contextmanager
    def holding(self, sequence: Sequence) -> Iterator[None]:
        """The blocks that were kept for it stay, even if it leaves."""
        blocks = sequence.table[: sequence.kept]
        self._kept.use(blocks)
        try:
            yield
        finally:
            self._forget(*self._kept.leave(blocks))

    def keep(self, sequence: Sequence, refs: Iterable[BlockRef]) -> None:
        """These blocks of its are whole now."""
        for ref in refs:
            if self._kept.add(ref.name, sequence.table[ref.start // BLOCK_TOKENS]):
                self._keeping.came(ref.name)

    def prefix(self, sequence: Sequence) -> int:
        """Of a sequence that has no table yet: how many of its tokens would it find?"""
        return BLOCK_TOKENS * len(self._leading(sequence))

    def comes(self, sequence: Sequence) -> bool:
        """Is somebody here about to compute what such a sequence would have to compute next?"""
        if not self._coming:
            return False
        refs, known = sequence.sharable(), len(self._leading(sequence))
        return known < len(refs) and refs[known].name in self._coming

    def _leading(self, sequence: Sequence) -> list[int]:
        if not self._keeping.limit:
            return []
        return self._kept.leading(ref.name for ref in sequence.sharable())

    def _make_room(self, blocks: int) -> None:
        self._forget(*self._kept.give_up(max(0, blocks - self._cache.free_blocks)))

    def _forget(self, blocks: list[int], names: list[bytes]) -> None:
        """Blocks that are free now; those of these names were kept."""
        self._cache.free(blocks)
        for name in names:
            self._keeping.went(name)
