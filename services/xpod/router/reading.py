"""Who reads a session: everybody gets its tokens from the first on, however late they came.

Knows: that several may read one session. Does not know: how tokens come about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from xpod.router.api.engine_protocol import SessionError
from xpod_policy.session import Token

Item = Token | SessionError | None
"""None is the end."""


class Readers:
    """All that read one session. `forsaken` is called when the last one leaves before the end."""

    def __init__(self, forsaken: Callable[[], Awaitable[None]]) -> None:
        self._said: list[Item] = []
        self._queues: list[asyncio.Queue[Item]] = []
        self._forsaken: Callable[[], Awaitable[None]] | None = forsaken

    def say(self, item: Item) -> None:
        """The next token, or the end, to everybody who reads or will; who began this is let go with the end."""
        self._said.append(item)
        for queue in self._queues:
            queue.put_nowait(item)
        if not isinstance(item, Token):
            self._forsaken = (
                None  # else a session and its readers would hold each other until a collector comes
            )

    def begin(self) -> asyncio.Queue[Item]:
        queue: asyncio.Queue[Item] = asyncio.Queue()
        for item in self._said:
            queue.put_nowait(item)
        self._queues.append(queue)
        return queue

    async def end(self, queue: asyncio.Queue[Item]) -> None:
        """Whoever had `queue` reads no more."""
        if queue in self._queues:
            self._queues.remove(queue)
            if not self._queues and self._forsaken is not None:
                await self._forsaken()
