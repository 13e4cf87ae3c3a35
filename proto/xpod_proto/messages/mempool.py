"""What a MemPool node receives, and what it tells: KV blocks by the hash of their whole prefix.

The calls are those of MemServe (2406.17565, §4), batched, with names in place of token prompts and of addresses. Each
may be repeated. What several names are asked for is answered in their order.
"""

from typing import Annotated

from pydantic import Field

from xpod_proto.registry import Message, message
from xpod_proto.tensor import Tensor

Seconds = Annotated[float, Field(ge=0.0, le=600.0)]
Count = Annotated[int, Field(ge=0)]


@message(112)
class BlockData(Message):
    """One block: its name, how many tokens it covers (16, or fewer at a prompt's end), all layers' KV as bytes."""

    name: bytes
    tokens: int
    checksum: int
    data: Tensor


@message(113)
class StoreBlocks(Message):
    """Keep these: alloc, fill and insert at once. Storing a block twice is no harm. Answered by Ack."""

    blocks: tuple[BlockData, ...]


@message(114)
class MatchBlocks(Message):
    """Which of these blocks are here? Those stay for `lease` seconds. Answered by MatchedBlocks."""

    names: tuple[bytes, ...]
    lease: Seconds = 0.0


@message(115)
class MatchedBlocks(Message):
    """One flag a name, in the order asked."""

    present: tuple[bool, ...]


@message(116)
class FetchBlocks(Message):
    """Give me these; the answer FetchedBlocks holds those that are here. They stay for `lease` seconds."""

    names: tuple[bytes, ...]
    lease: Seconds = 0.0


@message(117)
class FetchedBlocks(Message):
    """The blocks found, in the order asked, missing ones left out."""

    blocks: tuple[BlockData, ...]


@message(127)
class BlockFlags(Message):
    """One flag a name, in the order asked: what was asked is so now."""

    flags: tuple[bool, ...]


@message(118)
class NewBlock(Message):
    """A block to come: `size` bytes of KV of `tokens` tokens."""

    name: bytes
    tokens: Count
    size: Count


@message(119)
class AllocBlocks(Message):
    """Make room for these and hold it for `lease` seconds. Answered by BlockFlags: which are to be filled now.

    Not to be filled is what is here already, and what there is no room for.
    """

    blocks: tuple[NewBlock, ...]
    lease: Seconds = 10.0


@message(120)
class BlockPart(Message):
    """Bytes of a block that has room, from `offset` on."""

    name: bytes
    offset: Count
    data: Tensor


@message(121)
class FillBlocks(Message):
    """Write into allocated blocks, and prolong their lease. Answered by BlockFlags: which parts were taken."""

    parts: tuple[BlockPart, ...]


@message(122)
class InsertBlocks(Message):
    """Make filled blocks visible: those whose bytes are all there and have that checksum. Answered by BlockFlags."""

    names: tuple[bytes, ...]
    checksums: tuple[int, ...]


@message(123)
class FreeBlocks(Message):
    """Give up the room of blocks that were not inserted, and the leases of those that were. Answered by Ack."""

    names: tuple[bytes, ...]


@message(124)
class DeleteBlocks(Message):
    """Forget these, leased or not. Answered by BlockFlags: which were here."""

    names: tuple[bytes, ...]


@message(125)
class SwapOut(Message):
    """Move these from memory to disk. Answered by BlockFlags: which are on disk now."""

    names: tuple[bytes, ...]


@message(126)
class SwapIn(Message):
    """Move these from disk to memory. Answered by BlockFlags: which are in memory now."""

    names: tuple[bytes, ...]


@message(160)
class TransferBlocks(Message):
    """Send these to the MemPool node `to`. Answered by BlockFlags: which it has now.

    With `insert` they are visible there (MemServe's transfer_with_insert); without, they fill room that was made there.
    """

    names: tuple[bytes, ...]
    to: str
    insert: bool = True


@message(161)
class ListBlocks(Message):
    """What is here? Answered by BlockList; a router asks when it missed an event."""

    asker: str


@message(162)
class BlockList(Message):
    """All that `member` has, as of event `sequence`: names of 16 bytes, one behind the other."""

    member: str
    incarnation: str
    sequence: Count
    names: bytes


@message(163)
class BlocksChanged(Message):
    """Event `sequence` of `member`: blocks that came and blocks that went, names of 16 bytes, one behind the other.

    Said by MemPool nodes of what they store, and by prefill workers of what they keep.
    """

    member: str
    incarnation: str
    sequence: Count
    added: bytes
    removed: bytes
