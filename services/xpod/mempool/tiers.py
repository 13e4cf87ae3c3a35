"""What a MemPool node does with its blocks: keep, find, lease, forget, and move them between memory and disk.

Knows nothing of messages or of other nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from xpod.mempool.batches import batches
from xpod.mempool.moves import Kept, Moves
from xpod.mempool.stored import Stored

FLUSH_BYTES = 8 << 20


class Tiers(Moves):
    """At most `memory_bytes` of blocks in memory, and `disk_bytes` of files in `directory`.

    What goes in and what comes out is copied: the memory of a block that left is soon another's. `clock` gives the time
    of leases. Call `open` first.
    """

    async def open(self) -> None:
        """Take in what a former process left on disk."""
        await self.disk.open()

    def close(self) -> None:
        """Returns once everything that was to be written is."""
        self.disk.close()

    def counts(self) -> dict[str, int]:
        """Numbers for the heartbeat; bytes where nothing else is said."""
        return {
            "blocks": len(self),
            "bytes": self.memory.used + self.memory.reserved,
            "budget": self.memory.budget,
            "disk_bytes": self.disk.index.used,
            "disk_budget": self.disk.index.budget,
            "hits": self.hits,
            "misses": self.misses,
            "disk_hits": self.disk_hits,
            "evictions": self.memory.evictions,
            "inserted": self.inserted,
            "leased": len(self.leases),
        }

    def sizes(self, names: Iterable[bytes]) -> dict[bytes, int]:
        """Bytes of each of these that is here."""
        found: dict[bytes, int] = {}
        for name in names:
            if (block := self.memory.find(name)) is not None:
                found[name] = block.nbytes
            elif (place := self.disk.index.find(name)) is not None:
                found[name] = place.size
        return found

    # -- in and out ---------------------------------------------------------------------------------------

    async def put(self, blocks: Mapping[bytes, Stored]) -> None:
        """Keep them, in memory if there is room to be had, else on disk; a block that fits nowhere is not kept."""
        for name in blocks:
            self.memory.asked(name)
            self.memory.get(name)
        await self._bring_in(blocks, lambda name: name not in self.memory)

    async def get(self, names: Sequence[bytes], lease: float = 0.0) -> dict[bytes, Stored]:
        """Those that are here, in the order of `names`; they stay for `lease` seconds."""
        for name in names:
            self.memory.asked(name)
            self.memory.get(name)
        cold = {name for name in names if name not in self.memory}
        self._lease(names, lease)
        found = await self.read(names)
        self.hits += len(found)
        self.misses += len(set(names)) - len(found)
        read = {name: block for name, block in found.items() if name in cold}
        self.disk_hits += len(read)
        await self._warm(read)
        return found

    async def read(self, names: Sequence[bytes]) -> dict[bytes, Stored]:
        """As `get`, as if nobody had asked."""
        found = self._copies(names)
        cold = [name for name in names if name not in found and name in self.disk]
        if cold:
            read = await self.disk.read(cold)
            missed = [name for name in cold if name not in read]
            found |= read | self._copies(missed)  # which may have come meanwhile
        return {name: found[name] for name in names if name in found}

    def match(self, names: Sequence[bytes], lease: float = 0.0) -> list[bool]:
        """Which are here? Those stay for `lease` seconds."""
        if lease > 0:
            for name in names:
                self.memory.asked(name)
                self.memory.get(name)
            self._lease(names, lease)
        return [name in self for name in names]

    def free(self, names: Iterable[bytes]) -> None:
        """Nobody needs them to stay."""
        for name in names:
            self.leases.release(name)

    def delete(self, names: Iterable[bytes]) -> list[bool]:
        """Forget them, leased or not; which were here?"""
        names = list(names)
        flags = [name in self for name in names]
        for name in names:
            self.memory.remove(name)  # its bytes may still be on their way to disk
        self.disk.forget(names)
        self._note(names)
        return flags

    async def swap_out(self, names: Sequence[bytes]) -> list[bool]:
        """From memory to disk; which are there now?"""
        async with self._moving:
            blocks = self._found(names)
            await self._write_out(blocks)
            for name, block in blocks.items():
                if name in self.disk:
                    self._let_go(name, block)
            return [name in self.disk for name in names]

    async def swap_in(self, names: Sequence[bytes]) -> list[bool]:
        """From disk to memory, where they are on disk as well; which are in memory now?"""
        await self._warm(await self.disk.read([name for name in names if name not in self.memory]))
        return [name in self.memory for name in names]

    async def clear(self) -> None:
        """Forget everything."""
        async with self._moving:
            for name in self.names():
                self.memory.remove(name)
            self._note(self.names())
            await self.disk.clear()

    async def keep(self) -> None:
        """Write memory's blocks to disk, as many as that has room for: the most recently used, and those last."""
        async with self._moving:
            wanted: list[bytes] = []
            left = self.disk.index.budget
            for name in reversed(list(self.memory)):
                block = self.memory.find(name)
                assert block is not None
                left -= block.nbytes + self.disk.index.overhead
                if left < 0:
                    break
                wanted.append(name)
            sizes = {name: block.nbytes for name, block in self._found(reversed(wanted)).items()}
            for _ in range(2):  # the first time, segments may go that have some of them
                for batch in batches(sizes, FLUSH_BYTES):
                    await self._write_out(self._found(batch))

    # -- room that is filled from outside -----------------------------------------------------------------

    async def reserve(self, size: int) -> bool:
        """Take so many bytes of memory for a block to come; is there room to be had?"""
        async with self._moving:
            if not await self._room(size):
                return False
            self.memory.reserved += size
            return True

    def blank(self, size: int) -> bytearray:
        """Memory for a block to come, for which room was reserved; who knows what is in it."""
        return self._buffers.blank(size)

    def give_up(self, size: int) -> None:
        """So many reserved bytes are not needed."""
        self.memory.reserved -= size

    def insert(self, name: bytes, tokens: int, checksum: int, data: bytearray) -> None:
        """A block that has filled its reserved room, which it keeps: `data` is ours from now on."""
        self.memory.reserved -= len(data)
        self.memory.asked(name)
        if name not in self.memory:
            self.memory.add(name, Kept(tokens, checksum, data))
            self.inserted += name not in self._here
            self._note([name])

    # -- inside -------------------------------------------------------------------------------------------

    def _lease(self, names: Iterable[bytes], seconds: float) -> None:
        if seconds > 0:
            until = self.clock() + seconds
            for name in names:
                if name in self:
                    self.leases.hold(name, until)

    def _copies(self, names: Iterable[bytes]) -> dict[bytes, Stored]:
        return {name: block.copy() for name, block in self._found(names).items()}

    def _found(self, names: Iterable[bytes]) -> dict[bytes, Kept]:
        return {name: block for name in names if (block := self.memory.find(name)) is not None}
