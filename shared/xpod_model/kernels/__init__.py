"""Kernels of our own for few rows, where oneDNN and torch leave memory idle; written as LLVM IR, compiled at start.

They exist for CPUs with AVX-512 bf16 and for bf16 models; elsewhere, and with XPOD_KERNELS=torch, everything runs
on torch. A kernel that stands in for a product of oneDNN's gives the same bits, which `product_block` makes sure of.
"""

import os
from functools import cache

from xpod_model.kernels.library import Kernels, Product

__all__ = ["FEW_ROWS", "Kernels", "Product", "kernels"]

SWITCH = "XPOD_KERNELS"
FEW_ROWS = 32
"""Up to so many rows our products are faster than oneDNN's."""


@cache
def kernels() -> Kernels | None:
    """This process's kernels, or None where they cannot run or are switched off. Compiling takes 0.3 s."""
    from xpod_model.kernels.machine import supported

    if os.environ.get(SWITCH, "") == "torch" or not supported():
        return None
    return Kernels()
