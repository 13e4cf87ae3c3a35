"""Causal attention over a paged KV cache: a row has the same bits alone, in any batch and in any chunk.

It knows a plan, queries and cached keys and values; it knows neither weights nor tokens.

Where the bits could depend on company, and why they do not (measured with torch 2.13 on an AMD Zen 5):
- scores are one product per KV head over all keys: an element of QKᵀ sums head_dim terms, and had equal bits
  for every number of keys (64…4096) and of rows (from MIN_ROWS on in fp32);
- softmax runs in fp32 over whole tiles of keys; masked keys add exact zeros at the end, which change no sum
  because torch adds a row vector by vector, in order;
- a product with V is blocked by its length (fp32 at 192 keys unlike 256, bf16 from 1152 on), so every call
  has TILE keys exactly, and the tiles' results are added in order, in fp32.
This is the fixed-tile walk of flash attention (arXiv 2205.14135) without rescaling: a row's scores are all there.
"""

import math

import torch
from torch import Tensor

from xpod_model.kv import KVCache
from xpod_model.plan import TILE, Group, Piece, Plan
from xpod_model.scratch import Scratch

# MKL multiplies fp32 blocks of fewer rows in another way (below 4 with one thread, below 12 with two)
MIN_ROWS = 16


class Attention:
    """Grouped-query attention for one set of head counts. Holds a scratch buffer: one thread at a time."""

    def __init__(self, heads: int, kv_heads: int, head_dim: int) -> None:
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self._scale = 1.0 / math.sqrt(head_dim)
        self._scratch = Scratch()

    def __call__(self, queries: Tensor, layer: int, cache: KVCache, plan: Plan) -> Tensor:
        """queries [T, heads, head_dim] -> [T, heads * head_dim]; the plan's tokens are in the cache already."""
        rows = queries.shape[0]
        if len(plan.groups) == 1:
            return self._group(queries, layer, cache, plan.groups[0])
        out = queries.new_empty(rows, self.heads * self.head_dim)
        for group in plan.groups:
            out.index_copy_(
                0, group.rows, self._group(queries.index_select(0, group.rows), layer, cache, group)
            )
        return out

    def _group(self, queries: Tensor, layer: int, cache: KVCache, group: Group) -> Tensor:
        keys, values = self._gather(layer, cache, group)
        q = queries.view(group.sequences, group.queries, self.kv_heads, -1, self.head_dim)
        q = q.permute(2, 0, 3, 1, 4)  # [KV heads, B, G, queries, head_dim]
        parts = [self._piece(q[..., p.begin : p.end, :], keys, values, p) for p in group.pieces]
        out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=3)
        return out.permute(1, 3, 0, 2, 4).reshape(group.sequences * group.queries, -1)

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
        wanted = q.shape[3]
        mask = piece.mask
        if q.dtype == torch.float32 and q.shape[2] * wanted < MIN_ROWS:
            q, mask = _pad(q, mask)
        shape = q.shape
        flat = q.reshape(keys.shape[0], -1, self.head_dim)  # [KV heads * B, rows, head_dim]
        weights = self._weights(flat, keys[:, : piece.keys], mask)
        return self._weigh(weights, values[:, : piece.keys]).view(shape)[..., :wanted, :]

    def _weights(self, q: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """q [N, rows, head_dim], keys [N, keys, head_dim] -> softmax over the keys, fp32 [N, rows, keys]."""
        shape = (keys.shape[0], q.shape[1], keys.shape[1])
        scores = self._scratch.take("scores", shape, q.dtype, q.device)
        torch.bmm(q, keys.transpose(1, 2), out=scores)
        weights = self._scratch.take("weights", shape, torch.float32, q.device)
        # [KV heads, B, G, queries, keys], which is how the mask [B, 1, queries, keys] applies
        by_head = (self.kv_heads, mask.shape[0], -1, *mask.shape[2:])
        torch.add(mask, scores.view(by_head), alpha=self._scale, out=weights.view(by_head))
        return torch.softmax(weights, dim=-1, out=weights)

    def _weigh(self, weights: Tensor, values: Tensor) -> Tensor:
        """weights [N, rows, keys] fp32 @ values [N, keys, head_dim] -> [N, rows, head_dim], tile by tile."""
        n, rows, keys = weights.shape
        tiles = keys // TILE
        parts = self._scratch.take("parts", (n, tiles, rows, TILE), values.dtype, values.device)
        parts.copy_(weights.view(n, rows, tiles, TILE).transpose(1, 2))
        tiled = values.view(n, tiles, TILE, -1).flatten(0, 1)
        out = torch.bmm(parts.flatten(0, 1), tiled).view(n, tiles, rows, -1)
        return out[:, 0] if tiles == 1 else _in_order(out).to(values.dtype)


def _in_order(parts: Tensor) -> Tensor:
    """parts [N, tiles, rows, head_dim] -> their sum over tiles, fp32; torch.sum picks its order by shape."""
    total = parts[:, 0].float()
    for tile in range(1, parts.shape[1]):
        total += parts[:, tile]
    return total


def _pad(q: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Repeat the last query until a KV head has MIN_ROWS rows."""
    missing = -(-MIN_ROWS // q.shape[2]) - q.shape[3]
    more = q[..., -1:, :].expand(-1, -1, -1, missing, -1)
    blind = mask[..., -1:, :].expand(-1, -1, missing, -1)
    return torch.cat([q, more], dim=3), torch.cat([mask, blind], dim=2)
