"""What the hop tells of itself: each layer's exchange while somebody looks, and faults always.

Knows: spans, and calls that were not answered in time. Does not know: whose step it is. For the computing thread; a
`Part` is made before, and read after its step.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from xpod_runtime import span_names as names
from xpod_runtime.trace_context import TraceContext, new_span
from xpod_runtime.tracing import Tracer, now_ns

MOST_FAULTS = 8
"""Of a step that are told."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A call to `shard` was late (`hedge`: others were asked, too) or failed (`redispatch`). Times in ns."""

    name: str
    shard: str
    layer: int
    begin: int
    end: int
    error: str


@dataclass(frozen=True, slots=True)
class HopSpan:
    """One layer's exchange, under way."""

    context: TraceContext
    parent: TraceContext
    layer: int
    rows: int
    begin: int


@dataclass(slots=True)
class Part:
    """What is told of one step: its hops while `within` is set, to what they are part of, and its faults."""

    within: TraceContext | None = None
    faults: list[Fault] = field(default_factory=list)

    def fault(self, name: str, shard: str, layer: int, posted: float, error: str) -> None:
        """A call that was posted then, on the monotonic clock, needs to be made again."""
        if len(self.faults) < MOST_FAULTS:
            end = now_ns()
            begin = end - round((time.monotonic() - posted) * 1e9)
            self.faults.append(Fault(name, shard, layer, begin, end, error))


class HopTrace:
    """`part` is that of the step which is computed now."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self.part = Part()

    @contextmanager
    def of(self, part: Part) -> Iterator[None]:
        """While it lasts, that step is computed, and another one that was begun before waits."""
        outer, self.part = self.part, part
        try:
            yield
        finally:
            self.part = outer

    def begin(self, layer: int, rows: int) -> HopSpan | None:
        """A layer is asked for; None: nobody looks."""
        parent = self.part.within
        if parent is None:
            return None
        return HopSpan(parent._replace(span=new_span()), parent, layer, rows, now_ns())

    def end(self, span: HopSpan) -> None:
        """All of it is there."""
        self._tracer.note(
            names.HOP,
            span.parent,
            span.begin,
            now_ns(),
            context=span.context,
            detail=True,
            layer=span.layer,
            rows=span.rows,
        )
