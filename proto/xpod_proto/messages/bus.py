"""What the bus itself says: replies without content, errors, and where a large payload is or in which pieces."""

from typing import Annotated

from pydantic import Field

from xpod_proto.registry import Message, message

Count = Annotated[int, Field(ge=0)]


@message(1)
class Ack(Message):
    """Understood and accepted."""

    note: str = ""


@message(2)
class ErrorReply(Message):
    """A request was refused or failed: a stable `code` for programs, one line for people."""

    code: str
    message: str


@message(3)
class ChunkOpen(Message):
    """The first piece of a payload of `total` bytes in `count` pieces.

    `checksum` is the CRC-32 over the CRC-32s of all pieces in order, four big-endian bytes each.
    """

    transfer: str
    total: int
    count: int
    checksum: int
    data: bytes


@message(4)
class Chunk(Message):
    """Piece `index` (the open is piece 0); `checksum` is the CRC-32 of `data`."""

    transfer: str
    index: int
    checksum: int
    data: bytes


@message(5)
class Credit(Message):
    """Pieces below `upto` may be sent to `inbox`; above `count`, the whole has arrived and is sound."""

    transfer: str
    inbox: str
    upto: int


@message(6)
class Framed(Message):
    """A message that lies in memory: `size` bytes of the file numbered `segment`, `skip` bytes behind the header at
    `offset`."""

    segment: Count
    offset: Count
    size: Count
    sequence: Count
    skip: Count = 0
