"""Kernels of our own, where oneDNN and torch leave memory idle; written as LLVM IR, compiled once a machine.

They exist for CPUs with AVX-512 bf16 and for bf16 models; elsewhere, and with XPOD_KERNELS=torch, everything runs
on torch. A kernel that stands in for a product of oneDNN's gives the same bits, which `product_block` makes sure of.
"""

from __future__ import annotations

import logging
import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it brings torch, and the compiler's process is one that never needs it
    from xpod_model.kernels.library import Kernels

SWITCH = "XPOD_KERNELS"
FEW_ROWS = 32
"""Up to so many rows our products are faster than oneDNN's."""


@cache
def kernels() -> Kernels | None:
    """This process's kernels, or None where they cannot run or are switched off."""
    from xpod_model.kernels.library import Kernels
    from xpod_model.kernels.machine import supported

    if os.environ.get(SWITCH, "") == "torch" or not supported():
        return None
    try:
        return Kernels()
    except (OSError, RuntimeError, ValueError) as error:  # a machine that forbids code to be made, say
        logging.getLogger(__name__).warning("no kernels of our own, torch computes: %s", error)
        return None
