"""A block as a node keeps it, and what is wrong with one."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from xpod_policy.blocks import BLOCK_TOKENS, NAME_BYTES
from xpod_proto import BlockData, Tensor
from xpod_proto.tensor import Buffer
from xpod_runtime.errors import XpodError


class Corrupt(XpodError):
    """A block's bytes do not match its checksum."""

    code = "corrupt_block"


class BadBlock(XpodError):
    """A name, a size, an offset or a number of tokens that no block has."""

    code = "bad_block"


@dataclass(frozen=True, slots=True)
class Stored:
    """A block: `data` is all layers' KV of `tokens` tokens."""

    tokens: int
    checksum: int
    data: Buffer

    @property
    def nbytes(self) -> int:
        return len(self.data)

    @property
    def sound(self) -> bool:
        return zlib.crc32(self.data) == self.checksum

    def copy(self) -> Stored:
        """With bytes of its own, which nobody writes to."""
        return Stored(self.tokens, self.checksum, bytes(self.data))

    def message(self, name: bytes) -> BlockData:
        """As it travels."""
        return BlockData(name, self.tokens, self.checksum, Tensor("u8", (self.nbytes,), self.data))


def from_message(block: BlockData) -> Stored:
    """Raises BadBlock and Corrupt."""
    stored = Stored(block.tokens, block.checksum, memoryview(block.data.data).cast("B"))
    check_block(block.name, block.tokens, stored.nbytes)
    if not stored.sound:
        raise Corrupt(f"block {block.name.hex()} arrived damaged")
    return stored


def check_block(name: bytes, tokens: int, size: int) -> None:
    """Raises BadBlock."""
    check_names((name,))
    if not 1 <= tokens <= BLOCK_TOKENS:
        raise BadBlock(f"block {name.hex()} has {tokens} tokens, and not 1 to {BLOCK_TOKENS}")
    if size < 1:
        raise BadBlock(f"block {name.hex()} is empty")


def check_names(names: tuple[bytes, ...]) -> None:
    """Raises BadBlock where one is not of 16 bytes."""
    for name in names:
        if len(name) != NAME_BYTES:
            raise BadBlock(f"a name has {NAME_BYTES} bytes, and not {len(name)}")
