"""A MemPool node: KV blocks by name, in memory and then on disk, under a budget of bytes for each.

A block whose checksum is wrong is refused on the way in and never given out; a name that is not here is a miss.
Who keeps which block is decided by those who ask (rendezvous hashing), so nodes need not know one another.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from xpod.common.service import Service
from xpod.mempool.tiers import Stored, Tiers
from xpod_proto import (
    Ack,
    BlockData,
    FetchBlocks,
    FetchedBlocks,
    MatchBlocks,
    MatchedBlocks,
    Message,
    StoreBlocks,
    Tensor,
)
from xpod_proto.messages import Value
from xpod_runtime.bus import Bus
from xpod_runtime.config import ServiceConfig
from xpod_runtime.errors import XpodError
from xpod_runtime.handlers import handles


class Corrupt(XpodError):
    """A block's bytes do not match its checksum."""

    code = "corrupt_block"


class MemPoolConfig(ServiceConfig):
    kind = "mempool"

    mempool_bytes: Annotated[int, Field(ge=0, description="bytes of blocks kept in memory")] = 64 << 20
    mempool_disk_bytes: Annotated[int, Field(ge=0, description="bytes of blocks kept on disk")] = 1 << 30


class MemPool(Service):
    """Store, fetch, match: each batched and idempotent."""

    kind = "mempool"
    watches = ()
    config: MemPoolConfig

    def __init__(self, config: MemPoolConfig, data: Bus, control: Bus) -> None:
        super().__init__(config, data, control)
        self._tiers = Tiers(config.mempool_bytes, config.mempool_disk_bytes, config.data)

    async def teardown(self) -> None:
        self._tiers.close()

    def load(self) -> dict[str, Value]:
        return {**self._tiers.counts()}

    @handles(StoreBlocks)
    async def on_store(self, message: StoreBlocks) -> Message:
        blocks = {b.name: Stored(b.tokens, b.checksum, b.data.data) for b in message.blocks}
        for name, block in blocks.items():
            if not block.sound:
                raise Corrupt(f"block {name.hex()} arrived damaged")
        await self._tiers.put(blocks)
        return Ack()

    @handles(FetchBlocks)
    async def on_fetch(self, message: FetchBlocks) -> Message:
        found = (await self._tiers.get(message.names)).items()
        return FetchedBlocks(
            tuple(
                BlockData(name, block.tokens, block.checksum, Tensor("u8", (block.nbytes,), block.data))
                for name, block in found
            )
        )

    @handles(MatchBlocks)
    async def on_match(self, message: MatchBlocks) -> Message:
        return MatchedBlocks(tuple(self._tiers.present(message.names)))
