"""Server-sent events: frames, keep-alives, and an end that is always told.

Knows: the event stream format and ASGI. Does not know: what the events say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from xpod.router.api.disconnect import ClientGone, while_connected

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

Write = Callable[[bytes], Awaitable[None]]


def frame(data: bytes, event_id: str = "") -> bytes:
    """One event; `data` holds no line break."""
    return (f"id: {event_id}\n".encode() if event_id else b"") + b"data: " + data + b"\n\n"


def named_frame(name: str, data: bytes) -> bytes:
    """One event of that name; `data` holds no line break."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


class EventStream(Response):
    """Runs `produce(write)` while the client listens; a comment fills every silence of `keep_alive` seconds.

    While `hopeful()` is false, silences stay silent: a client that can go elsewhere then does. `release` runs at the
    end, however the stream ended, before the response counts as done.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        produce: Callable[[Write], Awaitable[None]],
        release: Callable[[], Awaitable[None]],
        keep_alive: float,
        hopeful: Callable[[], bool] = lambda: True,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(HEADERS)
        self._produce = produce
        self._release = release
        self._keep_alive = keep_alive
        self._hopeful = hopeful
        self._last = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_connected(receive, self._stream(send))
        except ClientGone:
            return
        finally:
            await self._release()

    async def _stream(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

        async def write(data: bytes) -> None:
            self._last = loop.time()
            await send({"type": "http.response.body", "body": data, "more_body": True})

        self._last = loop.time()
        keeper = asyncio.create_task(self._fill_silence(write))
        try:
            await self._produce(write)
        finally:
            keeper.cancel()
            await asyncio.wait({keeper})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _fill_silence(self, write: Write) -> None:
        loop = asyncio.get_running_loop()
        while True:
            rest = self._last + self._keep_alive - loop.time()
            if rest > 0:
                await asyncio.sleep(rest)
            elif self._hopeful():
                await write(KEEP_ALIVE)
            else:
                await asyncio.sleep(self._keep_alive)
