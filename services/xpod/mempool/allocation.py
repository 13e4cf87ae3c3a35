"""Blocks that come in pieces: room is made, filled, and given its name. MemServe's alloc, fill and insert.

Until it is inserted, nobody sees a block. Knows nothing of messages' senders.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xpod.mempool.stored import BadBlock, check_block, check_names
from xpod.mempool.tiers import Tiers
from xpod_policy.rooms import Room, Rooms
from xpod_proto import BlockPart, NewBlock


class Allocation:
    """Room in the memory of `tiers`, counted there."""

    def __init__(self, tiers: Tiers) -> None:
        self.rooms = Rooms()
        self._tiers = tiers

    async def alloc(self, blocks: Sequence[NewBlock], lease: float) -> list[bool]:
        """Which are to be filled now? Asked again, it is the same room. Raises BadBlock."""
        for block in blocks:
            check_block(block.name, block.tokens, block.size)
            room = self.rooms.find(block.name)
            if room is not None and (room.tokens, room.size) != (block.tokens, block.size):
                raise BadBlock(f"block {block.name.hex()} has room of another size")
        self.expire()
        return [await self._alloc(block, lease) for block in blocks]

    def fill(self, parts: Sequence[BlockPart]) -> list[bool]:
        """Which parts are in their block now? Raises BadBlock where one does not lie in it, and takes none then."""
        for part in parts:
            room = self.rooms.find(part.name)
            if room is not None and not room.fits(part.offset, _bytes(part)):
                raise BadBlock(f"block {part.name.hex()} has {room.size} bytes")
        return [self._fill(part) for part in parts]

    def insert(self, names: Sequence[bytes], checksums: Sequence[int]) -> list[bool]:
        """Which are visible now? Raises BadBlock."""
        check_names(tuple(names))
        if len(names) != len(checksums):
            raise BadBlock(f"{len(names)} names have {len(checksums)} checksums")
        for name, checksum in zip(names, checksums, strict=True):
            if self.rooms.ready(name, checksum):
                room = self.rooms.remove(name)
                assert room is not None
                self._tiers.insert(name, room.tokens, checksum, room.data)
        return [name in self._tiers for name in names]

    def free(self, names: Iterable[bytes]) -> None:
        """Give up the room of these, where they have some."""
        for name in names:
            room = self.rooms.remove(name)
            if room is not None:
                self._tiers.give_up(room.size)

    def expire(self) -> None:
        """Room that nobody filled in time is given up."""
        self.free(self.rooms.late(self._tiers.clock()))

    async def _alloc(self, block: NewBlock, lease: float) -> bool:
        until = self._tiers.clock() + lease
        if block.name in self._tiers:
            return False
        if block.name not in self.rooms:
            if not await self._tiers.reserve(block.size):
                return False
            if block.name in self.rooms or block.name in self._tiers:  # since we began to make room
                self._tiers.give_up(block.size)
            else:
                self.rooms.add(block.name, Room(block.tokens, self._tiers.blank(block.size), lease, until))
        room = self.rooms.find(block.name)
        if room is None or room.size != block.size:
            return False
        room.until = max(room.until, until)
        return True

    def _fill(self, part: BlockPart) -> bool:
        room = self.rooms.find(part.name)
        if room is None:
            return part.name in self._tiers
        room.fill(part.offset, _bytes(part))
        room.prolong(self._tiers.clock())
        return True


def _bytes(part: BlockPart) -> memoryview:
    return memoryview(part.data.data).cast("B")
