"""What a MemPool node receives: KV blocks by the hash of their whole prefix."""

from xpod_proto.registry import Message, message
from xpod_proto.tensor import Tensor


@message(112)
class BlockData(Message):
    """One block: its name, how many tokens it covers (16, or fewer at a prompt's end), all layers' KV as bytes."""

    name: bytes
    tokens: int
    checksum: int
    data: Tensor


@message(113)
class StoreBlocks(Message):
    """Keep these; storing a block twice is no harm. Answered by Ack."""

    blocks: tuple[BlockData, ...]


@message(114)
class MatchBlocks(Message):
    """Which of these blocks are here? Answered by MatchedBlocks."""

    names: tuple[bytes, ...]


@message(115)
class MatchedBlocks(Message):
    """One flag a name, in the order asked."""

    present: tuple[bool, ...]


@message(116)
class FetchBlocks(Message):
    """Give me these; the answer FetchedBlocks holds those that are here."""

    names: tuple[bytes, ...]


@message(117)
class FetchedBlocks(Message):
    """The blocks found, in the order asked, missing ones left out."""

    blocks: tuple[BlockData, ...]
