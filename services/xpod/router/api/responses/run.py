"""One response that runs here, and all who read it.

Knows: that it goes on without readers where it is to, that its end is kept before it is told, and that a store that
does not answer must not hold up whoever waits. Does not know: events, HTTP, or which other responses there are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog

from xpod.router.api.choice import Choice, Piece
from xpod.router.api.engine_protocol import SessionError
from xpod.router.api.responses.record import End, Ended, Kept, Record, Shelf
from xpod.router.api.responses.telling import pieces_of
from xpod.router.api.text_protocol import Text
from xpod_runtime.errors import StoreError, XpodError

log = structlog.get_logger("xpod.router.api")
R = TypeVar("R")
PROMISE_SECONDS = 0.5
"""So long the end of an answer waits for the store."""
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between the tries to keep something: longer than a store elects a leader."""
STATUS_OF: dict[str, Ended] = {"stop": "completed", "length": "incomplete"}


class Run:
    """`follow` it from the first piece on. `lasting`: it goes on when nobody follows it."""

    def __init__(self, record: Record, *, lasting: bool) -> None:
        self.record = record
        self.lasting = lasting
        self.pieces: list[Piece] = []
        self.end: End | None = None
        self.cached = 0
        self._readers = 0
        self._telling = True
        self._changed, self._failing = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._beginning: asyncio.Task[Any] | None = None
        self._keeping: set[asyncio.Task[Any]] = set()

    @classmethod
    def over(cls, record: Record, pieces: list[Piece], end: End) -> Run:
        """One that has ended, and is only told."""
        run = cls(record, lasting=True)
        run.pieces, run.end, run._telling = pieces, end, False
        return run

    @property
    def begins(self) -> bool:
        """Is its beginning still on the way to the shelf?"""
        return self._beginning is not None and not self._beginning.done()

    @property
    def forsaken(self) -> bool:
        """Did it stop before its end, because nobody was left who wanted it?"""
        return self.end is None and self._task is not None and self._task.done()

    # what readers do

    async def follow(self) -> AsyncIterator[Piece]:
        """All pieces, as they come; after them, `end` is there. Raises SessionError where the router shuts down."""
        self._readers += 1
        told = 0
        try:
            while True:
                while told < len(self.pieces):
                    told += 1
                    yield self.pieces[told - 1]
                if self.end is not None:
                    return
                if self._task is None or self.forsaken:
                    raise SessionError("incomplete", f"{self.record.id} does not go on here")
                await self._changed.wait()
        finally:
            self._readers -= 1

    async def leave(self) -> None:
        """Nobody's client any more: without others, what does not last ends. Idempotent."""
        if not self._readers and not self.lasting and self._telling and self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def looked(self, seconds: float) -> None:
        """Returns when there is something to tell, or after so long."""
        try:
            async with asyncio.timeout(seconds):
                while not self.pieces and self.end is None:
                    await self._changed.wait()
        except TimeoutError:
            pass

    async def ended(self) -> None:
        """Returns when it is over, here."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def insist(self, write: Callable[[], Awaitable[R]]) -> R | None:
        """What `write` returns at last; None where the store does not answer for all that time."""
        for pause in (*PAUSES, 0.0):
            try:
                return await write()
            except StoreError as error:
                self._failing.set()
                log.info("a response cannot be kept yet", response=self.record.id, error=str(error))
                await asyncio.sleep(pause)
        log.warning("a response is not kept", response=self.record.id)
        return None

    # how it goes on

    def start(
        self, choice: Choice, text: Text, shelf: Shelf | None, begun: Coroutine[Any, Any, object] | None
    ) -> None:
        """Tell what `choice` says; keep how it ends on `shelf`, behind `begun`, which keeps how it began."""
        self._beginning = None if begun is None else self._spawn(begun)
        self._task = asyncio.create_task(self._drive(choice, text, shelf))
        self._task.add_done_callback(lambda _: self._wake())

    async def kept(self) -> None:
        """Returns when all is kept, or nobody tries any more."""
        while self._keeping:
            await asyncio.wait(self._keeping)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)
        return task

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _drive(self, choice: Choice, text: Text, shelf: Shelf | None) -> None:
        end = await self._tell(choice)
        self._telling = False
        if shelf is not None:
            keeping, failing = self._spawn(self._keep_end(shelf, end)), self._spawn(self._failing.wait())
            ways = {keeping, failing}
            await asyncio.wait(ways, timeout=PROMISE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            failing.cancel()
            kept = keeping.result() if keeping.done() else None
            if kept is not None and kept.end is not None:
                end = kept.end
                self.pieces += pieces_of(self.record, text, kept.outputs)[len(self.pieces) :]
        self.end = end
        self._wake()

    async def _tell(self, choice: Choice) -> End:
        async def emit(piece: Piece) -> None:
            self.cached = choice.session.cached_tokens
            self.pieces.append(piece)
            self._wake()

        reason = "abort"
        try:
            async with asyncio.timeout(self._time_left()):
                await choice.run(emit)
            return self._ended(STATUS_OF[self.pieces[-1].finish])
        except TimeoutError:
            await choice.session.cancel()
            seconds = self.record.request.timeout
            return self._ended("failed", "deadline_exceeded", f"not done within {seconds:g} s")
        except XpodError as error:
            if error.code == "cancelled":
                return self._ended("cancelled")
            reason = "error"
            log.warning("response failed", response=self.record.id, code=error.code, error=str(error))
            return self._ended("failed", error.code, str(error))
        except Exception:
            reason = "error"
            log.exception("response failed", response=self.record.id)
            return self._ended("failed", "internal", "internal error; the router's log has the details")
        finally:
            await choice.close(reason)

    def _time_left(self) -> float | None:
        timeout = self.record.request.timeout
        return None if timeout is None else self.record.created + timeout - time.time()

    def _ended(self, status: Ended, code: str = "", reason: str = "") -> End:
        return End(status, time.time(), self.cached, code, reason)

    async def _keep_end(self, shelf: Shelf, end: End) -> Kept | None:
        if self._beginning is not None:
            await asyncio.wait({self._beginning})
        outputs = [piece.output for piece in self.pieces]
        return await self.insist(lambda: shelf.finish(self.record, end, outputs))
