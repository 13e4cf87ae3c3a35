"""Bitmaps of experts, and the routing that follows from what shards say they hold.

Placement is what shards should hold; holdings are what they do hold, and routing looks at nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Layers = Mapping[int, bytes]
Numbers = npt.NDArray[np.int32]
Keys = npt.NDArray[np.int64]
Held = tuple[frozenset[int], ...]
"""What each shard holds of one layer."""
NOTHING = frozenset[int]()
MANY = 1 << 30
PATTERNS = 1024
"""Most layers are shared out alike, so what follows from that is kept: for so many ways."""
SortedPairs = tuple[npt.NDArray[np.int64], Numbers, Numbers, list[int]]
"""Places among the pairs as they were, their tokens, their experts, and where each group of keys begins."""
Sort = Callable[[npt.NDArray[Any], npt.NDArray[np.int64], int], SortedPairs]


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


@dataclass(slots=True, eq=False)
class ShardRows:
    """What one shard has to do of a layer: `rows` `[R]` of the batch (None: all), pairs `[P]`, and where results go.

    `row_of[p]` indexes `rows`; result p belongs at `place[p]` of the layer's output `[T * K, D]`. Pairs are in
    (expert, token) order, in which a shard computes them.
    """

    shard: str
    rows: npt.NDArray[np.int64] | None
    row_of: npt.NDArray[np.int32]
    expert_of: npt.NDArray[np.int32]
    place: npt.NDArray[np.int64]

    @classmethod
    def of(cls, shard: str, experts: npt.NDArray[np.integer], place: npt.NDArray[np.int64]) -> ShardRows:
        """For the pairs at `place` of `experts` `[T, K]`."""
        tokens, k = experts.shape
        return cls.picked(
            shard, tokens, (place // k).astype(np.int32), experts.reshape(-1)[place].astype(np.int32), place
        )

    @classmethod
    def picked(
        cls, shard: str, tokens: int, token: Numbers, expert_of: Numbers, place: npt.NDArray[np.int64]
    ) -> ShardRows:
        """The same, where each pair's token and expert are known."""
        if place.size >= tokens:  # most rows are wanted: which ones is not worth finding out
            return cls(shard, None, token, expert_of, place)
        rows, row_of = np.unique(token, return_inverse=True)
        return cls(shard, rows.astype(np.int64), row_of.astype(np.int32), expert_of, place)

    def cut(self, most: int, experts: npt.NDArray[np.integer]) -> list[ShardRows]:
        """The same in pieces of at most `most` pairs; `experts` as given to `of`."""
        if self.place.size <= most:
            return [self]
        begins = range(0, self.place.size, most)
        return [self.of(self.shard, experts, self.place[begin : begin + most]) for begin in begins]


@dataclass(frozen=True, slots=True)
class _Routes:
    """One state of the table, never changed: shards in order, what they hold, and who serves which expert.

    `keys` is who serves which expert, in numbers to sort pairs by: [E + 1], where shard s has s * E … s * E + E - 1,
    then come experts that nobody holds, and the last entry, which is also that of expert -1, is for pairs that are not
    wanted. `spare` are the layers of which some expert is held twice. `few_keys` are the same for as few shards as can
    serve all experts.
    """

    order: tuple[str, ...]
    held: Mapping[str, Mapping[int, frozenset[int]]]
    keys: Mapping[int, Keys]
    spare: frozenset[int] = frozenset()
    few_keys: Mapping[int, Keys] = field(default_factory=dict)

    def keys_of(self, layer: int, *, few: bool) -> Keys | None:
        """None: that layer has none."""
        return self.few_keys.get(layer, self.keys.get(layer)) if few else self.keys.get(layer)

    def held_of(self, layer: int, avoid: frozenset[str] = frozenset()) -> Held:
        """What each shard in order holds of a layer; nothing, where it is in `avoid`."""
        return tuple(
            NOTHING if shard in avoid else self.held[shard].get(layer, NOTHING) for shard in self.order
        )


def sort_pairs(experts: npt.NDArray[np.integer], keys: npt.NDArray[np.int64], groups: int) -> SortedPairs:
    """Pairs of experts `[T, K]` by key, and by token within a key; groups are E keys each."""
    flat = experts.reshape(-1)
    sought = keys[flat]  # of -1: the last
    place = np.argsort(sought, kind="stable")
    token = (place // experts.shape[1]).astype(np.int32)
    begins = np.searchsorted(sought[place], np.arange(groups) * (len(keys) - 1)).tolist()
    return place, token, flat[place].astype(np.int32), begins


class RoutingTable:
    """Who serves each expert, from the holdings heard so far. One thread may change it while others read.

    `sort` is `sort_pairs` or a quicker one. A batch of at most `few` tokens is split between as few shards as can serve
    all experts, since calls cost more than they compute then; which shards these are differs by layer, and by `turn`.
    """

    def __init__(
        self,
        experts: int,
        moe_layers: tuple[int, ...],
        sort: Sort = sort_pairs,
        *,
        few: int = 0,
        turn: int = 0,
    ) -> None:
        self.experts, self.moe_layers, self._sort = experts, moe_layers, sort
        self._few, self._turn = few, turn
        self._now = _Routes((), {}, {})

    def update(self, shard: str, layers: Layers) -> None:
        """The shard says that it holds exactly this."""
        self._rebuild({**self._now.held, shard: unpacked(layers)})

    def remove(self, shard: str) -> None:
        """The shard is gone, or must not be used."""
        if shard in self._now.held:
            self._rebuild({name: held for name, held in self._now.held.items() if name != shard})

    @property
    def held(self) -> Mapping[str, Mapping[int, frozenset[int]]]:
        """Shard → layer → experts, as last heard."""
        return self._now.held

    @property
    def shards(self) -> tuple[str, ...]:
        return self._now.order

    def holders(self, layer: int, expert: int) -> tuple[str, ...]:
        """Every shard that holds the expert."""
        return _holders(self._now, layer, expert)

    def spare(self, layer: int) -> bool:
        """Is some expert of the layer held twice, so that others may be asked as well?"""
        return layer in self._now.spare

    def missing(self, among: Collection[str] | None = None) -> list[tuple[int, int]]:
        """(layer, expert) pairs that nobody holds, or none of these shards; empty means that the model is whole."""
        held = [layers for shard, layers in self.held.items() if among is None or shard in among]
        every = range(self.experts)
        return [
            (layer, expert)
            for layer in self.moe_layers
            for expert in sorted(set(every).difference(*(layers.get(layer, ()) for layers in held)))
        ]

    def _rebuild(self, held: Mapping[str, Mapping[int, frozenset[int]]]) -> None:
        routes = _Routes(tuple(sorted(held)), held, {})
        keys = {layer: _keys(routes.held_of(layer), self.experts) for layer in self.moe_layers}
        spare = frozenset(layer for layer in self.moe_layers if _twice(routes.held_of(layer)))
        few = self._few_keys(routes) if self._few else {}
        self._now = replace(routes, keys=keys, spare=spare, few_keys=few)

    def _few_keys(self, routes: _Routes) -> dict[int, Keys]:
        found = {}
        for turn, layer in enumerate(self.moe_layers, self._turn):
            chosen = _cover(routes.held_of(layer), turn)
            others = frozenset(name for at, name in enumerate(routes.order) if at not in chosen)
            found[layer] = _keys(routes.held_of(layer, others), self.experts)
        return found

    def split(
        self,
        layer: int,
        experts: npt.NDArray[np.integer],
        avoid: frozenset[str] = frozenset(),
    ) -> tuple[list[ShardRows], npt.NDArray[np.bool_] | None]:
        """Split a layer's choices `[T, K]` by shard, leaving out the shards in `avoid`.

        Returns the parts, and a mask `[T, K]` of pairs that nobody (else) holds or None if there are none. Expert -1
        marks a pair that is not wanted.
        """
        routes = self._now
        keys = None if avoid else routes.keys_of(layer, few=len(experts) <= self._few)
        if keys is None:
            keys = _keys(routes.held_of(layer, avoid), self.experts)
        place, token, expert_of, bounds = self._sort(experts, keys, len(routes.order) + 2)
        parts = []
        for shard, begin, end in zip(routes.order, bounds, bounds[1:], strict=False):
            if end > begin:
                part = place[begin:end]
                parts.append(
                    ShardRows.picked(shard, len(experts), token[begin:end], expert_of[begin:end], part)
                )
        begin, end = bounds[-2:]
        if begin == end:
            return parts, None
        nobody = np.zeros(experts.size, bool)
        nobody[place[begin:end]] = True
        return parts, nobody.reshape(experts.shape)


def _holders(routes: _Routes, layer: int, expert: int) -> tuple[str, ...]:
    return tuple(shard for shard in routes.order if expert in routes.held[shard].get(layer, ()))


@lru_cache(maxsize=PATTERNS)
def _keys(held: Held, experts: int) -> Keys:
    """Numbers to sort pairs by (see `_Routes`), for one holder an expert.

    Rare experts first, each goes to the holder with the least to do so far.
    """
    shards = len(held)
    load = [0] * shards
    holders = [[shard for shard in range(shards) if expert in held[shard]] for expert in range(experts)]
    keys = np.arange((shards + 1) * experts, (shards + 2) * experts + 1)
    keys -= experts  # of nobody's
    keys[-1] = (shards + 1) * experts
    for expert in sorted(range(experts), key=lambda e: len(holders[e])):
        if holders[expert]:
            shard = min(holders[expert], key=load.__getitem__)
            load[shard] += 1
            keys[expert] = shard * experts + expert
    keys.flags.writeable = False
    return keys


@lru_cache(maxsize=PATTERNS)
def _twice(held: Held) -> bool:
    """Is some expert held by two shards?"""
    return sum(map(len, held)) > len(frozenset().union(*held))


@lru_cache(maxsize=PATTERNS)
def _cover(held: Held, turn: int) -> frozenset[int]:
    """Few shards that hold all experts that anybody holds.

    The greedy set cover (Chvatal, 1979), where of equals the first from the `turn`-th shard on is taken.
    """
    start = turn % len(held) if held else 0
    left = {shard: held[shard] for shard in (*range(start, len(held)), *range(start))}
    wanted = set().union(*held)
    chosen = set()
    while wanted:
        shard = max(left, key=lambda number: len(left[number] & wanted))
        wanted -= left.pop(shard)
        chosen.add(shard)
    return frozenset(chosen)
