"""Blocks that come in pieces, in any order, more than once."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpod_policy.rooms import Room, Rooms

DATA = bytes(range(1, 33))
CHECKSUM = zlib.crc32(DATA)


def room(size: int = len(DATA), until: float = 10.0) -> Room:
    return Room(16, bytearray(size), 10.0, until)


@given(st.lists(st.tuples(st.integers(0, 32), st.integers(0, 32)), max_size=12))
def test_it_is_whole_once_every_byte_came(spans: list[tuple[int, int]]) -> None:
    rooms, here = Rooms(), room()
    rooms.add(b"a", here)
    came = set()
    for start, end in spans:
        here.fill(start, DATA[start:end])
        came |= set(range(start, end))
        assert here.whole == rooms.ready(b"a", CHECKSUM) == (len(came) == len(DATA))
        assert {place for a, b in here.spans for place in range(a, b)} == came
        assert all(a < b for a, b in here.spans)
        assert all(first[1] < second[0] for first, second in zip(here.spans, here.spans[1:], strict=False))


def test_other_bytes_are_not_ready() -> None:
    rooms = Rooms()
    rooms.add(b"a", room())
    rooms.find(b"a").fill(0, DATA[:-1] + b"x")  # type: ignore[union-attr]
    assert not rooms.ready(b"a", CHECKSUM)
    rooms.find(b"a").fill(31, DATA[-1:])  # type: ignore[union-attr]
    assert rooms.ready(b"a", CHECKSUM)
    assert not rooms.ready(b"b", CHECKSUM)


@given(st.lists(st.tuples(st.integers(0, 32), st.integers(0, 8), st.booleans()), max_size=12))
def test_what_was_summed_early_is_what_is_there(writes: list[tuple[int, int, bool]]) -> None:
    """Right and wrong bytes, in any order; right ones come last, or do not."""
    here, expected = room(), bytearray(len(DATA))
    for start, length, right in [*writes, (0, len(DATA), bool(len(writes) % 2))]:
        data = DATA[start : start + length]
        data = data if right else bytes(255 - byte for byte in data)
        here.fill(start, data)
        expected[start : start + len(data)] = data
    assert here.data == expected
    assert here.sound(zlib.crc32(expected))
    assert here.sound(CHECKSUM) == (expected == DATA)


@pytest.mark.parametrize(
    ("offset", "size", "fits"), [(0, 32, True), (31, 1, True), (31, 2, False), (33, 0, False)]
)
def test_what_lies_in_a_block(offset: int, size: int, fits: bool) -> None:
    assert room().fits(offset, bytes(size)) == fits


def test_room_that_is_not_filled_in_time() -> None:
    rooms = Rooms()
    for number, until in enumerate((5.0, 10.0, 15.0)):
        rooms.add(bytes([number]), room(until=until))
    assert rooms.late(10.0) == [b"\0", b"\1"]
    rooms.find(b"\1").prolong(9.0)  # type: ignore[union-attr]
    assert rooms.late(10.0) == [b"\0"]
    assert (rooms.bytes, len(rooms), list(rooms)) == (96, 3, [b"\0", b"\1", b"\2"])
    assert rooms.remove(b"\0") is not None
    assert rooms.remove(b"\0") is None
    assert (rooms.bytes, b"\0" in rooms) == (64, False)
    rooms.check()
