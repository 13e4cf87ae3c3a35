"""One's own memory for frames: segments as they are needed, within a budget.

Knows: which segment has room. Does not know: who reads, or what the bytes mean.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from xpod_proto import Framed, size_of
from xpod_runtime.frames_ring import Place
from xpod_runtime.frames_segment import HEADER, MARGIN, Segment
from xpod_runtime.wire import Pieces

MIB = 1024 * 1024
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Room:
    """How much memory frames may take. Sizes in bytes, times in seconds."""

    first: int = 1 * MIB
    """The first segment. Each next one doubles what there is, up to `segment`."""
    segment: int = 8 * MIB
    """One segment at most; a larger message gets one of its own size."""
    budget: int = 64 * MIB
    """All segments; what finds no room goes over the bus."""
    idle: float = 10.0
    """A segment beyond the first that nobody needed for so long is given back when the next frame is made."""
    retry: float = 5.0
    """When there was no memory for a segment, none is tried for so long."""


@dataclass(slots=True, eq=False)
class Lent:
    """Memory that becomes a part of a frame: `view` is for whoever makes the message."""

    segment: Segment
    place: Place
    view: memoryview

    def complete(self, pieces: Pieces) -> Framed | None:
        """The frame of these pieces, of which the view is one; None where they are not like that."""
        index = next((i for i, piece in enumerate(pieces) if piece is self.view), -1)
        before, after = pieces[:index], pieces[index + 1 :]
        if index < 0 or max(size_of(before), size_of(after)) > MARGIN:
            return None
        skip, size = self.segment.complete(self.place, before, len(self.view), after)
        return Framed(self.segment.number, self.place.offset, size, self.place.sequence, skip)

    def drop(self) -> None:
        """It became nothing."""
        self.segment.drop(self.place)


class Arena:
    """Takes no memory before the first frame."""

    def __init__(self, directory: Path, room: Room) -> None:
        self._directory = directory
        self.room = room
        self._sequence = 0
        self._segments: list[Segment] = []
        self._used: list[float] = []
        self._failed = -math.inf
        self._closed = False

    def put(self, pieces: Pieces, size: int) -> Framed | None:
        """A frame of these `size` bytes; None when there is no room."""
        found = self._place(HEADER + size)
        if found is None:
            return None
        segment, place = found
        segment.write(place, pieces, size)
        return Framed(segment.number, place.offset, size, place.sequence)

    def _place(self, size: int) -> tuple[Segment, Place] | None:
        """Room for `size` bytes, headers among them. The first segment that has it gives it."""
        now = time.monotonic()
        if len(self._segments) > 1:
            self._give_back(now)
        for index, segment in enumerate(self._segments):
            place = segment.ring.take(size, self._sequence + 1, now)
            if place is not None:
                self._used[index] = now
                self._sequence = place.sequence
                return segment, place
        grown = self._grow(size, now)
        place = grown.ring.take(size, self._sequence + 1, now) if grown else None
        if grown is None or place is None:
            return None
        self._sequence = place.sequence
        return grown, place

    def lend(self, size: int) -> Lent | None:
        """Memory for `size` bytes of a frame to come; None when there is no room."""
        found = self._place(HEADER + 2 * MARGIN + size)
        return Lent(*found, found[0].lend(found[1], size)) if found else None

    def close(self) -> None:
        """Gives all memory back; there are no frames afterwards."""
        self._closed = True
        while self._segments:
            self._segments.pop().close()

    def __len__(self) -> int:
        return len(self._segments)

    def _grow(self, needed: int, now: float) -> Segment | None:
        taken = sum(each.ring.size for each in self._segments)
        size = max(min(taken or self.room.first, self.room.segment), -(-needed // MIB) * MIB)
        if self._closed or taken + size > self.room.budget or now - self._failed < self.room.retry:
            return None
        try:
            segment = Segment(self._directory, size)
        except OSError as error:
            self._failed = now
            log.warning("no memory for frames", bytes=size, error=str(error))
            return None
        self._segments.append(segment)
        self._used.append(now)
        return segment

    def _give_back(self, now: float) -> None:
        """The last one, when it is empty and has been so for long."""
        last = self._segments[-1]
        last.ring.collect(now)
        if not len(last.ring) and now - self._used[-1] >= self.room.idle:
            self._segments.pop().close()
            self._used.pop()
