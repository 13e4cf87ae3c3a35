"""Bitmaps of experts, and the routing that follows from what shards say they hold.

Placement is what shards should hold; holdings are what they do hold, and routing looks at nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Layers = Mapping[int, bytes]
NOBODY = -1


def to_bitmap(experts: Iterable[int], total: int) -> bytes:
    """Experts as a bitmap: bit e % 8 of byte e // 8."""
    bits = np.zeros(-(-total // 8) * 8, np.uint8)
    for expert in experts:
        if not 0 <= expert < total:
            raise ValueError(f"expert {expert} is not below {total}")
        bits[expert] = 1
    return np.packbits(bits, bitorder="little").tobytes()


def from_bitmap(bitmap: bytes) -> tuple[int, ...]:
    """The experts in a bitmap, ascending."""
    bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")
    return tuple(int(expert) for expert in np.flatnonzero(bits))


def unpacked(layers: Layers) -> dict[int, frozenset[int]]:
    """Layer → experts, from layer → bitmap."""
    return {layer: frozenset(from_bitmap(bitmap)) for layer, bitmap in layers.items()}


@dataclass(frozen=True, slots=True)
class ShardRows:
    """What one shard has to do of a layer: unique `rows` `[R]` of the batch, pairs `[P]`, and where results go.

    `row_of[p]` indexes `rows`; result p belongs at `[token[p], slot[p]]` of the layer's output `[T, K, D]`.
    """

    shard: str
    rows: npt.NDArray[np.int64]
    row_of: npt.NDArray[np.int32]
    expert_of: npt.NDArray[np.int32]
    token: npt.NDArray[np.int64]
    slot: npt.NDArray[np.int64]


@dataclass
class RoutingTable:
    """Who serves each expert, from the holdings heard so far."""

    experts: int
    moe_layers: tuple[int, ...]
    _held: dict[str, dict[int, frozenset[int]]] = field(default_factory=dict)
    _owners: dict[int, npt.NDArray[np.int32]] = field(default_factory=dict)
    _order: tuple[str, ...] = ()

    def update(self, shard: str, layers: Layers) -> None:
        """The shard says that it holds exactly this."""
        self._held[shard] = unpacked(layers)
        self._rebuild()

    def remove(self, shard: str) -> None:
        """The shard is gone, or must not be used."""
        if self._held.pop(shard, None) is not None:
            self._rebuild()

    @property
    def held(self) -> Mapping[str, Mapping[int, frozenset[int]]]:
        """Shard → layer → experts, as last heard."""
        return self._held

    @property
    def shards(self) -> tuple[str, ...]:
        return self._order

    def holders(self, layer: int, expert: int) -> tuple[str, ...]:
        """Every shard that holds the expert."""
        return tuple(shard for shard in self._order if expert in self._held[shard].get(layer, ()))

    def missing(self) -> list[tuple[int, int]]:
        """(layer, expert) pairs that nobody holds; empty means that the model is whole."""
        return [
            (layer, int(expert))
            for layer in self.moe_layers
            for expert in np.flatnonzero(self._owner_row(layer) == NOBODY)
        ]

    def _owner_row(self, layer: int) -> npt.NDArray[np.int32]:
        row = self._owners.get(layer)
        return np.full(self.experts, NOBODY, np.int32) if row is None else row

    def _rebuild(self) -> None:
        self._order = tuple(sorted(self._held))
        self._owners = {layer: self._assign(layer, frozenset()) for layer in self.moe_layers}

    def _assign(self, layer: int, avoid: frozenset[str]) -> npt.NDArray[np.int32]:
        """One holder an expert, rare experts first, each to the holder with the least to do so far."""
        load = dict.fromkeys(self._order, 0)
        owner = np.full(self.experts, NOBODY, np.int32)
        holders = {
            expert: [shard for shard in self.holders(layer, expert) if shard not in avoid]
            for expert in range(self.experts)
        }
        for expert in sorted(holders, key=lambda e: (len(holders[e]), e)):
            if holders[expert]:
                shard = min(holders[expert], key=lambda s: (load[s], s))
                load[shard] += 1
                owner[expert] = self._order.index(shard)
        return owner

    def split(
        self, layer: int, experts: npt.NDArray[np.integer], avoid: frozenset[str] = frozenset()
    ) -> tuple[list[ShardRows], npt.NDArray[np.bool_]]:
        """Split a layer's choices `[T, K]` by shard, leaving out the shards in `avoid`.

        Returns the parts and a mask `[T, K]` of pairs that nobody (else) holds. Pairs of a part are in
        (token, slot) order. A negative expert marks a pair that is not wanted.
        """
        owner = self._assign(layer, avoid) if avoid else self._owner_row(layer)
        wanted = experts >= 0
        who = np.where(wanted, owner[np.where(wanted, experts, 0)], NOBODY)  # [T, K]
        parts = []
        for index in np.unique(who[who != NOBODY]):
            token, slot = np.nonzero(who == index)
            rows, row_of = np.unique(token, return_inverse=True)
            expert_of = experts[token, slot].astype(np.int32)
            parts.append(ShardRows(self._order[index], rows, row_of.astype(np.int32), expert_of, token, slot))
        return parts, wanted & (who == NOBODY)
