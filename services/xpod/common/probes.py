"""Asking members whether they live.

Knows: what an answer, silence and a refusal say about a member, and what says nothing. Does not know: who doubted it,
or what follows from a verdict. The table counts the answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from xpod_policy.membership import Change, Member, Membership
from xpod_proto import Doubt, Probe, subjects
from xpod_runtime.bus import Bus
from xpod_runtime.errors import BusClosed, DeadlineExceeded, Disconnected, NoResponders, XpodError

CONFIRM_SECONDS = 0.1
CONFIRMATIONS = 3


class Probes:
    """Questions under way; `tell` gets the changes that they make in `table`."""

    def __init__(
        self, bus: Bus, pod: str, table: Membership, tell: Callable[[list[Change]], Awaitable[None]]
    ) -> None:
        self._bus, self._pod, self._table, self._tell = bus, pod, table, tell
        self._asked: dict[str, asyncio.Task[None]] = {}
        self.confirming: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        for task in (*self._asked.values(), *self.confirming):
            task.cancel()

    def ask(self, member: Member) -> None:
        """It says nothing: does it live? Does nothing while it is being asked."""
        if member.name not in self._asked:
            self._asked[member.name] = asyncio.create_task(self._ask(member))

    def confirm(self, member: Member) -> None:
        """Its connections ended: is it there by others?"""
        task = asyncio.create_task(self._confirm(member))
        self.confirming.add(task)
        task.add_done_callback(self.confirming.discard)

    async def _ask(self, member: Member) -> None:
        """Until it answers or there is a verdict."""
        try:
            while await self._ask_once(member) and self._table.unsure(member.name):
                pass
        finally:
            del self._asked[member.name]

    async def _ask_once(self, member: Member) -> bool:
        """Takes in whether it answered. False where we could not ask, which says nothing about it."""
        name, patience = member.name, self._table.patience
        asked = time.monotonic()
        try:
            await self._bus.request(subjects.probe(self._pod, name), Probe(""), timeout=patience)
        except (Disconnected, BusClosed):
            return False
        except XpodError:  # it may only be about to connect again
            await asyncio.sleep(max(0.0, asked + patience - time.monotonic()))
            if not await self._can_ask(patience):
                return False
            changes = self._table.unanswered(name, member.incarnation, time.monotonic())
            if any(change.member.state == "suspect" for change in changes):
                with suppress(XpodError):
                    await self._bus.publish(subjects.doubt(self._pod), Doubt(name))
        else:
            changes = self._table.answered(name, member.incarnation, time.monotonic())
        await self._tell(changes)
        return True

    async def _can_ask(self, patience: float) -> bool:
        """Does our own server answer? If not, it may be what hangs, and we hear of nobody."""
        try:
            async with asyncio.timeout(patience):
                await self._bus.flush()
        except (TimeoutError, XpodError):
            return False
        return True

    async def _confirm(self, member: Member) -> None:
        """Whoever is not there has no subscription left."""
        name, incarnation = member.name, member.incarnation
        for _ in range(CONFIRMATIONS):
            try:
                await self._bus.request(subjects.probe(self._pod, name), Probe(""), timeout=CONFIRM_SECONDS)
            except NoResponders:
                changes = self._table.down(name, incarnation, "its connections ended", time.monotonic())
            except DeadlineExceeded:  # another server may not have heard yet that nobody subscribes any more
                continue
            except XpodError:  # we cannot ask: its heartbeats tell
                return
            else:
                changes = self._table.answered(name, incarnation, time.monotonic())
            await self._tell(changes)
            return
