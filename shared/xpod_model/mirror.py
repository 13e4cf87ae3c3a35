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


class Mirror:
    """The blocks of B sequences side by side: per layer [planes, B * keys, plane width]."""

    def __init__(self, layers: list[Tensor], tables: Ints, keys: int) -> None:
        """Room for `keys` keys of each of the block tables [B, blocks]; nothing is in it yet."""
        self.tables, self._keys = tables, keys
        self._layers = layers  # of the cache: [planes, blocks, block tokens, plane width]
        self._rows = [
            layer.new_empty(layer.shape[0], len(tables) * keys, layer.shape[-1]) for layer in layers
        ]
        self._stale = [True] * len(layers)
        self._ends, self._marks = np.empty(0, np.int64), np.empty(0, np.int64)

    @property
    def nbytes(self) -> int:
        return sum(rows.nbytes for rows in self._rows)

    def fits(self, starts: Ints, marks: Ints, keys: int) -> bool:
        """Whether it holds all but the rows at `starts`."""
        held = keys == self._keys and not any(self._stale)
        return held and np.array_equal(self._ends, starts) and self.holds(marks)

    def holds(self, marks: Ints) -> bool:
        """Whether nobody else has written to its blocks, which have these marks."""
        return np.array_equal(self._marks, marks)

    def advance(self, starts: Ints, marks: Ints) -> None:
        """The rows at `starts` are about to be written; `marks` are the blocks' marks after that."""
        self._ends, self._marks = starts + 1, marks
        self._places = torch.from_numpy(np.arange(starts.size) * self._keys + starts)

    def read(self, layer: int, blocks: Tensor, slots: Tensor) -> Tensor:
        """Up-to-date rows of one layer, whose new ones lie in the cache at `slots` [B]; once a layer and step."""
        data, rows = self._layers[layer], self._rows[layer]
        if self._stale[layer]:
            torch.index_select(data, 1, blocks, out=rows.view(rows.shape[0], -1, *data.shape[2:]))
            self._stale[layer] = False
        else:
            copy_rows(rows, self._places, data.flatten(1, 2).index_select(1, slots))
        return rows


class Mirrors:
    """Mirrors of at most `budget` bytes together, the least recently used given up first.

    One that is given up is never filled anew: a forward that is under way may still read it.
    """

    def __init__(self, layers: list[Tensor], blocks: int, budget: int) -> None:
        self._layers, self._budget = layers, budget
        self._marks = np.zeros(blocks, np.int64)
        self._held: OrderedDict[bytes, Mirror] = OrderedDict()

    def touch(self, blocks: Ints | list[int]) -> None:
        """The content of these blocks changes: no mirror of them holds any more."""
        self._marks[blocks] += 1

    def claim(self, tables: Ints, starts: Ints, written: Ints, keys: int) -> Mirror | None:
        """The mirror for one new token a sequence, at `starts` [B], in blocks `written` [B]; None if too large."""
        name, marks = tables.tobytes(), self._marks[tables]
        self.touch(written)
        mirror = self._held.pop(name, None)
        if mirror is None or not mirror.fits(starts, marks, keys):
            mirror = None  # its memory is free before another's is taken
            if not self._make_room(self._bytes(len(tables), keys)):
                return None
            mirror = Mirror(self._layers, tables, keys)
        mirror.advance(starts, self._marks[tables])
        self._held[name] = mirror
        return mirror

    def clear(self) -> None:
        """Give up all of them."""
        self._held.clear()

    def _make_room(self, size: int) -> bool:
        """Give up those that hold no more, such as of a batch that somebody joined or left, and then the oldest."""
        if size > self._budget:
            return False
        self._held = OrderedDict(
            (name, mirror) for name, mirror in self._held.items() if mirror.holds(self._marks[mirror.tables])
        )
        while sum(mirror.nbytes for mirror in self._held.values()) + size > self._budget:
            self._held.popitem(last=False)
        return True

    def _bytes(self, sequences: int, keys: int) -> int:
        widths = sum(layer.shape[0] * layer.shape[-1] for layer in self._layers)
        return sequences * keys * widths * self._layers[0].element_size()
