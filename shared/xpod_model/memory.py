"""How this process keeps and returns memory: settings for the entry of a process that computes.

It knows glibc, and elsewhere does nothing about it; and a variable that oneDNN reads. It does not know torch.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# mallopt parameters, from malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT, APART = 1 << 30, 128 << 10
KERNELS_VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
KERNELS = 96


def keep_freed_memory() -> bool:
    """Let freed tensors of up to 1 GiB be used again without going back to the kernel; says whether it could.

    By default glibc maps large tensors afresh, and each costs a page fault every 4 KiB: measured, 10 to 25 % of a
    prefill of 1024 tokens. The process keeps its peak of temporary memory until `give_back_memory`.
    """
    return _set(M_MMAP_THRESHOLD, KEPT) and _set(M_TRIM_THRESHOLD, KEPT)


def bound_kernels() -> None:
    """Let oneDNN keep at most KERNELS products, unless the user has said how many; before the first product.

    It keeps one for each number of rows and shape of weights, of 0.6 MB whatever their size, and 1024 by default: a
    process that sees prompts of all lengths grows by up to 600 MB. One that was dropped costs 0.7 ms again. Products
    round their rows up (see `linear`), so that few are needed.
    """
    os.environ.setdefault(KERNELS_VARIABLE, str(KERNELS))


@contextmanager
def long_lived() -> Iterator[None]:
    """For loading weights: each large tensor made inside is mapped by itself, and leaves no hole when it is freed.

    Among weights on the heap, temporary memory would later find holes everywhere and never give them back.
    """
    _set(M_MMAP_THRESHOLD, APART)
    try:
        yield
    finally:
        _set(M_MMAP_THRESHOLD, KEPT)


def give_back_memory() -> None:
    """Return what is free to the kernel: for when a process has nothing to do."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _set(parameter: int, value: int) -> bool:
    try:
        return bool(ctypes.CDLL("libc.so.6").mallopt(parameter, value))
    except (OSError, AttributeError):
        return False
