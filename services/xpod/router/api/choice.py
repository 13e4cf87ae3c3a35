"""One choice of an answer: a session's tokens become text, up to a stop.

Knows: incremental text, stop strings, when a choice is finished.
Does not know: JSON, HTTP, or that there may be other choices.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from xpod.router.api.call_reader import CallDelta, CallReader
from xpod.router.api.engine_protocol import Output, Session, SessionError
from xpod.router.api.metrics import Meter
from xpod.router.api.stops import StopMatcher
from xpod.router.api.text_protocol import TextStream
from xpod_runtime.errors import XpodError

log = structlog.get_logger("xpod.router.api")


@dataclass(frozen=True, slots=True)
class Piece:
    """What one output adds to choice `choice`: its text starts at character `offset` of the generated text.

    `text` may be empty (held back) or longer than the token (let go); `finish` is set on the last piece. What belongs
    to calls of functions is in `calls` instead, and `called` says whether there was one up to here.
    """

    choice: int
    output: Output
    text: str
    offset: int
    finish: str
    calls: tuple[CallDelta, ...] = ()
    called: bool = False


Emit = Callable[[Piece], Awaitable[None]]


class Choice:
    """Drives one session and says what the client may see."""

    def __init__(
        self,
        index: int,
        *,
        session: Session,
        stream: TextStream,
        stops: StopMatcher,
        min_tokens: int,
        meter: Meter,
        reader: CallReader | None = None,
    ) -> None:
        """With a `reader`, calls of functions are told from the rest of the text."""
        self.index = index
        self.session = session
        self.count = 0
        self._stream = stream
        self._stops = stops
        self._min_tokens = min_tokens
        self.meter = meter
        self._reader = reader
        self._length = 0
        self._live = True

    async def run(self, emit: Emit) -> None:
        """Emit every piece up to the finish. Raises SessionError; never returns without a finish."""
        async for output in self.session:
            piece = self.take(output)
            self.meter.token(self.session.cached_tokens, self.session.taken)
            if piece.finish:
                self._live = not output.finish
                await self.close(piece.finish)  # after a stop string the workers do not know yet
            await emit(piece)
            if piece.finish:
                return
        raise SessionError("incomplete", f"session {self.session.id} ended without a finish")

    async def close(self, reason: str) -> None:
        """Read no more: after a stop string (`stop`) nobody needs the rest, else others may. Idempotent."""
        self.meter.end(reason)
        if self._live:
            self._live = False
            await self._let_go(self.session.cancel if reason == "stop" else self.session.leave)

    def take(self, output: Output) -> Piece:
        """What this output adds. The stopping token has no text; stop strings count after `min_tokens` only."""
        offset = self._length
        self.count += 1
        text = "" if output.finish == "stop" else self._stream.push(output.token)
        if output.finish:
            text += self._stream.flush()
        self._length += len(text)
        shown, stopped = self._stops.push(text) if self.count > self._min_tokens else (text, False)
        if output.finish and not stopped:
            shown += self._stops.flush()
        piece = Piece(self.index, output, shown, offset, "stop" if stopped else output.finish)
        return piece if self._reader is None else _with_calls(piece, self._reader)

    async def _let_go(self, how: Callable[[], Awaitable[None]]) -> None:
        try:
            await how()
        except XpodError as error:
            log.warning("cancel failed", session=self.session.id, error=str(error))


def _with_calls(piece: Piece, reader: CallReader) -> Piece:
    """The piece, with calls apart from words."""
    words, calls = reader.push(piece.text)
    if piece.finish:
        words += reader.flush()
    return replace(piece, text=words, calls=tuple(calls), called=reader.calls > 0)
