"""What a router tells of one session: its turn, who was asked, who had it for how long, and what faults cost it.

    session: admission, then place and attempt for each worker; recovery from the loss of one to the next token

Knows: the spans of a session, and their order. Does not know: how a worker is chosen, or why one was lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from xpod_policy.session import Token
from xpod_runtime import span_names as names
from xpod_runtime.trace_context import current, within
from xpod_runtime.tracing import NOTHING, LiveSpan, Tracer


class SessionTrace:
    """Of what the task that makes it works for; all of it is nothing where that is not traced."""

    def __init__(self, tracer: Tracer, session: str, prompt_tokens: int) -> None:
        self._tracer = tracer
        self._session = tracer.begin(
            names.SESSION, current.get(), session=session, prompt_tokens=prompt_tokens
        )
        self._attempt: LiveSpan = NOTHING
        self._recovery: LiveSpan = NOTHING
        self._tokens = 0
        self.why = ""
        """What the last bad news was."""

    @contextmanager
    def admission(self) -> Iterator[None]:
        """It waits for its turn."""
        with within(self._session.context), self._tracer.span(names.ADMISSION):
            yield

    @contextmanager
    def place(self, kind: str, epoch: int) -> Iterator[None]:
        """A worker is looked for, until one takes it."""
        with within(self._session.context), self._tracer.span(names.PLACE, kind=kind, epoch=epoch):
            yield

    @contextmanager
    def offer(self, kind: str, epoch: int, worker: str) -> Iterator[None]:
        """A worker is asked. What it does for the session is part of this attempt; it goes on unless it is refused."""
        attempt = self._tracer.begin(
            names.ATTEMPT, self._session.context, kind=kind, epoch=epoch, worker=worker
        )
        before, self._attempt = self._attempt, attempt
        before.end()
        try:
            with within(attempt.context):
                yield
        except BaseException as error:
            attempt.end(f"{type(error).__name__}: {error}")
            raise

    def through(self) -> None:
        """The worker has done its part."""
        self._attempt.end()

    def lost(self, recoveries: int) -> None:
        """Its worker has to be replaced, because of the last bad news."""
        self._attempt.end(self.why or "lost")
        if not self._recovery.live:
            self._recovery = self._tracer.begin(names.RECOVERY, self._session.context, why=self.why)
        self._recovery.set(recoveries=recoveries)

    def said(self, token: Token) -> None:
        """The next token is there."""
        self._tokens += 1
        if self._recovery.live:
            self._recovery.end(token=token.index)

    def over(self, error: str, **attributes: int) -> None:
        """No token more will come."""
        for span in (self._attempt, self._recovery):
            span.end(error)
        self._session.end(error, tokens=self._tokens, **attributes)
