"""A segment file: a head, and records one behind the other, each a header and a block's bytes.

The head says what the file is and which version of it. A header has a magic, whether the block is still wanted, tokens,
the block's checksum, its size and name, and a checksum of all that. Does not know which files there are.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from xpod.mempool.stored import Stored
from xpod_policy.blocks import NAME_BYTES

FILE_HEAD = b"XPODKV\x01\n"
_MAGIC = b"XKVB"
_FIELDS = struct.Struct(f"<4sBxxxIIQ{NAME_BYTES}s")
_CHECKSUM = struct.Struct("<I")
HEADER_BYTES = _FIELDS.size + _CHECKSUM.size


class Header(NamedTuple):
    """Of a record; `alive` until its block is deleted."""

    name: bytes
    tokens: int
    checksum: int
    size: int
    alive: bool = True

    def pack(self) -> bytes:
        fields = _FIELDS.pack(_MAGIC, self.alive, self.tokens, self.checksum, self.size, self.name)
        return fields + _CHECKSUM.pack(zlib.crc32(fields))


def header_of(name: bytes, block: Stored) -> bytes:
    """What stands before the block's bytes."""
    return Header(name, block.tokens, block.checksum, block.nbytes).pack()


def unpack(raw: bytes) -> Header | None:
    """The header that `raw` begins with; None where it is none, or damaged."""
    if len(raw) < HEADER_BYTES:
        return None
    magic, alive, tokens, checksum, size, name = _FIELDS.unpack_from(raw)
    if magic != _MAGIC or _CHECKSUM.unpack_from(raw, _FIELDS.size) != (zlib.crc32(raw[: _FIELDS.size]),):
        return None
    return Header(name, tokens, checksum, size, bool(alive))


def read_block(file: int, offset: int, name: bytes, size: int) -> Stored | None:
    """The block whose record should be there; None where it is not, or damaged. Raises OSError."""
    raw = os.pread(file, HEADER_BYTES + size, offset)
    header = unpack(raw)
    if header is None or (header.name, header.size) != (name, size):
        return None
    block = Stored(header.tokens, header.checksum, memoryview(raw)[HEADER_BYTES:])
    return block if block.nbytes == size and block.sound else None


def mark_dead(file: int, offset: int, name: bytes) -> None:
    """The block that should be there is not wanted any more. Raises OSError."""
    header = unpack(os.pread(file, HEADER_BYTES, offset))
    if header is not None and header.name == name:
        os.pwrite(file, header._replace(alive=False).pack(), offset)


def records_of(file: int) -> Iterator[tuple[int, Header]]:
    """All whole records of a file and their offsets, as far as the first that is torn. Raises OSError."""
    end = os.fstat(file).st_size
    offset = len(FILE_HEAD)
    while (header := unpack(os.pread(file, HEADER_BYTES, offset))) is not None:
        if offset + HEADER_BYTES + header.size > end:
            return
        yield offset, header
        offset += HEADER_BYTES + header.size
