"""What moves between a node's memory and its disk, and how room is made.

A block is in one or both. What leaves memory is on disk before it is gone, and what is read from disk stays there, so
that a block that is here is found at every moment. Does not know what blocks are asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from xpod.mempool.batches import batches
from xpod.mempool.buffers import Buffers
from xpod.mempool.disk import Disk
from xpod.mempool.stored import Stored
from xpod_policy.block_store import BlockStore
from xpod_policy.leases import Leases

BATCH_SHARE = 8
"""An eighth of the memory makes room for newcomers at once."""


class Observer(Protocol):
    """Is told what comes and goes; a move between memory and disk is neither."""

    def added(self, name: bytes) -> None: ...

    def removed(self, name: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Kept(Stored):
    """In memory that will be used again."""

    data: bytearray


class Moves:
    """Memory and disk. What comes in is copied: the memory of a block that left is soon another's."""

    def __init__(
        self,
        memory_bytes: int,
        disk_bytes: int,
        directory: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.memory: BlockStore[Kept] = BlockStore(memory_bytes)
        self.leases = Leases()
        self.observer: Observer | None = None
        self.disk = Disk(directory, disk_bytes)
        self.disk.on_change = self._note
        self.clock = clock
        self.hits = self.misses = self.disk_hits = self.inserted = 0
        self._buffers = Buffers()
        self._here: set[bytes] = set()
        self._moving = asyncio.Lock()
        """Whoever makes room keeps it until the room is used."""

    def __len__(self) -> int:
        return len(self._here)

    def __contains__(self, name: bytes) -> bool:
        return name in self.memory or name in self.disk

    def names(self) -> set[bytes]:
        """All that is here."""
        return set(self._here)

    def expire(self) -> None:
        """Leases whose time is over end."""
        self.leases.expire(self.clock())

    async def _warm(self, blocks: Mapping[bytes, Stored]) -> None:
        """Bring into memory what was read from disk, unless it was deleted meanwhile."""
        await self._bring_in(blocks, lambda name: name in self.disk and name not in self.memory)

    async def _bring_in(self, blocks: Mapping[bytes, Stored], wanted: Callable[[bytes], bool]) -> None:
        most = self.memory.budget // BATCH_SHARE
        async with self._moving:
            sizes = {name: block.nbytes for name, block in blocks.items() if wanted(name)}
            for batch in batches(sizes, most):
                total = sum(sizes[name] for name in batch)
                for part in [batch] if await self._room(total) else [[name] for name in batch]:
                    room = await self._room(sum(sizes[name] for name in part))
                    coming = {name: blocks[name] for name in part if wanted(name)}
                    if room:
                        self._add(coming)
                    else:
                        await self._write_out(coming)

    def _add(self, blocks: Mapping[bytes, Stored]) -> None:
        for name, block in blocks.items():
            data = self._buffers.filled(block.data)
            self.memory.add(name, Kept(block.tokens, block.checksum, data))
            self.inserted += name not in self._here
        self._note(blocks)

    async def _room(self, size: int) -> bool:
        """Make `size` bytes of memory free; only for who is moving. False: everything there is leased or promised."""
        while size > self.memory.free:
            self.expire()
            leaving = self.memory.evict(size, self.leases)
            if leaving is None:
                return False
            try:
                await self._write_out(leaving)
            except BaseException:
                for name in leaving:
                    self.memory.stay(name)
                raise
            for name, block in leaving.items():
                if name in self.leases and name not in self.disk:
                    self.memory.stay(name)  # it was leased meanwhile, and could not be written
                else:
                    self._let_go(name, block)
        return True

    def _let_go(self, name: bytes, block: Kept) -> None:
        """It leaves memory, if it has not left already."""
        if self.memory.find(name) is block:
            self.memory.remove(name)
            self._buffers.give_back(block.data)
            self._note([name])

    async def _write_out(self, blocks: Mapping[bytes, Stored]) -> None:
        """On disk they are here, but for those that cannot be written."""
        new = [name for name in blocks if name not in self._here]
        self.expire()
        await self.disk.write(blocks, _OnlyOnDisk(self))
        self.inserted += sum(name in self.disk for name in new)

    def _note(self, names: Iterable[bytes]) -> None:
        """These came, went or moved: tell who wants to know."""
        for name in names:
            if name in self:
                if name not in self._here:
                    self._here.add(name)
                    if self.observer is not None:
                        self.observer.added(name)
            elif name in self._here:
                self._here.discard(name)
                self.leases.release(name)
                if self.observer is not None:
                    self.observer.removed(name)


class _OnlyOnDisk:
    """Leased blocks that memory does not have."""

    def __init__(self, moves: Moves) -> None:
        self._moves = moves

    def __contains__(self, name: object) -> bool:
        moves = self._moves
        return isinstance(name, bytes) and name in moves.leases and name not in moves.memory
