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
_BY_CODE = {code: (name, dtype.itemsize) for name, (code, dtype) in _CODES.items()}
_SIZES = {name: dtype.itemsize for name, (_, dtype) in _CODES.items()}
_BY_NUMPY = {dtype: name for name, (_, dtype) in _CODES.items() if name != "bf16"}

_HEADS = [struct.Struct(f"<BB{rank}I") for rank in range(MAX_RANK + 1)]
_SHAPES = [struct.Struct(f"<{rank}I") for rank in range(MAX_RANK + 1)]
_EXT = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}

Buffer = bytes | bytearray | memoryview
MOST_HEADS = 4096
_wire_heads: dict[tuple[str, tuple[int, ...]], bytes] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """An array on the wire: `dtype` in xpod's words, `shape`, and the elements as raw bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: Buffer

    def __post_init__(self) -> None:
        size = _SIZES.get(self.dtype)
        if size is None:
            raise DecodeError(f"unknown tensor dtype {self.dtype!r}")
        if not _fits(size, self.shape, memoryview(self.data).nbytes):
            raise DecodeError(_misfit(size, self.shape, memoryview(self.data).nbytes))

    @classmethod
    def of(cls, array: npt.NDArray[Any], dtype: str | None = None) -> Tensor:
        """Wrap a numpy array without copying it where it is contiguous; `dtype="bf16"` marks uint16 as bf16 bits."""
        name = dtype or _BY_NUMPY.get(array.dtype)
        if name is None:
            raise TypeError(f"no wire type for {array.dtype}")
        if _CODES[name][1] != array.dtype:
            raise TypeError(f"{name} travels as {_CODES[name][1]}, not as {array.dtype}")
        if array.size == 0:
            return cls(name, array.shape, b"")
        whole = array if array.flags.c_contiguous else np.ascontiguousarray(array)
        return made_tensor(name, array.shape, whole.data.cast("B"))

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

    def token_ids(self) -> list[int]:
        """What `of_tokens` took. Raises DecodeError where it is not such a tensor."""
        if self.dtype != "u32" or len(self.shape) != 1:
            raise DecodeError(f"token ids are u32 [T], not {self.dtype} {list(self.shape)}")
        return self.tolist()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tensor):
            return NotImplemented
        return (self.dtype, self.shape) == (other.dtype, other.shape) and bytes(self.data) == bytes(
            other.data
        )

    def __hash__(self) -> int:
        return hash((self.dtype, self.shape, bytes(self.data)))


def ext_head(code: int, size: int) -> bytes:
    """What msgpack puts before an extension's payload of `size` bytes."""
    if size in _EXT:
        return struct.pack(">BB", _EXT[size], code)
    if size < 1 << 8:
        return struct.pack(">BBB", 0xC7, size, code)
    if size < 1 << 16:
        return struct.pack(">BHB", 0xC8, size, code)
    if size < 1 << 32:
        return struct.pack(">BIB", 0xC9, size, code)
    raise ValueError(f"an extension of {size} bytes has no wire form")


def tensor_head(tensor: Tensor) -> bytes:
    """What an extension's payload has before the elements."""
    shape = tensor.shape
    return _HEADS[len(shape)].pack(_CODES[tensor.dtype][0], len(shape), *shape)


def wire_head(tensor: Tensor) -> bytes:
    """All that comes before the elements when a tensor stands in a message. Few shapes come again and again."""
    key = (tensor.dtype, tensor.shape)
    head = _wire_heads.get(key)
    if head is None:
        inner = tensor_head(tensor)
        head = ext_head(EXT_TENSOR, len(inner) + memoryview(tensor.data).nbytes) + inner
        if len(_wire_heads) >= MOST_HEADS:
            _wire_heads.clear()
        _wire_heads[key] = head
    return head


def unpack_tensor(payload: Buffer) -> Tensor:
    """The tensor in an extension's payload; the elements are a view into it. Raises DecodeError."""
    view = memoryview(payload)
    if len(view) < 2:
        raise DecodeError("tensor frame is too short")
    code, rank = view[0], view[1]
    if code not in _BY_CODE:
        raise DecodeError(f"unknown tensor dtype code {code}")
    end = 2 + 4 * rank
    if rank > MAX_RANK or len(view) < end:
        raise DecodeError("tensor frame has a bad header")
    return Tensor(_BY_CODE[code][0], _SHAPES[rank].unpack_from(view, 2), view[end:])


def copy_tensor(payload: memoryview) -> Tensor | None:
    """As `unpack_tensor`, with the elements copied out; None where that would raise."""
    size = len(payload)
    known = _BY_CODE.get(payload[0]) if size >= 2 else None
    if known is None or (rank := payload[1]) > MAX_RANK or size < (end := 2 + 4 * rank):
        return None
    shape = _SHAPES[rank].unpack_from(payload, 2)
    if math.prod(shape) * known[1] != size - end or (size == end and not _fits(known[1], shape, 0)):
        return None
    return made_tensor(known[0], shape, bytes(payload[end:]))


def _fits(item: int, shape: tuple[int, ...], nbytes: int) -> bool:
    """Whether the shape is one, and takes exactly so many bytes."""
    return (
        len(shape) <= MAX_RANK
        and min(shape, default=0) >= 0
        and math.prod(shape) * item == nbytes
        and (nbytes > 0 or math.prod(size or 1 for size in shape) * item <= MAX_BYTES)  # numpy's own bound
    )


def _misfit(item: int, shape: tuple[int, ...], nbytes: int) -> str:
    if len(shape) > MAX_RANK or any(size < 0 for size in shape):
        return f"bad tensor shape {shape}"
    if math.prod(size or 1 for size in shape) * item > MAX_BYTES:
        return f"tensor shape {shape} is too large"  # an empty one too: numpy refuses it
    return f"tensor of shape {shape} needs {math.prod(shape) * item} bytes, has {nbytes}"


_set_dtype, _set_shape, _set_data = (Tensor.__dict__[name].__set__ for name in ("dtype", "shape", "data"))


def made_tensor(dtype: str, shape: tuple[int, ...], data: Buffer) -> Tensor:
    """A tensor whose parts are known to fit: what `Tensor(...)` gives, without looking again."""
    tensor = object.__new__(Tensor)
    _set_dtype(tensor, dtype)
    _set_shape(tensor, shape)
    _set_data(tensor, data)
    return tensor
