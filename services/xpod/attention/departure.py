"""Blocks that leave the KV cache layer by layer, while the layers after them are still to be computed.

Knows the cache; where the bytes go, it does not know.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from xpod_model.kv import KVCache
from xpod_policy.blocks import BlockRef
from xpod_proto import BlockPart, NewBlock, Tensor

MOST_GROUPS, LEAST_LAYERS = 4, 2
"""Groups of layers that leave one after another, and layers of a group: what is sent in small pieces costs more."""
Place = tuple[BlockRef, int]
"""A block, and its number in the cache."""
Stored = Callable[[], Coroutine[Any, Any, None]]
"""Returns when blocks are stored, or cannot be."""


class Outlet(Protocol):
    """Takes the blocks of one step. All but `stored` are called from any thread."""

    def add(self, parts: Sequence[BlockPart]) -> None:
        """The next bytes of each block."""

    def close(self, checksums: Sequence[int]) -> None:
        """That was all; the whole blocks have these checksums, in their order."""

    def give_up(self) -> None:
        """The step failed: blocks that are not whole will not become so."""

    async def stored(self, names: Iterable[bytes]) -> None:
        """Returns when these are stored, or cannot be."""


Sink = Callable[[Sequence[NewBlock]], Outlet]
"""Is told which blocks a step is about to fill. To be called on the event loop."""


class Departure:
    """`blocks` that a step fills, each of them once, to an outlet of the sink."""

    def __init__(self, cache: KVCache, blocks: Sequence[Place], sink: Sink) -> None:
        self._cache, self._blocks = cache, blocks
        self._ends = group_ends(len(cache.layers))
        self._first = 0
        self._offsets, self._checksums = [0] * len(blocks), [0] * len(blocks)
        size = cache.spec.bytes_per_token
        self._outlet = sink([NewBlock(ref.name, ref.tokens, ref.tokens * size) for ref, _ in blocks])

    def finished(self, below: int) -> None:
        """On the computing thread: the layers below `below` have all their KV."""
        last = max((end for end in self._ends if end <= below), default=0)
        if last <= self._first:
            return
        data = bytes_of(self._cache, self._blocks, self._first, last)
        self._outlet.add([self._part(index, piece) for index, piece in enumerate(data)])
        self._first = last
        if last == self._ends[-1]:
            self._outlet.close(self._checksums)

    def give_up(self) -> None:
        """The step failed."""
        self._outlet.give_up()

    def stored(self, refs: Iterable[BlockRef]) -> Stored:
        """For whoever waits for these."""
        return partial(self._outlet.stored, [ref.name for ref in refs])

    def _part(self, index: int, data: memoryview) -> BlockPart:
        """A block's next bytes."""
        offset = self._offsets[index]
        self._offsets[index] += len(data)
        self._checksums[index] = zlib.crc32(data, self._checksums[index])
        return BlockPart(self._blocks[index][0].name, offset, Tensor("u8", (len(data),), data))


def bytes_of(cache: KVCache, blocks: Sequence[Place], first: int, last: int) -> list[memoryview]:
    """The bytes of each block in the layers from `first` up to `last`, which is not among them."""
    whole = iter(cache.export_blocks([block for ref, block in blocks if ref.full], first, last))
    return [
        (next(whole) if ref.full else cache.export_layers(block, ref.tokens, first, last)).data
        for ref, block in blocks
    ]


def group_ends(layers: int) -> list[int]:
    """Where each group of layers ends: groups of about the same size, one for a model of few layers."""
    groups = max(1, min(MOST_GROUPS, layers // LEAST_LAYERS))
    return [layers * (group + 1) // groups for group in range(groups)]
