"""A call of few pairs in one call of our own kernel, from bytes to bytes, without torch or numpy.

Checks and products are one piece of native code, because between two calls everything of Python's grows cold: what a
call costs beside the products is how many different things it touches.
"""

import ctypes

import numpy as np
import numpy.typing as npt

from xpod_model.kernels import FEW_ROWS, kernels
from xpod_model.kernels.gated import NO_SUCH, SERVE_ARGUMENTS
from xpod_model.kernels.library import Product
from xpod_model.kernels.team import kernel_threads

Addresses = npt.NDArray[np.int64]

# scratch is made for so many pairs, and its pages are touched as far as they are needed
MOST_PAIRS = 1024
FIELDS = SERVE_ARGUMENTS + 2 + 15
# places in the array: of `serve`, the counters of `experts`, its arguments
STATUS, EXPERT_OF, HIDDEN = 0, 8, 11
OUT = FIELDS - 1


class ExpertKernel:
    """`addresses`: per layer [E, 2], the two weights of each expert, 0 where it is not held. For one thread."""

    def __init__(self, addresses: dict[int, Addresses], products: tuple[Product, Product]) -> None:
        own = kernels()
        assert own is not None
        self._serve = own.serve
        self._tables = addresses
        self._known: dict[int, tuple[int, int]] = {}  # layer -> experts, address of the table
        gate_up, down = products
        self._scratch = [np.empty((MOST_PAIRS, width), np.uint16) for width in (gate_up.k, gate_up.n, down.k)]
        self._row_bytes = 2 * gate_up.k
        self._fields = (ctypes.c_int64 * FIELDS)()
        places = [part.ctypes.data for part in self._scratch]
        self._fields[HIDDEN:OUT] = [gate_up.k, down.k, gate_up.block, down.block, *places]
        self._at = ctypes.addressof(self._fields)

    def serve(self, layer: int, rows: bytes, row_of: bytes, expert_of: bytes, out: memoryview) -> bool:
        """rows [R, D] bf16, row_of and expert_of [P] int32 -> out [P, D] bf16, all as bytes of just these sizes.

        False for what another way has to do: many pairs, another order than that of experts, experts that are not held.
        Raises IndexError for a row or expert that does not exist.
        """
        known, pairs = self._table(layer), len(expert_of) // 4
        if known is None or pairs > MOST_PAIRS or kernel_threads() > 1:
            return False
        experts, table = known
        fields = self._fields
        fields[STATUS:EXPERT_OF] = [0, len(rows) // self._row_bytes, 0, 0, experts, table, FEW_ROWS, pairs]
        at = ctypes.addressof((ctypes.c_char * len(out)).from_buffer(out)) if out else 0
        self._serve(self._at, rows, row_of, expert_of, at)
        if fields[STATUS] & NO_SUCH:
            raise IndexError("no such row or expert")
        return bool(fields[STATUS] == 0)

    def _table(self, layer: int) -> tuple[int, int] | None:
        known = self._known.get(layer)
        if known is None and (table := self._tables.get(layer)) is not None:
            known = self._known[layer] = len(table), table.ctypes.data
        return known
