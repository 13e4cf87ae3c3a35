"""Messages of tensors and whole numbers, read without msgpack: those of the hop, of which a token takes many.

Knows: the same wire form as `codec`, and copies each tensor's elements once.
Does not know: what is wrong with other bytes. It returns None for whatever it does not read, and msgpack decides.
"""

from __future__ import annotations

import struct
from typing import Any

from pydantic import ValidationError

from xpod_proto.registry import BY_TAG, Message
from xpod_proto.tensor import EXT_TENSOR, Buffer, Tensor, copy_tensor

_FIXED = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_SIZED = {0xC7: (2, struct.Struct(">BB")), 0xC8: (3, struct.Struct(">HB")), 0xC9: (5, struct.Struct(">IB"))}
_NUMBERS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}


def read_bare(data: Buffer) -> Message | None:
    """The message in `data` if it is a whole one of those."""
    view = memoryview(data)
    if len(view) < 2 or view[1] >= 0x80:
        return None
    entry = BY_TAG.get(view[1])
    count = view[0] - 0x91
    if entry is None or not entry.bare or not entry.required <= count <= len(entry.fields):
        return None
    values, at = [], 2
    try:
        for _ in range(count):
            value, at = _value(view, at)
            if value is None:
                return None
            values.append(value)
        return entry.cls(*values) if at == len(view) else None
    except (IndexError, struct.error, ValidationError):  # cut short, or not what the fields take
        return None


def _value(view: memoryview, at: int) -> tuple[Any, int]:
    """A tensor or a number, and where it ends."""
    kind = view[at]
    if kind < 0x80:
        return kind, at + 1
    sized = _SIZED.get(kind)
    if sized is not None:
        size, code = sized[1].unpack_from(view, at + 1)
        return _tensor(view, at + 1 + sized[0], size, code)
    if kind in _FIXED:
        return _tensor(view, at + 2, _FIXED[kind], view[at + 1])
    width = _NUMBERS.get(kind, 0)
    end = at + 1 + width
    return (int.from_bytes(view[at + 1 : end], "big") if width and end <= len(view) else None), end


def _tensor(view: memoryview, start: int, size: int, code: int) -> tuple[Tensor | None, int]:
    end = start + size
    whole = code == EXT_TENSOR and end <= len(view)
    return (copy_tensor(view[start:end]) if whole else None), end
