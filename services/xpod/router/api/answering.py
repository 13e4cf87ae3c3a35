"""A generation becomes an answer, streamed or whole.

Knows: the order of chunks, where usage goes, that an error ends a stream in words and without [DONE].
Does not know: which endpoint is answered.
"""

from __future__ import annotations

import structlog
from starlette.requests import Request
from starlette.responses import Response

from xpod.router.api.choice import Piece
from xpod.router.api.disconnect import ClientGone, while_connected
from xpod.router.api.errors import internal, of_engine
from xpod.router.api.generation import Ask, Generation
from xpod.router.api.idempotency import REPLAYED_HEADER
from xpod.router.api.json_body import dump
from xpod.router.api.replies import Envelope, Json, Reply
from xpod.router.api.requests import StreamOptions
from xpod.router.api.sse import DONE, EventStream, Write, frame
from xpod_runtime.errors import XpodError

log = structlog.get_logger("xpod.router.api")
KEEP_ALIVE_HEADER = "x-keep-alive"
SHORTEST_KEEP_ALIVE = 0.1
CLIENT_CLOSED = 499  # nobody reads it; nginx's word for the access log


async def answer(http: Request, ask: Ask, reply: Reply) -> Response:
    """Generate for every prompt and answer. Raises ApiError while nothing has been sent."""
    generation = Generation(ask)
    handed_over = False
    try:
        await while_connected(http.receive, generation.open())
        envelope = Envelope(reply, generation, ask.api.served(ask.request.model))
        response: Response
        if ask.request.stream:
            chunks = Chunks(ask, reply, envelope, generation)
            handed_over = True
            keep_alive = keep_alive_of(http, ask.api.settings.keep_alive)
            response = EventStream(chunks.produce, generation.close, keep_alive, ask.api.engine.reaches_pod)
        else:
            response = await while_connected(http.receive, whole(generation, reply, envelope))
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED)
    finally:
        if not handed_over:
            await generation.close()
    if generation.attached:
        response.headers[REPLAYED_HEADER] = "true"
    return response


def keep_alive_of(http: Request, usual: float) -> float:
    """Seconds of silence until a comment: a client that wants to notice a router's death may ask for fewer."""
    try:
        wish = float(http.headers.get(KEEP_ALIVE_HEADER, usual))
    except ValueError:
        return usual
    return min(usual, max(SHORTEST_KEEP_ALIVE, wish))


async def whole(generation: Generation, reply: Reply, envelope: Envelope) -> Response:
    """The answer in one body."""
    pieces: list[list[Piece]] = [[] for _ in generation.choices]

    async def keep(piece: Piece) -> None:
        pieces[piece.choice].append(piece)

    try:
        await generation.run(keep)
    except XpodError as error:
        raise of_engine(error) from error
    choices = [reply.whole(each) for each in pieces]
    return Response(dump(envelope.body(choices)), media_type="application/json")


class Chunks:
    """The answer as a stream of chunks."""

    def __init__(self, ask: Ask, reply: Reply, envelope: Envelope, generation: Generation) -> None:
        request, place = ask.request, ask.resumed
        self._options = request.stream_options or StreamOptions()
        self._every_token = request.return_token_ids or request.alternatives >= 0
        self._reply = reply
        self._envelope = envelope
        self._generation = generation
        self._next = 0 if place is None else place.index + 1
        self._opened: set[int] = set() if place is None else {0}
        self._finished = 0

    async def produce(self, write: Write) -> None:
        """Write all events. A failure becomes an error event, and then there is no [DONE]."""

        async def emit(piece: Piece) -> None:
            await self._emit(piece, write)

        try:
            await self._generation.run(emit)
        except XpodError as error:
            log.warning("generation failed", code=error.code, error=str(error), **self._envelope.extension())
            await write(frame(dump(of_engine(error).body)))
        except Exception:
            log.exception("generation failed", **self._envelope.extension())
            await write(frame(dump(internal().body)))
        else:
            if self._options.include_usage:
                totals = self._envelope.usage() | self._envelope.extension()
                await write(frame(dump(self._envelope.chunk([]) | totals)))
            await write(DONE)

    async def _emit(self, piece: Piece, write: Write) -> None:
        if piece.choice not in self._opened:
            self._opened.add(piece.choice)
            opening = self._reply.opening(piece.choice)
            if opening is not None:
                await write(frame(dump(self._chunk(opening))))
        if piece.output.index >= self._next and (
            piece.text or piece.calls or piece.finish or self._every_token
        ):
            many = len(self._generation.choices)
            self._finished += bool(piece.finish)
            # An id names a place in one choice's tokens; with several choices there is no such place.
            event_id = str(self._generation.place(piece.output.index)) if many == 1 else ""
            chunk = self._chunk(self._reply.delta(piece), last=self._finished == many)
            await write(frame(dump(chunk), event_id))

    def _chunk(self, choice: Json, last: bool = False) -> Json:
        chunk = self._envelope.chunk([choice])
        if self._options.continuous_usage_stats and self._options.include_usage:
            chunk |= self._envelope.usage()
        elif self._options.include_usage:
            chunk |= {"usage": None}
        if last and not self._options.include_usage:
            chunk |= self._envelope.extension()
        return chunk
