"""Where blocks lie in files that are only appended to: the index of a MemPool node's disk.

A segment is a file of records, a record a block with a header. The newest segment is appended to; where room is needed,
a segment is dropped whole: an empty one, or else the oldest. Knows numbers, offsets and names, and not the files.
Source: the log-structured file system, Rosenblum and Ousterhout, 1992.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field

SEGMENTS = 16


@dataclass(frozen=True, slots=True)
class Place:
    """A record: its segment, its header's offset there, and the bytes of its block, which follow the header."""

    segment: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be done, in this order: drop these segments, then write the record at `place`."""

    place: Place
    dropped: tuple[int, ...]
    lost: tuple[bytes, ...]
    """The blocks that are gone with them."""


@dataclass(slots=True)
class Segment:
    used: int
    names: set[bytes] = field(default_factory=set)


class Segments:
    """At most `budget` bytes in all: segments' heads of `segment_head` bytes, records' of `record_head`, and blocks.

    A segment takes a sixteenth of the budget, or one block that is larger.
    """

    def __init__(self, budget: int, segment_head: int, record_head: int) -> None:
        self.budget = budget
        self.used = 0
        self._heads = segment_head, record_head
        self._next = 0
        self._segments: dict[int, Segment] = {}  # the oldest first
        self._open: int | None = None
        self._places: dict[bytes, Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: bytes) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._places)

    @property
    def numbers(self) -> tuple[int, ...]:
        """All segments, the oldest first."""
        return tuple(self._segments)

    @property
    def overhead(self) -> int:
        """Bytes that a block may take besides its own."""
        return sum(self._heads)

    def find(self, name: bytes) -> Place | None:
        return self._places.get(name)

    def place(self, name: bytes, size: int, held: Container[bytes] = ()) -> Plan | None:
        """Where a block of `size` bytes is to be written; None: it is there already, or there is no room.

        No segment is dropped that has a block of `held`.
        """
        segment_head, record_head = self._heads
        if name in self._places:
            return None
        need = record_head + size
        opened = self._open
        if opened is not None and self._segments[opened].used + need <= self.budget // SEGMENTS:
            dropped = self._to_drop(need, held, spared=opened)
            if dropped is not None:
                return self._append(opened, name, size, dropped)
        dropped = self._to_drop(need + segment_head, held, spared=None)
        if dropped is None:
            return None
        self._segments[self._next] = Segment(segment_head)
        self.used += segment_head
        self._open, self._next = self._next, self._next + 1
        return self._append(self._open, name, size, dropped)

    def forget(self, name: bytes) -> Place | None:
        """The block is not there any more; where it was. Its bytes stay taken."""
        place = self._places.pop(name, None)
        if place is not None:
            self._segments[place.segment].names.discard(name)
        return place

    def seal(self, segment: int) -> None:
        """Append no more to it: it could not be written to."""
        if self._open == segment:
            self._open = None

    def restore(self, number: int, used: int, records: Iterable[tuple[bytes, Place]]) -> None:
        """A segment was found, of `used` bytes; to be called in the order of numbers. It may be appended to."""
        assert number >= self._next, "in order"
        segment = self._segments[number] = Segment(used)
        self.used += used
        self._open, self._next = number, number + 1
        for name, place in records:
            self.forget(name)
            self._places[name] = place
            segment.names.add(name)

    def shrink(self) -> tuple[int, ...]:
        """The segments to be dropped because what was found is more than the budget."""
        dropped = self._to_drop(0, (), spared=None)
        assert dropped is not None, "all of them would do"
        self._drop(dropped)
        return tuple(dropped)

    def clear(self) -> tuple[int, ...]:
        """All segments are to be dropped."""
        numbers = self.numbers
        self._drop(numbers)
        return numbers

    def check(self) -> None:
        """Raises AssertionError where the books are wrong."""
        assert self.used == sum(segment.used for segment in self._segments.values()) <= max(0, self.budget)
        numbers = {name: number for number, segment in self._segments.items() for name in segment.names}
        assert numbers == {name: place.segment for name, place in self._places.items()}
        assert len(numbers) == sum(len(segment.names) for segment in self._segments.values())
        for place in self._places.values():
            end = place.offset + self._heads[1] + place.size
            assert self._heads[0] <= place.offset < end <= self._segments[place.segment].used
        assert self._open is None or self._open in self._segments

    def _append(self, number: int, name: bytes, size: int, dropped: Iterable[int]) -> Plan:
        lost = self._drop(dropped)
        segment = self._segments[number]
        place = self._places[name] = Place(number, segment.used, size)
        segment.used += self._heads[1] + size
        self.used += self._heads[1] + size
        segment.names.add(name)
        return Plan(place, tuple(dropped), lost)

    def _to_drop(self, need: int, held: Container[bytes], spared: int | None) -> list[int] | None:
        """Segments without which `need` more bytes are in the budget; None where there are not enough."""
        dropped: list[int] = []
        over = self.used + need - self.budget
        for number in sorted(self._segments, key=lambda number: (bool(self._segments[number].names), number)):
            if over <= 0:
                break
            segment = self._segments[number]
            if number != spared and not any(name in held for name in segment.names):
                dropped.append(number)
                over -= segment.used
        return dropped if over <= 0 else None

    def _drop(self, numbers: Iterable[int]) -> tuple[bytes, ...]:
        lost: list[bytes] = []
        for number in numbers:
            segment = self._segments.pop(number)
            self.used -= segment.used
            lost += segment.names
            self.seal(number)
        for name in lost:
            del self._places[name]
        return tuple(lost)
