"""Memory for blocks that is used again.

Blocks that come and go would leave holes between messages. So they stay where they are, and malloc may keep what it
freed (see `xpod_model.memory`): memory that comes from the kernel anew costs a page fault every 4 KiB, a third of what
a node computes for as long as blocks come in. Does not know who still reads a buffer.
"""

from __future__ import annotations

from xpod_proto.tensor import Buffer

FREE_BYTES = 4 << 20


class Buffers:
    """Keeps at most `limit` bytes that are free, all of one size, as a model's blocks are."""

    def __init__(self, limit: int = FREE_BYTES) -> None:
        self._limit = limit
        self._free: list[bytearray] = []

    def filled(self, data: Buffer) -> bytearray:
        """A buffer of our own with these bytes."""
        if self._free and len(self._free[-1]) == len(data):
            buffer = self._free.pop()
            buffer[:] = data
            return buffer
        return bytearray(data)

    def blank(self, size: int) -> bytearray:
        """A buffer of our own of that size, with anything in it."""
        if self._free and len(self._free[-1]) == size:
            return self._free.pop()
        return bytearray(size)

    def give_back(self, buffer: bytearray) -> None:
        """Nobody reads it any more."""
        size = len(buffer)
        if self._free and len(self._free[-1]) != size:
            self._free.clear()
        if (len(self._free) + 1) * size <= self._limit:
            self._free.append(buffer)
