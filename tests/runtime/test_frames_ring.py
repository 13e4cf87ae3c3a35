"""Places: around the ring, back from the oldest on, and never two at once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from xpod_runtime.frames_ring import LIFETIME, LINE, QUARANTINE, Place, Ring


class Table:
    """A ring, and what its readers did."""

    def __init__(self, size: int) -> None:
        self.read: set[int] = set()
        self.withdrawn: list[int] = []
        self.ring = Ring(size, consumed=self._consumed, withdraw=self._withdraw)
        self.sequence = 0

    def take(self, size: int, now: float = 0.0) -> Place | None:
        place = self.ring.take(size, self.sequence + 1, now)
        self.sequence += place is not None
        return place

    def _consumed(self, place: Place) -> bool:
        return place.sequence in self.read

    def _withdraw(self, place: Place) -> None:
        self.withdrawn.append(place.sequence)


def offsets(table: Table, *sizes: int) -> list[int | None]:
    places = [table.take(size) for size in sizes]
    return [place.offset if place else None for place in places]


def test_one_after_another_until_it_is_full() -> None:
    table = Table(4 * LINE)
    assert offsets(table, 1, LINE, 2 * LINE, 1) == [0, LINE, 2 * LINE, None]


def test_what_is_larger_never_fits() -> None:
    assert offsets(Table(LINE), LINE + 1, LINE) == [None, 0]


def test_it_starts_again_when_nothing_is_out() -> None:
    table = Table(4 * LINE)
    for number in range(1, 6):
        assert offsets(table, LINE) == [0]
        table.read.add(number)


def test_it_wraps_once_the_oldest_was_read() -> None:
    table = Table(4 * LINE)
    assert offsets(table, LINE, LINE, LINE) == [0, LINE, 2 * LINE]
    table.read |= {1, 2}
    assert offsets(table, 2 * LINE, LINE) == [0, None]  # the rest at the end is too short for the first
    table.read.add(3)
    assert offsets(table, LINE) == [2 * LINE]


def test_places_come_back_from_the_oldest_on() -> None:
    table = Table(2 * LINE)
    assert offsets(table, LINE, LINE) == [0, LINE]
    table.read.add(2)
    assert offsets(table, LINE) == [None]
    table.read.add(1)
    assert offsets(table, LINE) == [0]
    assert table.withdrawn == [1, 2]  # none can be read again when its place is somebody else's


def test_what_nobody_reads_is_withdrawn_and_used_again_a_while_later() -> None:
    table = Table(LINE)
    assert table.take(LINE, 0.0)
    assert table.take(LINE, LIFETIME - 0.1) is None
    assert table.withdrawn == []
    assert table.take(LINE, LIFETIME + 0.5) is None
    assert table.withdrawn == [1]
    assert table.take(LINE, LIFETIME + 0.5 + QUARANTINE - 0.1) is None
    table.read.add(1)  # a late reader does not shorten it
    assert table.take(LINE, LIFETIME + 0.5 + QUARANTINE - 0.1) is None
    assert table.take(LINE, LIFETIME + 0.5 + QUARANTINE)


def test_a_frame_that_was_read_late_is_not_withdrawn_while_it_waits_for_the_one_before() -> None:
    table = Table(2 * LINE)
    assert table.take(LINE, 0.0)
    assert table.take(LINE, 1.0)
    table.read.add(2)
    table.ring.collect(LIFETIME + 2)
    assert table.withdrawn == [1]


STEPS = st.lists(st.tuples(st.integers(1, 300), st.floats(0, 3), st.sets(st.integers(0, 5))), max_size=60)


@settings(deadline=None)
@given(STEPS)
def test_no_two_places_that_are_out_overlap(steps: list[tuple[int, float, set[int]]]) -> None:
    table, now = Table(16 * LINE), 0.0
    for size, passed, back in steps:
        now += passed
        place = table.take(size, now)
        if place is None:
            assert len(table.ring)
        out = list(table.ring._out)
        for one in out:
            assert 0 <= one.offset < one.end <= table.ring.size
            assert one.offset % LINE == 0
            assert all(one is other or one.end <= other.offset or other.end <= one.offset for other in out)
        table.read |= {table.sequence - each for each in back}
