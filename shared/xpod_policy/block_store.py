"""An LRU of blocks under a byte budget: the DRAM tier of a MemPool node.

Content is opaque and belongs to its name for ever, so storing twice is no harm. Knows nothing of replicas.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """What can be stored: it knows its size in bytes."""

    @property
    def nbytes(self) -> int: ...


B = TypeVar("B", bound=Sized)


class BlockStore(Generic[B]):
    """Blocks by name, the least recently used evicted first, never more than `budget` bytes."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self.hits = 0
        self.misses = 0
        self.evictions = 0
        self._blocks: OrderedDict[bytes, B] = OrderedDict()

    def __len__(self) -> int:
        return len(self._blocks)

    def __contains__(self, name: bytes) -> bool:
        return name in self._blocks

    def put(self, name: bytes, block: B) -> dict[bytes, B]:
        """Store a block; returns those that had to leave, which for one over the whole budget is the block itself."""
        if self.touch(name):
            return {}
        if block.nbytes > self.budget:
            return {name: block}
        evicted = {}
        while self.used + block.nbytes > self.budget:
            victim, gone = self._blocks.popitem(last=False)
            self.used -= gone.nbytes
            self.evictions += 1
            evicted[victim] = gone
        self._blocks[name] = block
        self.used += block.nbytes
        return evicted

    def get(self, name: bytes) -> B | None:
        """The block, made the most recently used; None is a miss."""
        block = self._blocks.get(name)
        if block is None:
            self.misses += 1
            return None
        self.hits += 1
        self._blocks.move_to_end(name)
        return block

    def touch(self, name: bytes) -> bool:
        """Is it here? It is the most recently used then."""
        if name in self._blocks:
            self._blocks.move_to_end(name)
            return True
        return False

    def present(self, names: Iterable[bytes]) -> list[bool]:
        """Which of these are here, without touching their order."""
        return [name in self._blocks for name in names]
