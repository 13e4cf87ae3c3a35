"""The serving half of a bus: from an arriving frame to a handler, and its answer back.

Knows: decoding, handlers, what an exception means to the requester.
Does not know: subscriptions, or how an answer travels; it is given functions for that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from xpod_proto import ChunkOpen, DecodeError, ErrorReply, Message
from xpod_runtime.bus import Handler
from xpod_runtime.errors import BadMessage, BusError, FrameLost, XpodError
from xpod_runtime.receiving import Post, Receiving
from xpod_runtime.tasks import Tasks
from xpod_runtime.trace_context import TraceContext, current
from xpod_runtime.wire import Frame

Answer = Callable[[str, Message], Awaitable[None]]
Read = Callable[[bytes | memoryview], Message]
"""The message in these bytes, or in the memory that they point to. Raises DecodeError and FrameLost."""
log = structlog.get_logger(__name__)


class Serving:
    """Runs handlers concurrently; they start in the order of arrival."""

    def __init__(self, tasks: Tasks, receiving: Receiving, read: Read, answer: Answer, post: Post) -> None:
        self._tasks, self._receiving = tasks, receiving
        self._read, self._answer, self._post = read, answer, post
        self.bad_messages = 0
        """Arrived messages that could not be decoded."""
        self.closed = False
        """Once true, nothing starts any more."""

    def dispatch(self, handler: Handler, frame: Frame) -> None:
        """Starts `handler` on the frame's message, or takes in the transfer that the frame opens."""
        if self.closed:
            return
        try:
            message = self._read(frame.data)
        except DecodeError as error:
            self._reject(frame, error)
            return
        except FrameLost as error:
            self._miss(frame, error)
            return
        if isinstance(message, ChunkOpen) and frame.reply:
            self._take_in(handler, message, frame)
        else:
            self._tasks.spawn(self._handle(handler, message, frame))

    def _take_in(self, handler: Handler, opened: ChunkOpen, frame: Frame) -> None:
        # A chunked publish has a reply subject too, for its credit; an answer sent there is dropped.
        def whole(payload: memoryview) -> None:
            self.dispatch(handler, frame._replace(data=payload))

        def failed(error: XpodError) -> None:
            log.warning("transfer failed", subject=frame.subject, transfer=opened.transfer, error=str(error))

        self._receiving.accept(opened, frame.reply, whole, failed)

    def _reject(self, frame: Frame, error: DecodeError) -> None:
        self.bad_messages += 1
        log.warning("bad message", subject=frame.subject, size=len(frame.data), error=str(error))
        if frame.reply:
            self._post(frame.reply, ErrorReply(code=BadMessage.code, message=str(error)))

    def _miss(self, frame: Frame, error: FrameLost) -> None:
        log.warning("frame lost", subject=frame.subject, error=str(error))
        if frame.reply:
            self._post(frame.reply, ErrorReply(code=FrameLost.code, message=str(error)))

    async def _handle(self, handler: Handler, message: Message, frame: Frame) -> None:
        current.set(TraceContext.parse(frame.trace) if frame.trace else None)
        reply = frame.reply
        answer = await outcome(handler, message, wants_answer=bool(reply))
        if not reply or answer is None:
            return
        try:
            await self._answer(reply, answer)
        except XpodError as error:
            log.warning("answer lost", message=type(message).__name__, code=error.code, error=str(error))
        except Exception:
            log.exception("answer cannot be sent", message=type(message).__name__)


async def outcome(handler: Handler, message: Message, *, wants_answer: bool) -> Message | None:
    """What the handler answers; its exceptions become error replies."""
    name = type(message).__name__
    try:
        answer = await handler(message)
    except FrameLost as error:  # one of the handler's own requests; as it stands, it would mean this one
        return ErrorReply(code=BusError.code, message=str(error))
    except DecodeError as error:
        log.warning("bad message", message=name, error=str(error))
        return ErrorReply(code=BadMessage.code, message=str(error))
    except XpodError as error:
        if not wants_answer:
            log.warning("handler refused", message=name, code=error.code, error=str(error))
        return ErrorReply(code=error.code, message=getattr(error, "message", str(error)))
    except Exception as error:
        log.exception("handler failed", message=name)
        return ErrorReply(code="internal", message=f"{type(error).__name__}: {error}")
    if answer is None and wants_answer:
        return ErrorReply(code="no_answer", message=f"{name} is not answered by this receiver")
    return answer
