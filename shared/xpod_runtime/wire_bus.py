"""A bus of typed messages on any wire.

Knows: how publish, request and subscribe map to frames, when a payload goes in chunks, and that what is sent to be
worked on says for which trace.
Does not know: which transport carries the frames, or how handlers are run (see `serving`).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

import structlog

from xpod_proto import ChunkOpen, DecodeError, ErrorReply, Message, pieces_of, size_of
from xpod_runtime.asking import Ask, Asking
from xpod_runtime.bus import Bus, Handler, Subscription
from xpod_runtime.chunks import Cut
from xpod_runtime.errors import (
    BadMessage,
    BusClosed,
    BusError,
    DeadlineExceeded,
    Disconnected,
    FrameLost,
    NoResponders,
    RemoteError,
    TransferFailed,
    XpodError,
)
from xpod_runtime.frames import Frames, NoFrames
from xpod_runtime.inbox import Inbox
from xpod_runtime.receiving import Limits, Receiving
from xpod_runtime.sending import Sending, error_of
from xpod_runtime.serving import Serving
from xpod_runtime.tasks import Tasks
from xpod_runtime.trace_context import header
from xpod_runtime.wire import Frame, Pieces, Stop, Wire

HEADROOM = 16 * 1024
"""Bytes below the wire's largest frame that a message may use, so that a chunk's envelope fits too."""

log = structlog.get_logger(__name__)


class WireBus(Bus):
    """Call `start` once before use."""

    def __init__(
        self,
        wire: Wire,
        *,
        payload_limit: int = 0,
        limits: Limits | None = None,
        frames: Frames | None = None,
    ) -> None:
        self._wire = wire
        self._frames = frames or NoFrames()
        self._loop = asyncio.get_running_loop()
        self._payload_limit = payload_limit or wire.max_payload - HEADROOM
        self._limits = limits or Limits()
        self._tasks = Tasks()
        self._inbox = Inbox(wire.new_inbox(), self._answer_stray)
        self._receiving = Receiving(self._inbox, self._post, self._limits)
        self._serving = Serving(self._tasks, self._receiving, self._frames.decode, self._answer, self._post)
        self._asking = Asking(self._inbox)
        self._sendings: set[Sending] = set()
        self._reconnected: list[Callable[[], None]] = []
        self._disconnected: list[Callable[[], None]] = []
        self._closed = False
        wire.on_lost, wire.on_regained = self._lost, self._regained

    async def start(self) -> None:
        await self._wire.listen(self._inbox.pattern, "", self._inbox.deliver)

    @property
    def is_connected(self) -> bool:
        return not self._closed and self._wire.is_connected

    @property
    def payload_limit(self) -> int:
        return self._payload_limit

    @property
    def bad_messages(self) -> int:
        """Messages to this bus's subscriptions that could not be decoded."""
        return self._serving.bad_messages

    @property
    def frames(self) -> str:
        return self._frames.token

    def meet(self, subject: str, token: str) -> None:
        self._frames.meet(subject, token)

    def forget(self, subject: str) -> None:
        self._frames.forget(subject)

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        self._reconnected.append(callback)

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        self._disconnected.append(callback)

    async def publish(self, subject: str, message: Message) -> None:
        self._check_open()
        await self._send(subject, pieces_of(message), header())

    async def request(self, subject: str, message: Message, *, timeout: float) -> Message:
        self._check_open()
        if not self._wire.is_connected:
            raise Disconnected(f"no connection for a request to {subject}")
        pieces = pieces_of(message)
        framed = self._framed(subject, pieces)
        if framed is None:
            return await self._request(subject, pieces, timeout)
        until = self._loop.time() + timeout
        try:
            return await self._ask(subject, framed, timeout)
        except RemoteError as error:
            if error.code != FrameLost.code:
                raise
            log.warning("frame not read", subject=subject, error=error.message)
        self._frames.doubt(subject)
        return await self._request(subject, pieces, until - self._loop.time())

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> Subscription:
        self._check_open()
        subscribed = _Subscribed(self._serving, handler)
        subscribed.stop = await self._wire.listen(subject, queue, subscribed.deliver)
        return subscribed

    async def flush(self) -> None:
        self._check_open()
        await self._wire.flush()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = self._serving.closed = True
        self._receiving.close()
        self._fail_waiting(BusClosed("the bus was closed"))
        self._asking.stop()
        await self._tasks.cancel()
        await self._wire.close()
        self._frames.close()

    # -- requests ---------------------------------------------------------------------------------------

    async def _request(self, subject: str, pieces: Pieces, timeout: float) -> Message:
        if size_of(pieces) <= self._payload_limit:
            return await self._ask(subject, pieces, timeout)
        try:
            async with asyncio.timeout(timeout):
                answer = await self._send_chunked(subject, pieces, wants_answer=True)
        except TimeoutError:
            raise DeadlineExceeded(f"no answer from {subject} in {timeout:g} s") from None
        assert answer is not None
        return answer

    async def _ask(self, subject: str, pieces: Pieces, timeout: float) -> Message:
        ask = self._asking.open(subject, timeout, self._settle, self._frames.mark)
        try:
            await self._wire.send(subject, pieces, ask.reply, header())
            return await ask.answer
        finally:
            self._asking.close(ask)

    def _settle(self, ask: Ask, frame: Frame) -> None:
        message = self._read_answer(ask.subject, frame)
        if isinstance(message, BusError):
            ask.fail(message)
        elif isinstance(message, ErrorReply):
            ask.fail(error_of(message))
        elif isinstance(message, ChunkOpen) and frame.reply:
            self._collect(message, frame, ask.deliver, ask.fail)
        else:
            ask.give(message)

    def _collect(
        self,
        opened: ChunkOpen,
        frame: Frame,
        complete: Callable[[Frame], None],
        fail: Callable[[XpodError], None],
    ) -> None:
        """Takes in a chunked answer; a failure of the transfer fails the request."""

        def whole(payload: memoryview) -> None:
            complete(Frame(frame.subject, "", payload))

        self._receiving.accept(opened, frame.reply, whole, fail)

    def _read_answer(self, subject: str, frame: Frame) -> Message | BusError:
        if frame.no_responders:
            return NoResponders(f"nobody listens on {subject}")
        try:
            return self._frames.decode(frame.data)
        except DecodeError as error:
            return BadMessage(f"answer from {subject}: {error}")
        except FrameLost as error:
            return error

    # -- shared memory ----------------------------------------------------------------------------------

    def _framed(self, subject: str, pieces: Pieces) -> Pieces | None:
        """What to send instead of `pieces`, which now lie in memory that the receiver shares."""
        framed = self._frames.put(subject, pieces)
        return None if framed is None else pieces_of(framed)

    # -- sending ----------------------------------------------------------------------------------------

    async def _answer(self, reply: str, answer: Message) -> None:
        pieces = pieces_of(answer)
        await self._send(reply, self._framed(reply, pieces) or pieces)

    async def _send(self, subject: str, pieces: Pieces, trace: str = "") -> None:
        if size_of(pieces) <= self._payload_limit:
            await self._wire.send(subject, pieces, trace=trace)
        else:
            await self._send_chunked(subject, pieces, wants_answer=False)

    async def _send_chunked(self, subject: str, pieces: Pieces, *, wants_answer: bool) -> Message | None:
        cut = Cut(uuid.uuid4().hex, b"".join(pieces), self._payload_limit)
        sending = Sending(cut, wants_answer=wants_answer, patience=self._limits.patience)

        def receive(frame: Frame) -> None:
            message = self._read_answer(subject, frame)
            if isinstance(message, BusError):
                sending.fail(message)
            elif isinstance(message, ChunkOpen) and frame.reply:
                self._collect(message, frame, receive, sending.fail)
            else:
                sending.receive(message)

        reply = self._inbox.open(receive)
        self._sendings.add(sending)
        try:
            await self._wire.send(subject, pieces_of(cut.opening()), reply, header())
            return await sending.run(self._wire.send)
        finally:
            self._sendings.discard(sending)
            self._inbox.close(reply)

    def _answer_stray(self, frame: Frame) -> None:
        # Only the opening of a transfer carries a reply: somebody sends us an answer that came too late.
        if frame.reply:
            code = TransferFailed.code
            self._post(frame.reply, ErrorReply(code=code, message="nobody waits for it any more"))

    def _post(self, subject: str, message: Message) -> None:
        self._tasks.spawn(self._send_quietly(subject, message))

    async def _send_quietly(self, subject: str, message: Message) -> None:
        try:
            await self._wire.send(subject, pieces_of(message))
        except BusError as error:
            log.warning("notice lost", message=type(message).__name__, code=error.code, error=str(error))

    # -- the connection ---------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise BusClosed("the bus was closed")

    def _fail_waiting(self, error: BusError) -> None:
        self._asking.fail_all(error)
        for sending in list(self._sendings):
            sending.fail(error)

    def _lost(self) -> None:
        self._fail_waiting(Disconnected("the connection was lost"))
        for callback in self._disconnected:
            callback()

    def _regained(self) -> None:
        for callback in self._reconnected:
            callback()


class _Subscribed(Subscription):
    def __init__(self, serving: Serving, handler: Handler) -> None:
        self.stop: Stop | None = None
        self._serving = serving
        self._handler = handler
        self._ended = False

    def deliver(self, frame: Frame) -> None:
        if not self._ended:
            self._serving.dispatch(self._handler, frame)

    async def unsubscribe(self) -> None:
        self._ended = True
        stop, self.stop = self.stop, None
        if stop is not None:
            await stop()
