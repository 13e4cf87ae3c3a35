"""Cutting a large payload into chunks and putting it together again.

Knows: sizes, numbering, checksums. Pure: no I/O, no clock.
Does not know: who sends, who waits, when to give up (see `transfers`).

The opening carries chunk 0 and a checksum over the checksums of all chunks, so every byte is summed once a
side and a chunk that is missing, misplaced or from another transfer still shows.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from xpod_proto import Chunk, ChunkOpen
from xpod_runtime.errors import MessageTooLarge, TransferFailed

MAX_CHUNKS = 65_536
"""Bounds the bookkeeping that a single opening can demand."""


def checksum_of(checksums: Sequence[int]) -> int:
    """The transfer's checksum: CRC-32 over the chunks' CRC-32s, each as four big-endian bytes."""
    return zlib.crc32(b"".join(value.to_bytes(4, "big") for value in checksums))


class Cut:
    """A payload cut into chunks of `size` bytes (the last may be shorter)."""

    def __init__(self, transfer: str, payload: bytes, size: int) -> None:
        view = memoryview(payload)
        self._transfer = transfer
        self._pieces = [view[start : start + size] for start in range(0, len(payload), size)]
        self._checksums = [zlib.crc32(piece) for piece in self._pieces]
        self._total = len(payload)

    @property
    def count(self) -> int:
        return len(self._pieces)

    def opening(self) -> ChunkOpen:
        return ChunkOpen(
            transfer=self._transfer,
            total=self._total,
            count=self.count,
            checksum=checksum_of(self._checksums),
            data=bytes(self._pieces[0]),
        )

    def chunk(self, index: int) -> Chunk:
        return Chunk(
            transfer=self._transfer,
            index=index,
            checksum=self._checksums[index],
            data=bytes(self._pieces[index]),
        )


class Assembly:
    """The receiving side of one transfer. Takes chunks in any order; a repeated chunk changes nothing."""

    def __init__(self, opened: ChunkOpen, *, max_bytes: int) -> None:
        if opened.total > max_bytes:
            raise MessageTooLarge(f"transfer of {opened.total} bytes, at most {max_bytes} are let in")
        self._size = len(opened.data)
        if self._size == 0 or not 0 < opened.count <= MAX_CHUNKS:
            raise TransferFailed(f"transfer {opened.transfer}: {opened.count} chunks are not possible")
        if opened.count != -(-opened.total // self._size):
            raise TransferFailed(f"transfer {opened.transfer}: {opened.count} chunks do not fit its sizes")
        self._opened = opened
        self._payload = bytearray(opened.total)
        self._checksums: list[int | None] = [None] * opened.count
        self._missing = opened.count
        self.contiguous = 0
        """Number of chunks from the start without a gap."""
        self._place(0, zlib.crc32(opened.data), opened.data)

    @property
    def complete(self) -> bool:
        return self._missing == 0

    @property
    def nbytes(self) -> int:
        return self._opened.total

    def add(self, chunk: Chunk) -> None:
        """Places a chunk. Raises TransferFailed when it is corrupt or does not belong here."""
        name = f"transfer {self._opened.transfer}: chunk {chunk.index}"
        if chunk.transfer != self._opened.transfer or not 0 < chunk.index < self._opened.count:
            raise TransferFailed(f"{name} does not belong to it")
        start = chunk.index * self._size
        if len(chunk.data) != min(self._size, self._opened.total - start):
            raise TransferFailed(f"{name} has {len(chunk.data)} bytes")
        if zlib.crc32(chunk.data) != chunk.checksum:
            raise TransferFailed(f"{name} is corrupt")
        self._place(chunk.index, chunk.checksum, chunk.data)

    def payload(self) -> memoryview:
        """The whole payload, read-only. Raises TransferFailed when the transfer's checksum is wrong."""
        present = [value for value in self._checksums if value is not None]
        if not self.complete or checksum_of(present) != self._opened.checksum:
            raise TransferFailed(f"transfer {self._opened.transfer} is corrupt")
        return memoryview(self._payload).toreadonly()

    def _place(self, index: int, checksum: int, data: bytes) -> None:
        if self._checksums[index] is not None:
            return
        start = index * self._size
        self._payload[start : start + len(data)] = data
        self._checksums[index] = checksum
        self._missing -= 1
        while self.contiguous < self._opened.count and self._checksums[self.contiguous] is not None:
            self.contiguous += 1
