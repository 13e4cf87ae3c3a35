"""Which rows attend together: one forward's segments, sorted into groups of equal shape, once for all layers.

It knows positions and block tables, and no tensor's content.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xpod_model.kv import KVCache
from xpod_model.mirror import Mirror
from xpod_model.tensors import DTYPES

Ints = npt.NDArray[np.int64]

# keys are padded to whole tiles, so that products and vectors have one length, whatever the sequence's
TILE = 128
# queries of one segment are cut into pieces: a piece skips the keys after its last query
PIECE = 64
# single-token segments share a group unless padding to the longest would more than double the work
MAX_STRETCH = 2
MIN_STRETCH_KEYS = 256
# masks begin at a multiple of this: whole vectors
SEEN_STEP = 32


@dataclass(slots=True)
class Segment:
    """Tokens of one sequence to compute now.

    tokens[0] stands at position `start`; `blocks` is the sequence's KV block table and covers at least
    start + len(tokens) tokens. With `wants_logits`, forward returns logits for the last of the tokens.
    """

    tokens: list[int]
    start: int
    blocks: list[int]
    wants_logits: bool = True

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


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


@dataclass(frozen=True, slots=True)
class Plan:
    """One forward: T flat tokens, their positions and KV slots, and the attention groups."""

    tokens: Tensor  # [T]
    positions: Tensor  # [T]
    slots: Tensor  # [T]
    highest: int
    groups: tuple[Group, ...]
    logit_rows: Tensor  # [segments that want logits]

    @classmethod
    def of(cls, segments: Sequence[Segment], cache: KVCache) -> "Plan":
        """The plan for a batch; every segment has at least one token."""
        assert TILE % cache.spec.block_tokens == 0, "a tile of keys is made of whole blocks"
        offsets = np.cumsum([0] + [len(segment.tokens) for segment in segments])
        positions = [np.arange(segment.start, segment.end) for segment in segments]
        slots = np.concatenate([cache.slots(s.blocks, s.start, len(s.tokens)) for s in segments])
        wanted = [offsets[i + 1] - 1 for i, segment in enumerate(segments) if segment.wants_logits]
        groups = [_group(segments, offsets, members, slots, cache) for members in _members(segments)]
        device = cache.device
        return cls(
            tokens=_ints([token for segment in segments for token in segment.tokens], device),
            positions=_ints(np.concatenate(positions), device),
            slots=_ints(slots, device),
            highest=max(segment.end for segment in segments) - 1,
            groups=tuple(groups),
            logit_rows=_ints(wanted, device),
        )


def _ints(values: Sequence[int] | Ints, device: str) -> Tensor:
    return torch.as_tensor(np.asarray(values, dtype=np.int64), device=device)


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
        rows=_ints(rows, cache.device),
        sequences=len(members),
        queries=queries,
        keys=keys,
        blocks=_ints(tables.reshape(-1), cache.device),
        pieces=tuple(_piece(starts, begin, min(begin + PIECE, queries), cache) for begin in edges),
        slots=_ints(slots, cache.device),
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
