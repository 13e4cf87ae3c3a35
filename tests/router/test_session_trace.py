"""What a router tells of a session: which spans, in which order, and what each of them is part of."""

from __future__ import annotations

import pytest

from xpod.router.session_trace import SessionTrace
from xpod_policy.session import Token
from xpod_runtime.errors import NoResponders
from xpod_runtime.trace_context import TraceContext, current, within
from xpod_runtime.tracing import Tracer

CALLER = TraceContext("a" * 32, "b" * 16, sampled=True)


@pytest.fixture
def tracer() -> Tracer:
    return Tracer(100)


def session(tracer: Tracer) -> SessionTrace:
    with within(CALLER):
        return SessionTrace(tracer, "s1", 7)


def told(tracer: Tracer) -> list[tuple[str, str, str]]:
    """Name, what it is part of, and its error, in order of time."""
    spans = sorted(tracer.find([CALLER.trace]), key=lambda span: (span.start, span.name))
    names = {span.span: span.name for span in spans}
    return [(span.name, names.get(span.parent, ""), span.error) for span in spans]


def offered(trace: SessionTrace, kind: str, epoch: int, worker: str) -> TraceContext | None:
    """What the worker is told that its work is part of."""
    with trace.place(kind, epoch), trace.offer(kind, epoch, worker):
        return current.get()


def test_a_session_that_lost_its_decode_worker(tracer: Tracer) -> None:
    trace = session(tracer)
    with trace.admission():
        pass
    offered(trace, "prefill", 0, "prefill-0")
    trace.said(Token(0, 5, 0.0))
    trace.through()
    offered(trace, "decode", 1, "decode-0")
    trace.said(Token(1, 5, 0.0))
    trace.why = "decode-0 is down"
    trace.lost(1)
    context = offered(trace, "decode", 2, "decode-1")
    trace.said(Token(2, 5, 0.0))
    trace.over("", recoveries=1)
    assert told(tracer) == [
        ("session", "", ""),
        ("admission", "session", ""),
        ("place", "session", ""),
        ("attempt", "session", ""),
        ("place", "session", ""),
        ("attempt", "session", "decode-0 is down"),
        ("recovery", "session", ""),
        ("place", "session", ""),
        ("attempt", "session", ""),
    ]
    spans = tracer.find([CALLER.trace])
    assert all(span.end for span in spans)
    assert context in [TraceContext(span.trace, span.span, sampled=True) for span in spans]
    [recovery] = [span for span in spans if span.name == "recovery"]
    assert recovery.attributes == {"why": "decode-0 is down", "recoveries": 1, "token": 2}
    [whole] = [span for span in spans if span.name == "session"]
    assert whole.attributes == {"session": "s1", "prompt_tokens": 7, "tokens": 3, "recoveries": 1}


def test_a_refusal_is_told_and_the_next_one_is_asked(tracer: Tracer) -> None:
    trace = session(tracer)
    with trace.place("decode", 1):
        with pytest.raises(NoResponders), trace.offer("decode", 1, "decode-0"):
            raise NoResponders("nobody listens")
        with trace.offer("decode", 1, "decode-1"):
            pass
    trace.over("given up", recoveries=0)
    assert told(tracer)[2:] == [
        ("attempt", "session", "NoResponders: nobody listens"),
        ("attempt", "session", "given up"),
    ]


def test_one_recovery_lasts_until_there_is_a_token_however_many_workers_it_takes(tracer: Tracer) -> None:
    trace = session(tracer)
    for number in range(3):
        offered(trace, "decode", number, f"decode-{number}")
        trace.lost(number + 1)
    trace.over("gave up", recoveries=3)
    [recovery] = [span for span in tracer.find([CALLER.trace]) if span.name == "recovery"]
    assert (recovery.error, recovery.attributes["recoveries"]) == ("gave up", 3)


def test_a_session_that_nobody_traces(tracer: Tracer) -> None:
    trace = SessionTrace(tracer, "s1", 7)
    assert offered(trace, "decode", 1, "decode-0") is None
    trace.lost(1)
    trace.said(Token(0, 5, 0.0))
    trace.over("", recoveries=1)
    assert tracer.find([], "s1") == []
