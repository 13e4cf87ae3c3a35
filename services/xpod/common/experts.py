"""Who holds which expert, kept up to date from the shards' own announcements.

Wraps the pure routing table with what callers need beside it: whose word counts, and waiting for a change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from xpod_policy.holdings import RoutingTable, Sort, sort_pairs, unpacked
from xpod_policy.membership import Change
from xpod_proto import Holdings, Message


class ExpertDirectory:
    """The routing table and its version. `trusted` says whether a shard is alive and computes what we compute.

    An incarnation's announcements are taken in the order of their version.
    """

    def __init__(
        self,
        experts: int,
        moe_layers: tuple[int, ...],
        trusted: Callable[[str], bool],
        sort: Sort = sort_pairs,
        *,
        few: int = 0,
        turn: int = 0,
    ) -> None:
        """`sort`, `few` and `turn` are RoutingTable's."""
        self.routing = RoutingTable(experts, moe_layers, sort, few=few, turn=turn)
        self.version = 0
        self._trusted = trusted
        self._heard: dict[str, tuple[str, int]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._mourners: list[Callable[[str], None]] = []
        self._change = asyncio.Condition()
        self.doubt: Callable[[str], None] = lambda shard: None
        """Tells, from any thread, that a shard lets us wait."""

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change."""
        self._listeners.append(listener)

    def on_lost(self, mourner: Callable[[str], None]) -> None:
        """Call `mourner` with the name of each shard whose process is gone, or is another one now."""
        self._mourners.append(mourner)

    async def on_holdings(self, message: Message) -> None:
        """A shard announced what it holds."""
        if not isinstance(message, Holdings) or not self._trusted(message.member):
            return
        incarnation, version = self._heard.get(message.member, ("", -1))
        if incarnation == message.incarnation and version >= message.version:
            return
        self._heard[message.member] = (message.incarnation, message.version)
        if self.routing.held.get(message.member) != unpacked(message.layers):
            self.routing.update(message.member, message.layers)
            await self._changed()

    async def on_member(self, change: Change) -> None:
        """A member changed; a shard that is not trusted any more, or began anew, holds nothing for us."""
        name = change.member.name
        if change.member.kind == "expert" and (change.reborn or not self._trusted(name)):
            self._heard.pop(name, None)
            self.routing.remove(name)
            for mourner in self._mourners:
                mourner(name)
            await self._changed()

    async def _changed(self) -> None:
        for listener in self._listeners:
            listener()
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
