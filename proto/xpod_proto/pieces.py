"""A message as pieces of bytes, which one after another are its wire form.

Knows: msgpack's framing of what xpod says. Tensors are pieces of their own, as they are: nothing is copied here.
Does not know: how to read; see `codec`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack

from xpod_proto.registry import BY_CLASS, Entry, Message
from xpod_proto.tensor import EXT_TENSOR, Buffer, Tensor, ext_head, tensor_head, wire_head

EXT_PART = 2
_packers: list[msgpack.Packer] = []


def pieces_of(message: Message) -> list[Buffer]:
    """The wire form of `message`. Raises TypeError for a class that is not registered."""
    entry = BY_CLASS.get(type(message))
    if entry is None:
        raise TypeError(f"{type(message).__name__} is not a registered message")
    if not entry.bulky:
        return [_pack([entry.tag, *entry.values(message)])]
    return _bulky(entry, entry.values(message))


def size_of(pieces: Sequence[Buffer]) -> int:
    """Bytes in all of them."""
    return sum(map(len, pieces))


def _bulky(entry: Entry, values: tuple[Any, ...]) -> list[Buffer]:
    pieces: list[Buffer] = [_pack_head(entry.tag, len(values))]
    for value in values:
        if isinstance(value, Tensor):
            pieces += (wire_head(value), _flat(value.data))
        elif isinstance(value, tuple) and value and all(isinstance(part, Message) for part in value):
            pieces.append(_array_head(len(value)))
            for part in value:
                inner = pieces_of(part)
                pieces += (ext_head(EXT_PART, size_of(inner)), *inner)
        elif type(value) is int and 0 <= value < 0x80:
            pieces.append(value.to_bytes(1, "big"))
        else:
            pieces.append(_pack(value))
    return pieces


def _pack_head(tag: int, fields: int) -> bytes:
    assert fields < 15
    return bytes((0x91 + fields, tag)) if tag < 128 else bytes((0x91 + fields,)) + _pack(tag)


def _array_head(count: int) -> bytes:
    if count < 16:
        return bytes((0x90 + count,))
    return b"\xdc" + count.to_bytes(2, "big") if count < 1 << 16 else b"\xdd" + count.to_bytes(4, "big")


def _flat(data: Buffer) -> Buffer:
    """The elements as something whose length is in bytes."""
    return data.cast("B") if isinstance(data, memoryview) and data.format != "B" else data


def _pack(value: object) -> bytes:
    """A packer has a buffer of 256 KiB, so it is kept; one that packs (it calls back for parts) is not there."""
    packer = _packers.pop() if _packers else msgpack.Packer(default=_extension, use_bin_type=True)
    try:
        packed: bytes = packer.pack(value)
    except BaseException:
        packer.reset()  # what it had packed before the error
        raise
    finally:
        _packers.append(packer)
    return packed


def _extension(value: object) -> object:
    if isinstance(value, Tensor):
        return msgpack.ExtType(EXT_TENSOR, b"".join((tensor_head(value), value.data)))
    if isinstance(value, Message):
        return msgpack.ExtType(EXT_PART, b"".join(pieces_of(value)))
    raise TypeError(f"{type(value).__name__} has no wire form")
