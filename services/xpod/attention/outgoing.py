"""Blocks of a running step on their way to MemPool, part by part.

While the step computes its first layers, nodes make room for the blocks that it will fill; whenever a group of layers
is finished, their bytes follow; with the last ones the blocks become visible. One message a node and group takes all
blocks along, instead of one a layer and block (MemServe, 2406.17565, §5). Whatever goes wrong on this way, the parts
stay here until a node has the block, and are stored as a whole.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence

import structlog

from xpod.attention.parts import Parts
from xpod.attention.pool import PoolClient, batches
from xpod_proto import (
    AllocBlocks,
    BlockFlags,
    BlockPart,
    FillBlocks,
    FreeBlocks,
    InsertBlocks,
    Message,
    NewBlock,
)
from xpod_runtime.errors import XpodError

log = structlog.get_logger(__name__)
ROOM_SECONDS = 30.0
"""From one group of layers to the next at most; then a node gives the room up."""


class Silent(XpodError):
    """A node does not say what became of what it was sent."""

    code = "silent"


class Outgoing:
    """The outlet (see `departure`) for `blocks`, each of them once. To be made on the event loop."""

    def __init__(self, pool: PoolClient, blocks: Sequence[NewBlock]) -> None:
        self._pool, self._blocks = pool, blocks
        self._loop = asyncio.get_running_loop()
        self._parts = Parts(blocks)
        self._settled = {block.name: asyncio.Event() for block in blocks}
        pool.spawn(self._run())

    def add(self, parts: Sequence[BlockPart]) -> None:
        """The next bytes of each block. From any thread, as `close` and `give_up`."""
        self._loop.call_soon_threadsafe(self._parts.add, parts)

    def close(self, checksums: Sequence[int]) -> None:
        """That was all; the whole blocks have these checksums, in their order."""
        self._loop.call_soon_threadsafe(self._parts.close, checksums)

    def give_up(self) -> None:
        """The step failed: blocks that are not whole will not become so."""
        self._loop.call_soon_threadsafe(self._parts.give_up)

    async def stored(self, names: Iterable[bytes]) -> None:
        """Returns when one node has each of these, or all have failed; the rest goes on."""
        for name in names:
            await self._settled[name].wait()

    async def _run(self) -> None:
        try:
            await self._deliver()
        finally:
            for settled in self._settled.values():
                settled.set()
            self._parts.clear()

    async def _deliver(self) -> None:
        """To all nodes at once; then, what none of them has by then as a whole."""
        groups: dict[str, list[NewBlock]] = defaultdict(list)
        for block in self._blocks:
            for node in self._pool.homes(block.name):
                groups[node].append(block)
        deliveries = [Delivery(self._pool, node, blocks, self._parts) for node, blocks in groups.items()]
        for answer in asyncio.as_completed([self._pool.spawn(delivery.run()) for delivery in deliveries]):
            for name in await answer:
                self._settled[name].set()
        await self._parts.ended()
        lost = [name for name, settled in self._settled.items() if not settled.is_set()]
        if lost and self._parts.whole:
            await self._pool.store([self._parts.block(name) for name in lost])


class Delivery:
    """`blocks` to one of their nodes, their `parts` as they come."""

    def __init__(self, pool: PoolClient, node: str, blocks: Sequence[NewBlock], parts: Parts) -> None:
        self._pool, self._node, self._blocks, self._parts = pool, node, blocks, parts
        self._rooms: set[bytes] = set()
        """Names of those that have room at the node."""

    async def run(self) -> set[bytes]:
        """The names of those that the node has in the end. What it refuses in parts it gets as a whole."""
        with self._pool.on_the_way(self._node, sum(block.size for block in self._blocks)) as allowed:
            if not allowed:
                return set()
            try:
                there = await self._in_parts()
            except Silent as error:
                log.warning("blocks were not stored in parts", node=self._node, error=str(error))
                self._free(self._rooms)
                return set()
        lacking = {block.name for block in self._blocks} - there
        self._free(self._rooms & lacking)
        if lacking and self._parts.whole:
            there.update(await self._pool.give(self._node, [self._parts.block(name) for name in lacking]))
        return there

    async def _in_parts(self) -> set[bytes]:
        """Alloc, fill and insert; the names of those that the node has then. Raises Silent."""
        flags = await self._ask(AllocBlocks(tuple(self._blocks), ROOM_SECONDS), len(self._blocks))
        self._rooms = {block.name for block, room in zip(self._blocks, flags, strict=True) if room}
        seen = 0
        while parts := await self._parts.behind(seen):
            seen += len(parts)
            for batch in batches(part for part in parts if part.name in self._rooms):
                await self._ask(FillBlocks(tuple(batch)), len(batch))
        if not self._parts.whole:
            return set()
        # also those that had no room: most of them are there already
        names = tuple(block.name for block in self._blocks)
        flags = await self._ask(InsertBlocks(names, tuple(map(self._parts.checksum, names))), len(names))
        return {name for name, there in zip(names, flags, strict=True) if there}

    async def _ask(self, message: Message, count: int) -> tuple[bool, ...]:
        """The node's flags, of which there have to be `count`. Raises Silent."""
        reply = await self._pool.request(self._node, message, count)
        if not isinstance(reply, BlockFlags) or len(reply.flags) != count:
            raise Silent(f"{self._node} does not say what became of {type(message).__name__}")
        return reply.flags

    def _free(self, names: Iterable[bytes]) -> None:
        """Nobody waits for it: at the end of its lease a node gives room up by itself."""
        if unused := tuple(names):
            self._pool.spawn(self._pool.request(self._node, FreeBlocks(unused)))
