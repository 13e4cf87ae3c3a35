"""Spans in memory: what is kept, for how long, and who finds it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from xpod_proto import ReadTrace, SpanRecord
from xpod_runtime import span_names as names
from xpod_runtime.span_ring import SpanRing, size_of
from xpod_runtime.trace_context import TraceContext, current, within
from xpod_runtime.tracing import MOST_TEXT, NOTHING, Tracer

CALLER = TraceContext("a" * 32, "b" * 16, sampled=True)
OTHER = TraceContext("c" * 32, "d" * 16, sampled=False)


def span(number: int, **attributes: str) -> SpanRecord:
    return SpanRecord("a" * 32, f"{number:016x}", "", "x", number, number + 1, dict(attributes))


def test_a_ring_keeps_the_newest_of_so_many() -> None:
    ring = SpanRing(3, 1 << 20)
    for number in range(5):
        ring.add(span(number))
    assert [each.start for each in ring.all()] == [2, 3, 4]


def test_a_ring_keeps_the_newest_of_so_many_bytes() -> None:
    large = span(1, text="x" * 5000)
    ring = SpanRing(100, 2 * size_of(large))
    for _ in range(5):
        ring.add(large)
    assert len(ring.all()) == 2
    ring.add(span(2, text="x" * 20_000))
    assert ring.all() == []


def test_a_span_is_told_while_it_goes_on_and_when_it_ended() -> None:
    tracer = Tracer(10)
    begun = tracer.begin(names.SESSION, CALLER, session="s1")
    [live] = tracer.find([], "s1")
    assert (live.parent, live.end, live.name) == (CALLER.span, 0, "session")
    begun.set(tokens=3)
    begun.end("no more", tokens=4)
    begun.end("too late")
    [ended] = tracer.find([CALLER.trace])
    assert ended.end >= ended.start > 0
    assert (ended.error, ended.attributes) == ("no more", {"session": "s1", "tokens": 4})


def test_what_nobody_traces_is_nothing() -> None:
    tracer = Tracer(10)
    nothing = tracer.begin(names.SESSION, None, session="s1")
    nothing.set(tokens=1)
    nothing.end()
    tracer.note(names.HOP, None, 1, 2)
    assert nothing is NOTHING
    assert nothing.context is None
    assert tracer.find([], "s1") == []


def test_a_member_that_keeps_no_spans_makes_none() -> None:
    tracer = Tracer(0)
    assert tracer.root(names.REQUEST, CALLER, 1.0) is NOTHING
    assert tracer.begin(names.SESSION, CALLER) is NOTHING
    tracer.note(names.HOP, CALLER, 1, 2)
    assert tracer.find([CALLER.trace]) == []


def test_what_is_not_worth_telling_is_forgotten() -> None:
    tracer = Tracer(10)
    tracer.root(names.REQUEST, CALLER, 0.0).drop()
    assert tracer.find([CALLER.trace]) == []


@pytest.mark.parametrize(
    ("incoming", "fraction", "sampled"),
    [(CALLER, 0.0, True), (OTHER, 0.0, False), (OTHER, 1.0, True), (None, 0.0, False), (None, 1.0, True)],
)
def test_a_root_goes_on_with_its_callers_trace(
    incoming: TraceContext | None, fraction: float, sampled: bool
) -> None:
    root = Tracer(10).root(names.REQUEST, incoming, fraction)
    assert root.context is not None
    assert root.context.sampled is sampled
    assert root.record().parent == (incoming.span if incoming else "")
    assert (root.context.trace == incoming.trace) if incoming else (len(root.context.trace) == 32)


async def test_what_is_done_inside_is_part_of_it_and_failures_are_told() -> None:
    tracer = Tracer(10)
    with within(CALLER):
        with tracer.span(names.TRANSFER) as outer:
            with tracer.span(names.STORE):
                pass
            assert current.get() == outer.context
        with pytest.raises(ValueError, match="bad"), tracer.span(names.PLACE):
            raise ValueError("bad")
        with pytest.raises(asyncio.CancelledError), tracer.span(names.FIND):
            raise asyncio.CancelledError
        assert current.get() == CALLER
    found = {each.name: each for each in tracer.find([CALLER.trace])}
    assert found["store"].parent == found["transfer"].span
    assert {name: each.error for name, each in found.items()} == {
        "store": "",
        "transfer": "",
        "place": "ValueError: bad",
        "find": "cancelled",
    }


def test_long_values_are_cut() -> None:
    tracer = Tracer(10)
    tracer.begin(names.FIND, CALLER, worker="x" * 10_000).end("y" * 10_000)
    [found] = tracer.find([CALLER.trace])
    assert (len(str(found.attributes["worker"])), len(found.error)) == (MOST_TEXT, MOST_TEXT)


def test_details_do_not_drive_out_what_is_coarse() -> None:
    tracer = Tracer(4)
    tracer.begin(names.DECODE, CALLER).end()
    for number in range(100):
        tracer.note(names.HOP, CALLER, number, number + 1, detail=True)
    kept = [each.name for each in tracer.find([CALLER.trace])]
    assert kept == ["decode", "hop", "hop", "hop", "hop"]


def test_details_may_come_from_other_threads_while_somebody_reads() -> None:
    tracer, failures = Tracer(50), []

    def tell() -> None:
        try:
            for number in range(2000):
                tracer.note(names.HOP, CALLER, number, number, detail=True)
        except RuntimeError as error:
            failures.append(error)

    threads = [threading.Thread(target=tell) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert len(tracer.find([CALLER.trace])) <= 50
    assert failures == []
    assert len(tracer.find([CALLER.trace])) == 50


def test_a_session_is_found_with_all_of_its_traces() -> None:
    tracer = Tracer(10)
    tracer.begin(names.SESSION, CALLER, session="s1").end()
    tracer.begin(names.ADMISSION, CALLER).end()
    tracer.begin(names.SESSION, OTHER, session="s1").end()
    tracer.begin(names.SESSION, OTHER._replace(trace="e" * 32), session="s2").end()
    found = tracer.answer(ReadTrace("r", session="s1"))
    assert {(each.trace, each.name) for each in found} == {
        (CALLER.trace, "session"),
        (CALLER.trace, "admission"),
        (OTHER.trace, "session"),
    }


def test_the_newest_come_first() -> None:
    tracer = Tracer(10)
    for number in range(1, 5):
        tracer.note(names.REQUEST, CALLER, number, number + 1)
    tracer.note(names.SESSION, CALLER, 9, 10)
    assert [each.start for each in tracer.answer(ReadTrace("r", name="request", most=2))] == [4, 3]


def test_only_what_is_sampled_is_exported() -> None:
    tracer, exported = Tracer(10), []
    tracer.export = exported.append
    tracer.begin(names.SESSION, CALLER).end()
    tracer.begin(names.SESSION, OTHER).end()
    tracer.note(names.CHUNK, CALLER, 1, 2)
    assert [(each.name, each.trace) for each in exported] == [
        ("session", CALLER.trace),
        ("chunk", CALLER.trace),
    ]
