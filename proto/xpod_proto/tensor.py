"""Tensor frames: how an array travels inside a message.

A frame is a msgpack extension of type 1: dtype code, rank, dimensions, then the raw little-endian
elements in C order. bf16 travels as its 16 bits, because numpy has no such type; turning those bits
into a torch tensor is the business of whoever owns torch.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xpod_proto.errors import DecodeError

EXT_TENSOR = 1
MAX_RANK = 8
MAX_BYTES = 2**63 - 1

_CODES: dict[str, tuple[int, np.dtype[Any]]] = {
    "u8": (1, np.dtype("u1")),
    "i32": (2, np.dtype("<i4")),
    "i64": (3, np.dtype("<i8")),
    "fp32": (4, np.dtype("<f4")),
    "bf16": (5, np.dtype("<u2")),
    "u32": (6, np.dtype("<u4")),
    "u16": (7, np.dtype("<u2")),
}
_BY_CODE = {code: (name, dtype) for name, (code, dtype) in _CODES.items()}
_BY_NUMPY = {dtype: name for name, (_, dtype) in _CODES.items() if name != "bf16"}

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """An array on the wire: `dtype` in xpod's words, `shape`, and the elements as raw bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: Buffer

    def __post_init__(self) -> None:
        entry = _CODES.get(self.dtype)
        if entry is None:
            raise DecodeError(f"unknown tensor dtype {self.dtype!r}")
        if len(self.shape) > MAX_RANK or any(size < 0 for size in self.shape):
            raise DecodeError(f"bad tensor shape {self.shape}")
        if math.prod(size or 1 for size in self.shape) * entry[1].itemsize > MAX_BYTES:
            raise DecodeError(f"tensor shape {self.shape} is too large")  # an empty one too: numpy refuses it
        expected, actual = math.prod(self.shape) * entry[1].itemsize, memoryview(self.data).nbytes
        if actual != expected:
            raise DecodeError(f"tensor of shape {self.shape} needs {expected} bytes, has {actual}")

    @classmethod
    def of(cls, array: npt.NDArray[Any], dtype: str | None = None) -> Tensor:
        """Wrap a numpy array without copying it where it is contiguous; `dtype="bf16"` marks uint16 as bf16 bits."""
        name = dtype or _BY_NUMPY.get(array.dtype)
        if name is None:
            raise TypeError(f"no wire type for {array.dtype}")
        if _CODES[name][1] != array.dtype:
            raise TypeError(f"{name} travels as {_CODES[name][1]}, not as {array.dtype}")
        flat = np.ascontiguousarray(array)
        return cls(name, array.shape, flat.reshape(-1).view(np.uint8).data)

    @classmethod
    def of_tokens(cls, tokens: Sequence[int]) -> Tensor:
        """Token ids as u32 `[T]`."""
        return cls.of(np.asarray(tokens, dtype="<u4"))

    def numpy(self) -> npt.NDArray[Any]:
        """A read-only view of the elements; bf16 comes as uint16 bits."""
        view = np.frombuffer(self.data, dtype=_CODES[self.dtype][1]).reshape(self.shape)
        view.flags.writeable = False
        return view

    def tolist(self) -> list[Any]:
        """The elements as Python numbers."""
        values: list[Any] = self.numpy().tolist()
        return values

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tensor):
            return NotImplemented
        return (self.dtype, self.shape) == (other.dtype, other.shape) and bytes(self.data) == bytes(
            other.data
        )

    def __hash__(self) -> int:
        return hash((self.dtype, self.shape, bytes(self.data)))


def pack_tensor(tensor: Tensor) -> bytes:
    """The extension payload of `tensor`."""
    shape = tensor.shape
    head = struct.pack(f"<BB{len(shape)}I", _CODES[tensor.dtype][0], len(shape), *shape)
    return b"".join((head, tensor.data))


def unpack_tensor(payload: Buffer) -> Tensor:
    """The inverse of `pack_tensor`; the elements are a view into `payload`. Raises DecodeError."""
    view = memoryview(payload)
    if len(view) < 2:
        raise DecodeError("tensor frame is too short")
    code, rank = view[0], view[1]
    if code not in _BY_CODE:
        raise DecodeError(f"unknown tensor dtype code {code}")
    end = 2 + 4 * rank
    if rank > MAX_RANK or len(view) < end:
        raise DecodeError("tensor frame has a bad header")
    shape = struct.unpack_from(f"<{rank}I", view, 2)
    return Tensor(_BY_CODE[code][0], shape, view[end:])
