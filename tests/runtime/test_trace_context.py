"""W3C's trace context: what is one, what it says, and who works for which."""

from __future__ import annotations

import asyncio

import pytest

from xpod_runtime.nats_headers import head_of, trace_in
from xpod_runtime.trace_context import TraceContext, chosen, current, header, new_span, new_trace, within

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = TraceContext(TRACE, SPAN, sampled=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"00-{TRACE}-{SPAN}-01", SAMPLED),
        (f"00-{TRACE}-{SPAN}-00", TraceContext(TRACE, SPAN, sampled=False)),
        (f"00-{TRACE}-{SPAN}-03", SAMPLED),
        (f"  00-{TRACE}-{SPAN}-01\t", SAMPLED),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", SAMPLED),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE[1:]}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}", None),
        (f"00-{TRACE}-{SPAN}-01\r\nx: y", None),
        (f"cc-{TRACE}-{SPAN}-01-{'x' * 1000}", None),
        ("", None),
        ("nonsense", None),
    ],
)
def test_what_is_a_context(text: str, expected: TraceContext | None) -> None:
    assert TraceContext.parse(text) == expected


@pytest.mark.parametrize("sampled", [True, False])
def test_a_header_is_read_as_it_was_meant(sampled: bool) -> None:
    context = TraceContext(new_trace(), new_span(), sampled)
    assert TraceContext.parse(context.header) == context


@pytest.mark.parametrize(
    ("trace", "fraction", "expected"),
    [
        ("f" * 32, 1.0, True),
        ("0" * 32, 0.0, False),
        ("0" * 31 + "1", 0.001, True),
        ("f" * 16 + "8" + "0" * 15, 0.5, False),
        ("f" * 16 + "7" + "f" * 15, 0.5, True),
    ],
)
def test_who_is_among_a_fraction_of_all(trace: str, fraction: float, expected: bool) -> None:
    assert chosen(trace, fraction) is expected


async def test_tasks_work_for_what_they_were_started_for() -> None:
    async def asked() -> str:
        await asyncio.sleep(0)
        return header()

    with within(SAMPLED):
        inside = asyncio.create_task(asked())
    outside = asyncio.create_task(asked())
    assert (await inside, await outside) == (SAMPLED.header, "")
    assert current.get() is None


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"NATS/1.0\r\ntraceparent: abc\r\n\r\n", "abc"),
        (b"NATS/1.0\r\nOther: 1\r\nTraceparent:abc\r\n\r\n", "abc"),
        (b"NATS/1.0 503\r\n\r\n", ""),
        (b"NATS/1.0\r\ntraceparenting: abc\r\n\r\n", ""),
        (b"", ""),
        (b"NATS/1.0\r\ntraceparent: \xff\r\n\r\n", "\ufffd"),
    ],
)
def test_the_trace_in_a_block_of_headers(block: bytes, expected: str) -> None:
    assert trace_in(block) == expected


def test_what_goes_before_a_message() -> None:
    assert head_of("a.b", "", 5) == b"PUB a.b  5\r\n"
    head = head_of("a.b", "r", 5, "abc")
    line, _, block = head.partition(b"\r\n")
    assert line == b"HPUB a.b r %d %d" % (len(block), len(block) + 5)
    assert trace_in(block) == "abc"
