"""A member's view of its pod: the membership table, fed from the control connection.

Wraps the pure table with subscriptions, a clock and callbacks. Members that run another model or other numerics
are seen, but not used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import cast

import structlog

from xpod.common.insisting import News, insist
from xpod.common.neighbours import Neighbours
from xpod.common.probes import Probes
from xpod_policy.membership import Change, Member, Membership, State
from xpod_proto import Doubt, Down, Heartbeat, Hello, Message, RollCall, subjects
from xpod_runtime.bus import Bus
from xpod_runtime.errors import NoResponders

log = structlog.get_logger(__name__)
Listener = Callable[[Change], Awaitable[None]]
TICK = 0.05


class PodView:
    """Who is there of these `kinds`, once `start` was called.

    Members are taken to say something every `interval` seconds. `neighbours` are of all kinds.
    """

    def __init__(
        self, bus: Bus, pod: str, *, interval: float = 1.0, kinds: Sequence[str] = subjects.KINDS
    ) -> None:
        self._bus = bus
        self._pod = pod
        self._kinds = kinds
        self._model = ""
        self._fingerprint = ""
        self._listeners: list[Listener] = []
        self._beat_listeners: list[Callable[[str], None]] = []
        self._change = asyncio.Condition()
        self._departures: asyncio.Queue[str] = asyncio.Queue()
        self._awaited: dict[str, set[News]] = {}
        self.suspected = 0
        self.declared_down = 0
        """How often somebody was, good-byes included."""
        self.table = Membership(interval=interval)
        self.neighbours = Neighbours(pod)
        self._probes = Probes(bus, pod, self.table, self._tell)

    def listen(self, listener: Listener) -> None:
        """Call `listener` for every change of a member's state."""
        self._listeners.append(listener)

    def on_heartbeat(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the member's name at each heartbeat, after its load was taken in."""
        self._beat_listeners.append(listener)

    def expect(self, model: str, fingerprint: str) -> None:
        """From now on a member must have this model and these numerics (where not empty) to be usable."""
        self._model, self._fingerprint = model, fingerprint

    async def start(self) -> None:
        """Subscribe, and ask everyone to say hello."""
        await self._bus.subscribe(subjects.hello(self._pod), self._on_hello)
        for kind in self._kinds:
            await self._bus.subscribe(subjects.heartbeat(self._pod, kind), self._on_heartbeat)
        await self._bus.subscribe(subjects.down(self._pod), self._on_down)
        await self._bus.subscribe(subjects.doubt(self._pod), self._on_doubt)
        await self._bus.on_departure(self._departures.put_nowait)
        self._bus.on_reconnect(self._reconnected)
        await self._bus.flush()
        await self._roll_call()

    async def watch(self) -> None:
        """Judge silent members and ask late ones, for ever."""
        try:
            while True:
                await asyncio.sleep(max(TICK, self.table.next_look(time.monotonic())))
                now = time.monotonic()
                if changes := self.table.tick(now):
                    await self._tell(changes)
                for member in self.table.doubtful(now):
                    self._probes.ask(member)
        finally:
            self._probes.stop()

    async def watch_departures(self) -> None:
        """Take in what the bus tells of ended connections, for ever."""
        while True:
            member = self.table.departed(await self._departures.get())
            if member is not None:
                self._probes.confirm(member)

    def _reconnected(self) -> None:
        self.table.reconnected(time.monotonic())

    def doubt(self, name: str) -> None:
        """You wait for that member in vain: ask it whether it lives, unless it was heard a moment ago."""
        member = self.table.waited_for(name, time.monotonic())
        if member is not None:
            self._probes.ask(member)

    def usable(self, kind: str) -> list[Member]:
        """Members of a kind that may be given work of this pod's model."""
        return [member for member in self.table.usable(kind) if self.matches(member)]

    def trusts(self, name: str) -> bool:
        """Is the member known, not down, and computes what we compute?"""
        member = self.table.members.get(name)
        return member is not None and member.alive and self.matches(member)

    def matches(self, member: Member) -> bool:
        """Does the member compute with our model and our numerics?"""
        model = member.detail.get("model", "")
        same_model = not (self._model and model) or model == self._model
        same_numerics = (
            not (self._fingerprint and member.fingerprint) or member.fingerprint == self._fingerprint
        )
        return same_model and same_numerics

    async def request(self, bus: Bus, kind: str, name: str, message: Message, *, timeout: float) -> Message:
        """As `bus.request` to the member's mailbox, said again for as long as no answer comes (see `insist`).

        Nobody who is known to be down is waited for: NoResponders is raised, besides what `bus.request` raises.
        """
        known = self.table.members.get(name)
        if known is not None and not known.alive:
            raise NoResponders(f"{name} is down")
        news = News()
        waiting = self._awaited.setdefault(name, set())
        waiting.add(news)
        subject = subjects.mailbox(self._pod, kind, name)
        questions = count()

        async def ask(left: float) -> Message:
            if next(questions):
                self.doubt(name)
            return await bus.request(subject, message, timeout=left)

        try:
            return await insist(ask, timeout=timeout, news=news, there=lambda: self.trusts(name))
        finally:
            waiting.discard(news)

    async def changed(self, timeout: float) -> bool:
        """Wait for the next heartbeat or change of anybody; False after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout), self._change:
                await self._change.wait()
        except TimeoutError:
            return False
        return True

    async def _roll_call(self) -> None:
        await self._bus.publish(subjects.hello(self._pod), RollCall(""))

    async def _on_hello(self, message: Message) -> None:
        if not isinstance(message, Hello):
            return
        subjects.check_token(message.member)
        subjects.check_token(message.kind)
        self.neighbours.arrived(message.kind, message.member, message.frames)
        if message.kind not in self._kinds:
            return
        now = time.monotonic()
        member = Member(
            message.member,
            message.kind,
            message.incarnation,
            message.pid,
            message.host,
            message.fingerprint,
            cast(State, message.state),
            since=now,
            heard=now,
            detail=message.detail,
        )
        if not self.matches(member):
            log.error("member computes something else and is not used", who=member.name, detail=member.detail)
        await self._tell(self.table.hello(member))
        for news in self._awaited.get(message.member, ()):
            news.returns()

    async def _on_heartbeat(self, message: Message) -> None:
        if not isinstance(message, Heartbeat):
            return
        changes = self.table.heartbeat(
            message.member, message.incarnation, cast(State, message.state), message.load, time.monotonic()
        )
        if changes is None:
            await self._roll_call()
        for listener in self._beat_listeners:
            listener(message.member)
        await self._tell(changes or [])

    async def _on_down(self, message: Message) -> None:
        if isinstance(message, Down):
            await self._tell(
                self.table.down(message.member, message.incarnation, message.reason, time.monotonic())
            )

    async def _on_doubt(self, message: Message) -> None:
        if isinstance(message, Doubt):
            self.doubt(message.member)

    async def _tell(self, changes: list[Change]) -> None:
        for change in changes:
            level = log.warning if change.member.state in ("suspect", "down") else log.info
            level(
                "member", who=change.member.name, state=change.member.state, was=change.was, why=change.reason
            )
            self.suspected += change.member.state == "suspect"
            self.declared_down += change.member.state == "down"
            if change.member.state == "down":
                self.neighbours.gone(change.member.kind, change.member.name)
                for news in self._awaited.pop(change.member.name, set()):
                    news.falls(NoResponders(f"{change.member.name} is down"))
            elif change.was == "down" and not change.reborn:
                self.neighbours.back(change.member.kind, change.member.name)
            for listener in self._listeners:
                await listener(change)
        async with self._change:
            self._change.notify_all()
