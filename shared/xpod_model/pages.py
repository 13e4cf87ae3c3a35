"""Zeroed memory straight from the kernel, used from the first write on, page by page, and given back on request.

It knows pages, not what lies in them. Pages are small on purpose: with large ones, the first write anywhere takes
2 MiB, and a KV cache, whose rows are spread over many planes, took four times what it held.
"""

import math
import mmap
import sys

import numpy as np
import torch
from torch import Tensor


class Pages:
    """One tensor of zeros, as large as its address space; `give_back` makes it zeros again."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        size = math.prod(shape) * dtype.itemsize
        self._map = mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            self._map.madvise(mmap.MADV_NOHUGEPAGE)
        self.tensor: Tensor = (
            torch.from_numpy(np.frombuffer(self._map, np.uint8)[:size]).view(dtype).view(shape)
        )

    def give_back(self) -> bool:
        """The content is gone, and so is what it took; False where the kernel does not promise zeros for that."""
        if sys.platform != "linux":
            return False
        self._map.madvise(mmap.MADV_DONTNEED)
        return True
