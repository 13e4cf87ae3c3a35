"""What the hop tells of itself: each layer's exchange while somebody looks, and faults always.

Knows: spans, and calls that were not answered in time. Does not know: whose step it is. On the computing thread but for
`within` and `take_faults`, which are for who begins and ends steps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

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


class HopTrace:
    """Looks while `within` is set: to the step that hops are part of."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self.within: TraceContext | None = None
        self._faults: list[Fault] = []

    def begin(self, layer: int, rows: int) -> HopSpan | None:
        """A layer is asked for; None: nobody looks."""
        parent = self.within
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

    def fault(self, name: str, shard: str, layer: int, posted: float, error: str) -> None:
        """A call that was posted then, on the monotonic clock, needs to be made again."""
        if len(self._faults) < MOST_FAULTS:
            end = now_ns()
            begin = end - round((time.monotonic() - posted) * 1e9)
            self._faults.append(Fault(name, shard, layer, begin, end, error))

    def take_faults(self) -> list[Fault]:
        """Those since the last time."""
        if not self._faults:
            return []
        faults, self._faults = self._faults, []
        return faults
