"""Spans: what a member did for which request, when.

A member keeps its last spans in memory, and tells them to whoever asks; nobody has to listen for them. The few coarse
ones of each request are apart from the details of some, so that the many do not drive out the few.

Knows: spans under way and those that ended. Does not know: how contexts travel, or what an exporter does with spans.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice

from xpod_proto import ReadTrace, SpanRecord
from xpod_proto.messages import Value
from xpod_proto.registry import maker_of
from xpod_runtime.span_ring import SpanRing
from xpod_runtime.trace_context import TraceContext, chosen, current, new_span, new_trace, within

RING_BYTES = 4 << 20
"""Of memory, at most, for each of the two rings."""
MOST_OPEN = 16384
"""Spans under way that are told; those beyond are told when they end."""
MOST_TEXT = 300
"""Characters of a value; the rest is left out."""
PRIVATE = "tenant"
"""The attribute that says whose request it is; who asks for spans is not told it, nor is a collector."""
_record = maker_of(SpanRecord)


class LiveSpan:
    """A span that has begun; the first `end` counts. `context` is for what is done as part of it."""

    __slots__ = ("_attributes", "_began", "_name", "_parent", "_tracer", "context", "start")

    def __init__(
        self, tracer: Tracer, name: str, context: TraceContext, parent: str, attributes: dict[str, Value]
    ) -> None:
        self.context: TraceContext | None = context
        self.start = time.time_ns()
        self._began = time.perf_counter_ns()
        self._tracer: Tracer | None = tracer
        self._name, self._parent, self._attributes = name, parent, attributes

    def set(self, more: Mapping[str, Value] | None = None, /, **attributes: Value) -> None:
        """Say more about it."""
        if self._tracer is not None:
            self._attributes.update(more or {}, **attributes)

    def end(self, error: str = "", **attributes: Value) -> None:
        """It is over; with an `error`, it failed."""
        tracer, self._tracer = self._tracer, None
        if tracer is not None:
            self._attributes.update(attributes)
            tracer.ended(self, self.record(self.start + self.elapsed, error))

    def drop(self) -> None:
        """It is not worth telling."""
        tracer, self._tracer = self._tracer, None
        if tracer is not None:
            tracer.dropped(self)

    @property
    def elapsed(self) -> int:
        """Nanoseconds since it began."""
        return time.perf_counter_ns() - self._began

    @property
    def live(self) -> bool:
        """Has it begun and not ended?"""
        return self._tracer is not None

    def record(self, end: int = 0, error: str = "") -> SpanRecord:
        """As it is told."""
        trace, span, sampled = self.context or ("", "", False)
        return _record(
            trace,
            span,
            self._parent,
            self._name,
            self.start,
            end,
            _clipped(self._attributes),
            error[:MOST_TEXT],
            sampled,
        )


class _Nothing(LiveSpan):
    """The span of what nobody traces."""

    __slots__ = ()

    def __init__(self) -> None:
        self.context, self.start, self._tracer = None, 0, None


NOTHING = _Nothing()


class Tracer:
    """The spans of one member: at most `most` coarse ones and as many details are kept; 0: none are made.

    For the event loop, but for `detail`, which is for any thread.
    """

    def __init__(self, most: int = 0) -> None:
        self._enabled = most > 0
        self._coarse, self._details = SpanRing(most, RING_BYTES), SpanRing(most, RING_BYTES)
        self._open: dict[str, LiveSpan] = {}
        self.export: Callable[[SpanRecord], None] | None = None
        """Is given each span that ends, of traces that are sampled; from any thread."""

    def root(self, name: str, incoming: TraceContext | None, fraction: float) -> LiveSpan:
        """A span of the incoming trace, or the first one of a new trace.

        What the caller does not want sampled is sampled all the same if it is in that fraction of all traces.
        """
        trace = new_trace() if incoming is None else incoming.trace
        sampled = (incoming is not None and incoming.sampled) or chosen(trace, fraction)
        return self._begin(
            name, TraceContext(trace, new_span(), sampled), incoming.span if incoming else "", {}
        )

    def begin(self, name: str, parent: TraceContext | None, **attributes: Value) -> LiveSpan:
        """A part of the span `parent`; NOTHING where there is none."""
        if parent is None:
            return NOTHING
        return self._begin(name, parent._replace(span=new_span()), parent.span, attributes)

    def _begin(self, name: str, context: TraceContext, parent: str, attributes: dict[str, Value]) -> LiveSpan:
        if not self._enabled:
            return NOTHING
        span = LiveSpan(self, name, context, parent, attributes)
        if len(self._open) < MOST_OPEN:
            self._open[context.span] = span
        return span

    @contextmanager
    def span(self, name: str, **attributes: Value) -> Iterator[LiveSpan]:
        """A part of what this task works for, and while it lasts, what this task works for."""
        span = self.begin(name, current.get(), **attributes)
        if not span.live:
            yield span
            return
        try:
            with within(span.context):
                yield span
        except asyncio.CancelledError:
            span.end("cancelled")
            raise
        except Exception as error:
            span.end(f"{type(error).__name__}: {error}")
            raise
        finally:
            span.end()

    def note(
        self,
        name: str,
        parent: TraceContext | None,
        start: int,
        end: int,
        *,
        error: str = "",
        context: TraceContext | None = None,
        detail: bool = False,
        **attributes: Value,
    ) -> None:
        """A span that is over, from `start` to `end` (Unix time in ns); a `detail`: one of many, from any thread.

        `context` is its own, where something was part of it.
        """
        if parent is None or not self._enabled:
            return
        span = new_span() if context is None else context.span
        sampled = parent.sampled
        record = _record(
            parent.trace,
            span,
            parent.span,
            name,
            start,
            end,
            _clipped(attributes),
            error[:MOST_TEXT],
            sampled,
        )
        self._keep(self._details if detail else self._coarse, record)

    def ended(self, span: LiveSpan, record: SpanRecord) -> None:
        """By the span itself."""
        self._open.pop(record.span, None)
        self._keep(self._coarse, record)

    def dropped(self, span: LiveSpan) -> None:
        """By the span itself."""
        if span.context is not None:
            self._open.pop(span.context.span, None)

    def _keep(self, ring: SpanRing, record: SpanRecord) -> None:
        ring.add(record)
        if self.export is not None and record.sampled:
            self.export(record)

    # -- for whoever asks -------------------------------------------------------------------------------

    def answer(self, question: ReadTrace) -> list[SpanRecord]:
        """What is asked for."""
        if question.traces or question.session:
            return self.find(question.traces, question.session)
        return self.newest(question.name, question.most)

    def find(self, traces: Collection[str], session: str = "") -> list[SpanRecord]:
        """All of these traces, and of those that the session is part of."""
        known = self._all()
        wanted = set(traces)
        if session:
            wanted.update(span.trace for span in known if span.attributes.get("session") == session)
        return [span for span in known if span.trace in wanted]

    def newest(self, name: str, most: int) -> list[SpanRecord]:
        """The last spans of that name, the newest first."""
        named = [span for span in self._all() if span.name == name]
        return list(islice(sorted(named, key=lambda span: span.start, reverse=True), most))

    def _all(self) -> list[SpanRecord]:
        live = [span.record() for span in self._open.values()]
        return [*self._coarse.all(), *self._details.all(), *live]


def _clipped(attributes: dict[str, Value]) -> dict[str, Value]:
    return {
        name: value[:MOST_TEXT] if isinstance(value, str) else value for name, value in attributes.items()
    }


def now_ns() -> int:
    """Unix time in ns: the clock of spans."""
    return time.time_ns()
