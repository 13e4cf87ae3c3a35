"""A MemPool node: KV blocks by name, in memory, under a byte budget.

A block whose checksum is wrong is refused on the way in and never given out; a name that is not here is a miss.
Who keeps which block is decided by those who ask (rendezvous hashing), so nodes need not know one another.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from xpod.common.service import Service
from xpod_policy.block_store import BlockStore
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

    mempool_bytes: Annotated[int, Field(ge=0, description="bytes of blocks kept in memory")] = 1 << 30


@dataclass(frozen=True, slots=True)
class Stored:
    """A block of its own: not a view into the message that brought it."""

    tokens: int
    checksum: int
    data: bytes

    @property
    def nbytes(self) -> int:
        return len(self.data)


class MemPool(Service):
    """Store, fetch, match: each batched and idempotent."""

    kind = "mempool"
    config: MemPoolConfig

    def __init__(self, config: MemPoolConfig, data: Bus, control: Bus) -> None:
        super().__init__(config, data, control)
        self._store: BlockStore[Stored] = BlockStore(config.mempool_bytes)

    def load(self) -> dict[str, Value]:
        store = self._store
        return {
            "blocks": len(store),
            "bytes": store.used,
            "budget": store.budget,
            "hits": store.hits,
            "misses": store.misses,
            "evictions": store.evictions,
        }

    @handles(StoreBlocks)
    async def on_store(self, message: StoreBlocks) -> Message:
        for block in message.blocks:
            if zlib.crc32(block.data.data) != block.checksum:
                raise Corrupt(f"block {block.name.hex()} arrived damaged")
        for block in message.blocks:
            self._store.put(block.name, Stored(block.tokens, block.checksum, bytes(block.data.data)))
        return Ack()

    @handles(FetchBlocks)
    async def on_fetch(self, message: FetchBlocks) -> Message:
        found = []
        for name in message.names:
            stored = self._store.get(name)
            if stored is not None:
                data = Tensor("u8", (stored.nbytes,), stored.data)
                found.append(BlockData(name, stored.tokens, stored.checksum, data))
        return FetchedBlocks(tuple(found))

    @handles(MatchBlocks)
    async def on_match(self, message: MatchBlocks) -> Message:
        return MatchedBlocks(tuple(self._store.present(message.names)))
