"""Events out of bytes, however they are cut."""

import pytest

from xpod.cli.sse import ServerEvent, SseParser

STREAM = (
    b": keep-alive\n\n"
    b'id: s/0\ndata: {"a": "\xc3\xa9"}\n\n'
    b"event: error\r\ndata: one\r\ndata:two\r\n\r\n"
    b"retry: 5\ndata: [DONE]\n\n"
)
EVENTS = [
    ServerEvent('{"a": "é"}', "s/0"),
    ServerEvent("one\ntwo", "s/0", "error"),
    ServerEvent("[DONE]", "s/0"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_however_they_are_cut(size: int) -> None:
    parser = SseParser()
    chunks = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert [event for chunk in chunks for event in parser.feed(chunk)] == EVENTS


def test_an_event_that_never_ended_is_none() -> None:
    parser = SseParser()
    assert list(parser.feed(b"data: half\n")) == []


def test_a_bare_carriage_return_ends_a_line() -> None:
    assert [event.data for event in SseParser().feed(b"data: a\rdata: b\r\r\n")] == ["a\nb"]
