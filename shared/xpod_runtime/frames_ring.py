"""Where the next frame goes in a stretch of memory, and when an old one's place is free again.

Pure: offsets and times are numbers. Does not know: files, or what a frame holds.

Places are given out around a ring and given back from the oldest on. When nothing is out, the next one starts at 0
again: the part in use stays small, and so in the processor's cache.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

LINE = 64
"""Frames start at a multiple of it."""
LIFETIME = 5.0
"""Seconds until a frame that nobody has read is withdrawn."""
QUARANTINE = 1.0
"""Seconds from then until its place is used again, so that a reader who was just at it sees the withdrawal."""


@dataclass(slots=True)
class Place:
    """A frame's place while it is out."""

    offset: int
    size: int
    sequence: int
    since: float
    withdrawn: bool = False

    @property
    def end(self) -> int:
        return self.offset + self.size


class Ring:
    """`size` bytes. `consumed` says whether a place was read; `withdraw` makes it unreadable, before it is reused."""

    def __init__(
        self, size: int, *, consumed: Callable[[Place], bool], withdraw: Callable[[Place], None]
    ) -> None:
        self.size = size
        self._consumed = consumed
        self._withdraw = withdraw
        self._out: deque[Place] = deque()

    def take(self, size: int, sequence: int, now: float) -> Place | None:
        """A place for `size` bytes; None when there is no room."""
        self.collect(now)
        rounded = -(-size // LINE) * LINE
        offset = self._room(rounded)
        if offset is None:
            return None
        place = Place(offset, rounded, sequence, now)
        self._out.append(place)
        return place

    def collect(self, now: float) -> None:
        """Takes back what was read, or is out for too long."""
        for place in self._out:
            if now - place.since < LIFETIME:  # the others are younger
                break
            if not place.withdrawn and not self._consumed(place):
                place.withdrawn = True
                place.since = now - LIFETIME  # the quarantine begins when it really was withdrawn
                self._withdraw(place)
        while self._out and self._free(self._out[0], now):
            self._withdraw(self._out.popleft())

    def __len__(self) -> int:
        return len(self._out)

    def _free(self, place: Place, now: float) -> bool:
        if place.withdrawn:
            return now - place.since >= LIFETIME + QUARANTINE
        return self._consumed(place)

    def _room(self, size: int) -> int | None:
        if not self._out:
            return 0 if size <= self.size else None
        oldest, end = self._out[0].offset, self._out[-1].end
        if end <= oldest:  # the newest lie before the oldest: the room is between them
            return end if end + size <= oldest else None
        if end + size <= self.size:
            return end
        return 0 if size <= oldest else None
