"""Requests that wait for their answer, and one timer for all of their deadlines.

Knows: who waits, on which reply subject, until when.
Does not know: how a request travels, or what an answer says; the one who asks reads that.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from xpod_proto import Message
from xpod_runtime.errors import BusError, DeadlineExceeded
from xpod_runtime.inbox import Inbox
from xpod_runtime.wire import Frame

TIMER_SLACK = 0.001
"""Seconds by which a timer may fire early: event loops count in milliseconds."""


class Ask:
    """One request under way. `read` takes each frame that comes for it and ends it with `give` or `fail`."""

    __slots__ = ("_read", "answer", "deadline", "reply", "subject", "timeout")

    def __init__(
        self,
        answer: asyncio.Future[Message],
        subject: str,
        timeout: float,
        deadline: float,
        read: Callable[[Ask, Frame], None],
    ) -> None:
        self.answer = answer
        self.subject = subject
        self.timeout = timeout
        self.deadline = deadline
        self.reply = ""
        self._read = read

    def deliver(self, frame: Frame) -> None:
        if not self.answer.done():  # else too late, or twice
            self._read(self, frame)

    def give(self, message: Message) -> None:
        if not self.answer.done():
            self.answer.set_result(message)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Asking:
    """All requests of one bus. A timer runs for the earliest deadline only, and outlives the request it was for."""

    def __init__(self, inbox: Inbox) -> None:
        self._loop = asyncio.get_running_loop()
        self._inbox = inbox
        self._asks: set[Ask] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf

    def open(self, subject: str, timeout: float, read: Callable[[Ask, Frame], None], mark: str = "") -> Ask:
        """A request to `subject`, with a reply subject of its own that ends with `mark`. `close` it in any case."""
        ask = Ask(self._loop.create_future(), subject, timeout, self._loop.time() + timeout, read)
        ask.reply = self._inbox.open(ask.deliver, mark)
        self._asks.add(ask)
        if ask.deadline < self._due:
            self._set_timer(ask.deadline)
        return ask

    def close(self, ask: Ask) -> None:
        """Nobody waits for it any more."""
        self._inbox.close(ask.reply)
        self._asks.discard(ask)
        ask.answer.cancel()

    def fail_all(self, error: BusError) -> None:
        for ask in list(self._asks):
            ask.fail(error)

    def stop(self) -> None:
        """Ends the timer; nothing may be opened afterwards."""
        if self._timer is not None:
            self._timer.cancel()

    def __len__(self) -> int:
        return len(self._asks)

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due, self._expire)

    def _expire(self) -> None:
        self._timer, self._due = None, math.inf
        now = self._loop.time() + TIMER_SLACK
        for ask in self._asks:
            if ask.deadline <= now:
                ask.fail(DeadlineExceeded(f"no answer from {ask.subject} in {ask.timeout:g} s"))
        later = [ask.deadline for ask in self._asks if ask.deadline > now]
        if later:
            self._set_timer(min(later))
