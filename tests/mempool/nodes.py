"""MemPool nodes on a bus in memory, and somebody who asks them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from mempool.blocks import block, name
from xpod.mempool.node import MemPool, MemPoolConfig
from xpod_policy.duties import homes
from xpod_proto import BlockList, BlocksChanged, ListBlocks, Message, subjects
from xpod_runtime.local_bus import LocalBus, LocalFabric

M = TypeVar("M", bound=Message)
LIMIT = 10.0


class Pool:
    """Nodes by name, with directories that outlive them; `heard` has every event."""

    def __init__(self, folder: Path, fabric: LocalFabric) -> None:
        self.folder, self.fabric = folder, fabric
        self.nodes: dict[str, MemPool] = {}
        self.client = LocalBus(fabric, "client")
        self.heard: list[BlocksChanged] = []
        self._buses: dict[str, list[LocalBus]] = {}
        self._news = asyncio.Condition()

    async def begin(self, *members: str, **options: object) -> None:
        """Start these nodes, and wait until all know of one another."""
        await asyncio.gather(*(self._begin(member, **options) for member in members))
        await self.until(self._acquainted)

    async def _begin(self, member: str, **options: object) -> None:
        config = MemPoolConfig.model_validate(
            {"id": member, "pod": "test", "heartbeat": 0.05, "data": self.folder / member, **options}
        )
        buses = [LocalBus(self.fabric, f"{member}{tail}") for tail in ("", ".control")]
        node = self.nodes[member] = MemPool(config, *buses)
        self._buses[member] = buses
        await node.start()

    async def crash(self, member: str) -> None:
        """It is gone without a word."""
        node = self.nodes.pop(member)
        for bus in self._buses.pop(member):
            await bus.close()
        node.tree.stop()
        await node.teardown()

    async def stop(self, member: str) -> None:
        """As after SIGTERM."""
        await self.nodes.pop(member).stop()
        for bus in self._buses.pop(member):
            await bus.close()

    async def ask(self, member: str, message: Message, answer: type[M], timeout: float = LIMIT) -> M:
        subject = subjects.mailbox("test", "mempool", member)
        said = await self.client.request(subject, message, timeout=timeout)
        assert isinstance(said, answer)
        return said

    async def listing(self, member: str) -> set[bytes]:
        return names_in((await self.ask(member, ListBlocks("client"), BlockList)).names)

    async def listen(self) -> None:
        await self.client.subscribe(subjects.kv("test"), self._on_event)

    async def _on_event(self, message: Message) -> None:
        if isinstance(message, BlocksChanged):
            self.heard.append(message)
            async with self._news:
                self._news.notify_all()

    async def until_heard(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT), self._news:
            await self._news.wait_for(condition)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns once it holds; somebody's heartbeat wakes us up."""
        view = next(iter(self.nodes.values())).view
        async with asyncio.timeout(LIMIT):
            while not condition():
                await view.changed(0.05)

    async def until_whole(self) -> None:
        """Returns once nobody has anything left to copy, and all have been told what changed."""
        await self.until(lambda: self._acquainted() and all(self._idle(node) for node in self.nodes.values()))

    def holders(self, number: int) -> set[str]:
        return {member for member, node in self.nodes.items() if name(number) in node.tiers}

    def at_home(self, number: int) -> bool:
        return self.holders(number) == set(homes(name(number), self.nodes))

    async def contents_are_right(self) -> None:
        """What the nodes have are those blocks of `block` that they are named after."""
        known = {name(number): block(number) for number in range(2000)}
        for node in self.nodes.values():
            node.check()
            held = await node.tiers.read(list(node.tiers.names()))
            assert all(each == known[one] for one, each in held.items())

    def _acquainted(self) -> bool:
        incarnations = {member: node.incarnation for member, node in self.nodes.items()}
        return all(node._nodes() == incarnations for node in self.nodes.values())

    def _idle(self, node: MemPool) -> bool:
        return node.replication.lag == 0 and not node.replication._changed


def names_in(raw: bytes) -> set[bytes]:
    assert len(raw) % 16 == 0
    return {raw[start : start + 16] for start in range(0, len(raw), 16)}


@asynccontextmanager
async def pool(
    folder: Path, *members: str, fabric: LocalFabric | None = None, **options: object
) -> AsyncIterator[Pool]:
    made = Pool(folder, fabric or LocalFabric())
    try:
        await made.begin(*members, **options)
        yield made
        for node in made.nodes.values():
            node.check()
    finally:
        for member in list(made.nodes):
            await made.crash(member)
        await made.client.close()
