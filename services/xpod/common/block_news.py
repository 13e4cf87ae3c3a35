"""What a member tells the pod of the blocks that it has: events that are numbered, and a list for who missed one.

Knows: who hears the numbers 4 and 6 asks for the list. Does not know: what the blocks are kept for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from xpod_policy.news import News
from xpod_proto import BlockList, BlocksChanged, subjects
from xpod_runtime.bus import Bus
from xpod_runtime.errors import XpodError

GATHER_SECONDS = 0.02
MOST_NAMES = 1 << 15
"""In an event: half a megabyte."""
log = structlog.get_logger(__name__)


class BlockNews:
    """Say `added` and `removed` at once of every change of `names()`; `watch` tells the pod, a little later."""

    def __init__(
        self, bus: Bus, pod: str, *, member: str, incarnation: str, names: Callable[[], Iterable[bytes]]
    ) -> None:
        self._bus = bus
        self._subject = subjects.kv(pod)
        self._member, self._incarnation = member, incarnation
        self._names = names
        self._news = News()
        self._due = asyncio.Event()
        self._in_doubt = False
        self.sequence = 0
        """Of the last event."""
        bus.on_reconnect(self._reconnected)

    def added(self, name: bytes) -> None:
        """It was not here, and is now."""
        self._news.added(name)
        self._due.set()

    def removed(self, name: bytes) -> None:
        """It was here, and is not now."""
        self._news.removed(name)
        self._due.set()

    def listing(self) -> BlockList:
        """What is here, as of the last event: what the next one tells is not in it."""
        told = b"".join(self._news.told(self._names()))
        return BlockList(self._member, self._incarnation, self.sequence, told)

    async def watch(self) -> None:
        """Tell the pod, for ever; what happens in quick succession is one event."""
        while True:
            await self._due.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._due.clear()
            await self.tell()

    async def tell(self) -> None:
        """Tell what is to be told now. An event that cannot be sent leaves a gap in the numbers."""
        while self._news or self._in_doubt:
            self._in_doubt = False
            came, went = self._news.take(MOST_NAMES)
            self.sequence += 1
            event = BlocksChanged(
                self._member, self._incarnation, self.sequence, b"".join(came), b"".join(went)
            )
            try:
                await self._bus.publish(self._subject, event)
            except XpodError as error:
                log.warning("event of blocks not sent", sequence=self.sequence, code=error.code)

    def _reconnected(self) -> None:
        """Events may have been lost: an empty one shows those who listen that some are missing."""
        self._in_doubt = True
        self._due.set()
