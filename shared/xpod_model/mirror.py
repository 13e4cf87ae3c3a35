"""Gathered keys and values of a decoding batch, kept from one step to the next.

Gathering every sequence's blocks in every layer costs more than attending to them. A batch that only moved on by
one token a sequence needs its new rows copied and nothing else. This knows block tables and when their content
changed, and not what the rows mean. A mirror is a cache: dropping one costs time and changes no bit.
"""

from collections import OrderedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xpod_model.tensors import copy_rows

Ints = npt.NDArray[np.int64]

# two micro-batches may take turns
MAX_MIRRORS = 2


class Mirror:
    """The blocks of B sequences side by side: per layer [planes, B * keys, plane width]."""

    def __init__(self, layers: list[Tensor]) -> None:
        self._layers = layers  # of the cache: [planes, blocks, block tokens, plane width]
        self._buffers: list[Tensor] = []
        self._stale = [True] * len(layers)
        self._ends, self._marks = np.empty(0, np.int64), np.empty(0, np.int64)
        self._keys = 0

    def fits(self, starts: Ints, marks: Ints, keys: int) -> bool:
        """Whether it holds all but the rows at `starts`."""
        held = keys == self._keys and not any(self._stale)
        return held and np.array_equal(self._ends, starts) and np.array_equal(self._marks, marks)

    def advance(self, starts: Ints, marks: Ints) -> None:
        """The rows at `starts` are about to be written; `marks` are the blocks' marks after that."""
        self._ends, self._marks = starts + 1, marks
        self._places = torch.from_numpy(np.arange(starts.size) * self._keys + starts)

    def reset(self, sequences: int, keys: int) -> None:
        """Hold nothing, with room for `sequences` of `keys` keys."""
        self._keys = keys
        self._stale = [True] * len(self._layers)
        sizes = [layer.shape[0] * sequences * keys * layer.shape[-1] for layer in self._layers]
        if not self._buffers or any(b.numel() < size for b, size in zip(self._buffers, sizes, strict=True)):
            self._buffers = [layer.new_empty(size) for layer, size in zip(self._layers, sizes, strict=True)]

    def read(self, layer: int, blocks: Tensor, slots: Tensor) -> Tensor:
        """Up-to-date rows of one layer, whose new ones lie in the cache at `slots` [B]; once a layer and step."""
        data = self._layers[layer]
        planes, _, _, plane = data.shape
        rows = self._buffers[layer][: planes * slots.numel() * self._keys * plane].view(planes, -1, plane)
        if self._stale[layer]:
            torch.index_select(data, 1, blocks, out=rows.view(planes, -1, *data.shape[2:]))
            self._stale[layer] = False
        else:
            copy_rows(rows, self._places, data.flatten(1, 2).index_select(1, slots))
        return rows


class Mirrors:
    """At most MAX_MIRRORS mirrors of at most `budget` bytes each, the least recently used given up first."""

    def __init__(self, layers: list[Tensor], blocks: int, budget: int) -> None:
        self._layers, self._budget = layers, budget
        self._marks = np.zeros(blocks, np.int64)
        self._held: OrderedDict[bytes, Mirror] = OrderedDict()

    def touch(self, blocks: Ints | list[int]) -> None:
        """The content of these blocks changes: no mirror of them holds any more."""
        self._marks[blocks] += 1

    def claim(self, tables: Ints, starts: Ints, written: Ints, keys: int) -> Mirror | None:
        """The mirror for one new token a sequence, at `starts` [B], in blocks `written` [B]; None if too large."""
        if self._bytes(len(starts), keys) > self._budget:
            self.touch(written)
            return None
        name = tables.tobytes()
        mirror = self._held.pop(name, None) or self._spare()
        if not mirror.fits(starts, self._marks[tables], keys):
            mirror.reset(len(starts), keys)
        self.touch(written)
        mirror.advance(starts, self._marks[tables])
        self._held[name] = mirror
        return mirror

    def _spare(self) -> Mirror:
        if len(self._held) < MAX_MIRRORS:
            return Mirror(self._layers)
        return self._held.popitem(last=False)[1]

    def _bytes(self, sequences: int, keys: int) -> int:
        widths = sum(layer.shape[0] * layer.shape[-1] for layer in self._layers)
        return sequences * keys * widths * self._layers[0].element_size()
