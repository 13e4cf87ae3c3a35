"""A line: blocking access to the bus for the one thread that computes.

The way from a frame over an event loop to another thread and back costs more than a layer's experts for one token.
So the thread that computes speaks for itself: it posts calls, takes what arrives, and sleeps in between.

Knows: the contract that every line keeps, and the line over any bus.
Does not know: sockets (see `nats_line`), or what is said.
"""

from __future__ import annotations

import asyncio
import queue
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, NamedTuple

from xpod_proto import Message
from xpod_runtime.bus import Bus
from xpod_runtime.errors import XpodError
from xpod_runtime.trace_context import TraceContext, current, header

BUS_LIMIT = 1 << 20
"""Bytes that any nats-server takes by default."""


class Answer(NamedTuple):
    """What came of the call with this ticket."""

    ticket: int
    message: Message | XpodError


class Incoming(NamedTuple):
    """Somebody's call; `reply` is for `Line.answer`. `trace` is what it is for, as a header; empty: nothing traced."""

    message: Message
    reply: Any
    trace: str = ""


Arrival = Answer | Incoming


class Line(ABC):
    """Used by one thread, but for `interrupt`, which any thread may call."""

    @abstractmethod
    def limit(self, subject: str) -> int:
        """Bytes of an encoded call to `subject`, and of its answer, that should be able to pass.

        Where they are not after all, MessageTooLarge is the answer; BUS_LIMIT bytes always pass.
        """

    @abstractmethod
    def post(self, subject: str, message: Message, trace: str = "") -> int:
        """Takes a call to be sent and returns its ticket. Never fails and never waits for the answer.

        `trace` goes along as a header, where there is one.

        It goes out with the next `flush` or `take`, along with others; until then its tensors must not change.

        Exactly one Answer with the ticket arrives later, a BusError or RemoteError if need be, except that a
        peer that keeps silent is waited for without limit: deadlines are the caller's.
        """

    @abstractmethod
    def flush(self) -> None:
        """Sends what was posted and answered."""

    @abstractmethod
    def forget(self, ticket: int) -> None:
        """Nobody waits for this answer any more."""

    @abstractmethod
    def listen(self, subject: str) -> None:
        """From now on calls to `subject` arrive here."""

    @abstractmethod
    def answer(self, call: Incoming, message: Message) -> None:
        """Answers a call. An answer that cannot be sent is lost: its caller has a deadline."""

    def lend(self, call: Incoming, size: int) -> memoryview:
        """Memory for the larger part of the next answer, which is to `call`: quicker than one's own where it helps."""
        return memoryview(bytearray(size))

    @abstractmethod
    def take(self, timeout: float | None) -> Arrival | None:
        """What arrived, oldest first; None after `timeout` seconds (None: no limit) or an interrupt."""

    def tend(self) -> None:
        """Called every IDLE_SECONDS by an idle thread that expects nothing: whoever never looks is left by servers,
        and does not see that they hang.
        """
        self.take(0)

    def leave(self, server: str) -> None:  # noqa: B027
        """The server at that URL hangs or is gone, as others found: do not wait to find it, too. From any thread."""

    @abstractmethod
    def interrupt(self) -> None:
        """Makes a `take` that waits, or the next one, return None. From any thread."""

    @abstractmethod
    def close(self) -> None:
        """Frees everything; the line's thread must not be using it. Calling it twice is fine."""


class BusLine(Line):
    """A line over any bus, by way of the bus's event loop. Make it on that loop."""

    def __init__(self, bus: Bus, *, timeout: float = 3600.0) -> None:
        self._bus, self._timeout = bus, timeout
        self._loop = asyncio.get_running_loop()
        self._arrived: queue.SimpleQueue[Arrival | None] = queue.SimpleQueue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._next = 0

    def limit(self, subject: str) -> int:
        return 1 << 30  # a bus cuts what is too large for it

    def post(self, subject: str, message: Message, trace: str = "") -> int:
        self._next += 1
        self._start(self._ask(self._next, subject, message, trace))
        return self._next

    def flush(self) -> None:
        """Nothing to do: the bus sends at once."""

    def forget(self, ticket: int) -> None:
        """Its answer arrives all the same, for nobody."""

    def listen(self, subject: str) -> None:
        asyncio.run_coroutine_threadsafe(self._bus.subscribe(subject, self._handle), self._loop).result()

    def answer(self, call: Incoming, message: Message) -> None:
        self._loop.call_soon_threadsafe(_settle, call.reply, message)

    def take(self, timeout: float | None) -> Arrival | None:
        try:
            if timeout is not None and timeout <= 0:
                return self._arrived.get_nowait()
            return self._arrived.get(timeout=timeout)
        except queue.Empty:
            return None

    def interrupt(self) -> None:
        self._arrived.put(None)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        def start() -> None:
            task = self._loop.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._loop.call_soon_threadsafe(start)

    async def _ask(self, ticket: int, subject: str, message: Message, trace: str) -> None:
        answer: Message | XpodError
        current.set(TraceContext.parse(trace))
        try:
            answer = await self._bus.request(subject, message, timeout=self._timeout)
        except XpodError as error:
            answer = error
        self._arrived.put(Answer(ticket, answer))

    async def _handle(self, message: Message) -> Message | None:
        reply: asyncio.Future[Message] = self._loop.create_future()
        self._arrived.put(Incoming(message, reply, header()))
        return await reply


def _settle(reply: asyncio.Future[Message], message: Message) -> None:
    if not reply.done():
        reply.set_result(message)
