"""Blocks under a byte budget, with a guard against those that are used once: the memory tier of a MemPool node.

A block comes in young and, when the young take more than their share, gets among the old. Where room is needed, the
least recently used young block that has to move on and the least recently used old one are compared: the one that was
asked for less often leaves, and between equals the old one. So a new working set pushes an equally used one out, as in
any LRU, and blocks that are used once push out one another and nobody else. What is leased does not leave.
Source: W-TinyLFU, in "TinyLFU: A Highly Efficient Cache Admission Policy", 2017.

Content is opaque and belongs to its name for ever. Knows nothing of replicas, disks or time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterator
from itertools import chain
from typing import Generic, Protocol, TypeVar

from xpod_policy.sketch import Sketch

YOUNG_SHARE = 0.25
REMEMBERED = 10
"""Frequencies are halved after so many accesses a block that is here."""
FEWEST = 64


class Sized(Protocol):
    """What can be stored: it knows its size in bytes."""

    @property
    def nbytes(self) -> int: ...


B = TypeVar("B", bound=Sized)


class BlockStore(Generic[B]):
    """Blocks by name. `used` (blocks) and `reserved` (room that was promised) are never more than `budget` bytes."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self.reserved = 0
        self.evictions = 0
        self._young_used = 0
        self._young: OrderedDict[bytes, B] = OrderedDict()  # the least recently used first, as below
        self._old: OrderedDict[bytes, B] = OrderedDict()
        self._leaving: dict[bytes, B] = {}
        self._sketch = Sketch()

    @property
    def free(self) -> int:
        return self.budget - self.used - self.reserved

    def __len__(self) -> int:
        return len(self._young) + len(self._old) + len(self._leaving)

    def __contains__(self, name: bytes) -> bool:
        return name in self._young or name in self._old or name in self._leaving

    def __iter__(self) -> Iterator[bytes]:
        """All names, about the least recently used first."""
        return chain(self._leaving, self._old, self._young)

    def asked(self, name: bytes) -> None:
        """Somebody wants the block, whether it is here or not."""
        self._sketch.add(name)
        if self._sketch.added >= REMEMBERED * max(FEWEST, len(self)):
            self._sketch.halve()

    def frequency(self, name: bytes) -> int:
        """How often it was asked for lately, 0 to 15."""
        return self._sketch.count(name)

    def find(self, name: bytes) -> B | None:
        """The block, without touching the order."""
        return self._young.get(name) or self._old.get(name) or self._leaving.get(name)

    def get(self, name: bytes) -> B | None:
        """The block, made the most recently used."""
        for blocks in (self._young, self._old):
            if name in blocks:
                blocks.move_to_end(name)
        return self.find(name)

    def add(self, name: bytes, block: B) -> None:
        """Keep it; there must be room, and it must not be here."""
        assert name not in self, "a block is stored once"
        assert block.nbytes <= self.free, "whoever adds has made room"
        self._young[name] = block
        self._young_used += block.nbytes
        self.used += block.nbytes
        while self._young_used > YOUNG_SHARE * self.budget and len(self._young) > 1:
            self._grow_old(next(iter(self._young)))

    def remove(self, name: bytes) -> B | None:
        """It is not here any more."""
        block = self._take(name) or self._leaving.pop(name, None)
        if block is not None:
            self.used -= block.nbytes
        return block

    def evict(self, size: int, leased: Container[bytes]) -> dict[bytes, B] | None:
        """Those that must leave for `size` bytes; None: there is no room to be had, and nobody leaves.

        They are here, and count, until `remove`; `stay` takes one back.
        """
        if size > self.budget - self.reserved - self._immovable(leased):
            return None
        leaving: dict[bytes, B] = {}
        short = size - self.free - sum(block.nbytes for block in self._leaving.values())
        while short > 0:
            name = self._victim(size, leased)
            block = self._take(name)
            assert block is not None
            leaving[name] = self._leaving[name] = block
            short -= block.nbytes
            self.evictions += 1
        return leaving

    def stay(self, name: bytes) -> None:
        """It does not leave after all, if it has not left."""
        block = self._leaving.pop(name, None)
        if block is not None:
            self._old[name] = block
            self.evictions -= 1

    def check(self) -> None:
        """Raises AssertionError where the books are wrong."""
        parts = [set(self._young), set(self._old), set(self._leaving)]
        assert len(set().union(*parts)) == sum(map(len, parts)), "a block counts twice"
        blocks = chain(self._young.values(), self._old.values(), self._leaving.values())
        assert self.used == sum(block.nbytes for block in blocks), "used is not what is here"
        assert self._young_used == sum(block.nbytes for block in self._young.values()), (
            "the young are miscounted"
        )
        assert 0 <= self.used + self.reserved <= self.budget, "over budget"

    def _immovable(self, leased: Container[bytes]) -> int:
        kept = chain(self._young.items(), self._old.items())
        return sum(block.nbytes for name, block in kept if name in leased)

    def _victim(self, size: int, leased: Container[bytes]) -> bytes:
        young = next((name for name in self._young if name not in leased), None)
        old = next((name for name in self._old if name not in leased), None)
        if young is None or (old is not None and self._young_used + size <= YOUNG_SHARE * self.budget):
            assert old is not None, "evict has counted"
            return old
        if old is None or self.frequency(young) < self.frequency(old):
            return young
        self._grow_old(young)
        return old

    def _grow_old(self, name: bytes) -> None:
        block = self._young.pop(name)
        self._young_used -= block.nbytes
        self._old[name] = block

    def _take(self, name: bytes) -> B | None:
        block = self._young.pop(name, None)
        if block is not None:
            self._young_used -= block.nbytes
            return block
        return self._old.pop(name, None)
