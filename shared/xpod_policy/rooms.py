"""Room for blocks that are being filled from outside: which of their bytes came, and until when one waits.

Knows no budget and no clock: whoever makes room has seen to it that there is some.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

Buffer = bytes | bytearray | memoryview


@dataclass(slots=True)
class Room:
    """A block's bytes so far; `spans` are those that have come, in order, none touching another.

    The first `summed` bytes are in the `checksum` so far: of bytes that come in order, little is left to do in the end.
    """

    tokens: int
    data: bytearray
    lease: float
    until: float
    spans: list[tuple[int, int]] = field(default_factory=list)
    summed: int = 0
    checksum: int = 0

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def whole(self) -> bool:
        return self.spans == [(0, self.size)]

    def fits(self, offset: int, data: Buffer) -> bool:
        """Would these bytes lie within the block?"""
        return offset + len(data) <= self.size

    def prolong(self, now: float) -> None:
        """It is waited for as long as it was to be at first, from now on."""
        self.until = now + self.lease

    def fill(self, offset: int, data: Buffer) -> None:
        """Take these bytes in; what was there is written over."""
        end = offset + len(data)
        self.data[offset:end] = data
        if offset < self.summed:
            self.summed = self.checksum = 0
        if offset == self.summed:
            self._sum(data)
        apart = [span for span in self.spans if span[1] < offset or span[0] > end]
        near = [span for span in self.spans if not (span[1] < offset or span[0] > end)]
        start, end = min([offset, *(a for a, _ in near)]), max([end, *(b for _, b in near)])
        self.spans = sorted([*apart, (start, end)] if start < end else apart)

    def sound(self, checksum: int) -> bool:
        """Are all bytes there, and is this their checksum?"""
        if not self.whole:
            return False
        self._sum(memoryview(self.data)[self.summed :])
        return self.checksum == checksum

    def _sum(self, data: Buffer) -> None:
        """Take in the bytes behind those that are summed."""
        self.checksum = zlib.crc32(data, self.checksum)
        self.summed += len(data)


class Rooms:
    """By name; `bytes` are what all of them take."""

    def __init__(self) -> None:
        self.bytes = 0
        self._rooms: dict[bytes, Room] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    def __contains__(self, name: bytes) -> bool:
        return name in self._rooms

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._rooms)

    def find(self, name: bytes) -> Room | None:
        return self._rooms.get(name)

    def add(self, name: bytes, room: Room) -> None:
        assert name not in self._rooms, "it has room"
        self._rooms[name] = room
        self.bytes += room.size

    def ready(self, name: bytes, checksum: int) -> bool:
        """Are all its bytes there, and the right ones?"""
        room = self._rooms.get(name)
        return room is not None and room.sound(checksum)

    def remove(self, name: bytes) -> Room | None:
        room = self._rooms.pop(name, None)
        if room is not None:
            self.bytes -= room.size
        return room

    def late(self, now: float) -> list[bytes]:
        """Those that nobody has filled in time."""
        return [name for name, room in self._rooms.items() if room.until <= now]

    def check(self) -> None:
        """Raises AssertionError where the books are wrong."""
        assert self.bytes == sum(room.size for room in self._rooms.values())
