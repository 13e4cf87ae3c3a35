"""The workers' way to MemPool: load a known prefix, store new blocks.

Everything here is soft state: a block that cannot be had is computed again, a block that cannot be stored is
somebody's later miss. So nothing raises for a dead node; results say what was found. And nothing waits for a slow one
where another has the same: what is late is asked of the next (hedged: "The Tail at Scale", Dean and Barroso, 2013).
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import structlog

from xpod_policy.blocks import BlockRef
from xpod_policy.duties import COPIES
from xpod_policy.hedging import Latencies
from xpod_policy.rendezvous import ranked
from xpod_proto import (
    BlockData,
    BlockPart,
    FetchBlocks,
    FetchedBlocks,
    MatchBlocks,
    MatchedBlocks,
    Message,
    StoreBlocks,
    Tensor,
)
from xpod_proto.tensor import Buffer
from xpod_runtime.errors import XpodError

log = structlog.get_logger(__name__)
MESSAGE_BYTES = 1 << 20
BEHIND_BYTES = 32 << 20
"""Of blocks on their way to a node that does not answer; more are not sent to it."""
LEASE_SECONDS = 10.0
"""A session's blocks stay at least so long after somebody asked whether they are there."""
TIMEOUT_SECONDS, TIMEOUT_OF_BLOCK = 2.0, 0.02
"""For an answer: what nobody gave by then is quicker computed."""
R = TypeVar("R")
B = TypeVar("B", BlockData, BlockPart)
Ask = Callable[[str, Message, float], Awaitable[Message]]
"""Asks the node of that name, for at most so many seconds. Raises XpodError."""


class PoolClient:
    """Talks to the nodes that `nodes()` names, by `ask`; `copies` keep each block, `near` ones are read first."""

    def __init__(
        self,
        ask: Ask,
        nodes: Callable[[], Sequence[str]],
        *,
        near: Callable[[str], bool] = lambda node: False,
        copies: int = COPIES,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self._ask, self._nodes, self._near = ask, nodes, near
        self._copies, self._timeout = copies, timeout
        self._latencies = Latencies()
        self._behind: dict[str, int] = defaultdict(int)
        self._late: set[asyncio.Task[Any]] = set()

    def close(self) -> None:
        """Give up what is still on its way."""
        for task in self._late:
            task.cancel()

    def spawn(self, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Go on with it in the background, until it ends or `close` is called."""
        task = asyncio.create_task(work)
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        return task

    def homes(self, name: bytes) -> list[str]:
        """The nodes that keep a block, in the order in which they are read."""
        homes = ranked(name, self._nodes())[: self._copies]
        return sorted(homes, key=lambda node: not self._near(node))

    async def load(self, refs: Sequence[BlockRef]) -> dict[bytes, BlockData]:
        """Those of `refs` that the pool has."""
        homes = {ref.name: self.homes(ref.name) for ref in refs}
        found: dict[bytes, BlockData] = {}
        asking: dict[asyncio.Task[list[BlockData]], list[bytes]] = {}

        def ask(names: Iterable[bytes]) -> None:
            """Each of the next node that may have it."""
            groups: dict[str, list[bytes]] = defaultdict(list)
            for name in names:
                if name not in found and homes[name]:
                    groups[homes[name].pop(0)].append(name)
            for node, part in groups.items():
                asking[asyncio.create_task(self._fetch(node, part))] = part

        ask(homes)
        try:
            while asking:
                patience = min(self._latencies.patience(len(names)) for names in asking.values())
                done, late = await asyncio.wait(asking, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    found.update((block.name, block) for block in task.result())
                    ask(asking.pop(task))
                if not done:
                    ask([name for task in late for name in asking[task]])
                for task in [each for each, names in asking.items() if all(name in found for name in names)]:
                    task.cancel()
                    del asking[task]
        finally:
            for task in asking:
                task.cancel()
        return found

    async def _fetch(self, node: str, names: list[bytes]) -> list[BlockData]:
        began = time.monotonic()
        reply = await self.request(node, FetchBlocks(tuple(names)), len(names))
        if not isinstance(reply, FetchedBlocks):
            return []
        self._latencies.took(len(names), time.monotonic() - began)
        sound = [block for block in reply.blocks if zlib.crc32(block.data.data) == block.checksum]
        if len(sound) < len(reply.blocks):
            log.error("corrupt blocks from the pool", node=node, count=len(reply.blocks) - len(sound))
        return sound

    async def missing(self, refs: Sequence[BlockRef]) -> list[BlockRef]:
        """Those that no node has, as far as nodes answer; the others stay there for a while."""
        groups: dict[str, list[bytes]] = defaultdict(list)
        for ref in refs:
            for node in self.homes(ref.name):
                groups[node].append(ref.name)
        there: set[bytes] = set()
        answers = [asyncio.create_task(self._match(node, names)) for node, names in groups.items()]
        try:
            for answer in asyncio.as_completed(answers):
                there.update(await answer)
                if all(ref.name in there for ref in refs):
                    break
        finally:
            for task in answers:
                task.cancel()
        return [ref for ref in refs if ref.name not in there]

    async def _match(self, node: str, names: list[bytes]) -> list[bytes]:
        reply = await self.request(node, MatchBlocks(tuple(names), LEASE_SECONDS))
        present = reply.present if isinstance(reply, MatchedBlocks) else ()
        return [name for name, here in zip(names, present, strict=False) if here]

    async def store(self, blocks: Iterable[BlockData]) -> None:
        """Give each block to its nodes; returns once one of them has it, or all have failed. The rest goes on."""
        groups: dict[str, list[BlockData]] = defaultdict(list)
        for block in blocks:
            for node in self.homes(block.name):
                groups[node].append(block)
        wanted = {block.name for part in groups.values() for block in part}
        tasks = [self.spawn(self.give(node, part)) for node, part in groups.items()]
        for answer in asyncio.as_completed(tasks):
            wanted.difference_update(await answer)
            if not wanted:
                return

    async def give(self, node: str, blocks: list[BlockData]) -> list[bytes]:
        """Store these at one node; the names of those that it has now."""
        stored: list[bytes] = []
        with self.on_the_way(node, sum(len(block.data.data) for block in blocks)) as allowed:
            for batch in batches(blocks if allowed else []):
                if await self.request(node, StoreBlocks(tuple(batch)), len(batch)) is not None:
                    stored += [block.name for block in batch]
        return stored

    @contextmanager
    def on_the_way(self, node: str, size: int) -> Iterator[bool]:
        """So many bytes are sent to a node, and not answered yet. False: it is behind, send it none."""
        allowed = not self._behind[node] or self._behind[node] + size <= BEHIND_BYTES
        if not allowed:
            log.warning("blocks are not stored, the node is behind", node=node, bytes=size)
            size = 0
        self._behind[node] += size
        try:
            yield allowed
        finally:
            self._behind[node] -= size

    async def request(self, node: str, message: Message, blocks: int = 0) -> Message | None:
        """The node's answer to a message about so many blocks; None where it gives none."""
        try:
            return await self._ask(node, message, self._timeout + TIMEOUT_OF_BLOCK * blocks)
        except XpodError as error:
            log.warning("mempool node did not answer", node=node, code=error.code, error=str(error))
            return None


def batches(blocks: Iterable[B]) -> Iterator[list[B]]:
    """Runs of blocks, or parts of blocks, of about a message's size."""
    batch: list[B] = []
    size = 0
    for block in blocks:
        if batch and size + len(block.data.data) > MESSAGE_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(block)
        size += len(block.data.data)
    if batch:
        yield batch


def block_data(ref: BlockRef, data: Buffer) -> BlockData:
    """The wire form of a block: `data` is all layers' KV of the block's tokens."""
    return BlockData(ref.name, ref.tokens, zlib.crc32(data), Tensor("u8", (len(data),), data))
