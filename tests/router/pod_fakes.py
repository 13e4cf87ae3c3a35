"""Members that say what a test wants them to, on a bus in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from xpod.common.view import PodView
from xpod_proto import (
    PROTOCOL_VERSION,
    BlockList,
    BlocksChanged,
    Down,
    Heartbeat,
    Hello,
    ListBlocks,
    Message,
    subjects,
)
from xpod_proto.messages import Value
from xpod_runtime.handlers import Unhandled
from xpod_runtime.local_bus import LocalBus, LocalFabric
from xpod_runtime.testing import LIMIT

POD = "pod"


class FakeMember:
    """A member of any kind, which has `blocks` and tells of them; where it is not `able`, it refuses to list them."""

    def __init__(self, fabric: LocalFabric, kind: str, name: str, **detail: Value) -> None:
        self.kind, self.name, self.detail = kind, name, detail
        self.incarnation = "i0"
        self.blocks: set[bytes] = set()
        self.sequence = 0
        self.able = True
        self.asked = 0
        self._bus = LocalBus(fabric, name)

    async def open(self) -> None:
        """Listen, and say hello."""
        await self._bus.subscribe(subjects.mailbox(POD, self.kind, self.name), self._on_message)
        await self.hello()

    async def hello(self, state: str = "up") -> None:
        said = Hello(
            self.name, self.kind, self.incarnation, 1, "h", PROTOCOL_VERSION, "", state, 0.0, self.detail
        )
        await self._bus.publish(subjects.hello(POD), said)

    async def heartbeat(self, **load: Value) -> None:
        said = Heartbeat(self.name, self.kind, self.incarnation, 1, "up", load)
        await self._bus.publish(subjects.heartbeat(POD, self.kind), said)

    async def leave(self) -> None:
        await self._bus.publish(subjects.down(POD), Down(self.name, self.incarnation, "left"))

    def restart(self, blocks: Iterable[bytes] = ()) -> None:
        """Another process under the same name."""
        self.incarnation = f"i{int(self.incarnation[1:]) + 1}"
        self.blocks, self.sequence = set(blocks), 0

    async def change(self, added: Iterable[bytes] = (), removed: Iterable[bytes] = ()) -> None:
        """Have these and not those, and tell."""
        came, went = set(added) - self.blocks, set(removed) & self.blocks
        self.blocks = (self.blocks | came) - went
        self.sequence += 1
        event = BlocksChanged(
            self.name, self.incarnation, self.sequence, b"".join(sorted(came)), b"".join(sorted(went))
        )
        await self._bus.publish(subjects.kv(POD), event)

    async def _on_message(self, message: Message) -> Message:
        if not isinstance(message, ListBlocks):
            return await self.answer(message)
        self.asked += 1
        if not self.able:
            raise Unhandled("what is that?")
        return BlockList(self.name, self.incarnation, self.sequence, b"".join(sorted(self.blocks)))

    async def answer(self, message: Message) -> Message:
        """What it says to anything else."""
        raise Unhandled("what is that?")


async def seen(view: PodView, name: str, state: str = "up", incarnation: str = "") -> None:
    """Returns once the view has the member in that state."""
    async with asyncio.timeout(LIMIT):
        while True:
            member = view.table.members.get(name)
            if member and member.state == state and member.incarnation.startswith(incarnation):
                return
            await view.changed(0.05)
