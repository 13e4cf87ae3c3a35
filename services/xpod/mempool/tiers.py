"""Where a MemPool node keeps its blocks: in memory, and what memory has no room for on disk.

A block is in one of the two. One that is asked for moves to memory, so that the disk's oldest is what nobody wanted.
Knows nothing of messages.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xpod.mempool.buffers import Buffers
from xpod.mempool.disk import Disk
from xpod_policy.block_store import BlockStore
from xpod_proto.tensor import Buffer

_HEAD = struct.Struct("<II")  # tokens, checksum


@dataclass(frozen=True, slots=True)
class Stored:
    """A block."""

    tokens: int
    checksum: int
    data: Buffer

    @property
    def nbytes(self) -> int:
        return len(self.data)

    @property
    def sound(self) -> bool:
        return zlib.crc32(self.data) == self.checksum

    def pieces(self) -> tuple[bytes, Buffer]:
        """What a file holds of it, in two pieces, because a copy to join them costs as much as to write them."""
        return _HEAD.pack(self.tokens, self.checksum), self.data

    @classmethod
    def from_bytes(cls, raw: bytes) -> Stored | None:
        """None for what is no whole, sound block."""
        if len(raw) < _HEAD.size:
            return None
        tokens, checksum = _HEAD.unpack_from(raw)
        block = cls(tokens, checksum, raw[_HEAD.size :])
        return block if block.sound else None


@dataclass(frozen=True, slots=True)
class _Kept(Stored):
    """In memory that will be used again."""

    data: bytearray

    def copy(self) -> Stored:
        return Stored(self.tokens, self.checksum, bytes(self.data))


class Tiers:
    """At most `memory_bytes` of blocks in memory and `disk_bytes` in a file in `directory`.

    What goes in and what comes out is copied: the memory of a block that left is soon another's.
    """

    def __init__(self, memory_bytes: int, disk_bytes: int, directory: Path) -> None:
        self._memory: BlockStore[_Kept] = BlockStore(memory_bytes)
        self._buffers = Buffers()
        self._disk = Disk(directory, disk_bytes)
        self._disk_hits = 0

    def counts(self) -> dict[str, int]:
        memory, disk = self._memory, self._disk.log
        return {
            "blocks": len(memory) + len(disk),
            "bytes": memory.used,
            "budget": memory.budget,
            "disk_bytes": disk.used,
            "disk_budget": disk.budget,
            "hits": memory.hits + self._disk_hits,
            "misses": memory.misses - self._disk_hits,
            "evictions": memory.evictions,
        }

    async def put(self, blocks: Mapping[bytes, Stored]) -> None:
        """Keep them; what leaves memory for them is on disk once this returns."""
        leaving: dict[bytes, _Kept] = {}
        for name, block in blocks.items():
            if name not in self._disk and not self._memory.touch(name):
                kept = _Kept(block.tokens, block.checksum, self._buffers.filled(block.data))
                leaving |= self._memory.put(name, kept)
        if leaving:
            await self._disk.write({name: block.pieces() for name, block in leaving.items()})
        for left in leaving.values():
            self._buffers.give_back(left.data)

    async def get(self, names: Sequence[bytes]) -> dict[bytes, Stored]:
        """Those that are here, in the order of `names`."""
        kept = {name: self._memory.get(name) for name in names}
        found = {name: None if block is None else block.copy() for name, block in kept.items()}
        raw = await self._disk.take([name for name, block in found.items() if block is None])
        read = {name: block for name, data in raw.items() if (block := Stored.from_bytes(data)) is not None}
        self._disk_hits += len(read)
        await self.put(read)
        return {name: block for name in found if (block := found[name] or read.get(name)) is not None}

    def present(self, names: Iterable[bytes]) -> list[bool]:
        """Which of these are here, without touching their order."""
        names = list(names)
        return [a or name in self._disk for name, a in zip(names, self._memory.present(names), strict=True)]

    def close(self) -> None:
        self._disk.close()
