"""Random weights in bf16, as their bits: the same for the same seed and name, on any machine.

Knows: numpy's counter-based raw bits (Philox, whose stream is fixed), and how wide each kind of tensor spreads.
Does not know: files, or which tensors a model has. Never holds more than a chunk. As everything that
reads checkpoints here, it takes the machine to be little-endian.

A weight is the sum of four random bytes, which is nearly normal, looked up in a table of 1021 bf16 values: exact
integers up to the last step, so that no rounding differs between machines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from math import prod, sqrt

import numpy as np
import numpy.typing as npt

from xpod_model.families.base import Shape

Bits = npt.NDArray[np.uint16]
CHUNK = 1 << 20
ADDED = ("o_proj.weight", "down_proj.weight")
RESIDUAL = 0.25
"""What a layer adds is so much smaller. At 1, the rows of a text become alike layer by layer: in the last of 16, a
text of 256 tokens leaves experts idle and gives others 241 rows; at 0.25, each gets 45 to 100."""
BYTES_SUMMED = 4
MIDDLE = BYTES_SUMMED * 255 // 2
SPREAD = sqrt(BYTES_SUMMED * (256**2 - 1) / 12)
"""Mean and standard deviation of the sum of four bytes."""


def tensor_bits(seed: int, name: str, shape: Shape) -> Iterator[Bits]:
    """The tensor's values in order, as bf16 bits, a chunk at a time."""
    size = prod(shape)
    if len(shape) == 1:  # a norm
        yield bf16_bits(np.ones(size, np.float32))
        return
    table = _table(_deviation(name, shape))
    source = np.random.Philox(key=_key(seed, name))
    for begin in range(0, size, CHUNK):
        yield table.take(_byte_sums(source, min(CHUNK, size - begin)))


def bf16_bits(values: npt.NDArray[np.float32]) -> Bits:
    """Rounded to nearest, ties to even; finite values only."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _deviation(name: str, shape: Shape) -> float:
    """Embeddings of 1, and layers that keep a row's scale and add little to it."""
    if name.endswith("embed_tokens.weight"):
        return 1.0
    return (RESIDUAL if name.endswith(ADDED) else 1.0) / sqrt(shape[1])


def _table(deviation: float) -> Bits:
    sums = np.arange(BYTES_SUMMED * 255 + 1, dtype=np.float64) - MIDDLE
    return bf16_bits((sums * (deviation / SPREAD)).astype(np.float32))


def _byte_sums(source: np.random.Philox, count: int) -> npt.NDArray[np.uint32]:
    """`count` sums of four random bytes each."""
    raw = np.asarray(source.random_raw((count + 1) // 2), np.uint64).view(np.uint32)[:count]
    pairs = (raw & 0x00FF00FF) + ((raw >> 8) & 0x00FF00FF)
    sums: npt.NDArray[np.uint32] = (pairs & 0xFFFF) + (pairs >> 16)
    return sums


def _key(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:16], "little")
