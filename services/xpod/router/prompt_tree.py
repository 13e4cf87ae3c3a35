"""The router's prompt tree: an index of who has which block, kept from what MemPool nodes and prefill workers say.

Wraps the pure index and feeds with the bus and the pod's view. A member is asked for all that it has when it comes,
when something that it said is missing, and after our connection was lost. One that does not answer is taken to have
nothing, until it says something again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from xpod.common.view import PodView
from xpod_policy.block_feed import BlockEvent, BlockFeed, Verdict
from xpod_policy.block_index import BlockIndex, Prefixes
from xpod_policy.membership import Change, Member
from xpod_policy.told import number
from xpod_proto import BlockList, BlocksChanged, ListBlocks, Message
from xpod_runtime.bus import Bus
from xpod_runtime.errors import XpodError

log = structlog.get_logger(__name__)
POOL = "mempool"
KINDS = (POOL, "prefill")
LAST_EVENT = "kv_sequence"
ANSWER_SECONDS = 5.0


class PromptTree:
    """Have `on_event`, `on_member`, `heartbeat` and `reconnected` called; `match` says who has how much of a prompt."""

    def __init__(self, view: PodView, bus: Bus, router: str, index: BlockIndex | None = None) -> None:
        self.index = BlockIndex() if index is None else index
        self._view = view
        self._bus = bus
        self._router = router
        self._feeds: dict[str, BlockFeed] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    def match(self, names: Iterable[bytes]) -> Prefixes:
        """How many of these blocks, from the first on, each member has, and the usable MemPool nodes together."""
        return self.index.match(names, [member.name for member in self._view.usable(POOL)])

    # what happens

    async def on_event(self, message: Message) -> None:
        """A member's blocks changed."""
        if isinstance(message, BlocksChanged) and self._member(message.member) is not None:
            event = BlockEvent(message.incarnation, message.sequence, message.added, message.removed)
            self._follow(message.member, self._feed(message.member).event(event))

    async def on_member(self, change: Change) -> None:
        """A member came, went, or is another process now."""
        member = change.member
        if member.kind not in KINDS:
            return
        feed = self._feeds.get(member.name)
        new = feed is None or feed.incarnation != member.incarnation
        if not member.alive or (new and change.reborn):
            self._drop(member.name)
        if member.alive and new and member.state != "starting":
            self._ask(member)

    def heartbeat(self, name: str) -> None:
        """A member may tell in its load how many events there were: then the loss of the last one shows, too."""
        member, feed = self._member(name), self._feeds.get(name)
        if member is None or feed is None or feed.incarnation != member.incarnation:
            return
        last = number(member, LAST_EVENT)
        if last is not None and feed.behind(int(last)):
            self._ask(member)

    def reconnected(self) -> None:
        """What was said while nobody listened has to be asked for."""
        for name in self._feeds:
            if (member := self._member(name)) is not None:
                self._ask(member)

    async def settled(self) -> None:
        """Returns once nobody is asked any more."""
        while self._asking:
            await asyncio.wait(self._asking.values())

    def stop(self) -> None:
        """Nobody is asked any more."""
        for task in self._asking.values():
            task.cancel()
        self._asking.clear()

    # inside

    def _member(self, name: str) -> Member | None:
        """Who is known and alive; what others say does not count."""
        member = self._view.table.members.get(name)
        return member if member is not None and member.alive and member.kind in KINDS else None

    def _feed(self, name: str) -> BlockFeed:
        return self._feeds.setdefault(name, BlockFeed())

    def _drop(self, name: str) -> None:
        self._feeds.pop(name, None)
        self.index.forget(name)
        if task := self._asking.pop(name, None):
            task.cancel()

    def _follow(self, name: str, verdict: Verdict) -> None:
        for event in verdict.events:
            self.index.remove(name, event.removed)
            self.index.add(name, event.added)
        if verdict.ask and (member := self._member(name)) is not None:
            self._ask(member)

    def _ask(self, member: Member) -> None:
        """Ask for all that it has; one question at a time, whose answer may call for the next."""
        if member.name not in self._asking:
            task = asyncio.get_running_loop().create_task(self._asked(member))
            self._asking[member.name] = task

    async def _asked(self, member: Member) -> None:
        name, feed = member.name, self._feed(member.name)
        question, verdict = ListBlocks(self._router), Verdict()
        feed.asks()
        try:
            reply = await self._view.request(self._bus, member.kind, name, question, timeout=ANSWER_SECONDS)
            if isinstance(reply, BlockList):
                verdict = feed.snapshot(reply.incarnation, reply.sequence)
                if verdict.replace:
                    self.index.replace(name, reply.names)
        except XpodError as error:
            log.info("blocks unknown", who=name, code=error.code, error=str(error))
            feed.forget()
            self.index.forget(name)
        finally:
            if self._asking.get(name) is asyncio.current_task():
                del self._asking[name]
        self._follow(name, verdict)
