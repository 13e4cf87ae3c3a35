"""What leaves the KV cache with a step: whole blocks at its end, or their layers while it goes on."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Protocol

from xpod.attention.departure import Departure, Sink, Stored, bytes_of
from xpod.attention.pool import block_data
from xpod.attention.sequence import Sequence
from xpod_model.kv import KVCache
from xpod_policy.blocks import BLOCK_TOKENS, BlockRef
from xpod_proto import BlockData

Filled = list[tuple[Sequence, list[BlockRef]]]
"""Blocks that a step fills, by sequence."""


class Exports(Protocol):
    """Of one step, in a `with` around it."""

    data: list[tuple[Sequence, list[BlockData]]]
    """After `end`: the blocks that are for others to store."""
    leaving: list[tuple[Sequence, Stored]]
    """Those that are on their way."""

    def finished(self, below: int) -> None:
        """On the computing thread: the layers below `below` have all their KV."""

    def end(self) -> None:
        """On the computing thread: all is computed."""

    def __enter__(self) -> Exports: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class WholeBlocks:
    """What became full, as a whole."""

    def __init__(self, cache: KVCache, filled: Filled) -> None:
        self._cache, self._filled = cache, filled
        self.data: list[tuple[Sequence, list[BlockData]]] = []
        self.leaving: list[tuple[Sequence, Stored]] = []

    def finished(self, below: int) -> None:
        """Not before the end."""

    def end(self) -> None:
        """All of them."""
        self.data = [(seq, exported(self._cache, seq, refs)) for seq, refs in self._filled if refs]

    def __enter__(self) -> WholeBlocks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class ByLayers:
    """What becomes full, and the tails of prompts that end. What two sequences have in common leaves once."""

    def __init__(self, cache: KVCache, filled: Filled, ends: Iterable[Sequence], sink: Sink) -> None:
        tails = [(seq, [tail]) for seq in ends if not seq.generated and (tail := seq.tail()) is not None]
        refs_of = [(seq, refs) for seq, refs in [*filled, *tails] if refs]
        blocks = {ref.name: (ref, place(seq, ref)) for seq, refs in refs_of for ref in refs}
        self._departure = Departure(cache, list(blocks.values()), sink) if blocks else None
        self.data: list[tuple[Sequence, list[BlockData]]] = []
        self.leaving: list[tuple[Sequence, Stored]] = []
        if self._departure is not None:
            self.leaving = [(seq, self._departure.stored(refs)) for seq, refs in refs_of]

    def finished(self, below: int) -> None:
        """Whenever a group of layers is."""
        if self._departure is not None:
            self._departure.finished(below)

    def end(self) -> None:
        """By then they have left."""

    def __enter__(self) -> ByLayers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._departure is not None:
            self._departure.give_up()


def place(sequence: Sequence, ref: BlockRef) -> int:
    """The number in the cache of a sequence's block."""
    return sequence.table[ref.start // BLOCK_TOKENS]


def exported(cache: KVCache, sequence: Sequence, refs: Iterable[BlockRef]) -> list[BlockData]:
    """The data of these blocks."""
    blocks = [(ref, place(sequence, ref)) for ref in refs]
    data = bytes_of(cache, blocks, 0, len(cache.layers))
    return [block_data(ref, piece) for (ref, _), piece in zip(blocks, data, strict=True)]
