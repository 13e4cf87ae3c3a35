"""The parts of blocks as they come, and who waits for them.

They are kept until nobody needs them, so that a block can be put together. Knows neither where they come from nor
where they go; to be used on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from xpod_proto import BlockData, BlockPart, NewBlock, Tensor


class Parts:
    """Of `blocks`: they grow together, each by its next bytes, until they are whole or given up."""

    def __init__(self, blocks: Sequence[NewBlock]) -> None:
        self._blocks = {block.name: block for block in blocks}
        self._parts: list[BlockPart] = []
        self._checksums: dict[bytes, int] = {}
        self._news = asyncio.Event()
        self.given_up = False

    @property
    def whole(self) -> bool:
        return bool(self._checksums)

    def add(self, parts: Sequence[BlockPart]) -> None:
        """The next bytes of each block."""
        self._parts += parts
        self._tell()

    def close(self, checksums: Sequence[int]) -> None:
        """That was all; the whole blocks have these checksums, in their order."""
        self._checksums = dict(zip(self._blocks, checksums, strict=True))
        self._tell()

    def give_up(self) -> None:
        """What is not whole by now will not become so."""
        if not self.whole:
            self.given_up = True
            self._parts.clear()
            self._tell()

    def clear(self) -> None:
        """Nobody needs them any more."""
        self._parts.clear()

    async def behind(self, seen: int) -> list[BlockPart]:
        """The parts behind the first `seen`, once there are some; none: there are no more."""
        while len(self._parts) <= seen and not (self.whole or self.given_up):
            await self._news.wait()
        return self._parts[seen:]

    async def ended(self) -> None:
        """Returns once they are whole or given up."""
        while not (self.whole or self.given_up):
            await self._news.wait()

    def checksum(self, name: bytes) -> int:
        """Of a whole block."""
        return self._checksums[name]

    def block(self, name: bytes) -> BlockData:
        """A whole block, put together."""
        data = b"".join(part.data.data for part in self._parts if part.name == name)
        tensor = Tensor("u8", (len(data),), data)
        return BlockData(name, self._blocks[name].tokens, self._checksums[name], tensor)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
