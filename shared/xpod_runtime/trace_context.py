"""Which trace, and which span in it, is being worked for: W3C's trace context (w3.org/TR/trace-context).

Knows: the form of `traceparent`, and how a task and those that it starts remember theirs.
Does not know: spans (see `tracing`), or how a context gets from one process to another (see `wire_bus`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

HEADER = "traceparent"
LONGEST = 512
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED = 0x01


class TraceContext(NamedTuple):
    """`trace` (32 hex digits) and `span` (16) are never all zeros. `sampled`: somebody wants to see all of it."""

    trace: str
    span: str
    sampled: bool

    @classmethod
    def parse(cls, header: str) -> TraceContext | None:
        """None for whatever is not a context; that is no error."""
        found = _FORM.fullmatch(header.strip()) if len(header) <= LONGEST else None
        if found is None:
            return None
        version, trace, span, flags, more = found.groups()
        if version == "ff" or (version == "00" and more) or not trace.strip("0") or not span.strip("0"):
            return None
        return cls(trace, span, bool(int(flags, 16) & _SAMPLED))

    @property
    def header(self) -> str:
        """As `parse` reads it."""
        return f"00-{self.trace}-{self.span}-{_SAMPLED if self.sampled else 0:02x}"


current: ContextVar[TraceContext | None] = ContextVar("trace", default=None)
"""What this task works for; None: nothing that is traced."""


def header() -> str:
    """The present context as a header; empty: there is none."""
    context = current.get()
    return "" if context is None else context.header


@contextmanager
def within(context: TraceContext | None) -> Iterator[None]:
    """What is done and begun inside is for that context."""
    token = current.set(context)
    try:
        yield
    finally:
        current.reset(token)


def new_trace() -> str:
    """32 hex digits."""
    return f"{random.getrandbits(128) or 1:032x}"


def new_span() -> str:
    """16 hex digits."""
    return f"{random.getrandbits(64) or 1:016x}"


def chosen(trace: str, fraction: float) -> bool:
    """Is the trace among that part of all? Whoever is asked says the same (OpenTelemetry's TraceIdRatioBased)."""
    return int(trace[16:], 16) < fraction * 2.0**64
