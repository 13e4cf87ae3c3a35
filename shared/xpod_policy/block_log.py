"""Where blocks lie in a file that is written round and round: the disk tier of a MemPool node.

The next block goes behind the last one, over the oldest; at the end it begins again. Knows offsets and names, and
not the file. Source: the log-structured file system, Rosenblum and Ousterhout, 1992.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Extent:
    """A block's place in the file."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size


class BlockLog:
    """Extents by name in `budget` bytes; none overlaps another."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self._head = 0
        self._extents: OrderedDict[bytes, Extent] = OrderedDict()  # the oldest first

    def __len__(self) -> int:
        return len(self._extents)

    def __contains__(self, name: bytes) -> bool:
        return name in self._extents

    def put(self, name: bytes, size: int) -> Extent | None:
        """Where a block has to be written, over blocks that are then forgotten; None: it is there, or too large."""
        if name in self._extents or size > self.budget:
            return None
        if self._head + size > self.budget:
            while self._extents and self._oldest().offset >= self._head:
                self.forget(next(iter(self._extents)))
            self._head = 0
        extent = Extent(self._head, size)
        while self._extents and extent.offset <= self._oldest().offset < extent.end:
            self.forget(next(iter(self._extents)))
        self._head = extent.end
        self._extents[name] = extent
        self.used += size
        return extent

    def find(self, name: bytes) -> Extent | None:
        return self._extents.get(name)

    def forget(self, name: bytes) -> None:
        """The block is not there any more, or should not be."""
        extent = self._extents.pop(name, None)
        if extent is not None:
            self.used -= extent.size

    def _oldest(self) -> Extent:
        return next(iter(self._extents.values()))
