"""The line over a NATS connection of its own, which the computing thread reads and writes by itself.

Knows: tickets, reconnecting, a server that hangs.
Does not know: the protocol's bytes (see `nats_socket`), or what is said.
"""

from __future__ import annotations

import queue
import select
import socket
import time
import uuid
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import structlog

from xpod_proto import DecodeError, ErrorReply, Message, pieces_of, size_of
from xpod_proto.tensor import Buffer
from xpod_runtime.credentials import NOBODY, Credentials
from xpod_runtime.errors import (
    BadMessage,
    BusError,
    Disconnected,
    FrameLost,
    MessageTooLarge,
    NoResponders,
    RemoteError,
    XpodError,
)
from xpod_runtime.frames import Frames, NoFrames
from xpod_runtime.line import BUS_LIMIT, Answer, Arrival, Incoming, Line
from xpod_runtime.nats_headers import head_of
from xpod_runtime.nats_socket import NatsSocket, host_and_port
from xpod_runtime.sending import error_of
from xpod_runtime.wire import Frame

RECONNECT_WAIT = 0.05
PING_SECONDS = 0.3
"""A server that is silent for so long while something is due from it is asked whether it lives, and then left."""

log = structlog.get_logger(__name__)


class NatsLine(Line):
    """Connects, and connects again, by itself: to the first of `urls` that answers."""

    def __init__(
        self,
        urls: Sequence[str],
        name: str,
        *,
        ping_seconds: float = PING_SECONDS,
        frames: Frames | None = None,
        credentials: Credentials = NOBODY,
    ) -> None:
        """`frames` are the line's to close."""
        self._urls, self._name, self._ping_seconds = list(urls), name, ping_seconds
        self._frames = frames or NoFrames()
        self._framed: dict[int, str] = {}
        self._credentials = credentials
        self._inbox = f"{credentials.inbox}.{uuid.uuid4().hex}"
        self._socket: NatsSocket | None = None
        self._subjects = [f"{self._inbox}.*"]
        self._waiting: set[int] = set()
        self._outgoing: list[Buffer] = []
        self._arrivals: deque[Arrival] = deque()
        self._next = 0
        self._heard = self._pinged = 0.0
        self._left: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._ear, self._bell = socket.socketpair()
        for end in (self._ear, self._bell):
            end.setblocking(False)
        self._poll = select.poll()
        self._ear_number = self._ear.fileno()
        self._poll.register(self._ear_number, select.POLLIN)

    def limit(self, subject: str) -> int:
        carried = self._socket.max_payload if self._socket is not None else BUS_LIMIT
        return max(carried, self._frames.limit(subject))

    def post(self, subject: str, message: Message, trace: str = "") -> int:
        self._next = ticket = self._next + 1
        if not self._waiting:
            self._heard = time.monotonic()
        self._waiting.add(ticket)
        try:
            if self._send(subject, message, f"{self._inbox}.{ticket:x}{self._frames.mark}", trace):
                self._framed[ticket] = subject
        except BusError as error:
            self._settle(ticket, error)
        return ticket

    def forget(self, ticket: int) -> None:
        self._waiting.discard(ticket)
        self._framed.pop(ticket, None)

    def listen(self, subject: str) -> None:
        if subject in self._subjects:
            return
        known = self._socket
        self._subjects.append(subject)
        connection = self._connected()  # a new one subscribes to all
        if known is not None and connection is known:
            try:
                connection.subscribe(subject, len(self._subjects) - 1)
                self._deliver(connection.round_trip())
            except (OSError, BusError) as error:
                self._lost(error)

    def answer(self, call: Incoming, message: Message) -> None:
        try:
            try:
                self._send(call.reply, message, "")
            except MessageTooLarge as error:  # the caller can ask for less at a time
                self._send(call.reply, ErrorReply(error.code, str(error)), "")
        except BusError as error:
            log.warning("answer lost", message=type(message).__name__, code=error.code, error=str(error))

    def lend(self, call: Incoming, size: int) -> memoryview:
        view = self._frames.lend(call.reply, size)
        return super().lend(call, size) if view is None else view

    def take(self, timeout: float | None) -> Arrival | None:
        if self._outgoing:
            self.flush()
        arrivals = self._arrivals
        if not arrivals:
            end = None if timeout is None else time.monotonic() + timeout
            left = None if timeout is None else max(0.0, timeout)
            while not arrivals:
                interrupted = self._wait(left)
                if self._outgoing:  # what was refused while reading
                    self.flush()
                if interrupted or left == 0:
                    break
                left = None if end is None else max(0.0, end - time.monotonic())
        return arrivals.popleft() if arrivals else None

    def tend(self) -> None:
        super().tend()
        if self._socket is not None:
            self._doubt(self._socket)

    def leave(self, server: str) -> None:
        self._left.put(server)
        self.interrupt()

    def interrupt(self) -> None:
        with suppress(OSError):  # it is ringing already, or nobody is there any more
            self._bell.send(b"!")

    def close(self) -> None:
        self.flush()
        self._leave()
        self._frames.close()
        self._ear.close()
        self._bell.close()

    # -- sending ----------------------------------------------------------------------------------------

    def _send(self, subject: str, message: Message, reply: str, trace: str = "") -> bool:
        """Whether it went as a frame. Raises BusError."""
        connection = self._socket or self._connected()
        if connection is None:
            raise Disconnected("no NATS server answers")
        pieces = pieces_of(message)
        framed = self._frames.put(subject, pieces)
        if framed is not None:
            pieces = pieces_of(framed)
        size = size_of(pieces)
        if size > connection.max_payload:
            raise MessageTooLarge(f"{size} bytes to {subject}, the server takes {connection.max_payload}")
        self._outgoing += (head_of(subject, reply, size, trace), *pieces, b"\r\n")
        return framed is not None

    def flush(self) -> None:
        if not self._outgoing:
            return
        pieces, self._outgoing = self._outgoing, []
        if self._socket is not None:  # else what was asked has failed already
            try:
                self._socket.send(*pieces)
            except OSError as error:
                self._lost(error)

    # -- receiving --------------------------------------------------------------------------------------

    def _wait(self, seconds: float | None) -> bool:
        """Waits for something to arrive, once. True if it was an interrupt."""
        connection = self._socket or self._connected()
        pending = connection is not None and connection.pending()
        if connection is None:
            seconds = RECONNECT_WAIT if seconds is None else min(seconds, RECONNECT_WAIT)
        elif pending:
            seconds = 0.0
        elif self._expects:
            seconds = self._ping_seconds if seconds is None else min(seconds, self._ping_seconds)
        ready = self._poll.poll(None if seconds is None else seconds * 1000)
        rung = bool(ready) and any(number == self._ear_number for number, _ in ready)
        if connection is not None:
            if pending or len(ready) > rung:
                self._read(connection)
            elif not ready and self._expects:
                self._doubt(connection)
        return rung and self._hear()

    def _hear(self) -> bool:
        self._ear.recv(4096)
        while not self._left.empty():
            server = self._left.get()
            if self._socket is not None and host_and_port(self._urls[0]) == host_and_port(server):
                self._lost(ConnectionError("others have left the server"))
        return True

    def _read(self, connection: NatsSocket) -> None:
        try:
            self._deliver(connection.read())
        except (OSError, BusError) as error:
            self._lost(error)
        else:
            self._heard = time.monotonic()
            self._pinged = 0.0

    @property
    def _expects(self) -> bool:
        """Whether an answer is due, or calls may come at any time."""
        return bool(self._waiting) or len(self._subjects) > 1

    def _doubt(self, connection: NatsSocket) -> None:
        """Nothing came: is the server still there?"""
        now = time.monotonic()
        if now - self._heard < self._ping_seconds:
            return
        try:
            if not self._pinged:
                self._pinged = now
                connection.ping()
            elif now - self._pinged >= self._ping_seconds:
                self._lost(TimeoutError("the server does not answer a ping"))
        except OSError as error:
            self._lost(error)

    def _deliver(self, frames: list[Frame]) -> None:
        for frame in frames:
            if frame.subject.startswith(self._inbox):
                ticket = int(frame.subject[len(self._inbox) + 1 :].partition("~")[0], 16)
                if ticket in self._waiting:
                    self._settle(ticket, self._read_answer(frame))
            else:
                self._take_call(frame)

    def _take_call(self, frame: Frame) -> None:
        try:
            self._arrivals.append(Incoming(self._frames.decode(frame.data), frame.reply, frame.trace))
        except (DecodeError, FrameLost) as error:
            log.warning("bad message", subject=frame.subject, size=len(frame.data), error=str(error))
            code = FrameLost.code if isinstance(error, FrameLost) else BadMessage.code
            if frame.reply:
                self.answer(Incoming(ErrorReply("", ""), frame.reply), ErrorReply(code, str(error)))

    def _read_answer(self, frame: Frame) -> Message | XpodError:
        if frame.no_responders:
            return NoResponders("nobody listens")
        try:
            message = self._frames.decode(frame.data)
        except DecodeError as error:
            return BadMessage(str(error))
        except FrameLost as error:
            return error
        return error_of(message) if isinstance(message, ErrorReply) else message

    def _settle(self, ticket: int, message: Message | XpodError) -> None:
        self._waiting.discard(ticket)
        framed = self._framed.pop(ticket, "")
        if framed and isinstance(message, RemoteError) and message.code == FrameLost.code:
            self._frames.doubt(framed)  # the call comes again, by the bus
        self._arrivals.append(Answer(ticket, message))

    # -- the connection ---------------------------------------------------------------------------------

    def _connected(self) -> NatsSocket | None:
        """The connection; each server is tried once if there is none. The last one that failed comes last."""
        for url in list(self._urls) if self._socket is None else ():
            try:
                self._socket = self._connect(url)
                break
            except (OSError, BusError, ValueError) as error:
                log.debug("cannot connect", connection=self._name, url=url, error=str(error))
                self._urls.append(self._urls.pop(0))
        return self._socket

    def _connect(self, url: str) -> NatsSocket:
        connection = NatsSocket(url, self._name, self._credentials)
        for number, subject in enumerate(self._subjects):
            connection.subscribe(subject, number)
        self._heard, self._pinged = time.monotonic(), 0.0
        self._deliver(connection.round_trip())
        self._poll.register(connection, select.POLLIN)
        return connection

    def _lost(self, error: Exception) -> None:
        """Answers to what was asked will not come."""
        log.warning("disconnected", connection=self._name, error=str(error) or type(error).__name__)
        self._leave()
        self._urls.append(self._urls.pop(0))
        for ticket in list(self._waiting):
            self._settle(ticket, Disconnected("the connection was lost"))

    def _leave(self) -> None:
        connection, self._socket = self._socket, None
        self._outgoing.clear()
        if connection is not None:
            self._poll.unregister(connection)
            connection.close()
