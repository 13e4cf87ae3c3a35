"""Which rows attend together where attention is torch's: a forward's segments in groups of equal shape.

Sorted once for all layers. It knows positions and block tables, and no tensor's content.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xpod_model.kv import KVCache
from xpod_model.mirror import Mirror
from xpod_model.plan import Ints, Plan, Segment, ints
from xpod_model.tensors import DTYPES

# keys are padded to whole tiles, so that products and vectors have one length, whatever the sequence's
TILE = 128
# queries of one segment are cut into pieces: a piece skips the keys after its last query
PIECE = 64
# single-token segments share a group unless padding to the longest would more than double the work
MAX_STRETCH = 2
MIN_STRETCH_KEYS = 256
# masks begin at a multiple of this: whole vectors
SEEN_STEP = 32


@dataclass(frozen=True, slots=True)
class Piece:
    """Queries begin … end of each sequence of a group look at `keys` keys: the first `seen` are there for all of them.

    mask [B, 1, queries, keys - seen] is added to the scores of the others.
    """

    begin: int
    end: int
    keys: int
    seen: int
    mask: Tensor


@dataclass(frozen=True, slots=True)
class Group:
    """B sequences with equally many queries each, gathered together. rows: their places in the batch."""

    rows: Tensor  # [B * queries]
    sequences: int
    queries: int
    keys: int
    blocks: Tensor  # [B * keys / block_tokens]
    pieces: tuple[Piece, ...]
    slots: Tensor  # [B * queries]
    mirror: Mirror | None


def groups_of(segments: Sequence[Segment], plan: Plan, cache: KVCache) -> tuple[Group, ...]:
    """The groups of one forward."""
    assert TILE % cache.spec.block_tokens == 0, "a tile of keys is made of whole blocks"
    slots = plan.slots.cpu().numpy()
    return tuple(_group(segments, plan.offsets, members, slots, cache) for members in _members(segments))


def _keys(end: int) -> int:
    return -(-end // TILE) * TILE


def _members(segments: Sequence[Segment]) -> list[list[int]]:
    """Indices of segments that share a group: single tokens of similar length together, longer ones alone."""
    singles = sorted((i for i, s in enumerate(segments) if len(s.tokens) == 1), key=lambda i: segments[i].end)
    groups = [[i] for i, s in enumerate(segments) if len(s.tokens) > 1]
    open_group: list[int] = []
    for i in singles:
        limit = max(MAX_STRETCH * segments[open_group[0]].end, MIN_STRETCH_KEYS) if open_group else 0
        if segments[i].end > limit:
            open_group = []
            groups.append(open_group)
        open_group.append(i)
    # in batch order, so that a batch of one group needs no reordering
    return [sorted(group) for group in groups]


def _group(
    segments: Sequence[Segment], offsets: Ints, members: list[int], slots: Ints, cache: KVCache
) -> Group:
    chosen = [segments[i] for i in members]
    queries = len(chosen[0].tokens)
    keys = _keys(max(segment.end for segment in chosen))
    starts = np.asarray([segment.start for segment in chosen])
    rows = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in members])
    tables = _tables(chosen, keys, cache)
    slots = slots[rows]
    edges = range(0, queries, PIECE)
    return Group(
        rows=ints(rows, cache.device),
        sequences=len(members),
        queries=queries,
        keys=keys,
        blocks=ints(tables.reshape(-1), cache.device),
        pieces=tuple(_piece(starts, begin, min(begin + PIECE, queries), cache) for begin in edges),
        slots=ints(slots, cache.device),
        mirror=_mirror(tables, starts, slots, keys, cache),
    )


def _mirror(tables: Ints, starts: Ints, slots: Ints, keys: int, cache: KVCache) -> Mirror | None:
    written = slots // cache.spec.block_tokens
    if slots.size == starts.size and cache.device == "cpu":
        return cache.mirrors.claim(tables, starts, written, keys)
    cache.mirrors.touch(written)
    return None


def _piece(starts: Ints, begin: int, end: int, cache: KVCache) -> Piece:
    first, last = int(starts.min()) + begin, int(starts.max()) + end - 1
    keys, seen = _keys(last + 1), first // SEEN_STEP * SEEN_STEP
    positions = starts[:, None] + np.arange(begin, end)  # [B, queries]
    hidden = np.arange(seen, keys) > positions[:, None, :, None]  # [B, 1, queries, keys - seen]
    mask = torch.zeros(hidden.shape, dtype=DTYPES[cache.spec.dtype])
    mask.masked_fill_(torch.from_numpy(hidden), -math.inf)
    return Piece(begin, end, keys, seen, mask.to(cache.device))


def _tables(segments: Sequence[Segment], keys: int, cache: KVCache) -> Ints:
    """Block tables side by side [B, blocks], cut to the keys, short ones filled up with the block of zeros.

    Blocks that are still empty are in them too, so that a table stays the same while its sequence grows.
    """
    tables = np.full((len(segments), keys // cache.spec.block_tokens), cache.zero_block, dtype=np.int64)
    for row, segment in zip(tables, segments, strict=True):
        blocks = segment.blocks[: row.size]
        row[: len(blocks)] = blocks
    return tables
