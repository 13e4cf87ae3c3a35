"""Blocks for tests: what one must contain follows from its number."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable

from xpod.mempool.stored import Stored
from xpod_proto import BlockData

SIZE = 100


def name(number: int) -> bytes:
    return hashlib.blake2b(str(number).encode(), digest_size=16).digest()


def block(number: int, size: int = SIZE) -> Stored:
    data = (name(number) * (1 + size // 16))[:size]
    return Stored(1 + number % 16, zlib.crc32(data), data)


def named(*numbers: int, size: int = SIZE) -> dict[bytes, Stored]:
    return {name(number): block(number, size) for number in numbers}


def names(numbers: Iterable[int]) -> tuple[bytes, ...]:
    return tuple(name(number) for number in numbers)


def messages(numbers: Iterable[int], size: int = SIZE) -> tuple[BlockData, ...]:
    return tuple(block(number, size).message(name(number)) for number in numbers)
