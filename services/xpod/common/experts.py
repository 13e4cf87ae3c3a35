"""Who holds which expert, kept up to date from the shards' own announcements.

Wraps the pure routing table with the one effect that callers need: waiting for it to change.
"""

from __future__ import annotations

import asyncio

from xpod_policy.holdings import RoutingTable
from xpod_proto import Holdings


class ExpertDirectory:
    """The routing table and its version; an incarnation's announcements are taken in order of their version."""

    def __init__(self, experts: int, moe_layers: tuple[int, ...]) -> None:
        self.routing = RoutingTable(experts, moe_layers)
        self.version = 0
        self._heard: dict[str, tuple[str, int]] = {}
        self._change = asyncio.Condition()

    async def heard(self, message: Holdings) -> None:
        """A shard announced what it holds."""
        incarnation, version = self._heard.get(message.member, ("", -1))
        if incarnation == message.incarnation and version >= message.version:
            return
        self._heard[message.member] = (message.incarnation, message.version)
        self.routing.update(message.member, message.layers)
        await self._changed()

    async def gone(self, shard: str) -> None:
        """A shard is down."""
        self._heard.pop(shard, None)
        self.routing.remove(shard)
        await self._changed()

    async def _changed(self) -> None:
        async with self._change:
            self.version += 1
            self._change.notify_all()

    async def changed(self, since: int, timeout: float) -> bool:
        """Wait until the version differs from `since`; False after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout), self._change:
                await self._change.wait_for(lambda: self.version != since)
        except TimeoutError:
            return False
        return True
