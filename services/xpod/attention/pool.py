"""The workers' way to MemPool: load a known prefix, store new blocks.

Everything here is soft state: a block that cannot be had is computed again, a block that cannot be stored is
somebody's later miss. So nothing raises for a dead node; results say what was found.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog

from xpod_policy.blocks import BlockRef
from xpod_policy.rendezvous import replicas
from xpod_proto import Ack, BlockData, FetchBlocks, FetchedBlocks, Message, StoreBlocks, Tensor
from xpod_proto.tensor import Buffer
from xpod_runtime.errors import XpodError

log = structlog.get_logger(__name__)
MESSAGE_BYTES = 1 << 20
Ask = Callable[[str, Message, float], Awaitable[Message]]
"""Asks the node of that name, for at most so many seconds. Raises XpodError."""


class PoolClient:
    """Talks to the nodes that `nodes()` names, by `ask`; `copies` nodes keep each block."""

    def __init__(
        self, ask: Ask, nodes: Callable[[], Sequence[str]], *, copies: int = 2, timeout: float = 5.0
    ) -> None:
        self._ask = ask
        self._nodes = nodes
        self._copies = copies
        self._timeout = timeout

    async def load(self, refs: Sequence[BlockRef]) -> dict[bytes, BlockData]:
        """Those of `refs` that the pool has: each from its first node, or from the next where that has it not."""
        found: dict[bytes, BlockData] = {}
        homes = {ref.name: replicas(ref.name, self._nodes(), self._copies) for ref in refs}
        for choice in range(self._copies):
            groups: dict[str, list[bytes]] = defaultdict(list)
            for name, nodes in homes.items():
                if name not in found and choice < len(nodes):
                    groups[nodes[choice]].append(name)
            for blocks in await asyncio.gather(*(self._fetch(node, names) for node, names in groups.items())):
                found.update((block.name, block) for block in blocks)
        return found

    async def _fetch(self, node: str, names: list[bytes]) -> list[BlockData]:
        reply = await self._request(node, FetchBlocks(tuple(names)))
        blocks = reply.blocks if isinstance(reply, FetchedBlocks) else ()
        sound = [block for block in blocks if zlib.crc32(block.data.data) == block.checksum]
        if len(sound) < len(blocks):
            log.error("corrupt blocks from the pool", node=node, count=len(blocks) - len(sound))
        return sound

    async def store(self, blocks: Iterable[BlockData]) -> None:
        """Store each block on its nodes; returns once all have answered or failed."""
        groups: dict[str, list[BlockData]] = defaultdict(list)
        for block in blocks:
            for node in replicas(block.name, self._nodes(), self._copies):
                groups[node].append(block)
        await asyncio.gather(*(self._store(node, part) for node, part in groups.items()))

    async def _store(self, node: str, blocks: list[BlockData]) -> None:
        batch: list[BlockData] = []
        size = 0
        for block in blocks:
            if batch and size + len(block.data.data) > MESSAGE_BYTES:
                await self._request(node, StoreBlocks(tuple(batch)))
                batch, size = [], 0
            batch.append(block)
            size += len(block.data.data)
        await self._request(node, StoreBlocks(tuple(batch)))

    async def _request(self, node: str, message: FetchBlocks | StoreBlocks) -> Ack | FetchedBlocks | None:
        try:
            reply = await self._ask(node, message, self._timeout)
        except XpodError as error:
            log.warning("mempool node did not answer", node=node, code=error.code, error=str(error))
            return None
        return reply if isinstance(reply, Ack | FetchedBlocks) else None


def block_data(ref: BlockRef, data: Buffer) -> BlockData:
    """The wire form of a block: `data` is all layers' KV of the block's tokens."""
    return BlockData(ref.name, ref.tokens, zlib.crc32(data), Tensor("u8", (len(data),), data))
