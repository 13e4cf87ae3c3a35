"""A call of few pairs in one call of our own kernel, from arrays to an array, without torch.

Checks and products are one piece of native code, because between two calls everything of Python's grows cold: what a
call costs beside the products is how many different things it touches.
"""

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from xpod_model.kernels import FEW_ROWS, kernels
from xpod_model.kernels.gated import NO_SUCH, SERVE_ARGUMENTS
from xpod_model.kernels.library import Product

Addresses = npt.NDArray[np.int64]
Bits = npt.NDArray[Any]

# scratch is made for so many pairs, and its pages are touched as far as they are needed
MOST_PAIRS = 1024
FIELDS = SERVE_ARGUMENTS + 2 + 15
# places in the array: of `serve`, the counters of `experts`, its arguments
STATUS, ROW_COUNT, ITEM, THREAD, EXPERTS, WEIGHTS, FEW, PAIRS, EXPERT_OF, ROWS, ROW_OF, HIDDEN = range(12)
OUT = FIELDS - 1


class ExpertKernel:
    """`addresses`: per layer [E, 2], the two weights of each expert, 0 where it is not held. For one thread."""

    def __init__(self, addresses: dict[int, Addresses], products: tuple[Product, Product]) -> None:
        own = kernels()
        assert own is not None
        self._serve, self._addresses = own.serve, addresses
        gate_up, down = products
        self._width = down.n
        self._scratch = [np.empty((MOST_PAIRS, width), np.uint16) for width in (gate_up.k, gate_up.n, down.k)]
        self._fields = (ctypes.c_int64 * FIELDS)()
        self._fields[HIDDEN:OUT] = [
            gate_up.k,
            down.k,
            gate_up.block,
            down.block,
            *(part.ctypes.data for part in self._scratch),
        ]
        self._fields[FEW] = FEW_ROWS
        self._at = ctypes.addressof(self._fields)

    def serve(self, layer: int, rows: Bits, row_of: Bits, expert_of: Bits) -> Bits | None:
        """As `ExpertSet.serve`; None for what another way has to do: many pairs, other orders, experts not held."""
        weights, pairs = self._addresses.get(layer), len(expert_of)
        if weights is None or pairs > MOST_PAIRS or torch.get_num_threads() > 1:
            return None
        out = np.empty((pairs, self._width), np.uint16)
        fields = self._fields
        fields[STATUS:HIDDEN] = [
            0,
            len(rows),
            0,
            0,
            len(weights),
            weights.ctypes.data,
            FEW_ROWS,
            pairs,
            expert_of.ctypes.data,
            rows.ctypes.data,
            row_of.ctypes.data,
        ]
        fields[OUT] = out.ctypes.data
        self._serve(self._at)
        if fields[STATUS] & NO_SUCH:
            raise IndexError("no such row or expert")
        return out if fields[STATUS] == 0 else None
