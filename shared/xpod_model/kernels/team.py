"""Threads that share a program's steps with whoever runs it; the protocol stands in `sequence`.

How many share is a matter of speed alone: every item is computed by one thread, the same way on each.
"""

import ctypes
import threading
from collections.abc import Callable

import torch

from xpod_model.kernels.sequence import TEAM_BYTES

ALIGNED = 64
_chosen = [0]


def set_kernel_threads(count: int) -> None:
    """So many threads share a kernel's work from now on, whatever torch's own operations have; 0: as many as these."""
    _chosen[0] = count


def kernel_threads() -> int:
    """As chosen, or as many as torch has."""
    return _chosen[0] or torch.get_num_threads()


class Team:
    """`size` - 1 helpers, asleep until somebody runs a program with them; one at a time may."""

    def __init__(self, help: Callable[[int], None], size: int) -> None:
        self._memory = bytearray(TEAM_BYTES + ALIGNED)
        begin = ctypes.addressof((ctypes.c_char * len(self._memory)).from_buffer(self._memory))
        self._address = begin + -begin % ALIGNED
        self._taken = threading.Lock()
        for number in range(1, size):
            threading.Thread(target=self._help, args=(help,), name=f"helper-{number}", daemon=True).start()

    def _help(self, help: Callable[[int], None]) -> None:
        """For ever. A helper reads the team's memory, which therefore has to last as long as it does."""
        help(self._address)

    def take(self) -> int:
        """The team's address, until `release`; 0 if it helps somebody else."""
        return self._address if self._taken.acquire(blocking=False) else 0

    def release(self) -> None:
        self._taken.release()
