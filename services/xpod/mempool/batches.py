"""Many blocks, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

MESSAGE_BYTES = (1 << 20) - (1 << 15)
"""Of blocks in a message, which with what is said of them takes less than 1 MiB."""
BLOCK_OVERHEAD = 64


def batches(sizes: Mapping[bytes, int], most: int) -> Iterator[list[bytes]]:
    """Names in their order, as many at once as take `most` bytes in all, or a single one."""
    batch: list[bytes] = []
    total = 0
    for name, size in sizes.items():
        if batch and total + size > most:
            yield batch
            batch, total = [], 0
        batch.append(name)
        total += size
    if batch:
        yield batch


def messages(sizes: Mapping[bytes, int]) -> Iterator[list[bytes]]:
    """Names in their order, those whose blocks go in one message together."""
    return batches({name: size + BLOCK_OVERHEAD for name, size in sizes.items()}, MESSAGE_BYTES)
