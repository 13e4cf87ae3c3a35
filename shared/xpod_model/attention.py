"""Causal attention over a paged KV cache: a row has the same bits alone, in any batch and in any chunk.

It knows groups, queries and cached keys and values; it knows neither weights nor tokens.

Where the bits could depend on company, and why they do not (measured with torch 2.13 on an AMD Zen 5):
- scores are one product per KV head over all keys: an element of QKᵀ sums head_dim terms, and had equal bits
  for every number of keys (64…4096) and of rows (from MIN_ROWS on in fp32);
- softmax computes in fp32 over whole tiles of keys (in bf16 it reads and writes bf16, which is what the products
  beside it do); masked keys add exact zeros at the end, which change no sum because torch adds a row vector by
  vector, in order;
- a product with V is blocked by its length (fp32 at 192 keys unlike 256, bf16 from 1152 on), so every call
  has TILE keys exactly, and the tiles' results are added in order, in fp32.
This is the fixed-tile walk of flash attention (arXiv 2205.14135) without rescaling: a row's scores are all there.
"""

import math

import torch
from torch import Tensor

from xpod_model.groups import TILE, Group, Piece
from xpod_model.kv import KVCache
from xpod_model.scratch import Scratch

# MKL multiplies fp32 blocks of fewer rows in another way (below 4 with one thread, below 12 with two)
MIN_ROWS = 16


class Attention:
    """Grouped-query attention for one set of head counts. Holds a scratch buffer: one thread at a time."""

    def __init__(self, heads: int, kv_heads: int, head_dim: int) -> None:
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self._scale = 1.0 / math.sqrt(head_dim)
        self._scratch = Scratch()

    def __call__(self, queries: Tensor, layer: int, cache: KVCache, groups: tuple[Group, ...]) -> Tensor:
        """queries [T, heads, head_dim] -> [T, heads * head_dim]; the groups' tokens are in the cache already."""
        if len(groups) == 1:
            return self._group(queries, layer, cache, groups[0])
        out = queries.new_empty(queries.shape[0], self.heads * self.head_dim)
        for group in groups:
            out.index_copy_(
                0, group.rows, self._group(queries.index_select(0, group.rows), layer, cache, group)
            )
        return out

    def _group(self, queries: Tensor, layer: int, cache: KVCache, group: Group) -> Tensor:
        keys, values = self._gather(layer, cache, group)
        out = torch.empty_like(queries, memory_format=torch.contiguous_format)
        # [KV heads, B, G, queries, head_dim]
        q, places = (
            x.view(group.sequences, group.queries, self.kv_heads, -1, self.head_dim).permute(2, 0, 3, 1, 4)
            for x in (queries, out)
        )
        for piece in group.pieces:
            span = slice(piece.begin, piece.end)
            places[..., span, :] = self._piece(q[..., span, :], keys, values, piece)
        return out.view(out.shape[0], -1)

    def _gather(self, layer: int, cache: KVCache, group: Group) -> tuple[Tensor, Tensor]:
        """K and V, each [KV heads * B, keys, head_dim]."""
        shape = (2 * self.kv_heads, group.sequences * group.keys, self.head_dim)
        if group.mirror is not None:
            both = group.mirror.read(layer, group.blocks, group.slots)
        else:
            out = self._scratch.take("kv", shape, cache.layers[layer].dtype, cache.device)
            both = cache.gather(layer, group.blocks, out)
        keys, values = both.view(2, self.kv_heads * group.sequences, group.keys, self.head_dim)
        return keys, values

    def _piece(self, q: Tensor, keys: Tensor, values: Tensor, piece: Piece) -> Tensor:
        """q [KV heads, B, G, queries, head_dim] -> the same shape: softmax(q Kᵀ / √head_dim + mask) V."""
        rows = self._scaled(q)  # [KV heads, B, G, queries or more, head_dim]
        flat = rows.view(keys.shape[0], -1, self.head_dim)  # [KV heads * B, rows, head_dim]
        scores = self._scratch.take("scores", (*flat.shape[:2], piece.keys), q.dtype, q.device)
        torch.bmm(flat, keys[:, : piece.keys].transpose(1, 2), out=scores)
        by_head = scores.view(*rows.shape[:-1], piece.keys)
        by_head[..., : q.shape[3], piece.seen :].add_(piece.mask)
        torch.softmax(scores, dim=-1, out=scores)
        return self._weigh(scores, values[:, : piece.keys]).view(rows.shape)[..., : q.shape[3], :]

    def _scaled(self, q: Tensor) -> Tensor:
        """q / √head_dim, contiguous; in fp32 with more queries, of zeros, so that a KV head has MIN_ROWS rows."""
        heads, sequences, group, queries, width = q.shape
        if q.dtype != torch.float32 or group * queries >= MIN_ROWS:
            rows = self._scratch.take("queries", q.shape, q.dtype, q.device)
            return torch.mul(q, self._scale, out=rows)
        rows = q.new_zeros(heads, sequences, group, -(-MIN_ROWS // group), width)
        torch.mul(q, self._scale, out=rows[..., :queries, :])
        return rows

    def _weigh(self, weights: Tensor, values: Tensor) -> Tensor:
        """weights [N, rows, keys] @ values [N, keys, head_dim] -> [N, rows, head_dim], tile by tile."""
        n, rows, keys = weights.shape
        if keys == TILE:
            return torch.bmm(weights, values)
        tiles = keys // TILE
        parts = self._scratch.take("parts", (n, tiles, rows, TILE), values.dtype, values.device)
        parts.copy_(weights.view(n, rows, tiles, TILE).transpose(1, 2))
        tiled = values.view(n, tiles, TILE, -1).flatten(0, 1)
        out = torch.bmm(parts.flatten(0, 1), tiled).view(n, tiles, rows, -1)
        return _in_order(out).to(values.dtype)


def _in_order(parts: Tensor) -> Tensor:
    """parts [N, tiles, rows, head_dim] -> their sum over tiles, fp32; torch.sum picks its order by shape."""
    total = parts[:, 0].float()
    for tile in range(1, parts.shape[1]):
        total += parts[:, tile]
    return total
