"""What a worker tells of one sequence: when it waited, loaded, computed and stored.

Knows: the spans of a sequence, and their order. Does not know: steps (see `step_traces`), or what is computed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from xpod_proto.messages import Value
from xpod_runtime import span_names as names
from xpod_runtime.trace_context import TraceContext, current, within
from xpod_runtime.tracing import NOTHING, LiveSpan, Tracer

Found = TypeVar("Found", bound=Sized)


class SequenceTrace:
    """Of what the task that makes it works for; all of it is nothing where that is not traced."""

    def __init__(self, tracer: Tracer, name: str, **attributes: Value) -> None:
        self._tracer = tracer
        self._task = tracer.begin(name, current.get(), **attributes)
        self._waits: LiveSpan = NOTHING
        self._stores = False

    @property
    def context(self) -> TraceContext | None:
        """For what is done for the sequence; None: nobody traces it."""
        return self._task.context

    def waits(self) -> None:
        """It has to wait for room."""
        self._waits = self._tracer.begin(names.QUEUE, self.context)

    def enters(self) -> None:
        """It has room."""
        self._waits.end()

    async def transfer(self, blocks: int, load: Awaitable[Found]) -> Found:
        """Does what fetches so many of its blocks."""
        with within(self.context), self._tracer.span(names.TRANSFER, asked=blocks) as span:
            found = await load
            span.set(found=len(found))
        return found

    def stores(self) -> None:
        """With its last step it is not through: see `storing`."""
        self._stores = True

    @contextmanager
    def storing(self) -> Iterator[None]:
        """All that is left to do is to wait until MemPool has its blocks; then it is through."""
        try:
            with within(self.context), self._tracer.span(names.STORE):
                yield
        finally:
            self._task.end()

    def leaves(self, generated: int) -> None:
        """It takes part in no more steps."""
        self._waits.end()
        self._task.set(generated=generated)
        if not self._stores:
            self._task.end()

    def fails(self, error: str) -> None:
        """It is given up."""
        self._waits.end(error)
        self._task.end(error)


UNTRACED = SequenceTrace(Tracer(), names.DECODE)
"""Of a sequence that nobody traces."""
