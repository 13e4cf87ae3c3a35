"""Framing: however the bytes are cut on the way, the same messages come out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpod_runtime.nats_stream import SCRATCH_BYTES, MessageStream
from xpod_runtime.wire import Frame

Got = list[tuple[str, str, bytes, bool]]


def stream_of(sid: int = 1) -> tuple[MessageStream, Got]:
    got: Got = []

    def keep(frame: Frame) -> None:
        got.append((frame.subject, frame.reply, bytes(frame.data), frame.no_responders))

    return MessageStream({sid: keep}, lambda: None), got


def feed(stream: MessageStream, data: bytes, cuts: list[int]) -> None:
    """Writes `data` as the event loop does, in pieces of at most the given sizes, over and over."""
    position, turn = 0, 0
    while position < len(data):
        buffer = stream.get_buffer(-1)
        assert len(buffer) > 0
        count = min(len(buffer), cuts[turn % len(cuts)], len(data) - position)
        buffer[:count] = data[position : position + count]
        stream.buffer_updated(count)
        position, turn = position + count, turn + 1


def message(sid: int, subject: str, reply: str, payload: bytes) -> bytes:
    head = " ".join(part for part in ("MSG", subject, str(sid), reply, str(len(payload))) if part)
    return head.encode() + b"\r\n" + payload + b"\r\n"


PARTS = st.one_of(
    st.sampled_from([b"PING\r\n", b"PONG\r\n", b"-ERR 'x'\r\n", b'INFO {"a": 1}\r\n']),
    st.tuples(
        st.sampled_from([1, 2]),
        st.sampled_from(["", "_INBOX.x.1"]),
        st.binary(max_size=50),
        st.sampled_from([1, 3000]),
    ),
)


@settings(deadline=None)
@given(st.lists(PARTS, max_size=12), st.lists(st.integers(1, 100_000), min_size=1, max_size=5))
def test_any_cut_gives_the_same_messages(
    parts: list[bytes | tuple[int, str, bytes, int]], cuts: list[int]
) -> None:
    sent, expected, leftover = b"", [], b""
    for part in parts:
        if isinstance(part, bytes):
            sent, leftover = sent + part, leftover + part
            continue
        sid, reply, seed, times = part
        payload = seed * times
        frame = message(sid, "a.b", reply, payload)
        sent += frame
        if sid == 1:
            expected.append(("a.b", reply, payload, False))
        else:
            leftover += frame
    stream, got = stream_of()
    feed(stream, sent, cuts)
    assert got == expected
    assert bytes(stream.leftover) == leftover


@pytest.mark.parametrize(
    "size", [0, SCRATCH_BYTES // 4, SCRATCH_BYTES - 20, SCRATCH_BYTES, 3 * SCRATCH_BYTES]
)
@pytest.mark.parametrize("cut", [7_919, 10**9])
def test_large_payloads(size: int, cut: int) -> None:
    stream, got = stream_of()
    payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    feed(stream, message(1, "s", "", payload) * 2 + b"PING\r\n", [cut])
    assert got == [("s", "", payload, False)] * 2
    assert bytes(stream.leftover) == b"PING\r\n"


def test_headers_and_no_responders() -> None:
    stream, got = stream_of()
    feed(stream, b"HMSG a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", [3])
    feed(stream, b"HMSG a 1 r 22 24\r\nNATS/1.0\r\nkey: abc\r\n\r\nhi\r\n", [3])
    assert got == [("a", "", b"", True), ("a", "r", b"hi", False)]


def test_a_bug_in_a_receiver_does_not_stop_the_stream() -> None:
    def broken(frame: Frame) -> None:
        raise KeyError(frame.subject)

    stream, got = stream_of(2)
    stream._takers[1] = broken
    feed(stream, message(1, "a", "", b"x") + message(2, "b", "", b"y"), [1000])
    assert got == [("b", "", b"y", False)]


def test_an_endless_line_goes_on_to_nats_py() -> None:
    stream, _ = stream_of()
    feed(stream, b"x" * (SCRATCH_BYTES + 10), [10**9])
    assert len(stream.leftover) == SCRATCH_BYTES
