"""Giving blocks to other MemPool nodes.

What is sent is read as if nobody had asked for it. Does not know why somebody should have a block.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from xpod.mempool.batches import MESSAGE_BYTES, messages
from xpod.mempool.stored import Stored
from xpod.mempool.tiers import Tiers
from xpod_proto import (
    BlockFlags,
    BlockPart,
    FillBlocks,
    MatchBlocks,
    MatchedBlocks,
    Message,
    StoreBlocks,
    Tensor,
)
from xpod_runtime.errors import XpodError

MATCH_NAMES = 1 << 12
TIMEOUT = 5.0
Ask = Callable[[str, Message, float], Awaitable[Message]]
"""Asks the node of that name, for at most so many seconds. Raises XpodError."""
Pacing = Callable[[int], Awaitable[None]]
"""Returns when so many bytes may be sent."""


class Unexpected(XpodError):
    """A node answers something else than what it was asked."""

    code = "unexpected_answer"


async def at_once(size: int) -> None:
    """No pacing."""


class Peers:
    """All methods raise XpodError where the other node does not do what it is asked."""

    def __init__(self, ask: Ask, tiers: Tiers) -> None:
        self._ask = ask
        self._tiers = tiers
        self.sent_bytes = 0
        self.given = 0
        """Blocks that others stored, as they had not yet."""

    async def lacking(self, node: str, names: Sequence[bytes]) -> list[bytes]:
        """Those of `names` that the node has not."""
        missing: list[bytes] = []
        for start in range(0, len(names), MATCH_NAMES):
            part = tuple(names[start : start + MATCH_NAMES])
            answer = await self._ask(node, MatchBlocks(part), TIMEOUT)
            if not isinstance(answer, MatchedBlocks) or len(answer.present) != len(part):
                raise Unexpected(f"{node} does not say which blocks it has")
            missing += [name for name, there in zip(part, answer.present, strict=True) if not there]
        return missing

    async def give(self, node: str, names: Sequence[bytes], pacing: Pacing = at_once) -> set[bytes]:
        """Have the node store what it lacks of those that are here; which of `names` has it now?"""
        lacked = await self.lacking(node, names)
        for batch in messages(self._tiers.sizes(lacked)):
            blocks = await self._tiers.read(batch)
            size = sum(block.nbytes for block in blocks.values())
            await pacing(size)
            if blocks:
                message = StoreBlocks(tuple(block.message(name) for name, block in blocks.items()))
                await self._ask(node, message, TIMEOUT)
                self.given += len(blocks)
                self.sent_bytes += size
        return set(names).difference(await self.lacking(node, lacked))

    async def fill(self, node: str, names: Sequence[bytes]) -> set[bytes]:
        """Fill the room that the node made for these; of which has it all bytes now?"""
        filled: set[bytes] = set()
        for batch in messages(self._tiers.sizes(names)):
            blocks = await self._tiers.read(batch)
            parts = [part for name, block in blocks.items() for part in _parts(name, block)]
            refused = {part.name for part in parts if not await self._fill(node, part)}
            filled |= blocks.keys() - refused
        return filled

    async def _fill(self, node: str, part: BlockPart) -> bool:
        answer = await self._ask(node, FillBlocks((part,)), TIMEOUT)
        if not isinstance(answer, BlockFlags) or len(answer.flags) != 1:
            raise Unexpected(f"{node} does not say what it took")
        self.sent_bytes += part.data.shape[0]
        return answer.flags[0]


def _parts(name: bytes, block: Stored) -> list[BlockPart]:
    data = memoryview(block.data)
    starts = range(0, len(data), MESSAGE_BYTES)
    return [
        BlockPart(name, start, Tensor("u8", (len(piece),), piece))
        for start in starts
        for piece in (data[start : start + MESSAGE_BYTES],)
    ]
