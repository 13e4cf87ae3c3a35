"""A MemPool node: KV blocks by name, in memory and on disk, under a budget of bytes for each.

A block whose checksum is wrong is refused on the way in and never given out; a name that is not here is a miss. Clients
store and fetch at a block's homes; nodes see to it among themselves that all homes have it when nodes come and go.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from typing import Annotated

from pydantic import Field

from xpod.common.block_news import BlockNews
from xpod.common.service import Service
from xpod.mempool.allocation import Allocation
from xpod.mempool.checks import Broken, check
from xpod.mempool.peers import Peers
from xpod.mempool.replication import Replication
from xpod.mempool.stored import BadBlock, check_names, from_message
from xpod.mempool.tiers import Tiers
from xpod.mempool.traced import traced
from xpod_policy.membership import Change
from xpod_proto import (
    Ack,
    AllocBlocks,
    BlockFlags,
    DeleteBlocks,
    FetchBlocks,
    FetchedBlocks,
    FillBlocks,
    FreeBlocks,
    InsertBlocks,
    ListBlocks,
    MatchBlocks,
    MatchedBlocks,
    Message,
    StoreBlocks,
    SwapIn,
    SwapOut,
    TransferBlocks,
)
from xpod_proto.messages import Value
from xpod_proto.rights import WATCHES
from xpod_runtime import span_names as names
from xpod_runtime.bus import Bus
from xpod_runtime.config import TOKEN, ServiceConfig
from xpod_runtime.errors import XpodError
from xpod_runtime.handlers import handles

EXPIRE_SECONDS = 1.0
CHECK_EVERY = 30
MOST_CHECKED = 20_000
"""Blocks; it takes a microsecond or two for each, and nothing else is done meanwhile."""


class MemPoolConfig(ServiceConfig):
    kind = "mempool"

    mempool_bytes: Annotated[int, Field(ge=0, description="bytes of blocks kept in memory")] = 64 << 20
    mempool_disk_bytes: Annotated[int, Field(ge=0, description="bytes of blocks kept on disk")] = 1 << 30
    mempool_copy_bytes: Annotated[
        int, Field(gt=0, description="bytes a second that go to other nodes when nodes come and go")
    ] = 64 << 20


class MemPool(Service):
    """MemServe's calls, each batched and idempotent."""

    kind = "mempool"
    watches = WATCHES["mempool"]
    config: MemPoolConfig

    def __init__(self, config: MemPoolConfig, data: Bus, control: Bus) -> None:
        super().__init__(config, data, control)
        self.tiers = Tiers(config.mempool_bytes, config.mempool_disk_bytes, config.data / "blocks")
        self.allocation = Allocation(self.tiers)
        self.peers, self.copying = Peers(self._ask, self.tiers), Peers(self._ask, self.tiers)
        """For whoever asks for a transfer, and for what nodes do by themselves."""
        self.replication = Replication(
            self.member, self.tiers, self.copying, nodes=self._nodes, rate=config.mempool_copy_bytes
        )
        self.news = BlockNews(
            control, self.pod, member=self.member, incarnation=self.incarnation, names=self.tiers.names
        )
        self.tiers.observer = self
        self._received_bytes = self._sent_bytes = self._transfers = self._failures = 0

    # -- life ---------------------------------------------------------------------------------------------

    async def setup(self) -> None:
        await self.tiers.open()
        self.permanent("news", self.news.watch)
        self.permanent("replication", self.replication.run)
        self.permanent("upkeep", self._look_after)
        self.view.listen(self._on_member)
        await self.open_view()
        self.replication.changed()

    async def drain(self) -> None:
        await self.tiers.keep()

    async def teardown(self) -> None:
        self.tiers.close()

    def load(self) -> dict[str, Value]:
        return {
            **self.tiers.counts(),
            "received_bytes": self._received_bytes,
            "sent_bytes": self._sent_bytes + self.peers.sent_bytes + self.copying.sent_bytes,
            "transfers": self._transfers,
            "copied": self.copying.given,
            "lag": self.replication.lag,
            "kv_sequence": self.news.sequence,
            "invariant_failures": self._failures,
        }

    async def clear(self) -> None:
        """Forget everything."""
        self.allocation.free(list(self.allocation.rooms))
        await self.tiers.clear()

    def check(self) -> None:
        """Raises Broken where the node's books are wrong."""
        check(self.tiers, self.allocation)

    def added(self, name: bytes) -> None:
        """As the tiers' observer."""
        self.news.added(name)
        self.replication.added(name)

    def removed(self, name: bytes) -> None:
        """As the tiers' observer."""
        self.news.removed(name)

    # -- calls --------------------------------------------------------------------------------------------

    @handles(StoreBlocks)
    @traced(names.POOL_STORE)
    async def on_store(self, message: StoreBlocks) -> Message:
        blocks = {block.name: from_message(block) for block in message.blocks}
        self._received_bytes += sum(block.nbytes for block in blocks.values())
        await self.tiers.put(blocks)
        return Ack()

    @handles(FetchBlocks)
    @traced(names.POOL_FETCH)
    async def on_fetch(self, message: FetchBlocks) -> Message:
        check_names(message.names)
        found = await self.tiers.get(message.names, message.lease)
        self._sent_bytes += sum(block.nbytes for block in found.values())
        return FetchedBlocks(tuple(block.message(name) for name, block in found.items()))

    @handles(MatchBlocks)
    @traced(names.POOL_MATCH)
    async def on_match(self, message: MatchBlocks) -> Message:
        check_names(message.names)
        return MatchedBlocks(tuple(self.tiers.match(message.names, message.lease)))

    @handles(AllocBlocks)
    @traced(names.POOL_ALLOC)
    async def on_alloc(self, message: AllocBlocks) -> Message:
        return BlockFlags(tuple(await self.allocation.alloc(message.blocks, message.lease)))

    @handles(FillBlocks)
    @traced(names.POOL_FILL)
    async def on_fill(self, message: FillBlocks) -> Message:
        flags = self.allocation.fill(message.parts)
        self._received_bytes += sum(len(memoryview(part.data.data).cast("B")) for part in message.parts)
        return BlockFlags(tuple(flags))

    @handles(InsertBlocks)
    @traced(names.POOL_INSERT)
    async def on_insert(self, message: InsertBlocks) -> Message:
        return BlockFlags(tuple(self.allocation.insert(message.names, message.checksums)))

    @handles(FreeBlocks)
    async def on_free(self, message: FreeBlocks) -> Message:
        check_names(message.names)
        self.allocation.free(message.names)
        self.tiers.free(message.names)
        return Ack()

    @handles(DeleteBlocks)
    async def on_delete(self, message: DeleteBlocks) -> Message:
        check_names(message.names)
        return BlockFlags(tuple(self.tiers.delete(message.names)))

    @handles(SwapOut)
    async def on_swap_out(self, message: SwapOut) -> Message:
        check_names(message.names)
        return BlockFlags(tuple(await self.tiers.swap_out(message.names)))

    @handles(SwapIn)
    async def on_swap_in(self, message: SwapIn) -> Message:
        check_names(message.names)
        return BlockFlags(tuple(await self.tiers.swap_in(message.names)))

    @handles(TransferBlocks)
    async def on_transfer(self, message: TransferBlocks) -> Message:
        check_names(message.names)
        if not re.fullmatch(TOKEN, message.to):
            raise BadBlock(f"not a node's name: {message.to!r}")
        there = await self._transfer(message)
        self._transfers += len(there)
        return BlockFlags(tuple(name in there for name in message.names))

    @handles(ListBlocks)
    async def on_list(self, message: ListBlocks) -> Message:
        return self.news.listing()

    # -- inside -------------------------------------------------------------------------------------------

    async def _transfer(self, message: TransferBlocks) -> set[bytes]:
        """Which of the names the other node has now; a node that does not answer has none."""
        if message.to == self.member:
            return {name for name in message.names if name in self.tiers}
        send = self.peers.give if message.insert else self.peers.fill
        try:
            return await send(message.to, message.names)
        except XpodError as error:
            self.log.warning("transfer failed", to=message.to, code=error.code, error=str(error))
            return set()

    async def _ask(self, node: str, message: Message, timeout: float) -> Message:
        return await self.view.request(self.data, "mempool", node, message, timeout=timeout)

    def _nodes(self) -> dict[str, str]:
        """Incarnations of those that keep blocks: one that is only suspected does."""
        members = self.view.table.of_kind("mempool")
        there = {m.name: m.incarnation for m in members if m.state in ("up", "suspect")}
        return {**there, self.member: self.incarnation}

    async def _on_member(self, change: Change) -> None:
        self.replication.changed()

    async def _look_after(self) -> None:
        """End what has lasted its time; now and then, see whether the books agree."""
        for turn in itertools.count(1):
            await asyncio.sleep(EXPIRE_SECONDS)
            self.tiers.expire()
            self.allocation.expire()
            if turn % CHECK_EVERY == 0 and self.mailbox.running == 0 and len(self.tiers) <= MOST_CHECKED:
                try:
                    self.check()
                except Broken:
                    self._failures += 1
                    self.log.exception("the node's books are wrong")
