"""An actor that sees its pod: the base of every service."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from prometheus_client import ProcessCollector

from xpod.common.experts import ExpertDirectory
from xpod.common.told_metrics import ToldMetrics
from xpod.common.view import PodView
from xpod_policy.holdings import Sort, sort_pairs
from xpod_proto import subjects
from xpod_proto.messages import Value
from xpod_runtime.actor import Actor
from xpod_runtime.bus import Bus
from xpod_runtime.config import ServiceConfig
from xpod_runtime.credentials import credentials_of
from xpod_runtime.errors import XpodError
from xpod_runtime.frames import Frames, frames_of
from xpod_runtime.line import BusLine, Line
from xpod_runtime.nats_bus import NatsBus
from xpod_runtime.nats_line import NatsLine
from xpod_runtime.supervision import ChildSpec


class Draining(XpodError):
    """This member takes no new work; another will."""

    code = "draining"


class Service(Actor):
    """`open_view` in `setup` gives it `view`; `permanent` adds a task that is restarted when it fails."""

    kind: ClassVar[str] = ""
    watches: ClassVar[tuple[str, ...]] = subjects.KINDS
    """The kinds of members that its view shows."""

    def __init__(self, config: ServiceConfig, data: Bus, control: Bus) -> None:
        super().__init__(config, data, control)
        self.view = PodView(control, self.pod, interval=config.heartbeat, kinds=self.watches)
        self.view.neighbours.introduce(data)
        who = {"pod": self.pod, "member": self.member, "kind": self.member_kind}
        self.registry.register(ToldMetrics(self.member_kind, lambda: self.told, who))
        ProcessCollector(registry=self.registry)

    def told_load(self) -> dict[str, Value]:
        return {**self.load(), "suspected": self.view.suspected, "declared_down": self.view.declared_down}

    async def open_view(self, *, model: str = "", fingerprint: str = "") -> None:
        """Begin to watch the pod; members of another model or other numerics are not used."""
        self.view.expect(model, fingerprint)
        await self.view.start()
        self.tree.add(ChildSpec("view", self.view.watch))
        self.tree.add(ChildSpec("departures", self.view.watch_departures))

    async def follow_experts(
        self, experts: int, moe_layers: tuple[int, ...], sort: Sort = sort_pairs, few: int = 0
    ) -> ExpertDirectory:
        """Keep a directory of who holds which expert; call it before `open_view`."""
        assert "expert" in self.watches, "who is not watched is not trusted"
        turn = zlib.crc32(self.member.encode())
        directory = ExpertDirectory(experts, moe_layers, self.view.trusts, sort, few=few, turn=turn)
        loop = asyncio.get_running_loop()

        def doubt(shard: str) -> None:
            loop.call_soon_threadsafe(self.view.doubt, shard)

        directory.doubt = doubt
        self.view.listen(directory.on_member)
        await self.listen(subjects.holdings(self.pod), control=True, handler=directory.on_holdings)
        return directory

    def open_line(self) -> Line:
        """A way to the bus for the thread that computes."""
        if isinstance(self.data, NatsBus):
            frames = frames_of(self.config)
            if frames is not None:
                self.view.neighbours.introduce(frames)
            line, bus = self._nats_line(frames), self.data
            bus.on_disconnect(lambda: line.leave(bus.server))
            return line
        return BusLine(self.data)

    def _nats_line(self, frames: Frames | None) -> NatsLine:
        name, credentials = f"{self.member}.line", credentials_of(self.config)
        return NatsLine(self.config.nats_urls, name, frames=frames, credentials=credentials)

    def permanent(self, name: str, start: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `start` (a coroutine function) for as long as the member lives."""
        self.tree.add(ChildSpec(name, start))

    def refuse_when_draining(self) -> None:
        """Raises Draining once the member has been asked to leave."""
        if self.state not in ("up", "starting"):
            raise Draining(f"{self.member} is leaving")


def now() -> float:
    """The clock of deadlines and silences, in seconds."""
    return time.monotonic()
